"""``durapool run`` and ``resume``: the result on stdout, messages on stderr, and going on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_tools import Cli, shown

from durapool.cli.exits import ExitCode


def test_run_prints_the_result_as_json_on_stdout_alone(durapool: Cli) -> None:
    result = durapool("run", "jobs.py:echo", "--id", "a", "--input", '{"n": [1, null, "ä"]}')
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"n": [1, None, "ä"]})


def test_a_finished_execution_prints_its_recorded_result_again(durapool: Cli) -> None:
    first = durapool("run", "jobs.py:echo", "--id", "a", "--input", "1")
    assert durapool("run", "jobs.py:echo", "--id", "a", "--input", "1").stdout == first.stdout
    assert durapool("resume", "a").stdout == first.stdout


def test_without_an_id_a_new_one_is_made_and_told(durapool: Cli) -> None:
    result = durapool("run", "jobs.py:echo")
    assert (result.exit_code, result.stdout) == (0, "null\n")
    (row,) = json.loads(durapool("ls", "--json").stdout)
    assert row["id"] in result.stderr


def test_input_comes_from_a_file_or_from_stdin(durapool: Cli, folder: Path) -> None:
    (folder / "event.json").write_bytes(b'\xef\xbb\xbf{"from": "file"}')
    assert json.loads(durapool("run", "jobs.py:echo", "--input", "@event.json").stdout) == {"from": "file"}
    assert json.loads(durapool("run", "jobs.py:echo", "--input", "-", stdin="[1]").stdout) == [1]


def test_values_that_json_does_not_have_are_printed_as_text(durapool: Cli) -> None:
    result = durapool("run", "jobs.py:not_json")
    assert result.exit_code == 0, result.stderr
    shown = json.loads(result.stdout)
    assert shown == {"day": "datetime.date(2024, 2, 29)", "(1, 2)": "nan", "set": "{7}"}


def test_a_failed_handler_shows_the_users_traceback_and_how_to_go_on(durapool: Cli) -> None:
    result = durapool("run", "jobs.py:fails", "--id", "f")
    assert result.exit_code == ExitCode.HANDLER_FAILED
    assert result.stdout == ""
    assert "jobs.py" in result.stderr
    assert "in explode" in result.stderr
    assert "durapool: " in result.stderr
    assert "boom" in result.stderr
    assert "durapool resume f --failed" in result.stderr


@pytest.mark.parametrize(
    "again", [("resume", "f", "--failed"), ("run", "jobs.py:fails", "--id", "f", "--retry-failed")]
)
def test_after_a_fix_only_what_failed_runs_again(durapool: Cli, folder: Path, again: tuple[str, ...]) -> None:
    assert durapool("run", "jobs.py:fails", "--id", "f").exit_code == ExitCode.HANDLER_FAILED
    assert durapool("resume", "f").exit_code == ExitCode.HANDLER_FAILED
    (folder / "fixed").touch()
    result = durapool(*again)
    assert (result.exit_code, result.stdout) == (0, '"mended"\n'), result.stderr
    assert (folder / "first.log").read_text() == "x"


def test_no_retry_switches_the_default_strategy_off(durapool: Cli) -> None:
    result = durapool("run", "jobs.py:retries", "--id", "r", "--no-retry")
    assert result.exit_code == ExitCode.HANDLER_FAILED
    (step,) = [one for one in shown(durapool, "r") if one["type"] == "STEP"]
    assert (step["attempt"], step["status"]) == (1, "FAILED")


@pytest.mark.parametrize("options", [("--executor", "process:2"), ("--checkpoint", "async"), ("--executor", "thread")])
def test_executor_and_checkpoint_are_passed_on(durapool: Cli, options: tuple[str, ...]) -> None:
    result = durapool("run", "jobs.py:batch", "--input", "3", *options)
    assert (result.exit_code, result.stdout) == (0, '"done"\n'), result.stderr


def test_the_store_option_says_where_journals_are(durapool: Cli, folder: Path) -> None:
    assert durapool("run", "jobs.py:echo", "--id", "a", "--store", "other.db").exit_code == 0
    assert (folder / "other.db").exists()
    assert not (folder / ".durapool").exists()
    assert [row["id"] for row in json.loads(durapool("ls", "--json", "--store", "other.db").stdout)] == ["a"]
    assert [row["id"] for row in json.loads(durapool("ls", "--json", DURAPOOL_STORE="other.db").stdout)] == ["a"]
