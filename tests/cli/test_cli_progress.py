"""What ``durapool run`` shows while it runs: on a terminal, in a pipe, for machines."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import Cli, eventually, one_message, started
from pty_tools import InTerminal

from durapool.cli.exits import ExitCode
from terminal_screen import Screen

SAID = [f"{what} of branch {number}" for what in ("log", "print") for number in (0, 1)]


def seen(text: str) -> str:
    screen = Screen()
    screen.feed(text)
    return screen.text


def is_live(text: str) -> bool:
    """Whether both branches run and all that they say is there."""
    now = seen(text)
    return "2 running" in now and sum(line in now for line in SAID) == 4


@pytest.mark.parametrize("executor", ["thread", "process:2"])
@pytest.mark.parametrize("columns", [100, 40])
def test_a_terminal_has_a_live_view_that_leaves_the_result(folder: Path, executor: str, columns: int) -> None:
    terminal = InTerminal(
        "run", "jobs.py:talks_in_branches", "--id", "t", "--executor", executor, columns=columns, NO_COLOR="1"
    )
    text = terminal.wait_for(is_live)
    lines = seen(text).splitlines()
    assert [line for line in lines if line.startswith("talking")]
    assert all(len(line) <= columns for line in lines)
    assert sorted(lines[:4]) == SAID
    assert lines[4].startswith("t  ")
    (folder / "go").touch()
    lines = seen(terminal.end()).splitlines()
    assert terminal.process.returncode == 0
    assert sorted(lines[:4]) == SAID
    assert lines[4].startswith("map talking: 2 of 2 branches in ")
    assert lines[5:] == ["2"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("executor", ["thread", "process:2"])
def test_a_signal_during_the_live_view_restores_the_terminal(
    durapool: Cli, folder: Path, executor: str, number: signal.Signals, code: int
) -> None:
    terminal = InTerminal("run", "jobs.py:talks_in_branches", "--id", "t", "--executor", executor, NO_COLOR="1")
    terminal.wait_for(is_live)
    if number is signal.SIGINT:
        terminal.type("\x03")
    else:
        terminal.process.send_signal(number)
    lines = [line for line in seen(terminal.end()).splitlines() if line not in SAID]
    assert terminal.process.returncode == code
    assert lines[0].startswith("map talking: 0 of 2 branches cut off after ")
    assert lines[1].endswith("go on with: durapool resume t")
    assert len(lines) == 2
    (folder / "go").touch()
    assert durapool("resume", "t", "--quiet").stdout.endswith("\n2\n")


def is_narrow(text: str) -> bool:
    """Whether the last whole frame fits into 30 columns."""
    parts = re.sub(r"\x1b\[[0-9;]*m", "", text).split("\x1b[J")
    return len(parts) > 2 and "talking" in parts[-2] and max(map(len, parts[-2].splitlines())) <= 30


def test_the_live_view_follows_a_resize(folder: Path) -> None:
    terminal = InTerminal("run", "jobs.py:talks_in_branches", "--id", "t", NO_COLOR="1")
    terminal.wait_for(is_live)
    terminal.resize(30, 10)
    terminal.wait_for(is_narrow)
    (folder / "go").touch()
    terminal.end()
    assert terminal.process.returncode == 0


def test_a_terminal_without_utf_8_gets_ascii(folder: Path) -> None:
    terminal = InTerminal(
        "run", "jobs.py:talks_in_branches", "--id", "t", NO_COLOR="1", PYTHONIOENCODING="ascii", PYTHONUTF8="0"
    )
    text = terminal.wait_for(is_live)
    assert text.isascii()
    (folder / "go").touch()
    terminal.end()
    assert terminal.process.returncode == 0


def test_colours_only_where_they_are_wanted(folder: Path) -> None:
    (folder / "go").touch()
    coloured = InTerminal("run", "jobs.py:talks_in_branches", TERM="xterm-256color")
    plain = InTerminal("run", "jobs.py:talks_in_branches", NO_COLOR="1")
    assert "\x1b[3" not in plain.end()
    coloured.end()
    assert (coloured.process.returncode, plain.process.returncode) == (0, 0)


def test_a_dumb_terminal_gets_no_escape_sequences(folder: Path) -> None:
    terminal = InTerminal("run", "jobs.py:talks_in_branches", "--id", "t", TERM="dumb")
    eventually(lambda: len(list(folder.glob("talking-*"))) == 2)
    (folder / "go").touch()
    assert "\x1b" not in terminal.end()
    assert terminal.process.returncode == 0


@pytest.mark.parametrize("options", [("--quiet",), ()])
def test_quiet_is_quiet_and_a_short_run_in_a_pipe_is_too(durapool: Cli, options: tuple[str, ...]) -> None:
    result = durapool("run", "jobs.py:batch", "--id", "b", "--input", "3", *options)
    assert (result.exit_code, result.stdout, result.stderr) == (0, '"done"\n', "")


def test_quiet_is_quiet_on_a_terminal(folder: Path) -> None:
    terminal = InTerminal("run", "jobs.py:talks_in_branches", "--id", "t", "--quiet")
    eventually(lambda: len(list(folder.glob("talking-*"))) == 2)
    (folder / "go").touch()
    text = terminal.end()
    assert "\x1b[" not in text
    assert "talking" not in text


def test_json_lines_tell_machines_everything(folder: Path) -> None:
    process = started("run", "jobs.py:talks_in_branches", "--id", "t", "--json", "--executor", "process:2")
    assert process.stdout is not None
    events = []
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1]["event"] == "progress" and events[-1]["batches"]:
            (folder / "go").touch()
    assert process.wait(60) == 0
    assert process.stderr is not None
    assert sorted(process.stderr.read().split("\n")[:4]) == [
        f"{what} of branch {n}" for what in ("log", "print") for n in (0, 1)
    ]
    process.communicate()
    assert events[0]["event"] == "started"
    progress = next(event for event in events if event["event"] == "progress" and event["batches"])
    (batch,) = progress["batches"]
    assert (batch["name"], batch["total"], batch["running"]) == ("talking", 2, 2)
    assert {row["branch"] for row in progress["workers"]} == {
        "branch 0 (map-item-0) of talking",
        "branch 1 (map-item-1) of talking",
    }
    assert [event["event"] for event in events[-2:]] == ["batch", "ended"]
    assert events[-1] | {"at": 0} == {"event": "ended", "execution": "t", "at": 0, "status": "SUCCEEDED", "result": 2}


def test_json_tells_a_failure_too(durapool: Cli) -> None:
    result = durapool("run", "jobs.py:fails", "--id", "f", "--json")
    assert result.exit_code == ExitCode.HANDLER_FAILED
    ended = json.loads(result.stdout.splitlines()[-1])
    assert (ended["event"], ended["status"]) == ("ended", "FAILED")
    assert "boom" in ended["error"]
    assert "durapool resume f --failed" in result.stderr


def test_quiet_and_json_exclude_each_other(durapool: Cli) -> None:
    result = durapool("run", "jobs.py:echo", "--quiet", "--json")
    assert result.exit_code == ExitCode.USAGE
    one_message(result, "--quiet and --json")


def test_a_reader_that_leaves_does_not_end_the_work(durapool: Cli, folder: Path) -> None:
    command = (
        f"{sys.executable} -m durapool run jobs.py:talks_in_branches --id t --json | head -n 1; echo ${{PIPESTATUS[0]}}"
    )
    process = subprocess.Popen(
        ["bash", "-c", command], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ)
    )
    eventually(lambda: len(list(folder.glob("talking-*"))) == 2, process)
    (folder / "go").touch()
    stdout, stderr = process.communicate(timeout=60)
    first, code = stdout.splitlines()
    assert json.loads(first)["event"] == "started"
    assert code == str(ExitCode.CLOSED_PIPE.value)
    assert "Traceback" not in stderr
    assert "BrokenPipe" not in stderr
    assert durapool("resume", "t").stdout == "2\n"


def test_progress_is_configured(durapool: Cli, folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.durapool]\nprogress = "json"\n')
    assert '"event": "ended"' in durapool("run", "jobs.py:echo").stdout
    assert durapool("run", "jobs.py:echo", "--quiet").stdout == "null\n"
    result = durapool("run", "jobs.py:echo", DURAPOOL_PROGRESS="bars")
    assert result.exit_code == ExitCode.USAGE
    one_message(result, "bars", "DURAPOOL_PROGRESS", "auto, lines, json, quiet")
