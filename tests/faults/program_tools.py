"""Programs of their own interpreter, for tests of what surrounds the executor."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil


def still_running(processes: Iterable[psutil.Process], timeout: float = 2) -> list[psutil.Process]:
    """Those that have not ended after `timeout` seconds. A zombie has: whoever it fell to has not asked for it yet."""
    deadline = time.monotonic() + timeout
    alive = list(processes)
    while (alive := [process for process in alive if not _has_ended(process)]) and time.monotonic() < deadline:
        psutil.wait_procs(alive, 0.02)
    return alive


def descendants(besides: Iterable[psutil.Process] = ()) -> set[psutil.Process]:
    """Those of this process, but for these and theirs: a browser or a service that serves other tests."""
    others = {below for process in besides if process.is_running() for below in process.children(recursive=True)}
    return set(psutil.Process().children(recursive=True)) - others - set(besides)


def _has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def in_namespace(mounts: str) -> tuple[str, ...]:
    """The start of a command that runs in a mount namespace of its own, after a shell has made the mounts."""
    return "unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", f'{mounts}; exec "$@"', "sh"


def works(*command: str) -> bool:
    """Whether the command is there and succeeds."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


START_METHODS = ("forkserver", "spawn", "fork")

PRELUDE = """
import os, sys
import durapool
from durapool import CompletionConfig, MapConfig, ParallelConfig, durable_execution
from durapool.executors import ProcessExecutor
from durapool.stores import MemoryStore

METHOD = os.environ["METHOD"]

def squares(count=4, workers=2):
    @durable_execution(executor=ProcessExecutor(workers=workers, start_method=METHOD))
    def handler(event, context):
        def square(ctx, item, index, inputs):
            return ctx.step(lambda _: item * item)
        result = context.map(range(count), square)
        result.throw_if_error()
        return result.get_results()
    return durapool.run(handler, id="squares", store=MemoryStore())
"""


def run_program(
    folder: Path,
    source: str,
    start_method: str,
    *,
    command: Sequence[str] = (),
    given_by: str = "file",
    environment: dict[str, str] | None = None,
    prelude: str = PRELUDE,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, in `folder`, and check that it succeeded.

    Args:
        command: what stands before the program's name, by default the interpreter.
        given_by: "file", "-c" or "stdin".
        environment: added to this one; None stands for nothing.
    """
    program = prelude + textwrap.dedent(source)
    file = folder / "program.py"
    file.write_text(program)
    last = {"file": str(file), "-c": "-c", "stdin": "-"}[given_by]
    arguments = [*(command or (sys.executable,)), last, *([program] if given_by == "-c" else [])]
    options: dict[str, Any] = {"input": program} if given_by == "stdin" else {"stdin": subprocess.DEVNULL}
    done = subprocess.run(
        arguments,
        cwd=folder,
        env={**os.environ, "METHOD": start_method, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done
