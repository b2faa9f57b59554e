"""From records to what is drawn: invocations, bars, folded time, figures, errors, advice."""

from __future__ import annotations

from itertools import pairwise

import pytest
from report_tools import BEGAN, MB, Book, bars_of, index_of, many_branches, two_workers, used

from durapool.records import ErrorObject
from durapool.report import build
from durapool.report.figures import BINS
from durapool.report.folding import Fold
from durapool.report.reading import read

ERROR = ErrorObject("no", "ValueError", stack_trace=('  File "jobs.py", line 1, in f',))


def invocations(book: Book) -> list[tuple[str, float, float]]:
    return [(each.end.value, each.began - BEGAN, each.ended - BEGAN) for each in read(book.records).invocations]


def test_no_records_are_no_report():
    with pytest.raises(ValueError, match="no records"):
        build("x", "h", [], made_at=0, cpus=1)


def test_an_execution_that_only_began_has_a_report():
    report = Book().report()
    assert (report.ended, report.log.invocations, report.placed.bars) == (False, [], [])
    assert report.totals.cpus == 8
    assert not report.totals.cpus_recorded
    assert report.totals.used is None


def test_an_execution_without_branches_has_a_report():
    book = Book()
    book.step(0, "alone")
    book.succeed(1, "alone")
    book.invocation(0, 1, used(1, 0.5))
    book.finish(1)
    report = book.report()
    assert report.batches == []
    assert bars_of(report, "alone") == [("handler", 0, 1, "succeeded")]
    assert report.totals.branches == {}
    assert report.totals.used == pytest.approx(0.25)


def test_a_killed_invocation_is_known_by_what_it_recorded():
    book = Book()
    book.step(0.5, "a")
    book.succeed(1, "a")
    book.step(1.5, "b")
    book.step(101, "b")
    book.succeed(102, "b")
    book.invocation(100, 103, used(3, 1))
    book.finish(103)
    assert invocations(book) == [("killed", 0.5, 1.5), ("finished", 100, 103)]
    report = book.report()
    assert [(each.taken, each.ended, each.spared) for each in report.invocations] == [(0, 1, 0), (1, 1, 0.5)]
    assert [(attempt.ended is None) for attempt in report.log.entries[index_of(report, "b")].attempts] == [True, False]


def test_what_timers_record_between_invocations_is_no_sign_of_a_killed_one():
    book = Book()
    book.wait(0.5, "nap")
    book.invocation(0, 1)
    book.succeed(60, "nap")
    book.invocation(61, 62)
    book.finish(62)
    assert invocations(book) == [("suspended", 0, 1), ("finished", 61, 62)]


def test_a_crash_and_what_still_runs_are_told_apart():
    book = Book()
    book.invocation(0, 1, error=ERROR)
    book.step(5, "a")
    book.succeed(6, "a")
    assert invocations(book) == [("crashed", 0, 1), ("open", 5, 6)]
    assert not book.report().ended


def test_branches_are_on_the_lane_of_their_worker():
    report = two_workers().report()
    assert bars_of(report, "score") == [("handler", 0.1, 9.1, "succeeded")]
    assert bars_of(report, "score-0") == [("worker 1", 1, 4, "succeeded")]
    assert bars_of(report, "score-1") == [("worker 2", 1, 9, "succeeded")]
    assert bars_of(report, "score-2") == [("worker 1", 4, 6, "failed")]
    assert bars_of(report, "work-0") == []


def test_ends_that_were_committed_at_once_are_laid_out_one_after_the_other():
    book = Book()
    book.batch(0, "m", 3)
    for index in range(3):
        book.branch(0, f"m-{index}", "m", index)
    for index in range(3):
        book.succeed(3, f"m-{index}", used(1, 1))
    report = book.report()
    assert [bars_of(report, f"m-{index}") for index in range(3)] == [
        [("worker 1", 0, 1, "succeeded")],
        [("worker 1", 1, 2, "succeeded")],
        [("worker 1", 2, 3, "succeeded")],
    ]


def test_workers_that_follow_each_other_share_a_lane():
    book = Book()
    book.batch(0, "m", 50)
    for index in range(50):
        book.branch(index, f"m-{index}", "m", index)
        book.succeed(index + 1, f"m-{index}", used(1, 1, pid=index + 1))
    assert [lane.label for lane in book.report().placed.lanes] == ["handler", "worker 1"]


def test_threads_have_lanes_of_their_own():
    book = Book()
    book.batch(0, "m", 2)
    for index in range(2):
        book.branch(0, f"m-{index}", "m", index)
        book.succeed(1, f"m-{index}", used(1, 0.5, pid=1, thread=index))
    assert [lane.label for lane in book.report().placed.lanes] == ["handler", "thread 1", "thread 2"]


