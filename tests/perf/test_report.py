"""Rounds, ratios, targets, and how a profile is divided into stages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from perf.harness import Contender, call_afresh, measure, timed
from perf.report import Figure, Report, Table, targets_in, targets_table
from perf.stages import KERNEL, OTHER, Stats, shares, stage_of


def test_contenders_run_in_turn_and_the_warm_up_round_does_not_count() -> None:
    order: list[str] = []

    def contender(name: str) -> Contender:
        return Contender(name, timed(lambda: order.append(name)))

    table = measure("turns", [contender("a"), contender("b")], rounds=2)
    assert order == ["a", "b"] * 3
    assert {name: len(times) for name, times in table.seconds.items()} == {"a": 2, "b": 2}


def test_a_ratio_is_the_median_of_ratios_within_rounds_for_one_task() -> None:
    table = Table("t", "base", {"base": 10, "ours": 5}, {"base": [1.0, 10.0, 2.0], "ours": [1.0, 5.0, 4.0]})
    assert table.ratio("ours", "base") == 2.0  # 1.0, 0.5 and 2.0 a round, for half as many tasks
    assert table.each("base") == 0.2


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (Figure("f", 1.0, 1.0), "met"),
        (Figure("f", 1.01, 1.0), "missed"),
        (Figure("f", 5.0, 5.0, "at least"), "met"),
        (Figure("f", 4.9, 5.0, "at least"), "missed"),
        (Figure("f", 4.9), ""),
    ],
)
def test_a_figure_knows_whether_it_meets_its_target(figure: Figure, verdict: str) -> None:
    assert figure.verdict == verdict


def test_figures_with_a_target_are_read_back_from_what_was_written(tmp_path: Path) -> None:
    figures = [Figure("fast enough", 0.25, 0.5), Figure("by the way", 3.0), Figure("gain", 7.0, 5.0, "at least", "x")]
    Report("some", figures=figures).write(tmp_path)
    rows = targets_in(tmp_path, ["some", "never run"])
    assert rows == [("some", figures[0]), ("some", figures[2])]
    text = "\n".join(targets_table(rows))
    assert "at most 0.5" in text
    assert "at least 5 x" in text
    assert "by the way" not in text


def test_a_skipped_contender_is_named_once() -> None:
    report = Report("some")
    report.skip(["loky", "Pebble"])
    report.skip(["loky"])
    assert report.lines().count("skipped, not installed: loky") == 1


def test_an_interpreter_of_its_own_takes_and_returns_json() -> None:
    assert call_afresh("operator", "add", [1], [2]) == json.loads("[1, 2]")


def test_time_of_shared_functions_counts_for_the_stages_that_call_them() -> None:
    store = ("/x/durapool/stores/sqlite.py", 1, "write")
    coordinator = ("/x/durapool/coordinator.py", 1, "next")
    shared = ("/lib/enum.py", 1, "value")
    poll = ("~", 0, "<method 'poll' of 'select.epoll' objects>")
    lost = ("/lib/somewhere.py", 1, "nobody calls it")
    stats: Stats = {
        store: (1, 1, 1.0, 4.0, {}),
        coordinator: (1, 1, 2.0, 3.0, {}),
        shared: (4, 4, 4.0, 4.0, {store: (3, 3, 3.0, 3.0), coordinator: (1, 1, 1.0, 1.0)}),
        poll: (1, 1, 5.0, 5.0, {store: (1, 1, 5.0, 5.0)}),
        lost: (1, 1, 0.5, 0.5, {}),
    }
    found = {share.stage: share.seconds for share in shares(stats, branches=2)}
    assert found == {"store (Python)": 2.0, "coordinator": 1.5, KERNEL: 2.5, OTHER: 0.25}


def test_functions_that_call_each_other_in_a_circle_still_have_a_stage() -> None:
    ping, pong = ("/lib/a.py", 1, "ping"), ("/lib/b.py", 1, "pong")
    stats: Stats = {
        ping: (1, 1, 1.0, 2.0, {pong: (1, 1, 1.0, 1.0)}),
        pong: (1, 1, 1.0, 2.0, {ping: (1, 1, 1.0, 1.0)}),
    }
    assert {share.stage: share.seconds for share in shares(stats, branches=1)} == {OTHER: 2.0}


@pytest.mark.parametrize(
    ("function", "stage"),
    [
        (("/v/site-packages/cloudpickle/cloudpickle.py", 9, "dumps"), "pickle and cloudpickle"),
        (("~", 0, "<built-in method _pickle.loads>"), "pickle and cloudpickle"),
        (("/v/msgpack/__init__.py", 9, "packb"), "msgpack"),
        (("~", 0, "<method 'send' of '_socket.socket' objects>"), KERNEL),
        (("~", 0, "<method 'executemany' of 'sqlite3.Connection' objects>"), "the database (C)"),
        (("/v/durapool/pool/wire.py", 9, "pack"), "frames and messages"),
        (("/v/durapool/pool/anything_new.py", 9, "turn"), "pool: dispatch and bookkeeping"),
        (("~", 0, "<built-in method builtins.len>"), None),
    ],
)
def test_a_function_belongs_to_the_stage_of_its_module(function: tuple[str, int, str], stage: str | None) -> None:
    assert stage_of(function) == stage
