"""What falls due when: waits, retries, and the timeouts and heartbeats of callbacks. Pure: times in, operations out.

Owned by the journal, called under its lock. Heaps hold (deadline, id); an entry is checked against the operation when
it comes up, so nothing has to be removed when an operation ends early. Operations below a context that has ended are
left alone: nobody waits for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush

from durapool.records import (
    DETAIL_CALLBACK_ID,
    DETAIL_HEARTBEAT,
    Operation,
    OperationStatus,
    OperationType,
)


class Timers:
    """The deadlines of all operations of one execution."""

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        self._operations = operations
        self._timers: list[tuple[float, str]] = []
        self._timeouts: list[tuple[float, str]] = []
        self._beats: dict[str, float] = {}  # operation id -> the last heartbeat, or the creation
        self._by_callback_id: dict[str, str] = {}
        self._open: set[str] = set()

    def rebuild(self, operations: Iterable[Operation], now: float) -> None:
        """Start over from these operations. Heartbeats were not recorded, so each callback gets a whole interval."""
        self._timers, self._timeouts = [], []
        self._beats, self._by_callback_id, self._open = {}, {}, set()
        for operation in operations:
            if operation.type is OperationType.CALLBACK:
                self._note_callback(operation, now)
            elif operation.due_at is not None and not operation.status.is_terminal:
                self._timers.append((operation.due_at, operation.id))
        heapify(self._timers)

    def note(self, operation: Operation, now: float) -> None:
        """An update was folded into the operation."""
        if operation.type is OperationType.CALLBACK:
            self._note_callback(operation, now)
        elif operation.due_at is not None:
            heappush(self._timers, (operation.due_at, operation.id))

    def _note_callback(self, operation: Operation, now: float) -> None:
        callback_id = (operation.details or {}).get(DETAIL_CALLBACK_ID)
        if callback_id is not None:
            self._by_callback_id[callback_id] = operation.id
        if operation.status.is_terminal:
            self._open.discard(operation.id)
            self._beats.pop(operation.id, None)
            return
        self._open.add(operation.id)
        self._beats[operation.id] = now
        self._arm_timeout(operation)

    def _arm_timeout(self, operation: Operation) -> None:
        deadline = self._timeout_of(operation)
        if deadline is not None:
            heappush(self._timeouts, (deadline, operation.id))

    def beat(self, operation: Operation, now: float) -> None:
        """A callback's heartbeat has come."""
        self._beats[operation.id] = now
        self._arm_timeout(operation)

    def callback(self, callback_id: str | None) -> Operation | None:
        """The operation of a callback id."""
        operation_id = self._by_callback_id.get(callback_id or "")
        return None if operation_id is None else self._operations.get(operation_id)

    @property
    def has_open_callbacks(self) -> bool:
        """Whether the outside world may still have something to say."""
        return any(self._is_live(self._operations[operation_id]) for operation_id in self._open)

    def pop_due(self, now: float) -> Iterator[Operation]:
        """The operations that are due by now. Each must be ended (or made READY) before the next is asked for."""
        while (deadline := self.next_timer()) is not None and deadline <= now:
            yield self._operations[heappop(self._timers)[1]]
        while (deadline := self.next_timeout()) is not None and deadline <= now:
            yield self._operations[heappop(self._timeouts)[1]]

    def next_due(self) -> float | None:
        """When anything is due next; epoch seconds."""
        due = [deadline for deadline in (self.next_timer(), self.next_timeout()) if deadline is not None]
        return min(due, default=None)

    def next_timer(self) -> float | None:
        """When the next wait or retry is due; epoch seconds."""
        while self._timers:
            deadline, operation_id = self._timers[0]
            operation = self._operations[operation_id]
            if self._is_live(operation) and operation.due_at == deadline:
                return deadline
            heappop(self._timers)
        return None

    def next_timeout(self) -> float | None:
        """When the next callback times out; epoch seconds."""
        while self._timeouts:
            deadline, operation_id = self._timeouts[0]
            operation = self._operations[operation_id]
            if self._is_live(operation) and self._timeout_of(operation) == deadline:
                return deadline
            heappop(self._timeouts)
        return None

    def _timeout_of(self, operation: Operation) -> float | None:
        deadlines = []
        if operation.due_at is not None and operation.due_at > operation.started_at:
            deadlines.append(operation.due_at)
        heartbeat = (operation.details or {}).get(DETAIL_HEARTBEAT)
        if heartbeat and operation.id in self._beats:
            deadlines.append(self._beats[operation.id] + heartbeat)
        return min(deadlines, default=None)

    def missed_heartbeat(self, operation: Operation) -> bool:
        """Whether a callback that is due missed its heartbeat, rather than its timeout."""
        return self._timeout_of(operation) != operation.due_at

    def _is_live(self, operation: Operation) -> bool:
        if operation.status.is_terminal or operation.status is OperationStatus.READY:
            return False
        parent = self._operations.get(operation.parent_id or "")
        while parent is not None:
            if parent.status.is_terminal:
                return False
            parent = self._operations.get(parent.parent_id or "")
        return True
