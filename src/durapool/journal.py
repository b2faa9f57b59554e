"""The journal: all operations of one execution in memory, and the only way to change them.

    LeasedJournal.record --> append: check, number, stamp, fold --> CommitLog --> store.write
    settle: timers, signals -------^

Single writer: sequence numbers have no gaps and times never go back. Contexts and executors see the journal through
views (leases.py); the invocation loop alone holds the journal itself. Thread-safe.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from durapool import collector
from durapool.commits import CommitLog, Mode
from durapool.exceptions import InvalidStateError, OrphanedBranch, StoreError, StoreFailure
from durapool.flag import Flag
from durapool.leases import LeasedJournal
from durapool.records import (
    DETAIL_BLOBS,
    TERMINAL,
    Action,
    BlobRef,
    ErrorObject,
    Operation,
    OperationStatus,
    OperationType,
    Record,
    Update,
    child_id,
)
from durapool.stores.base import blobs_of
from durapool.timers import Timers

if TYPE_CHECKING:
    from durapool.clock import Clock
    from durapool.stores.base import SignalRecord, Store

EXECUTION_ID = child_id(None, 0)
"""The operation id of the EXECUTION itself; the handler's own calls count from 1."""

_new = tuple.__new__
_START, _STARTED = Action.START, OperationStatus.STARTED
_EXECUTION, _CALLBACK = OperationType.EXECUTION, OperationType.CALLBACK

POLL = 0.2  # seconds between two looks at the store while the outside world may say something
_LOOK_INTERVAL = 0.1  # seconds; signals are read at most so often


