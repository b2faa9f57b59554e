"""``durapool ls``, ``show`` and ``history``: on a terminal, in a pipe, as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_tools import Cli, shown

from durapool.cli.options import as_json
from durapool.cli.render import clean, duration
from durapool.cli.tree import Folded, Node, visible
from durapool.records import Operation, OperationStatus, OperationSubType, OperationType


def test_ls_lists_newest_first_and_filters_by_status(durapool: Cli) -> None:
    durapool("run", "jobs.py:echo", "--id", "good")
    durapool("run", "jobs.py:fails", "--id", "bad")
    text = durapool("ls").stdout
    assert text.index("bad") < text.index("good")
    assert "SUCCEEDED" in text
    assert "jobs.py:echo" in text
    assert [row["id"] for row in json.loads(durapool("ls", "--status", "failed", "--json").stdout)] == ["bad"]


def test_ls_of_nothing_says_so_and_makes_no_file(durapool: Cli, folder: Path) -> None:
    result = durapool("ls")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no executions" in result.stderr
    assert json.loads(durapool("ls", "--json").stdout) == []
    assert not (folder / ".durapool").exists()


def test_show_is_a_tree_with_status_attempts_and_errors(durapool: Cli) -> None:
    durapool("run", "jobs.py:batch", "--id", "b", "--input", "9")
    result = durapool("show", "b")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("b  SUCCEEDED")
    (head,) = [line for line in lines if "many" in line]
    assert "9 branches: 1 failed, 8 succeeded" in head
    assert "ValueError: boom [red]not markup[/red]" in result.stdout
    assert "step-8" in result.stdout


def test_long_batches_are_folded_unless_all_is_wanted(durapool: Cli) -> None:
    durapool("run", "jobs.py:batch", "--id", "b", "--input", "40")
    folded, whole = durapool("show", "b").stdout, durapool("show", "b", "--all").stdout
    assert "... 36 more succeeded" in folded
    assert "boom" in folded
    assert "step-39" not in folded
    assert "step-39" in whole
    assert "more succeeded" not in whole


def test_show_as_json_has_every_operation(durapool: Cli) -> None:
    durapool("run", "jobs.py:batch", "--id", "b", "--input", "2")
    operations = shown(durapool, "b")
    assert [one["type"] for one in operations][:2] == ["EXECUTION", "CONTEXT"]
    ids = {one["id"] for one in operations}
    assert all(one["parent_id"] in ids for one in operations if one["parent_id"])
    assert {one["name"] for one in operations} >= {"many", "step-0", "step-1"}


def test_history_has_the_shape_of_the_service(durapool: Cli) -> None:
    durapool("run", "jobs.py:echo", "--id", "h")
    events = json.loads(durapool("history", "h", "--json").stdout)["Events"]
    assert [event["EventId"] for event in events] == list(range(1, len(events) + 1))
    assert (events[0]["EventType"], events[-1]["EventType"]) == ("ExecutionStarted", "ExecutionSucceeded")
    assert "StepSucceeded" in durapool("history", "h").stdout


def test_history_tells_the_errors(durapool: Cli) -> None:
    durapool("run", "jobs.py:fails", "--id", "f")
    (line,) = [line for line in durapool("history", "f").stdout.splitlines() if "StepFailed" in line]
    assert "ValueError: boom [red]not markup[/red]" in line


@pytest.mark.parametrize("command", [("ls",), ("show", "b"), ("history", "b")])
def test_forty_columns_are_enough(durapool: Cli, command: tuple[str, ...]) -> None:
    durapool("run", "jobs.py:batch", "--id", "b", "--input", "8")
    result = durapool(*command, COLUMNS="40")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 40
    assert "b" in result.stdout


def test_no_color_is_honoured(durapool: Cli) -> None:
    durapool("run", "jobs.py:echo", "--id", "a")
    assert "\x1b[" in durapool("ls", FORCE_COLOR="1", TERM="xterm-256color").stdout
    assert "\x1b[3" not in durapool("ls", FORCE_COLOR="1", NO_COLOR="1", TERM="xterm-256color").stdout


def nodes(*statuses: OperationStatus) -> list[Node]:
    """Siblings of these statuses."""
    return [
        Node(Operation(str(index), OperationType.CONTEXT, OperationSubType.MAP_ITERATION, None, None, index, status))
        for index, status in enumerate(statuses)
    ]


def test_folding_counts_what_it_leaves_out() -> None:
    siblings = nodes(*[OperationStatus.SUCCEEDED] * 950, *[OperationStatus.FAILED] * 50)
    kept = list(visible(siblings, everything=False))
    folded = [one for one in kept if isinstance(one, Folded)]
    assert sum(one.count for one in folded) + len(kept) - len(folded) == 1000
    assert {one.status for one in folded} == {OperationStatus.SUCCEEDED, OperationStatus.FAILED}
    assert list(visible(siblings, everything=True)) == siblings


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.0123, "12 ms"), (3.21, "3.2 s"), (59.97, "1 min 00 s"), (245, "4 min 05 s"), (7380, "2 h 03 min")],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_control_characters_are_shown_not_sent() -> None:
    assert clean("a\x1b[2J\nb\ud800") == "a\\x1b[2J\\nb\\ud800"


def test_a_value_that_holds_itself_is_still_printed() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert json.loads(as_json(loop, pretty=False)) == "[[...]]"
