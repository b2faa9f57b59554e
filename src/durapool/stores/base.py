"""The store protocol: where the logs of executions live.

A store is dumb: it appends records, reads them back and holds one lock per execution. Only the parent's Journal writes
records (one writer, so sequence numbers have no gaps). Signals are the one thing that other processes may write: a
completed callback or a request to stop, taken up by the running journal or by the next run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from durapool.records import ErrorObject, OperationStatus, Payload, Record

if TYPE_CHECKING:
    from durapool.blobs import BlobStore


@dataclass(frozen=True, slots=True)
class ExecutionSummary:
    """One row of `durapool ls`.

    Args:
        id: of the execution.
        handler: "module:name" or "path.py:name".
        status: where it stands.
        started_at: epoch seconds.
        ended_at: epoch seconds; None if it has not ended.
        event: the recorded input, as JSON or pickle payload.
        records: how many the log has.
    """

    id: str
    handler: str
    status: OperationStatus
    started_at: float
    ended_at: float | None
    event: Payload
    records: int


@dataclass(frozen=True, slots=True)
class SignalRecord:
    """A message from outside to a running execution.

    Args:
        kind: "succeed", "fail" or "heartbeat" (of a callback), or "stop".
        callback_id: whose; None for "stop".
        payload: the result of a callback.
        error: the failure of a callback.
        at: when it was sent, epoch seconds.
    """

    kind: str
    callback_id: str | None = None
    payload: Payload | None = None
    error: ErrorObject | None = None
    at: float = 0.0


class Store(Protocol):
    """All methods raise StoreError (with what to do) when the medium fails. Thread-safe."""

    @property
    def local(self) -> bool:
        """Whether pickles may be stored: the file belongs to the user."""
        ...

    @property
    def payload_limit(self) -> int | None:
        """The most bytes that one payload may have, or None."""
        ...

    @property
    def label(self) -> str:
        """What messages call it: the path of the file, or "memory"."""
        ...

    def lock(self, execution_id: str) -> AbstractContextManager[None]:
        """Hold the execution for this run. Raises ExecutionAlreadyRunningError naming pid and host of the holder."""
        ...

    def find(self, execution_id: str) -> ExecutionSummary | None:
        """The summary of one execution, or None if it is unknown."""
        ...

    def read(self, execution_id: str) -> Iterator[Record]:
        """All records in order of seq; none for an unknown id."""
        ...

    def write(self, execution_id: str, records: Sequence[Record]) -> None:
        """Append, all or nothing, in one transaction.

        The record with seq 1 is the START of the EXECUTION and makes the execution's row (handler from its details,
        event from its payload); an EXECUTION's end, or a further START of it, updates the row's status.
        """
        ...

    def executions(self) -> list[ExecutionSummary]:
        """All, newest first."""
        ...

    def delete(self, execution_id: str) -> None:
        """Forget an execution. Raises ExecutionNotFoundError."""
        ...

    def post(self, execution_id: str, signal: SignalRecord) -> None:
        """Leave a signal for the execution."""
        ...

    def signals(self, execution_id: str) -> list[SignalRecord]:
        """Take the signals left, oldest first. They are gone from the store only by `discard`."""
        ...

    def discard(self, execution_id: str, count: int) -> None:
        """Drop the oldest `count` signals, after what they said was committed."""
        ...

    def close(self) -> None:
        """Release files and descriptors."""
        ...


def has_blobs(store: Store) -> bool:
    """Whether large payloads are kept beside the records: a local store without a limit, that has a method for it."""
    return store.local and store.payload_limit is None and hasattr(store, "blobs")


def is_volatile(store: Store) -> bool:
    """Whether it ends with this process, so that nobody who outlives the process can ask what it has committed.

    Its own class says so by `volatile`: one that is derived from it, or stands before it, may keep more.
    """
    return bool(vars(type(store)).get("volatile", False))


def blobs_of(store: Store, execution_id: str) -> BlobStore | None:
    """The blobs of an execution, by the store's method `blobs(execution_id)`; None for a store without."""
    return store.blobs(execution_id) if has_blobs(store) else None  # type: ignore[attr-defined]  # optional in a store
