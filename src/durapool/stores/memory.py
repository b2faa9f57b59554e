"""The store that lives and ends with the process: for tests, and for jobs that nobody resumes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from durapool.blobs import BlobStore
from durapool.exceptions import ExecutionNotFoundError, StoreError
from durapool.records import OperationStatus, Record
from durapool.stores.base import ExecutionSummary, SignalRecord
from durapool.stores.locks import Registry
from durapool.stores.memory_blobs import MemoryBlobs
from durapool.stores.rows import check_place, handler_of, status_changes


@dataclass(slots=True)
class _Execution:
    handler: str
    status: OperationStatus
    started_at: float
    ended_at: float | None = None
    records: list[Record] = field(default_factory=list)
    signals: list[SignalRecord] = field(default_factory=list)

    def summary(self, execution_id: str) -> ExecutionSummary:
        event = self.records[0].update.payload
        return ExecutionSummary(
            id=execution_id,
            handler=self.handler,
            status=self.status,
            started_at=self.started_at,
            ended_at=self.ended_at,
            event="null" if event is None else event,
            records=len(self.records),
        )


class MemoryStore:
    """Journals in memory, with the rules of every store. Thread-safe.

    Args:
        payload_limit: the most bytes of one payload, to test what a store with a limit does; None for no limit.
        local: whether pickles may be stored.

    Example:
        >>> store = MemoryStore()
        >>> durapool.run(handler, {"n": 1}, id="nightly", store=store)
        2
        >>> [summary.status.value for summary in store.executions()]
        ['SUCCEEDED']
    """

    label = "memory"
    volatile = True  # see `stores.base.is_volatile`

    def __init__(self, payload_limit: int | None = None, local: bool = True) -> None:
        self.payload_limit = payload_limit
        self.local = local
        self._guard = threading.Lock()
        self._executions: dict[str, _Execution] = {}
        self._blobs: dict[str, MemoryBlobs] = {}
        self._held = Registry()
        self._closed = False

    def lock(self, execution_id: str) -> AbstractContextManager[None]:
        """Hold the execution for this run."""
        return self._hold(execution_id)

    @contextmanager
    def _hold(self, execution_id: str) -> Iterator[None]:
        with self._opened():
            self._held.take(execution_id, execution_id)
        try:
            yield
        finally:
            self._held.drop(execution_id)

    def find(self, execution_id: str) -> ExecutionSummary | None:
        """The summary of one execution, or None if it is unknown."""
        with self._opened() as executions:
            found = executions.get(execution_id)
            return None if found is None else found.summary(execution_id)

    def read(self, execution_id: str) -> Iterator[Record]:
        """All records in order of seq."""
        with self._opened() as executions:
            found = executions.get(execution_id)
            return iter(found.records[:] if found is not None else [])

    def write(self, execution_id: str, records: Sequence[Record]) -> None:
        """Append, all or nothing."""
        if not records:
            return
        with self._guard:
            found = self._checked().get(execution_id)
            check_place(execution_id, None if found is None else found.records[-1].seq, records)
            if found is None:
                first = records[0]
                found = _Execution(handler_of(first.update), OperationStatus.STARTED, first.at)
                self._executions[execution_id] = found
            found.records.extend(records)
            if (change := status_changes(records)) is not None:
                found.status, found.ended_at = change

    def blobs(self, execution_id: str) -> BlobStore:
        """The large payloads of one execution."""
        with self._opened():
            found = self._blobs.get(execution_id)
            if found is None:
                found = self._blobs[execution_id] = MemoryBlobs()
            return found

    def executions(self) -> list[ExecutionSummary]:
        """All, newest first."""
        with self._opened() as executions:
            found = [execution.summary(name) for name, execution in executions.items()]
        found.reverse()
        return sorted(found, key=lambda summary: summary.started_at, reverse=True)

    def delete(self, execution_id: str) -> None:
        """Forget an execution that does not run."""
        with self._hold(execution_id), self._opened() as executions:
            self._blobs.pop(execution_id, None)
            if executions.pop(execution_id, None) is None:
                raise unknown(execution_id, self.label)

    def post(self, execution_id: str, signal: SignalRecord) -> None:
        """Leave a signal for the execution. Raises ExecutionNotFoundError."""
        with self._opened() as executions:
            if execution_id not in executions:
                raise unknown(execution_id, self.label)
            executions[execution_id].signals.append(signal)

    def signals(self, execution_id: str) -> list[SignalRecord]:
        """The signals left, oldest first."""
        with self._opened() as executions:
            found = executions.get(execution_id)
            return found.signals[:] if found is not None else []

    def discard(self, execution_id: str, count: int) -> None:
        """Drop the oldest `count` signals."""
        with self._opened() as executions:
            if execution_id in executions:
                del executions[execution_id].signals[:count]

    def close(self) -> None:
        """Refuse all further calls."""
        with self._guard:
            self._closed = True

    @contextmanager
    def _opened(self) -> Iterator[dict[str, _Execution]]:
        with self._guard:
            yield self._checked()

    def _checked(self) -> dict[str, _Execution]:
        if self._closed:
            raise StoreError("This memory store is closed: make a new one.")
        return self._executions


def unknown(execution_id: str, label: str) -> ExecutionNotFoundError:
    """The error for an id that the store called `label` does not know."""
    return ExecutionNotFoundError(
        f"The store {label} knows no execution {execution_id!r}. `durapool ls` lists those that it knows."
    )
