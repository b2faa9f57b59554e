"""What the tests of the command line share."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from click.testing import Result

Cli = Callable[..., Result]


def started(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """A real ``python -m durapool``."""
    command = [sys.executable, "-m", "durapool", *arguments]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **(pipes | options))


def eventually(condition: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> Any:
    """Wait until the condition holds; fail if the process ends before."""
    deadline = time.monotonic() + 60
    while not (value := condition()):
        assert time.monotonic() < deadline, "this never came true"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.01)
    return value


def one_message(result: Result, *parts: str) -> None:
    """Stderr is one message of durapool's with these parts, and no traceback."""
    assert result.stderr.startswith("durapool: "), result.stderr
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr


def shown(durapool: Cli, execution_id: str) -> list[dict[str, Any]]:
    """The operations as ``show --json`` gives them; none for an unknown id."""
    result = durapool("show", execution_id, "--json")
    return json.loads(result.stdout)["operations"] if result.exit_code == 0 else []