def test_a_branch_that_was_interrupted_shows_both_of_its_runs():
    book = Book()
    book.batch(0, "m", 1)
    book.branch(0, "m-0", "m", 0)
    book.step(0.1, "a", "m-0")
    book.succeed(2, "a")
    book.step(2, "b", "m-0")
    book.step(50, "b", "m-0")
    book.succeed(52, "b")
    book.succeed(53, "m-0", used(4, 2))
    book.succeed(53, "m")
    book.invocation(48, 53, used(5, 1, pid=1))
    book.finish(53)
    assert bars_of(book.report(), "m-0") == [("worker 1", 0, 2, "earlier"), ("worker 1", 49, 53, "succeeded")]


def test_a_suspended_branch_shows_what_it_did_before():
    book = Book()
    book.batch(0, "m", 1)
    book.branch(0, "m-0", "m", 0)
    book.step(0, "a", "m-0")
    book.succeed(2, "a")
    book.wait(2, "nap", "m-0")
    book.succeed(8, "nap")
    book.succeed(9, "m-0", used(1, 1))
    book.succeed(9, "m")
    book.invocation(0, 9)
    book.finish(9)
    assert bars_of(book.report(), "m-0") == [("worker 1", 0, 2, "earlier"), ("worker 1", 8, 9, "succeeded")]


def test_a_branch_that_waited_for_a_retry_shows_what_it_did_before():
    book = Book()
    book.batch(0, "m", 1)
    book.branch(0, "m-0", "m", 0)
    book.step(0, "a", "m-0")
    book.retry(2, "a", ERROR)
    book.step(7.99, "a", "m-0", attempt=2)  # as the parent stamps it, it may seem to come before its run
    book.fail(7.99, "a", ERROR)
    book.fail(8.01, "m-0", ERROR, used(0.01, 0.01))
    book.succeed(8.01, "m")
    book.invocation(0, 9)
    book.finish(9)
    assert bars_of(book.report(), "m-0") == [("worker 1", 0, 2, "earlier"), ("worker 1", 8, 8.01, "failed")]


def test_a_kill_does_not_lengthen_what_a_branch_did_before_it():
    book = Book()
    book.batch(0, "m", 1)
    book.branch(0, "m-0", "m", 0)
    book.step(0, "a", "m-0")
    book.retry(2, "a", ERROR)
    book.step(8, "a", "m-0", attempt=2)
    book.succeed(9, "a")
    book.succeed(9, "m-0", used(1, 1))
    book.step(10, "b")
    book.invocation(20, 21)
    assert bars_of(book.report(), "m-0") == [("worker 1", 0, 2, "earlier"), ("worker 1", 8, 9, "succeeded")]


def test_a_run_that_was_not_measured_takes_a_gap_where_there_is_one():
    book = Book()
    book.batch(0, "m", 3)
    for index, (began, ended) in enumerate([(0, 2), (5, 8), (2, 5)]):
        book.branch(began, f"m-{index}", "m", index)
        error = ErrorObject("gone", "WorkerLostError")
        book.fail(ended, f"m-{index}", error, used(ended - began, 1) if index < 2 else None)
    report = book.report()
    assert bars_of(report, "m-2") == [("worker 1", 2, 5, "failed")]
    assert [lane.label for lane in report.placed.lanes] == ["handler", "worker 1"]


def test_running_and_cut_off_branches_are_drawn_as_such():
    book = Book()
    book.batch(0, "race", 2)
    for index in range(2):
        book.branch(0, f"race-{index}", "race", index)
    book.succeed(1, "race-0", used(1, 1))
    book.succeed(1.5, "race")
    book.batch(2, "m", 1)
    book.branch(2, "m-0", "m", 0)
    book.step(4, "a", "m-0")
    report = book.report()
    assert bars_of(report, "race-1")[0][1:] == (0, 1.5, "cut off")
    assert bars_of(report, "m-0")[0][1:] == (2, 4, "running")
    assert report.totals.branches == {"succeeded": 1, "cut off": 1, "running": 1}


def test_flat_branches_are_drawn_from_their_operations():
    book = Book()
    book.batch(0, "m", 2)
    for index in range(2):
        book.step(index, f"a-{index}", "m", branch=index)
        book.succeed(index + 0.5, f"a-{index}")
        book.step(index + 0.5, f"b-{index}", "m", branch=index)
        book.succeed(index + 0.9, f"b-{index}")
    book.succeed(2, "m")
    report = book.report()
    assert [(bar.branch, round(bar.ended - bar.began, 3)) for bar in report.placed.bars if bar.branch >= 0] == [
        (0, 0.9),
        (1, 0.9),
    ]
    assert report.placed.lanes[-1].label == "place 1"
    assert report.batches[0].lanes == 1


def test_bars_of_a_lane_never_overlap_and_come_in_order():
    report = many_branches(500).report()
    for lane in range(len(report.placed.lanes)):
        bars = [bar for bar in report.placed.bars if bar.lane == lane]
        assert all(a.ended <= b.began + 1e-4 for a, b in pairwise(bars))


