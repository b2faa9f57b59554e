"""The Trace Event Format, which chrome://tracing and https://ui.perfetto.dev open.

One process row holds the handler, one each worker lane and each lane of threads; branches are slices, and the
operations inside a branch are slices within it. Times are real: pauses between invocations are not folded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from durapool.report.figures import BINS
from durapool.report.model import Report, label
from durapool.report.placing import LATE, Bar, LaneKind
from durapool.report.reading import Entry

Event = dict[str, Any]

_PROCESSES = {LaneKind.HANDLER: 1, LaneKind.WORKER: 2, LaneKind.THREAD: 3, LaneKind.PLACE: 4}
_NAMES = {
    LaneKind.HANDLER: "handler",
    LaneKind.WORKER: "workers",
    LaneKind.THREAD: "threads",
    LaneKind.PLACE: "branches",
}


def chrome_trace(report: Report) -> dict[str, Any]:
    """The trace as plain JSON values.

    Returns:
        ``{"traceEvents": [...], "displayTimeUnit": "ms", "otherData": {...}}``; times in microseconds since the start.

    Example:
        >>> json.dump(chrome_trace(report), file)  # doctest: +SKIP
    """
    events = [*_metadata(report), *_slices(report), *_invocations(report), *_failures(report), *_counters(report)]
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"execution": report.id, "handler": report.handler, "status": report.log.execution.status.value},
    }


def _metadata(report: Report) -> Iterator[Event]:
    for kind in dict.fromkeys([LaneKind.HANDLER, *(lane.kind for lane in report.placed.lanes)]):
        yield _named("process_name", _PROCESSES[kind], 0, f"{_NAMES[kind]} of {report.id}")
        yield {"ph": "M", "name": "process_sort_index", "pid": _PROCESSES[kind], "tid": 0,
               "args": {"sort_index": _PROCESSES[kind]}}  # fmt: skip
    for number, lane in enumerate(report.placed.lanes, start=1):
        yield _named("thread_name", _PROCESSES[lane.kind], number, lane.label or lane.kind.value)


def _named(name: str, pid: int, tid: int, value: str) -> Event:
    return {"ph": "M", "name": name, "pid": pid, "tid": tid, "args": {"name": value}}


def _slices(report: Report) -> Iterator[Event]:
    for bar in report.placed.bars:
        entry, kind = report.log.entries[bar.entry], report.placed.lanes[bar.lane].kind
        place = {"pid": _PROCESSES[kind], "tid": bar.lane + 1}
        yield _slice(report, label(entry), entry, bar.began, bar.ended, place, bar)
        if kind is not LaneKind.HANDLER and bar.branch < 0:
            for inner in _inside(report.log.entries, entry):
                if inner.end > bar.began - LATE:  # else it is of an earlier run
                    began, ended = (min(max(at, bar.began), bar.ended) for at in (inner.began, inner.end))
                    yield _slice(report, label(inner), inner, began, ended, place, None)


def _inside(entries: list[Entry], branch: Entry) -> Iterable[Entry]:
    """What a branch did itself, parents first."""
    for index in branch.children:
        if not entries[index].is_branch:
            yield entries[index]
            yield from _inside(entries, entries[index])


def _slice(
    report: Report, name: str, entry: Entry, began: float, ended: float, place: dict[str, int], bar: Bar | None
) -> Event:
    operation = entry.operation
    args: dict[str, Any] = {
        "operation": operation.id,
        "status": operation.status.value if bar is None else bar.state.value,
    }
    if operation.attempt > 1:
        args["attempts"] = operation.attempt
    if operation.error is not None:
        args["error"] = f"{operation.error.type}: {operation.error.message}"
    if (usage := entry.usage) is not None:
        args |= {"cpu_seconds": usage.cpu, "peak_rss_bytes": usage.peak_rss, "os_pid": usage.pid}
    return {
        "ph": "X",
        "name": name,
        "cat": str(operation.sub_type or operation.type),
        "ts": _microseconds(report, began),
        "dur": round(max(0.0, ended - began) * 1e6, 3),
        **place,
        "args": args,
    }


def _invocations(report: Report) -> Iterator[Event]:
    for number, invocation in enumerate(report.log.invocations, start=1):
        yield _instant(report, f"invocation {number} ({invocation.end.value})", invocation.began, {})


def _failures(report: Report) -> Iterator[Event]:
    for entry in report.log.entries:
        for attempt in entry.attempts:
            if attempt.error is not None and attempt.ended is not None:
                text = f"{attempt.error.type}: {attempt.error.message}"
                yield _instant(report, f"{label(entry)} failed", attempt.ended, {"error": text})


def _instant(report: Report, name: str, at: float, args: dict[str, Any]) -> Event:
    return {"ph": "i", "name": name, "s": "p", "ts": _microseconds(report, at), "pid": 1, "tid": 1, "args": args}


def _counters(report: Report) -> Iterator[Event]:
    """CPU and memory, where they change."""
    drawn, before = report.curves, None
    for step in range(BINS):
        values = (round(drawn.branches[step], 3), round(drawn.handler[step], 3), drawn.memory[step])
        if values == before:
            continue
        before = values
        ts = _microseconds(report, report.fold.real(report.fold.total * step / BINS))
        yield {"ph": "C", "name": "CPUs in use", "pid": 1, "tid": 0, "ts": ts,
               "args": {"branches": values[0], "handler": values[1]}}  # fmt: skip
        yield {"ph": "C", "name": "memory", "pid": 1, "tid": 0, "ts": ts, "args": {"bytes": values[2]}}


def _microseconds(report: Report, at: float) -> float:
    return round(max(0.0, at - report.log.began) * 1e6, 3)
