"""``durapool rm`` and ``gc``: they ask, and they touch nothing that runs or is young."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from cli_tools import Cli, eventually, one_message, started

from durapool.cli import removing
from durapool.cli.exits import ExitCode

DAY = 86400.0


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stdin is a terminal."""
    monkeypatch.setattr(removing, "_somebody_is_there", lambda: True)


def ids(durapool: Cli) -> list[str]:
    return sorted(row["id"] for row in json.loads(durapool("ls", "--json").stdout))


def age_by(days: float, *execution_ids: str) -> None:
    """Let executions have begun and ended so long ago."""
    at = time.time() - days * DAY
    with closing(sqlite3.connect(Path(".durapool", "journal.db"))) as database, database:
        for execution_id in execution_ids:
            database.execute(
                "UPDATE executions SET started_at = ?, ended_at = ? WHERE id = ?", (at - 60, at, execution_id)
            )


@pytest.mark.usefixtures("somebody")
def test_rm_asks_first(durapool: Cli) -> None:
    durapool("run", "jobs.py:echo", "--id", "a")
    asked = durapool("rm", "a", stdin="n\n")
    assert "Delete a (SUCCEEDED" in asked.stderr
    assert "kept a" in asked.stderr
    unanswered = durapool("rm", "a", stdin="")
    assert unanswered.exit_code == ExitCode.USAGE
    assert "--yes" in unanswered.stderr
    assert ids(durapool) == ["a"]
    assert durapool("rm", "a", stdin="y\n").exit_code == 0
    assert ids(durapool) == []


@pytest.mark.parametrize("command", [("rm", "a"), ("gc", "--older-than", "1d")])
def test_without_a_terminal_nothing_is_deleted_unless_yes_says_so(durapool: Cli, command: tuple[str, ...]) -> None:
    durapool("run", "jobs.py:echo", "--id", "a")
    age_by(2, "a")
    refused = durapool(*command, stdin="y\n")
    assert refused.exit_code == ExitCode.USAGE
    one_message(refused, "stdin is no terminal", "--yes")
    assert ids(durapool) == ["a"]
    assert durapool(*command, "--yes").exit_code == 0
    assert ids(durapool) == []


def test_gc_deletes_what_ended_long_ago_and_nothing_else(durapool: Cli, folder: Path) -> None:
    for name in ("old", "young"):
        durapool("run", "jobs.py:echo", "--id", name)
    durapool("run", "jobs.py:fails", "--id", "failed")
    age_by(31, "old", "failed")
    listed = durapool("gc", "--older-than", "30d", "--dry-run")
    assert sorted(listed.stdout.split()) == ["failed", "old"]
    assert ids(durapool) == ["failed", "old", "young"]
    assert json.loads(durapool("gc", "--older-than", "30d", "--status", "failed", "--yes", "--json").stdout) == [
        "failed"
    ]
    assert "deleted 1 execution" in durapool("gc", "--older-than", "30d", "-y").stderr
    assert ids(durapool) == ["young"]
    assert "deleted" not in durapool("gc", "--older-than", "30d").stdout


@pytest.mark.usefixtures("somebody")
def test_gc_names_what_it_asks_about(durapool: Cli) -> None:
    for number in range(12):
        durapool("run", "jobs.py:echo", "--id", f"run-{number}")
    age_by(1, *[f"run-{number}" for number in range(12)])
    asked = durapool("gc", "--older-than", "12h", stdin="n\n").stderr
    assert "Delete 12 executions: run-" in asked
    assert "and 2 more?" in asked
    assert "kept 12 executions" in asked
    assert len(ids(durapool)) == 12


def test_gc_never_touches_what_has_not_ended(durapool: Cli, folder: Path) -> None:
    process = started("run", "jobs.py:slow", "--id", "s")
    eventually((folder / "lingering").exists, process)
    with closing(sqlite3.connect(Path(".durapool", "journal.db"))) as database, database:
        ((began,),) = database.execute("SELECT started_at FROM executions").fetchall()
    age_by(100, "s")
    assert json.loads(durapool("gc", "--older-than", "1s", "--yes", "--json").stdout) == []
    with closing(sqlite3.connect(Path(".durapool", "journal.db"))) as database, database:
        database.execute("UPDATE executions SET started_at = ?, ended_at = NULL", (began,))  # by which its run knows it
    (folder / "go").touch()
    assert process.communicate(timeout=60)[0] == '"woken"\n'


@pytest.mark.parametrize("text", ["30", "d", "", "30 days", "-1d", "1d2h"])
def test_an_age_that_is_none_says_how_one_looks(durapool: Cli, text: str) -> None:
    for command in (["gc", f"--older-than={text}"], ["ls", f"--newer-than={text}"]):
        result = durapool(*command)
        assert result.exit_code == ExitCode.USAGE
        assert "such as 30d or 12h" in result.stderr


def test_ls_filters_by_age(durapool: Cli) -> None:
    for name in ("old", "young"):
        durapool("run", "jobs.py:echo", "--id", name)
    age_by(2, "old")
    assert [row["id"] for row in json.loads(durapool("ls", "--newer-than", "1d", "--json").stdout)] == ["young"]
    assert [row["id"] for row in json.loads(durapool("ls", "--older-than", "1.5d", "--json").stdout)] == ["old"]
    assert "no such executions" in durapool("ls", "--older-than", "1w").stderr