def test_long_pauses_are_folded_and_short_ones_are_not():
    fold = Fold(0, [(0, 10), (1000, 1010), (1010.5, 1020)], 1020)
    [pause] = fold.pauses
    assert (pause.at, pause.seconds) == (10, 990)
    assert fold.total == pytest.approx(30 + pause.width)
    for real in (0, 5, 10, 1000, 1010.2, 1020):
        assert fold.real(fold.folded(real)) == pytest.approx(real)
    assert 10 < fold.folded(500) < 10 + pause.width
    assert (fold.folded(-5), fold.folded(9999)) == (0, fold.total)


def test_time_without_length_can_be_folded():
    fold = Fold(5, [], 5)
    assert (fold.total, fold.folded(5), fold.real(0)) == (0, 0, 5)


def test_cpu_is_spread_over_the_runs_that_used_it():
    report = two_workers().report()
    width = report.fold.total / BINS
    assert sum(report.curves.branches) * width == pytest.approx(0.9 * 16, rel=1e-3)
    assert sum(report.curves.handler) * width == pytest.approx(1.0, rel=1e-3)
    assert report.curves.branches[BINS // 2] == pytest.approx(1.8, rel=1e-3)
    assert report.curves.branches[5] == 0
    assert report.totals.cpu == pytest.approx(15.4)
    assert report.totals.used == pytest.approx(15.4 / 20)


def test_threads_inside_a_measured_process_are_counted_once():
    book = Book()
    book.batch(0, "m", 2)
    for index in range(2):
        book.branch(0, f"m-{index}", "m", index)
        book.succeed(10, f"m-{index}", used(10, 4, pid=1, thread=index))
    book.succeed(10, "m")
    book.invocation(0, 10, used(10, 9, pid=1))
    book.finish(10)
    report = book.report()
    assert report.totals.cpu == pytest.approx(9)
    assert report.curves.branches[BINS // 2] == pytest.approx(0.8)
    assert report.curves.handler[BINS // 2] == pytest.approx(0.1)
    assert report.batches[0].cpu == pytest.approx(8)


def test_memory_is_the_sum_over_the_processes_at_work():
    report = two_workers().report()
    memory = report.curves.memory
    assert memory[BINS // 4] == (40 + 50 + 30) * MB
    assert memory[int(BINS * 0.55)] == (60 + 50 + 30) * MB
    assert memory[-1] == 30 * MB
    assert report.totals.peak_memory == max(memory) == (70 + 50 + 30) * MB


def test_a_batch_tells_how_busy_its_workers_were():
    [batch] = two_workers().report().batches
    assert (batch.total, batch.lanes, batch.counts) == (4, 2, {"SUCCEEDED": 3, "FAILED": 1})
    assert batch.busy == pytest.approx(16 / 18)
    assert batch.busy_cpu == pytest.approx(0.9)
    assert (batch.median, batch.longest) == pytest.approx((3, 8))
    assert batch.tail == pytest.approx(0.1)


def test_a_failure_is_told_once_and_not_again_for_what_encloses_it():
    report = two_workers().report()
    [group] = report.errors
    assert (group.type, group.message, group.retried) == ("KeyError", "no such item", [])
    assert group.entries == [index_of(report, "work-2")]


def test_failures_of_one_place_are_one_group_and_retries_are_told_apart():
    book = Book()
    for name in ("a", "b"):
        book.step(0, name)
        book.retry(1, name, ERROR)
        book.step(2, name, attempt=2)
    book.succeed(3, "a")
    book.fail(3, "b", ErrorObject("no again", "ValueError", stack_trace=ERROR.stack_trace))
    report = book.report()
    [group] = report.errors
    assert group.entries == [index_of(report, "b")]
    assert group.retried == [index_of(report, "a"), index_of(report, "b")]
    assert report.totals.retries == 2


def one_batch(lengths: list[float], cpu: float = 1.0, thread: bool = False) -> list[str]:
    """The advice on a batch of branches that all begin at once, each on a worker of its own."""
    book = Book()
    book.batch(0, "m", len(lengths))
    for index, length in enumerate(lengths):
        book.branch(0, f"m-{index}", "m", index)
        usage = used(length, length * cpu, pid=1 if thread else index + 1, thread=index if thread else None)
        book.succeed(length, f"m-{index}", usage)
    book.succeed(max(lengths), "m")
    return book.report().advice


def test_a_straggler_is_pointed_out():
    [text] = one_batch([2, 2, 2, 10])
    assert "For the last 8.0 s of m" in text
    assert "m-3, took 10.0 s, 5.0 times the median" in text


def test_threads_that_share_an_interpreter_are_told_of_processes():
    [text] = one_batch([4, 4, 4, 4], cpu=0.25, thread=True)
    assert 'executor="process"' in text


def test_branches_that_wait_are_pointed_out():
    [text] = one_batch([4, 4], cpu=0.1)
    assert "used a CPU for 10%" in text


def test_tiny_branches_are_pointed_out():
    [text] = many_branches(400).report().advice
    assert "less than 0.9 ms" in text


def test_a_batch_that_went_well_needs_no_advice():
    assert one_batch([4, 4, 4, 4]) == []
