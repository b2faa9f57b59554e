"""The trace: the shape that the Trace Event Format asks for, and the branches in it."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from report_tools import Book, many_branches, two_workers, used

from durapool.report import chrome_trace

KEYS = {
    "X": {"name", "cat", "ts", "dur", "pid", "tid", "args"},
    "M": {"name", "pid", "tid", "args"},
    "C": {"name", "ts", "pid", "tid", "args"},
    "i": {"name", "ts", "pid", "tid", "s", "args"},
}


@pytest.mark.parametrize("book", [Book, two_workers, lambda: many_branches(300)])
def test_every_event_has_the_fields_of_its_phase(book):
    trace = json.loads(json.dumps(chrome_trace(book().report()), allow_nan=False))
    assert trace["displayTimeUnit"] == "ms"
    named = {(e["pid"], e["tid"]) for e in trace["traceEvents"] if e["name"] == "thread_name"}
    processes = {e["pid"] for e in trace["traceEvents"] if e["name"] == "process_name"}
    for event in trace["traceEvents"]:
        assert set(event) - {"ph"} == KEYS[event["ph"]]
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert event["pid"] in processes
        assert event.get("ts", 0) >= 0
        assert event.get("dur", 0) >= 0
        if event["ph"] == "X":
            assert (event["pid"], event["tid"]) in named
        if event["ph"] == "i":
            assert event["s"] in ("g", "p", "t")
        if event["ph"] == "C":
            assert all(isinstance(value, (int, float)) for value in event["args"].values())


def test_branches_are_slices_with_their_steps_inside():
    events = chrome_trace(two_workers().report())["traceEvents"]
    slices = {event["name"]: event for event in events if event["ph"] == "X"}
    branch, step = slices["score-2"], slices["work-2"]
    assert (branch["ts"], branch["dur"]) == (4_000_000, 2_000_000)
    assert (branch["pid"], branch["tid"]) == (step["pid"], step["tid"])
    assert branch["ts"] <= step["ts"]
    assert step["ts"] + step["dur"] <= branch["ts"] + branch["dur"]
    assert branch["args"]["status"] == "failed"
    assert branch["args"]["error"] == "KeyError: no such item"
    assert branch["args"]["cpu_seconds"] == pytest.approx(1.8)
    [failure] = [event for event in events if event["name"] == "work-2 failed"]
    assert failure["args"]["error"] == "KeyError: no such item"


def test_slices_of_a_lane_nest_and_never_cross():
    events = chrome_trace(many_branches(300).report())["traceEvents"]
    for lane in {event["tid"] for event in events if event["ph"] == "X"}:
        slices = sorted((e["ts"], -e["dur"]) for e in events if e["ph"] == "X" and e["tid"] == lane)
        open_until: list[float] = []
        for began, negative in slices:
            while open_until and open_until[-1] <= began + 0.5:
                open_until.pop()
            assert not open_until or began - negative <= open_until[-1] + 0.5
            open_until.append(began - negative)


def test_times_are_real_where_the_page_folds_them():
    book = Book()
    book.batch(0, "m", 2)
    for index, at in enumerate((0, 5000)):
        book.branch(at, f"m-{index}", "m", index)
        book.succeed(at + 1, f"m-{index}", used(1, 1, pid=index))
    book.invocation(5000, 5001)
    slices = {e["name"]: e for e in chrome_trace(book.report())["traceEvents"] if e["ph"] == "X"}
    assert slices["m-1"]["ts"] == pytest.approx(5e9)


def test_counters_tell_cpu_and_memory():
    events = [event for event in chrome_trace(two_workers().report())["traceEvents"] if event["ph"] == "C"]
    assert Counter(event["name"] for event in events).keys() == {"CPUs in use", "memory"}
    assert max(event["args"].get("branches", 0) for event in events) == pytest.approx(1.8, rel=0.01)
