"""The journal of one invocation at a service: the service keeps the time, and the journal asks it.

    commit --> LambdaStore --> news --take_news--> operations: waits ended, retries READY, callbacks answered
    settle --> nothing to commit: an empty checkpoint, when something is due or may have come

Each commit brings the news along, so the service is asked for nothing else only while branches are suspended and no
branch commits.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from durapool.aws.store import LambdaStore
from durapool.exceptions import StoreError, StoreFailure
from durapool.journal import Journal
from durapool.records import DETAIL_CALLBACK_ID, Action, Operation, OperationStatus, OperationType, Record

if TYPE_CHECKING:
    from durapool.aws.wire import Snapshot
    from durapool.clock import Clock
    from durapool.commits import Mode
    from durapool.records import Update
    from durapool.stores.base import Store

_FROM_OUTSIDE = frozenset({OperationType.CALLBACK, OperationType.CHAINED_INVOKE})
_OF_SERVICE = frozenset({OperationType.WAIT, *_FROM_OUTSIDE})  # after their START the service alone changes them


class _Gap:
    """Seconds between two questions: they double while the answer is that nothing has changed."""

    def __init__(self, shortest: float, longest: float) -> None:
        self._shortest, self._longest = shortest, longest
        self.seconds = shortest

    def grow(self) -> None:
        self.seconds = min(self._longest, self.seconds * 2)

    def reset(self) -> None:
        self.seconds = self._shortest


class ServiceJournal(Journal):
    """A journal over a LambdaStore; see `Journal`."""

    def __init__(self, store: Store, execution_id: str, clock: Clock, mode: Mode) -> None:
        assert isinstance(store, LambdaStore)
        super().__init__(store, execution_id, clock, mode)
        self._service = store
        self._awaited: set[str] = set()  # callbacks and invocations that the outside world has not answered
        self._overdue_gap = _Gap(0.05, 1.0)
        self._outside_gap = _Gap(0.5, 5.0)

    def _load(self, store: Store) -> None:
        super()._load(store)
        for operation in self._operations.values():
            self._await(operation)

    def _begin(self, update: Update, at: float) -> Operation:
        if update.type in _FROM_OUTSIDE:
            self._awaited.add(update.operation_id)
        return super()._begin(update, at)

    def _await(self, operation: Operation) -> None:
        if operation.type in _FROM_OUTSIDE and not operation.status.is_terminal:
            self._awaited.add(operation.id)
        else:
            self._awaited.discard(operation.id)

    def flush(self) -> None:
        """See `BranchJournal.flush`. News that came with a commit are taken."""
        super().flush()
        self._take_news()

    def barrier(self) -> None:
        """See `BranchJournal.barrier`. News that came with the commit are taken."""
        super().barrier()
        self._take_news()

    def settle(self) -> None:
        """See `BranchJournal.settle`: ask the service, if it is time to.

        Raises:
            StoreFailure: the service failed.
        """
        with self._settle_lock:
            seconds = self.next_due()
            if seconds is None or seconds > 0:
                return
            asked_at = self._service.asked_at
            self.barrier()
            if self._service.asked_at == asked_at and not self._refresh():
                self._overdue_gap.grow()
                self._outside_gap.grow()

    def _refresh(self) -> bool:
        """An empty checkpoint; whether it brought news."""
        try:
            self._service.refresh()
        except StoreError as error:
            raise StoreFailure(error) from error
        return self._take_news()

    def next_due(self) -> float | None:
        """See `BranchJournal.next_due`."""
        if self._service.has_news:
            return 0.0
        idle = time.monotonic() - self._service.asked_at
        with self._lock:
            timer = self._timers.next_timer()
            due = None if timer is None else max(timer - self.now(), self._overdue_gap.seconds - idle)
            looked = self._outside_gap.seconds - idle if self._awaited else None
        times = [max(0.0, seconds) for seconds in (due, looked) if seconds is not None]
        return min(times, default=None)

    def _take_news(self) -> bool:
        """Fold in what the service has changed; whether it was anything."""
        if not self._service.has_news:
            return False
        changed = False
        with self._lock:
            at = self._tick()
            for snapshot in self._service.take_news():
                operation = self._operations.get(snapshot.id)
                if operation is not None and self._fold(operation, snapshot, at):
                    changed = True
                    self._await(operation)
                    self.changes.append(operation.id)
        if changed:
            self._overdue_gap.reset()
            self._outside_gap.reset()
        return changed

    def _fold(self, operation: Operation, snapshot: Snapshot, at: float) -> bool:
        """Whether the service, and not we ourselves, has changed the operation."""
        if operation.type is OperationType.STEP:
            if operation.status is OperationStatus.PENDING and snapshot.status is OperationStatus.READY:
                operation.apply(Record(0, at, snapshot.update(Action.READY)))
                return True
            return False
        if operation.type not in _OF_SERVICE or operation.status.is_terminal:
            return False
        callback_id = (snapshot.started_with or {}).get(DETAIL_CALLBACK_ID)
        told = callback_id is not None and callback_id != (operation.details or {}).get(DETAIL_CALLBACK_ID)
        if told:
            operation.details = {**(operation.details or {}), DETAIL_CALLBACK_ID: callback_id}
        if snapshot.end is None:
            return told
        end = snapshot.update(snapshot.end)
        operation.apply(Record(0, at, end._replace(payload=snapshot.payload, error=snapshot.error)))
        return True
