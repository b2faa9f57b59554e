"""The command line as a process of its own: signals, pipes, imports, help."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cli_tools import Cli, eventually, one_message, started

from durapool.cli.app import cli
from durapool.cli.exits import MEANINGS, ExitCode
from durapool.history import history
from durapool.stores import open_store


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=lambda value: str(value),
)
def test_a_signal_stops_the_run_and_the_next_one_goes_on(
    durapool: Cli, folder: Path, number: signal.Signals, code: int
) -> None:
    process = started("run", "jobs.py:slow", "--id", "s")
    eventually((folder / "lingering").exists, process)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (code, ""), stderr
    assert "durapool resume s" in stderr
    assert "Traceback" not in stderr
    (folder / "go").touch()
    assert durapool("resume", "s").stdout == '"woken"\n'


@pytest.mark.parametrize("executor", ["thread", "process:2"])
def test_a_run_that_was_killed_while_it_waited_waits_for_the_rest(durapool: Cli, folder: Path, executor: str) -> None:
    command = ["run", "jobs.py:sleeps", "--id", "s", "--input", "4", "--executor", executor]
    process = started(*command)

    def events() -> list[dict[str, Any]]:
        if not Path(".durapool/journal.db").exists():
            return []
        with closing(open_store()) as store:
            return history(store.read("s"))

    eventually(lambda: "InvocationCompleted" in {event["EventType"] for event in events()}, process)
    process.kill()
    process.communicate()
    assert durapool(*command).stdout == "[1, 2]\n"
    starts = [event for event in events() if event["EventType"] == "WaitStarted"]
    ends = {event["Id"]: event["EventTimestamp"] for event in events() if event["EventType"] == "WaitSucceeded"}
    assert {event["Id"] for event in starts} == set(ends)
    assert len(starts) == 2
    for event in starts:
        assert ends[event["Id"]] >= event["WaitStartedDetails"]["ScheduledEndTimestamp"]
    lines = sorted((folder / "sleeps.log").read_text().splitlines())
    assert lines == ["after 1", "after 2", "before 1", "before 2"]


def test_sigterm_leaves_no_worker_behind(folder: Path) -> None:
    process = started("run", "jobs.py:waits_on_workers", "--id", "w", "--executor", "process:2")
    workers = eventually(lambda: len(pids := list(folder.glob("worker-*"))) == 2 and pids, process)
    process.terminate()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    for worker in workers:
        pid = int(worker.name.removeprefix("worker-"))
        eventually(lambda pid=pid: not Path(f"/proc/{pid}").exists())


def test_an_execution_that_runs_elsewhere_is_left_alone(durapool: Cli, folder: Path) -> None:
    process = started("run", "jobs.py:slow", "--id", "s")
    eventually((folder / "lingering").exists, process)
    for command in (["run", "jobs.py:slow", "--id", "s"], ["resume", "s"], ["rm", "s", "--yes"]):
        result = durapool(*command)
        assert result.exit_code == ExitCode.UNAVAILABLE
        one_message(result, str(process.pid))
    (folder / "go").touch()
    assert process.communicate(timeout=60)[0] == '"woken"\n'


def test_a_module_of_the_working_directory_is_found(folder: Path) -> None:
    stdout, stderr = started("run", "jobs:echo", "--input", "5").communicate(timeout=60)
    assert stdout == "5\n", stderr


def test_a_closed_pipe_is_silent(durapool: Cli, folder: Path) -> None:
    durapool("run", "jobs.py:batch", "--id", "b", "--input", "5")
    for command in (["show", "b"], ["show", "b", "--json"], ["ls"], ["history", "b"], ["resume", "b"]):
        read, write = os.pipe()
        os.close(read)
        process = started(*command, stdout=write)
        os.close(write)
        _, stderr = process.communicate(timeout=60)
        assert (process.returncode, stderr) == (ExitCode.CLOSED_PIPE, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_in_the_middle_is_noticed(durapool: Cli, folder: Path, unbuffered: str) -> None:
    durapool("run", "jobs.py:batch", "--id", "b", "--input", "500")
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    process = started("history", "b", "--json", env=environment)  # more than a pipe holds
    assert process.stdout is not None
    assert process.stdout.readline() == "{\n"
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == ExitCode.CLOSED_PIPE


def test_output_that_is_not_buffered_comes_at_once_and_whole(folder: Path) -> None:
    program = (
        "import sys; from durapool.cli.unbuffered import writing_all; out = writing_all(sys.stdout); "
        "out.write('é' * 100_000); out.write('!'); sys.stdin.read()"
    )
    command = [sys.executable, "-u", "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(200_001).decode() == "é" * 100_000 + "!"
        process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_click_or_rich_one_line_says_what_to_install(missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from durapool.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program, "ls"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.endswith("pip install 'durapool[cli]'\n")
    assert done.stderr.count("\n") == 1


def test_help_is_quick_because_commands_import_what_they_need() -> None:
    heavy = "{'sqlite3', 'rich', 'cloudpickle'}"
    program = f"import sys; from durapool.cli.app import cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("command", [*cli.commands])
def test_every_command_has_help_with_examples(durapool: Cli, command: str) -> None:
    result = durapool(command, "--help")
    assert result.exit_code == 0
    assert f"durapool {command}" in result.stdout.split("Examples:")[1]


def test_help_documents_the_exit_codes(durapool: Cli) -> None:
    text = durapool("--help").stdout
    assert all(f"{code.value}  {meaning}" in text for code, meaning in MEANINGS.items())


def test_a_store_holds_what_the_command_line_wrote(durapool: Cli, folder: Path) -> None:
    durapool("run", "jobs.py:echo", "--id", "a", "--store", "j.db")
    with closing(open_store("j.db")) as store:
        summary = store.find("a")
    assert summary is not None
    assert summary.handler.endswith("jobs.py:echo")
