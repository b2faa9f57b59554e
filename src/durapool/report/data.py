"""A report as the JSON that the page reads: columns rather than rows, so that 10,000 branches stay small.

Inputs and results are not in it: a report may be shown to people who may not see them.
"""

from __future__ import annotations

from typing import Any

from durapool.records import ErrorObject
from durapool.report.model import Report, label
from durapool.report.reading import Attempt, Entry

FORMAT = 1


def page_data(report: Report) -> dict[str, Any]:
    """Plain JSON values; times in seconds on the folded axis, unless they are named `at`: then epoch seconds."""
    errors = _Errors()
    return {
        "format": FORMAT,
        "execution": _execution(report, errors),
        "axis": report.fold.table(),
        "pauses": [[pause.at, pause.width, pause.seconds] for pause in report.fold.pauses],
        "operations": _operations(report, errors),
        "lanes": [[lane.label, lane.kind.value] for lane in report.placed.lanes],
        "bars": _bars(report),
        "curves": {
            "branches": [round(value, 4) for value in report.curves.branches],
            "handler": [round(value, 4) for value in report.curves.handler],
            "memory": report.curves.memory,
        },
        "batches": [
            {
                "operation": batch.entry,
                "total": batch.total,
                "counts": batch.counts,
                "seconds": batch.seconds,
                "lanes": batch.lanes,
                "busy": batch.busy,
                "cpu": batch.cpu,
                "busyCpu": batch.busy_cpu,
                "median": batch.median,
                "longest": batch.longest,
                "longestOperation": batch.longest_entry,
                "tail": batch.tail,
            }
            for batch in report.batches
        ],
        "advice": report.advice,
        "groups": [
            {
                "type": group.type,
                "message": group.message,
                "trace": "\n".join(line.rstrip("\n") for line in group.trace),
                "operations": group.entries,
                "retried": group.retried,
            }
            for group in report.errors
        ],
        "invocations": [
            {
                "at": each.invocation.began,
                "began": report.fold.folded(each.invocation.began),
                "seconds": each.invocation.ended - each.invocation.began,
                "end": each.invocation.end.value,
                "taken": each.taken,
                "ended": each.ended,
                "spared": each.spared,
            }
            for each in report.invocations
        ],
        "errors": errors.rows,
    }


class _Errors:
    """Each error once; operations refer to it by its place."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []
        self._places: dict[tuple[str, str], int] = {}

    def place(self, error: ErrorObject | None) -> int:
        """-1 for none."""
        if error is None:
            return -1
        key = (error.type or "error", error.message or "")
        if key not in self._places:
            self._places[key] = len(self.rows)
            self.rows.append(list(key))
        return self._places[key]


def _execution(report: Report, errors: _Errors) -> dict[str, Any]:
    log, totals = report.log, report.totals
    return {
        "id": report.id,
        "handler": report.handler,
        "status": log.execution.status.value,
        "ended": report.ended,
        "at": log.began,
        "lastAt": log.last_at,
        "madeAt": report.made_at,
        "records": log.records,
        "error": errors.place(log.execution.error),
        "active": totals.active,
        "cpus": totals.cpus,
        "cpusRecorded": totals.cpus_recorded,
        "cpu": totals.cpu,
        "used": totals.used,
        "lanes": totals.lanes,
        "peakMemory": totals.peak_memory,
        "branches": totals.branches,
        "steps": totals.steps,
        "retries": totals.retries,
    }


def _operations(report: Report, errors: _Errors) -> dict[str, Any]:
    entries, fold = report.log.entries, report.fold
    kinds: dict[str, int] = {}
    statuses: dict[str, int] = {}
    usages = [entry.usage for entry in entries]
    runs = _last_runs(report)
    return {
        "id": [entry.operation.id for entry in entries],
        "name": [label(entry) for entry in entries],
        "kind": [kinds.setdefault(_kind(entry), len(kinds)) for entry in entries],
        "status": [statuses.setdefault(_status(entry), len(statuses)) for entry in entries],
        "parent": [entry.parent for entry in entries],
        "branch": [-1 if entry.operation.branch is None else entry.operation.branch for entry in entries],
        "began": [round(fold.folded(runs.get(entry.index, (entry.began, 0))[0]), 6) for entry in entries],
        "ended": [round(fold.folded(runs.get(entry.index, (0, entry.end))[1]), 6) for entry in entries],
        "error": [errors.place(entry.operation.error) for entry in entries],
        "attempts": [
            max(1, len(entry.attempts), entry.operation.attempt) if entry.attempts else 0 for entry in entries
        ],
        "tries": {
            entry.index: [_attempt(report, attempt, errors) for attempt in entry.attempts]
            for entry in entries
            if len(entry.attempts) > 1
        },
        "cpu": [None if usage is None else round(usage.cpu, 6) for usage in usages],
        "rss": [None if usage is None else usage.peak_rss for usage in usages],
        "where": [None if usage is None else [usage.pid, usage.thread] for usage in usages],
        "kinds": list(kinds),
        "statuses": list(statuses),
    }


def _last_runs(report: Report) -> dict[int, tuple[float, float]]:
    """Of measured branches: when their last run began and ended, in epoch seconds, as it is drawn."""
    entries = report.log.entries
    return {
        bar.entry: (bar.began, bar.ended)
        for bar in report.placed.bars
        if entries[bar.entry].usage is not None and bar.state.value != "earlier"
    }


def _kind(entry: Entry) -> str:
    return str(entry.operation.sub_type or entry.operation.type)


def _status(entry: Entry) -> str:
    return "CUT OFF" if entry.cut_off else entry.operation.status.value


def _attempt(report: Report, attempt: Attempt, errors: _Errors) -> list[Any]:
    ended = None if attempt.ended is None else round(report.fold.folded(attempt.ended), 6)
    return [round(report.fold.folded(attempt.began), 6), ended, errors.place(attempt.error)]


def _bars(report: Report) -> dict[str, Any]:
    fold, bars = report.fold, report.placed.bars
    states: dict[str, int] = {}
    return {
        "lane": [bar.lane for bar in bars],
        "operation": [bar.entry for bar in bars],
        "began": [round(fold.folded(bar.began), 6) for bar in bars],
        "ended": [round(fold.folded(bar.ended), 6) for bar in bars],
        "state": [states.setdefault(bar.state.value, len(states)) for bar in bars],
        "branch": [bar.branch for bar in bars],
        "states": list(states),
    }