class Journal:
    """Made by `Journal.open`. Owns nothing but a thread of its own: the store is closed by whoever opened it."""

    def __init__(self, store: Store, execution_id: str, clock: Clock, mode: Mode) -> None:
        self.execution_id = execution_id
        self.stop_requested: ErrorObject | None = None
        self.changes: list[str] = []  # operations that time or the outside world have changed, in their order
        self.blobs = blobs_of(store, execution_id)  # None where large payloads are recorded whole
        self._store = store
        self._clock = clock
        self._operations: dict[str, Operation] = {}
        self.get = self._operations.get  # see `BranchJournal.get`
        self._children: defaultdict[str | None, list[Operation]] = defaultdict(list)
        self._timers = Timers(self._operations)
        self._lock = threading.Lock()  # all state; held briefly
        self._settle_lock = threading.Lock()  # one reader of signals at a time; taken before all others
        self._log = CommitLog(store, execution_id, mode, self._lock)
        self._last_at = 0.0
        self._closed = False
        self._next_look = 0.0  # monotonic

    @classmethod
    def open(cls, store: Store, execution_id: str, clock: Clock, mode: Mode = "sync") -> Journal:
        """Load what is recorded; nothing for a new id. The execution's lock is held.

        Raises:
            StoreError: the store cannot be read, or a record is missing in it.
        """
        journal = cls(store, execution_id, clock, mode)
        with collector.switched_off():
            journal._load(store)
        journal._timers.rebuild(journal._operations.values(), journal.now())
        return journal

    def _load(self, store: Store) -> None:
        operations = self._operations
        seq = 0
        blobs: set[str] = set()
        for record in store.read(self.execution_id):
            seq += 1
            if record[0] != seq:
                raise StoreError(f"{store.label}: record {seq} of execution {self.execution_id!r} is missing")
            update = record[2]
            is_new = update[0] not in operations
            operation = self._begin(update, record[1]) if is_new else operations[update[0]]
            if not is_new or update[1] is not _START:
                operation.apply(record)
            if type(update[7]) is BlobRef:
                blobs.add(update[7].name)
            if update[11]:
                blobs.update(update[11].get(DETAIL_BLOBS, ()))
        if self.blobs is not None:
            self.blobs.sweep(blobs)
        if seq:
            self._last_at = record.at
            if self.execution is None:
                raise StoreError(f"{store.label}: execution {self.execution_id!r} was recorded without its start")
        self._log.start_after(seq)

    @property
    def execution(self) -> Operation | None:
        """The EXECUTION; None before it was started."""
        return self._operations.get(EXECUTION_ID)

    def view(self, label: str) -> LeasedJournal:
        """A view that records until it is revoked; `label` names it in messages."""
        return LeasedJournal(self, label, None)

    def now(self) -> float:
        """Epoch seconds; never before the last record."""
        return max(self._last_at, self._clock.now())

    def operations(self) -> list[Operation]:
        """All operations, in order of start."""
        with self._lock:
            return list(self._operations.values())

    def children(self, operation_id: str | None) -> list[Operation]:
        """The operations directly below this one, in order of start; None for the handler's own."""
        with self._lock:
            return list(self._children.get(operation_id, ()))

    def subtree(self, operation_id: str) -> list[Operation]:
        """See `BranchJournal.subtree`."""
        with self._lock:
            children = self._children
            found = list(children.get(operation_id, ()))
            for operation in found:  # grows while it is read: level by level, parents first
                below = children.get(operation.id)
                if below:
                    found.extend(below)
            return found

    # --- append

    def append(self, updates: Sequence[Update], lease: LeasedJournal | None = None) -> None:
        """Fold the updates in, in order, and stage them for the next commit.

        Raises:
            InvalidStateError: an update of an unknown operation, or of one that has ended. Those before it are in.
            OrphanedBranch: the lease was revoked.
            StoreFailure: an earlier commit failed.
        """
        with self._lock:
            self._check_open(lease)
            self._take_in(updates, self._tick(), _check)
            self._log.wake_flusher()

    def reopen(self, updates: Sequence[Update]) -> None:
        """As `append`, and a START may reopen an operation that has ended."""
        with self._lock:
            self._check_open(None)
            at = self._tick()
            self._take_in(updates, at, _check_reopening)
            self._timers.rebuild(self._operations.values(), at)
            self.stop_requested = None
            self._log.wake_flusher()

    def revoke(self, lease: LeasedJournal) -> None:
        """When it returns, nothing more is appended under this lease."""
        with self._lock:
            lease.revoked = True

    def _check_open(self, lease: LeasedJournal | None) -> None:
        self._log.check()
        if lease is not None:
            lease.check()
        if self._closed:
            raise OrphanedBranch(f"the run of execution {self.execution_id!r} has ended")

    def _tick(self) -> float:
        at = self._clock.now()
        if at > self._last_at:
            self._last_at = at
        return self._last_at

    def _take_in(self, updates: Sequence[Update], at: float, check: Callable[[Operation, Update], None]) -> None:
        """Stage each update, then fold it in. The lock is held; what `check` says of an odd one stops it there."""
        get = self._operations.get
        line, seq = self._log.line()
        for update in updates:
            operation = get(update[0])
            record = _new(Record, (seq, at, update))  # twice as fast as a call, which goes through a function
            if operation is None:
                if update[1] is not _START:
                    raise InvalidStateError(f"{update.action} of operation {update[0]}, which was never started")
                line.append(record)
                operation = self._begin(update, at)
            else:
                if operation.status is not _STARTED or update[1] is _START:
                    check(operation, update)
                line.append(record)
                operation.apply(record)
            seq += 1
            if operation.due_at is not None or operation.type is _CALLBACK:
                self._timers.note(operation, at)
        self._log.count_bytes(updates)

    def _begin(self, update: Update, at: float) -> Operation:
        """A new operation, after its first update."""
        operations = self._operations
        operation = operations[update[0]] = Operation.started(update, at)
        parent = operations.get(operation.parent_id or "")
        if parent is not None:
            operation.parent_id = parent.id  # the text that is there already
        if operation.type is not _EXECUTION:
            self._children[operation.parent_id].append(operation)
        return operation

    def flush(self) -> None:
        """See `BranchJournal.flush`."""
        self._log.flush()

    def barrier(self) -> None:
        """See `BranchJournal.barrier`."""
        self._log.barrier()

    def close(self) -> None:
        """Commit what is pending, if the store still takes it, and reject all that comes later."""
        with self._lock:
            self._closed = True
        self._log.close()

    # --- what the time and the outside world bring

    def settle(self) -> None:
        """See `BranchJournal.settle`. A request to stop is left in `stop_requested`.

        Raises:
            StoreFailure: the store failed.
        """
        with self._settle_lock:
            self._take_signals()
            with self._lock:
                self._check_open(None)
                if self._timers.next_due() is None:
                    return
                at = self._tick()
                for operation in self._timers.pop_due(at):
                    self._take_in((_due_update(operation, self._timers),), at, _check)
                    self.changes.append(operation.id)
                self._log.wake_flusher()

    def _take_signals(self) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_INTERVAL
        try:
            signals = self._store.signals(self.execution_id)
            if not signals:
                return
            with self._lock:
                self._check_open(None)
                at = self._tick()
                for signal in signals:
                    self._take(signal, at)
                self._log.wake_flusher()
            self.barrier()
            self._store.discard(self.execution_id, len(signals))
        except StoreError as error:
            raise StoreFailure(error) from error
        except KeyboardInterrupt as interruption:
            interruption.__traceback__ = None  # its frames may hold the store's lock, and more is written yet
            raise

    def _take(self, signal: SignalRecord, at: float) -> None:
        if signal.kind == "stop":
            self.stop_requested = signal.error or ErrorObject("stopped from outside", "ExecutionStoppedError")
            return
        operation = self._timers.callback(signal.callback_id)
        if operation is None or operation.status.is_terminal:
            return  # answered twice, or too late
        match signal.kind:
            case "succeed":
                update = update_of(operation, Action.SUCCEED)._replace(payload=signal.payload)
            case "fail":
                update = update_of(operation, Action.FAIL)._replace(error=signal.error or ErrorObject("failed"))
            case _:
                self._timers.beat(operation, at)
                return
        self._take_in((update,), at, _check)
        self.changes.append(operation.id)

    def look_now(self) -> None:
        """Let the next `settle` read the signals, however lately they were read."""
        self._next_look = 0.0

    def is_due(self, operation_id: str) -> bool:
        """See `BranchJournal.is_due`."""
        operation = self._operations.get(operation_id)
        return operation is not None and (operation.status is OperationStatus.READY or operation.status.is_terminal)

    def next_due(self) -> float | None:
        """See `BranchJournal.next_due`."""
        with self._lock:
            deadline = self._timers.next_due()
            seconds = None if deadline is None else max(0.0, deadline - self.now())
            if not self._timers.has_open_callbacks:
                return seconds
        return POLL if seconds is None else min(seconds, POLL)

    def pause(self, wake: Flag) -> bool:
        """Let time pass on the clock until `settle` is worth calling, or `wake` is set; False if that never is."""
        with self._lock:
            now = self.now()
            timer, timeout = self._timers.next_timer(), self._timers.next_timeout()
            listening = self._timers.has_open_callbacks
        until_timer = None if timer is None else max(0.0, timer - now)
        until_timeout = None if timeout is None else max(0.0, timeout - now)
        if listening:
            self._clock.listen(until_timer, until_timeout, POLL, wake)
        elif until_timer is not None:
            self._clock.wait(until_timer, wake)
        return listening or until_timer is not None


