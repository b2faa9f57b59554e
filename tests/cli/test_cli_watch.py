"""``durapool show --watch``: the tree as it changes, until the execution has ended."""

from __future__ import annotations

import json
from pathlib import Path

from cli_tools import Cli, eventually, one_message, started
from pty_tools import InTerminal

from durapool.cli.exits import ExitCode
from terminal_screen import Screen


def seen(text: str) -> str:
    screen = Screen()
    screen.feed(text)
    return screen.text


def test_a_terminal_shows_one_tree_that_changes(folder: Path) -> None:
    process = started("run", "jobs.py:slow", "--id", "s")
    eventually((folder / "lingering").exists, process)
    watcher = InTerminal("show", "s", "--watch", NO_COLOR="1")
    first = watcher.wait_for(lambda text: "linger" in seen(text))
    assert seen(first).startswith("s  STARTED")
    (folder / "go").touch()
    process.communicate(timeout=60)
    text = seen(watcher.end())
    assert watcher.process.returncode == 0
    assert text.startswith("s  SUCCEEDED")
    assert text.count("linger") == 1


def test_a_tree_that_is_too_high_is_cut_while_it_changes_and_whole_at_the_end(folder: Path) -> None:
    process = started("run", "jobs.py:slow", "--id", "s")
    eventually((folder / "lingering").exists, process)
    watcher = InTerminal("show", "s", "--watch", lines=3, NO_COLOR="1")
    watcher.wait_for(lambda text: "more lines" in seen(text))
    (folder / "go").touch()
    process.communicate(timeout=60)
    text = seen(watcher.end())
    assert "more lines" not in text
    assert "linger" in text


def test_a_pipe_gets_one_tree_after_the_other(durapool: Cli, folder: Path) -> None:
    process = started("run", "jobs.py:slow", "--id", "s")
    eventually((folder / "lingering").exists, process)
    watcher = started("show", "s", "--watch")
    assert watcher.stdout is not None
    assert watcher.stdout.readline().startswith("s  STARTED")
    (folder / "go").touch()
    rest, stderr = watcher.communicate(timeout=60)
    process.communicate(timeout=60)
    assert (watcher.returncode, stderr) == (0, "")
    assert "\x1b" not in rest
    assert "s  SUCCEEDED" in rest


def test_ctrl_c_ends_the_watching_and_nothing_else(folder: Path) -> None:
    process = started("run", "jobs.py:slow", "--id", "s")
    eventually((folder / "lingering").exists, process)
    watcher = InTerminal("show", "s", "--watch")
    watcher.wait_for(lambda text: "linger" in text)
    watcher.type("\x03")
    assert "Traceback" not in watcher.end()
    assert watcher.process.returncode == ExitCode.INTERRUPTED
    (folder / "go").touch()
    assert process.communicate(timeout=60)[0] == '"woken"\n'


def test_what_has_ended_is_shown_once(durapool: Cli) -> None:
    durapool("run", "jobs.py:echo", "--id", "a")
    assert durapool("show", "a", "--watch").stdout == durapool("show", "a").stdout


def test_machines_do_not_watch(durapool: Cli) -> None:
    durapool("run", "jobs.py:echo", "--id", "a")
    result = durapool("show", "a", "--watch", "--json")
    assert result.exit_code == ExitCode.USAGE
    one_message(result, "--watch is for people")
    assert json.loads(durapool("show", "a", "--json").stdout)["id"] == "a"
