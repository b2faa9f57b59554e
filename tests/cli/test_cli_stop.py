"""``durapool stop``: an execution ends as STOPPED, whether it runs or not, and goes on with ``resume --failed``."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from cli_tools import Cli, eventually, one_message, shown, started

from durapool.cli.exits import ExitCode
from durapool.stores import open_store


def status(durapool: Cli, execution_id: str) -> str:
    return str(json.loads(durapool("show", execution_id, "--json").stdout)["status"])


def alive(worker: Path) -> bool:
    return Path("/proc", worker.name.removeprefix("worker-")).exists()


@pytest.mark.parametrize("executor", ["thread", "process:2"])
def test_a_running_batch_is_ended_at_once(durapool: Cli, folder: Path, executor: str) -> None:
    process = started("run", "jobs.py:waits_in_branches", "--id", "w", "--executor", executor)
    eventually(lambda: len(list(folder.glob("branch-*"))) == 2, process)
    stopped = durapool("stop", "w", "--reason", "wrong input", "--wait", "60s")
    assert stopped.exit_code == 0, stopped.stderr
    assert "w has ended: STOPPED" in stopped.stderr
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (ExitCode.HANDLER_FAILED, ""), stderr
    assert "was stopped: wrong input" in stderr
    assert "durapool resume w --failed" in stderr
    assert "Traceback" not in stderr
    assert not [one for one in shown(durapool, "w") if one["status"] == "FAILED"]
    (folder / "go").touch()
    resumed = durapool("resume", "w", "--failed", "--executor", executor)
    assert resumed.stdout == "2\n", resumed.stderr


def test_the_workers_of_a_stopped_batch_are_gone(durapool: Cli, folder: Path) -> None:
    process = started("run", "jobs.py:waits_on_workers", "--id", "w", "--executor", "process:2")
    workers = eventually(lambda: len(found := list(folder.glob("worker-*"))) == 2 and found, process)
    assert durapool("stop", "w", "--wait", "60s").exit_code == 0
    process.communicate(timeout=60)
    assert process.returncode == ExitCode.HANDLER_FAILED
    eventually(lambda: not any(map(alive, workers)))


def test_an_execution_that_does_not_run_is_stopped_here(durapool: Cli, folder: Path) -> None:
    process = started("run", "jobs.py:slow", "--id", "s")
    eventually((folder / "lingering").exists, process)
    process.kill()
    process.communicate()
    assert "stopped s, which did not run" in durapool("stop", "s").stderr
    assert status(durapool, "s") == "STOPPED"
    assert durapool("resume", "s").exit_code == ExitCode.HANDLER_FAILED
    (folder / "go").touch()
    assert durapool("resume", "s", "--failed").stdout == '"woken"\n'


def test_a_step_of_the_handler_itself_ends_first(durapool: Cli, folder: Path) -> None:
    process = started("run", "jobs.py:slow", "--id", "s")
    eventually((folder / "lingering").exists, process)
    assert "asked s to stop" in durapool("stop", "s", "--wait", "0s").stderr
    with closing(open_store()) as store:
        eventually(lambda: not store.signals("s"), process)  # the run has taken it up
    (folder / "go").touch()
    process.communicate(timeout=60)
    assert process.returncode == ExitCode.HANDLER_FAILED
    assert status(durapool, "s") == "STOPPED"


def test_an_execution_that_waits_is_stopped(durapool: Cli) -> None:
    process = started("run", "jobs.py:waits_for_approval", "--id", "c")
    eventually(lambda: [one for one in shown(durapool, "c") if one["type"] == "CALLBACK"], process)
    assert "c has ended: STOPPED" in durapool("stop", "c", "--wait", "60s").stderr
    process.communicate(timeout=60)
    assert process.returncode == ExitCode.HANDLER_FAILED


def test_what_has_ended_cannot_be_stopped(durapool: Cli) -> None:
    durapool("run", "jobs.py:echo", "--id", "a")
    result = durapool("stop", "a")
    assert result.exit_code == ExitCode.USAGE
    one_message(result, "has already ended: SUCCEEDED")
    assert status(durapool, "a") == "SUCCEEDED"