def _check(operation: Operation, update: Update) -> None:
    """Rule 3: an operation starts once, ends once, and nothing happens to it outside of that."""
    if update.action is Action.INVOCATION:
        return
    status = operation.status
    if status in TERMINAL:
        raise InvalidStateError(
            f"{update.action} of {update.name or update.sub_type or update.type} (operation {operation.id}), "
            f"which has ended as {status}"
        )
    if update.action is Action.START and status is OperationStatus.STARTED:
        raise InvalidStateError(
            f"{update.name or update.sub_type or update.type} (operation {operation.id}) was started twice"
        )


def _check_reopening(operation: Operation, update: Update) -> None:
    """As `_check`, but what has ended may start again."""
    if update.action is not Action.START:
        _check(operation, update)


def update_of(operation: Operation, action: Action) -> Update:
    """An update of an operation that is recorded already."""
    return Update(
        operation.id,
        action,
        operation.type,
        operation.sub_type,
        operation.parent_id,
        operation.name,
        operation.branch,
    )


def _due_update(operation: Operation, timers: Timers) -> Update:
    """What happens to an operation whose time has come."""
    match operation.type:
        case OperationType.WAIT:
            return update_of(operation, Action.SUCCEED)
        case OperationType.STEP:
            return update_of(operation, Action.READY)
        case _:
            what = "heartbeat did not come in time" if timers.missed_heartbeat(operation) else "timed out"
            name = f"callback {operation.name!r}" if operation.name else "the callback"
            error = ErrorObject(f"{name}: {what}", "CallbackTimeoutError")
            return update_of(operation, Action.TIME_OUT)._replace(error=error)
