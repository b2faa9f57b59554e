"""The journal as a branch in a worker sees it: what was recorded below the branch, and a stream of updates.

Nothing is stored here. `record` puts an update on its way; `flush` waits until the parent has committed all that was
sent (mode sync), or only keeps within the window of unacknowledged updates (mode async).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

from durapool.exceptions import OrphanedBranch
from durapool.pool.wire import Kind, pack, pack_updates, unpack_operation
from durapool.records import Action, Operation, OperationStatus, Record, Update
from durapool.worker.channel import Channel

WINDOW_RECORDS = 1000  # unacknowledged updates in mode async
WINDOW_BYTES = 1 << 20

_UPDATES = Kind.UPDATES
_START = Action.START


class StreamedJournal:
    """One run of one branch. Thread-safe."""

    def __init__(
        self, channel: Channel, run: int, branch_id: str, recorded: Iterable[Operation], mode: str, brisk: bool
    ) -> None:
        self._channel = channel
        self._run = run
        self._branch_id = branch_id
        self._mode = mode
        self._brisk = brisk  # a branch of a few ms: its STARTs may travel with what follows them
        self._operations = {op.id: op for op in recorded}
        self._lock = threading.Lock()
        self._buffer: list[Update] = []
        self._sent = 0
        self._window_bytes = 0
        self._ended = False

    def get(self, operation_id: str) -> Operation | None:
        """See `BranchJournal.get`."""
        return self._operations.get(operation_id)

    def record(self, update: Update) -> None:
        """See `BranchJournal.record`."""
        operation_id, operations = update[0], self._operations
        with self._lock:
            if self._ended:
                self._check()
            operation, now = operations.get(operation_id), time.time()
            is_start = update[1] is _START
            if operation is None and is_start:
                operations[operation_id] = Operation.started(update, now)
            else:
                if operation is None:
                    operation = operations[operation_id] = Operation.begin(update)
                operation.apply(Record(0, now, update))
            if operation_id != self._branch_id:
                self._buffer.append(update)
                if is_start and not self._brisk:
                    self._send()  # what ends an operation is flushed
            elif not self._brisk:
                self._channel.send_frame(self._take_frame())  # the first frame of a run tells that it has begun

    def record_all(self, updates: Sequence[Update]) -> None:
        """See `BranchJournal.record_all`."""
        for update in updates:
            self.record(update)

    def now(self) -> float:
        """See `BranchJournal.now`."""
        return time.time()

    def end(self) -> bytes:
        """The last updates, as a frame to send. A thread that the branch has left behind gets no more through."""
        with self._lock:
            self._ended = True
            return self._take_frame() if self._buffer else b""

    def ask(self, kind: Kind, *body: Any) -> None:
        """Send a message of this run, after all that was recorded."""
        with self._lock:
            self._check()
            self._send()
            self._channel.send(kind, self._run, *body)

    def _check(self) -> None:
        if self._ended:
            raise OrphanedBranch("the branch whose context this is has ended")

    def _send(self) -> None:
        if self._buffer:
            self._channel.send_frame(self._take_frame())

    def _take_frame(self, *, awaited: bool = False) -> bytes:
        frame = pack(_UPDATES, self._run, pack_updates(self._buffer), awaited)
        self._sent += len(self._buffer)
        self._window_bytes += len(frame)
        self._buffer.clear()
        return frame

    def flush(self) -> None:
        """See `BranchJournal.flush`."""
        if self._mode == "sync":
            self.barrier()
            return
        with self._lock:
            self._check()
            self._send()
            is_full = self._sent - self._channel.acknowledged >= WINDOW_RECORDS or self._window_bytes >= WINDOW_BYTES
        if is_full:
            self.barrier()

    def barrier(self) -> None:
        """See `BranchJournal.barrier`."""
        channel = self._channel
        with self._lock:
            self._check()
            if self._buffer or channel.acknowledged < self._sent:
                channel.send_frame(self._take_frame(awaited=True))  # an empty one only asks
            sent = self._sent
            self._window_bytes = 0
        channel.wait(lambda: channel.acknowledged >= sent)
        if channel.told:
            self._take_told()

    def _take_told(self) -> None:
        """Operations that the store has completed, such as with the id of a callback."""
        with self._lock:
            told, self._channel.told = self._channel.told, []
            for row in told:
                operation = unpack_operation(row, time.time())
                self._operations[operation.id] = operation

    def settle(self) -> Sequence[str]:
        """Nothing: the parent keeps the time, and what falls due is known when the branch runs again."""
        return ()

    def is_due(self, operation_id: str) -> bool:
        """See `BranchJournal.is_due`."""
        operation = self._operations.get(operation_id)
        if operation is None:
            return False
        return operation.status.is_terminal or operation.status is OperationStatus.READY

    def next_due(self) -> float | None:
        """See `settle`."""
        return None

    def fork(self) -> RevocableJournal:
        """See `BranchJournal.fork`."""
        return RevocableJournal(self)

    def revoke(self) -> None:
        """The parent stops a worker as a whole; there is nothing to reject here."""

    def subtree(self, operation_id: str) -> Sequence[Operation]:
        """See `BranchJournal.subtree`."""
        below = {operation_id}
        found = []
        for operation in list(self._operations.values()):
            if operation.parent_id in below:
                below.add(operation.id)
                found.append(operation)
        return found


class RevocableJournal:
    """A view for a batch of threads inside a worker: threads cannot be stopped, but their updates can."""

    def __init__(self, journal: StreamedJournal, outer: RevocableJournal | None = None) -> None:
        self._journal = journal
        self._outer = outer
        self._revoked = False
        self.get = journal.get
        self.settle = journal.settle
        self.is_due = journal.is_due
        self.next_due = journal.next_due
        self.subtree = journal.subtree
        self.now = journal.now

    def record(self, update: Update) -> None:
        """See `BranchJournal.record`."""
        self._check()
        self._journal.record(update)

    def record_all(self, updates: Sequence[Update]) -> None:
        """See `BranchJournal.record_all`."""
        self._check()
        self._journal.record_all(updates)

    def flush(self) -> None:
        """See `BranchJournal.flush`."""
        self._check()
        self._journal.flush()

    def barrier(self) -> None:
        """See `BranchJournal.barrier`."""
        self._check()
        self._journal.barrier()

    def fork(self) -> RevocableJournal:
        """See `BranchJournal.fork`."""
        return RevocableJournal(self._journal, self)

    def revoke(self) -> None:
        """See `BranchJournal.revoke`."""
        self._revoked = True

    @property
    def revoked(self) -> bool:
        """Whether this view, or one around it, was revoked."""
        return self._revoked or (self._outer is not None and self._outer.revoked)

    def _check(self) -> None:
        if self.revoked:
            raise OrphanedBranch("the batch of this branch was decided without it")
