"""The log of an execution, read for looking at it: operations with their attempts, and the invocations.

A killed invocation leaves no record of its end. It is known by what it recorded: whatever only running code can record
and that no recorded invocation accounts for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from durapool.records import (
    DETAIL_CPUS,
    DETAIL_STARTED_AT,
    DETAIL_USAGE,
    Action,
    ErrorObject,
    Operation,
    OperationSubType,
    OperationType,
    Record,
    Update,
)
from durapool.usage import Usage

BATCHES = frozenset({OperationSubType.PARALLEL, OperationSubType.MAP})
_BRANCHES = frozenset({OperationSubType.PARALLEL_BRANCH, OperationSubType.MAP_ITERATION})
_CODE = (OperationType.STEP, OperationType.CONTEXT)  # what only a running handler ends


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a step. Times in epoch seconds; `ended` None: never, its program was stopped or it still runs."""

    began: float
    ended: float | None
    error: ErrorObject | None


@dataclass(slots=True)
class Entry:
    """An operation and its place among the others."""

    index: int
    operation: Operation
    parent: int  # index; -1 for the EXECUTION
    children: list[int] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    end: float = 0.0  # epoch seconds: when it ended, was cut off, or was last heard of
    cut_off: bool = False  # what encloses it has ended without it
    usage: Usage | None = None  # of the last run; None where that is not recorded

    @property
    def is_branch(self) -> bool:
        """Whether it is a branch's own context."""
        return self.operation.sub_type in _BRANCHES

    @property
    def is_batch(self) -> bool:
        """Whether it is a parallel or a map."""
        return self.operation.sub_type in BATCHES

    @property
    def began(self) -> float:
        """Epoch seconds of the start."""
        return self.operation.started_at


class InvocationEnd(StrEnum):
    """How an invocation ended."""

    FINISHED = "finished"  # and the execution with it
    SUSPENDED = "suspended"
    CRASHED = "crashed"
    KILLED = "killed"
    OPEN = "open"  # it runs, or was killed and nobody came after it


@dataclass(frozen=True, slots=True)
class Invocation:
    """One pass through the handler, in epoch seconds. `cpus` and `usage` are None where its end is not recorded."""

    began: float
    ended: float
    end: InvocationEnd
    cpus: int | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Log:
    """An execution as it was recorded. The first entry is the EXECUTION; parents come before their children."""

    entries: list[Entry]
    invocations: list[Invocation]
    records: int
    last_at: float  # epoch seconds of the last record

    @property
    def execution(self) -> Operation:
        """The EXECUTION."""
        return self.entries[0].operation

    @property
    def began(self) -> float:
        """Epoch seconds of the first record."""
        return self.execution.started_at


def read(records: Iterable[Record]) -> Log:
    """Read all records of an execution, which must begin with its START.

    Raises:
        ValueError: there are none.
    """
    reader = _Reader()
    for record in records:
        reader.take(record)
    return reader.log()


class _Reader:
    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._by_id: dict[str, Entry] = {}
        self._invocations: list[Invocation] = []
        self._signs: list[float] = []  # times of what running code has recorded since the last invocation's end
        self._last: Record | None = None
        self._count = 0

    def take(self, record: Record) -> None:
        update = record.update
        self._count += 1
        self._last = record
        if update.action is Action.INVOCATION:
            self._end_invocation(record)
            return
        entry = self._by_id.get(update.operation_id)
        if entry is None:
            entry = self._add(update)
            is_sign = update.type is not OperationType.EXECUTION
        else:
            is_sign = _is_sign(update, entry.operation)
        if is_sign:
            self._signs.append(record.at)
        if update.type is OperationType.STEP:
            _note_attempt(entry, record)
        entry.operation.apply(record)
        entry.usage = _usage_in(update)

    def _add(self, update: Update) -> Entry:
        parent = self._by_id.get(update.parent_id or "")
        place = -1 if not self._entries else 0 if parent is None else parent.index
        entry = Entry(len(self._entries), Operation.begin(update), place)
        self._entries.append(entry)
        self._by_id[update.operation_id] = entry
        if place >= 0:
            self._entries[place].children.append(entry.index)
        return entry

    def _end_invocation(self, record: Record) -> None:
        details = record.update.details or {}
        began = float(details.get(DETAIL_STARTED_AT, record.at))
        self._close_unrecorded(began, InvocationEnd.KILLED)
        end = InvocationEnd.SUSPENDED if record.update.error is None else InvocationEnd.CRASHED
        self._invocations.append(Invocation(began, record.at, end, details.get(DETAIL_CPUS), _usage_in(record.update)))
        self._signs.clear()

    def _close_unrecorded(self, before: float, end: InvocationEnd) -> None:
        """Note an invocation that recorded something before this time, and nothing of its end."""
        signs = [at for at in self._signs if at < before]
        if signs:
            self._invocations.append(Invocation(signs[0], signs[-1], end))

    def log(self) -> Log:
        if self._last is None:
            raise ValueError("there are no records")
        last_at = self._last.at
        self._close_unrecorded(float("inf"), InvocationEnd.OPEN)
        execution = self._entries[0].operation
        if execution.status.is_terminal and self._invocations and self._invocations[-1].end is InvocationEnd.SUSPENDED:
            last = self._invocations[-1]
            self._invocations[-1] = Invocation(last.began, last.ended, InvocationEnd.FINISHED, last.cpus, last.usage)
        _set_ends(self._entries, last_at)
        return Log(self._entries, self._invocations, self._count, last_at)


def _usage_in(update: Update) -> Usage | None:
    row = (update.details or {}).get(DETAIL_USAGE)
    return None if row is None else Usage(*row)


def _is_sign(update: Update, known: Operation) -> bool:
    """Whether only a running handler records this. Timers, signals and reopening record between invocations too."""
    if update.action is Action.START:
        return not known.status.is_terminal and update.type is not OperationType.EXECUTION
    return update.type in _CODE and update.action in (Action.SUCCEED, Action.FAIL, Action.RETRY)


def _note_attempt(entry: Entry, record: Record) -> None:
    match record.update.action:
        case Action.START if entry.operation.status.is_terminal:
            return  # only reopens it: the next attempt says so by a START of its own
        case Action.START:
            entry.attempts.append(Attempt(record.at, None, None))
        case Action.SUCCEED | Action.FAIL | Action.RETRY if entry.attempts:
            entry.attempts[-1] = Attempt(entry.attempts[-1].began, record.at, record.update.error)


def _set_ends(entries: list[Entry], last_at: float) -> None:
    for entry in entries:
        above = entries[entry.parent] if entry.parent >= 0 else None
        if entry.operation.ended_at is not None:
            entry.end = entry.operation.ended_at
        elif above is not None and (above.cut_off or above.operation.status.is_terminal):
            entry.end, entry.cut_off = max(above.end, entry.began), True
        else:
            entry.end = last_at
