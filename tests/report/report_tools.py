"""Logs as runs would write them, at times that a test gives, and the reports of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from durapool.journal import EXECUTION_ID
from durapool.records import (
    DETAIL_CPUS,
    DETAIL_HANDLER,
    DETAIL_STARTED_AT,
    DETAIL_TOTAL,
    DETAIL_USAGE,
    Action,
    ErrorObject,
    OperationSubType,
    OperationType,
    Record,
    Update,
)
from durapool.report import Report, build
from durapool.usage import Usage

BEGAN = 1_700_000_000.0  # epoch seconds; times in tests count from here
MB = 1_000_000


def used(seconds: float, cpu: float, pid: int = 100, thread: int | None = None, rss: int = 50 * MB) -> Usage:
    """What a run used."""
    return Usage(pid, thread, seconds, cpu, rss)


class Book:
    """Writes a log. Ids are given by the test; the parent "" is the handler."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._known: dict[str, Update] = {}
        details = {DETAIL_HANDLER: "jobs.py:main"}
        self._add(0, Update(EXECUTION_ID, Action.START, OperationType.EXECUTION, payload="null", details=details))

    def _add(self, at: float, update: Update) -> None:
        if update.action is Action.START:
            self._known[update.operation_id] = update
        self.records.append(Record(len(self.records) + 1, BEGAN + at, update))

    def batch(self, at: float, name: str, total: int, parent: str = "") -> None:
        details = {DETAIL_TOTAL: total}
        self._start(at, name, OperationType.CONTEXT, OperationSubType.MAP, parent, None, details)

    def branch(self, at: float, name: str, batch: str, index: int) -> None:
        self._start(at, name, OperationType.CONTEXT, OperationSubType.MAP_ITERATION, batch, index)

    def step(self, at: float, name: str, parent: str = "", attempt: int = 1, branch: int | None = None) -> None:
        known = Update(
            name,
            Action.START,
            OperationType.STEP,
            OperationSubType.STEP,
            parent or None,
            name,
            branch,
            attempt=attempt,
        )
        self._add(at, known)

    def wait(self, at: float, name: str, parent: str = "") -> None:
        self._start(at, name, OperationType.WAIT, OperationSubType.WAIT, parent, None)

    def _start(
        self,
        at: float,
        name: str,
        kind: OperationType,
        sub_type: OperationSubType,
        parent: str,
        index: int | None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self._add(at, Update(name, Action.START, kind, sub_type, parent or None, name, index, details=details))

    def succeed(self, at: float, name: str, usage: Usage | None = None) -> None:
        self._end(at, name, Action.SUCCEED, None, usage)

    def fail(self, at: float, name: str, error: ErrorObject, usage: Usage | None = None) -> None:
        self._end(at, name, Action.FAIL, error, usage)

    def retry(self, at: float, name: str, error: ErrorObject) -> None:
        self._end(at, name, Action.RETRY, error, None)

    def _end(self, at: float, name: str, action: Action, error: ErrorObject | None, usage: Usage | None) -> None:
        details = None if usage is None else {DETAIL_USAGE: list(usage)}
        self._add(at, self._known[name]._replace(action=action, error=error, details=details))

    def invocation(
        self, began: float, ended: float, usage: Usage | None = None, cpus: int = 2, error: ErrorObject | None = None
    ) -> None:
        details: dict[str, Any] = {DETAIL_STARTED_AT: BEGAN + began, DETAIL_CPUS: cpus}
        if usage is not None:
            details[DETAIL_USAGE] = list(usage)
        execution = Update(EXECUTION_ID, Action.INVOCATION, OperationType.EXECUTION, error=error, details=details)
        self._add(ended, execution)

    def finish(self, at: float, error: ErrorObject | None = None) -> None:
        action = Action.SUCCEED if error is None else Action.FAIL
        self._add(at, Update(EXECUTION_ID, action, OperationType.EXECUTION, error=error))

    def report(self, execution_id: str = "nightly") -> Report:
        """The report of what was written so far."""
        return build(execution_id, "jobs.py:main", self.records, made_at=BEGAN + 1000, cpus=8)


def index_of(report: Report, name: str) -> int:
    """The place of the operation of this name."""
    [found] = [entry.index for entry in report.log.entries if entry.operation.name == name]
    return found


def bars_of(report: Report, name: str) -> list[tuple[str, float, float, str]]:
    """The bars of an operation: lane, begin and end in seconds since the start, state."""
    place = index_of(report, name)
    return [
        (report.placed.lanes[bar.lane].label, round(bar.began - BEGAN, 3), round(bar.ended - BEGAN, 3), bar.state.value)
        for bar in report.placed.bars
        if bar.entry == place
    ]


def two_workers() -> Book:
    """A map of four branches on two processes, then a step: 10 s, with one failure."""
    book = Book()
    book.batch(0.1, "score", 4)
    for index, (began, ended, pid) in enumerate([(1, 4, 11), (1, 9, 12), (4, 6, 11), (6, 9, 11)]):
        name, seconds = f"score-{index}", ended - began
        book.branch(began, name, "score", index)
        book.step(began + 0.1, f"work-{index}", name)
        usage = used(seconds, seconds * 0.9, pid, rss=(40 + 10 * index) * MB)
        if index == 2:
            error = ErrorObject("no such item", "KeyError", stack_trace=('  File "jobs.py", line 3, in work',))
            book.fail(ended - 0.1, f"work-{index}", error)
            book.fail(ended, name, error, usage)
        else:
            book.succeed(ended - 0.1, f"work-{index}")
            book.succeed(ended, name, usage)
    book.records.sort(key=lambda record: record.at)
    book.records = [record._replace(seq=place) for place, record in enumerate(book.records, start=1)]
    book.succeed(9.1, "score")
    book.step(9.1, "summary")
    book.succeed(10, "summary")
    book.invocation(0, 10, used(10, 1.0, pid=1, rss=30 * MB))
    book.finish(10)
    return book


def many_branches(total: int) -> Book:
    """A map of so many short branches, each with a step, on four workers; some fail."""
    book = Book()
    book.batch(0, "score", total)
    for index in range(total):
        name, at = f"score-{index}", 0.001 * (index // 4)
        book.branch(at, name, "score", index)
        book.step(at, f"work-{index}", name)
        if index % 997 == 5:
            error = ErrorObject(f"bad item {index}", "ValueError", stack_trace=('  File "jobs.py", line 3, in work',))
            book.fail(at + 0.0009, f"work-{index}", error)
            book.fail(at + 0.0009, name, error, used(0.0009, 0.0008, 10 + index % 4))
        else:
            book.succeed(at + 0.0009, f"work-{index}")
            book.succeed(at + 0.0009, name, used(0.0009, 0.0008, 10 + index % 4))
    end = 0.001 * (total // 4) + 0.01
    book.succeed(end, "score")
    book.invocation(0, end, used(end, 0.1, pid=1))
    book.finish(end)
    return book


def data_of(page: str) -> dict[str, Any]:
    """The data inside a page."""
    [found] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    data: dict[str, Any] = json.loads(found)
    return data
