"""The journal as a branch in a worker sees it: what was recorded below the branch, and a stream of updates.

Nothing is stored here. `record` puts an update on its way; `flush` waits until the parent has committed all that was
sent (mode sync), or only keeps within the window of unacknowledged updates (mode async).
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from durapool.exceptions import OrphanedBranch
from durapool.pool.wire import Kind, pack, pack_updates, unpack_operation
from durapool.records import Action, Operation, OperationStatus, Record, Update
from durapool.worker.channel import Channel

WINDOW_RECORDS = 1000  # unacknowledged updates in mode async
WINDOW_BYTES = 1 << 20
MOST_UNFOLDED = 1000  # operations that are kept as their updates, which take more memory

_UPDATES = Kind.UPDATES
_START = Action.START


class StreamedJournal:
    """One run of one branch. Thread-safe."""

    def __init__(
        self, channel: Channel, run: int, branch_id: str, recorded: dict[str, Operation], mode: str, brisk: bool
    ) -> None:
        self._channel = channel
        self._run = run
        self._branch_id = branch_id
        self._mode = mode
        self._brisk = brisk  # a branch of a few ms: its STARTs may travel with what follows them
        self._operations = recorded
        self._unfolded: defaultdict[str, list[tuple[float, Update]]] = defaultdict(list)  # others, begun by this run
        self._lock = threading.Lock()
        self._buffer: list[Update] = []
        self._sent = 0
        self._window_bytes = 0
        self._ended = False

    def get(self, operation_id: str) -> Operation | None:
        """See `BranchJournal.get`. Takes no lock: a finalizer that logs may ask in the midst of anything."""
        if updates := self._unfolded.get(operation_id):
            return _folded(updates)
        return self._operations.get(operation_id)

    def record(self, update: Update) -> None:
        """See `BranchJournal.record`."""
        operation_id = update[0]
        with self._lock:
            if self._ended:
                self._check()
            if operation_id in self._operations:
                self._operations[operation_id].apply(Record(0, time.time(), update))
            else:  # most operations are not asked for again, so they are folded when they are
                self._unfolded[operation_id].append((time.time(), update))
            if operation_id != self._branch_id:
                self._buffer.append(update)
            if not self._brisk:
                self._send_early(update)

    def _send_early(self, update: Update) -> None:
        if update[0] == self._branch_id:
            self._channel.send_frame(self._take_frame())  # the first frame of a run tells that it has begun
        elif update[1] is _START:
            self._send()  # what ends an operation is flushed

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
        buffer = self._buffer
        frame = pack(_UPDATES, self._run, pack_updates(buffer), awaited)
        self._sent += len(buffer)
        self._window_bytes += len(frame)
        buffer.clear()
        if len(self._unfolded) > MOST_UNFOLDED:
            self._fold()
        return frame

    def _fold(self) -> None:
        folded = {each: _folded(updates) for each, updates in self._unfolded.items() if updates}
        self._operations.update(folded)
        self._unfolded.clear()  # last: `get` looks here first

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
            if self._ended:
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
            self._fold()
            for row in told:
                operation = unpack_operation(row, time.time())
                self._operations[operation.id] = operation

    def settle(self) -> Sequence[str]:
        """Nothing: the parent keeps the time, and what falls due is known when the branch runs again."""
        return ()

    def is_due(self, operation_id: str) -> bool:
        """See `BranchJournal.is_due`."""
        operation = self.get(operation_id)
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
        with self._lock:
            self._fold()
            operations = list(self._operations.values())
        for operation in operations:
            if operation.parent_id in below:
                below.add(operation.id)
                found.append(operation)
        return found


def _folded(updates: Sequence[tuple[float, Update]]) -> Operation:
    """The operation that these updates, all of its own, with the times at which they were recorded, make."""
    at, first = updates[0]
    if first.action is _START:
        operation = Operation.started(first, at)
    else:
        operation = Operation.begin(first)
        operation.apply(Record(0, at, first))
    for at, update in updates[1:]:
        operation.apply(Record(0, at, update))
    return operation


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
