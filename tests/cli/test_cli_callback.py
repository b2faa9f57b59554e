"""``durapool callback``: answers from outside."""

from __future__ import annotations

from typing import Any

import pytest
from cli_tools import Cli, eventually, one_message, shown, started

from durapool.cli.exits import ExitCode


@pytest.fixture
def open_callback(durapool: Cli) -> str:
    """The id of a callback that an execution "c" holds, after its program was killed."""
    process = started("run", "jobs.py:waits_for_approval", "--id", "c")
    found = eventually(lambda: [one for one in callbacks(durapool) if one["callback_id"]], process)
    process.kill()
    process.communicate()
    return str(found[0]["callback_id"])


def callbacks(durapool: Cli) -> list[dict[str, Any]]:
    """The callbacks of the execution "c"."""
    return [one for one in shown(durapool, "c") if one["type"] == "CALLBACK"]


def test_a_callback_is_answered_and_the_next_run_takes_it_up(durapool: Cli, open_callback: str) -> None:
    assert open_callback in durapool("show", "c").stdout
    answered = durapool("callback", open_callback, "succeed", "--result", "yes")
    assert answered.exit_code == 0, answered.stderr
    twice = durapool("callback", open_callback, "fail", "--error", "no")
    assert twice.exit_code == ExitCode.USAGE
    one_message(twice, "already answered")
    assert durapool("resume", "c").stdout == '"yes"\n'
    late = durapool("callback", open_callback, "succeed")
    assert late.exit_code == ExitCode.USAGE
    one_message(late, "already ended", "SUCCEEDED")


def test_a_callback_can_fail(durapool: Cli, open_callback: str) -> None:
    assert durapool("callback", open_callback, "heartbeat").exit_code == 0
    assert durapool("callback", open_callback, "fail", "--error", "rejected by finance").exit_code == 0
    result = durapool("resume", "c")
    assert result.exit_code == ExitCode.HANDLER_FAILED
    assert "rejected by finance" in result.stderr


def test_a_running_execution_takes_an_answer_up_by_itself(durapool: Cli) -> None:
    process = started("run", "jobs.py:waits_for_approval", "--id", "c")
    (callback,) = eventually(lambda: callbacks(durapool), process)
    assert durapool("callback", callback["callback_id"], "succeed", "--result", "now").exit_code == 0
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (0, '"now"\n'), stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("nobody", "succeed"), "no callback 'nobody'"),
        (("nobody", "succeed", "--error", "x"), "--error goes with fail"),
        (("nobody", "fail", "--result", "x"), "--result goes with succeed"),
        (("nobody", "heartbeat", "--result", "x"), "--result goes with succeed"),
    ],
)
def test_a_callback_that_makes_no_sense_is_refused(durapool: Cli, arguments: tuple[str, ...], part: str) -> None:
    durapool("run", "jobs.py:echo")
    result = durapool("callback", *arguments)
    assert result.exit_code == ExitCode.USAGE
    one_message(result, part)
