"""A journal in memory, an executor without threads, and a way to run handlers over both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from durapool.context import DurableContext
from durapool.exceptions import OrphanedBranch, SuspendExecution
from durapool.executors.base import BatchOutcome, BatchPlan
from durapool.executors.open_batch import OpenBatch
from durapool.operations.child import BranchRef, run_branch
from durapool.records import Action, Operation, OperationStatus, OperationType, Record, Update
from durapool.scope import Scope, Settings, run_in


class Killed(BaseException):
    """Stands for the death of the program."""


class FakeLog:
    """What a store would keep, with a clock that only tests turn."""

    def __init__(self) -> None:
        self.updates: list[Update] = []
        self.operations: dict[str, Operation] = {}
        self.now = 1000.0
        self.flushes = 0
        self.barriers = 0
        self.kill_before: tuple[Action, str | None] | None = None

    def append(self, update: Update) -> None:
        if self.kill_before == (update.action, update.name):
            self.kill_before = None
            raise Killed
        operation = self.operations.get(update.operation_id)
        if operation is None:
            assert update.action is Action.START, update
            operation = self.operations[update.operation_id] = Operation.begin(update)
        elif update.action is Action.START:
            assert operation.status in (OperationStatus.READY, OperationStatus.PENDING), f"started twice: {update}"
        assert not operation.status.is_terminal, f"ended before: {update}"
        self.updates.append(update)
        operation.apply(Record(len(self.updates), self.now, update))

    def end(self, name: str, action: Action, **fields: Any) -> None:
        """End the operation of that name as the outside world would."""
        self.change(self.named(name), action, **fields)

    def change(self, operation: Operation, action: Action, **fields: Any) -> None:
        self.append(
            Update(
                operation.id, action, operation.type, operation.sub_type, operation.parent_id, operation.name, **fields
            )
        )

    def named(self, name: str) -> Operation:
        (found,) = [operation for operation in self.operations.values() if operation.name == name]
        return found

    def lines(self) -> list[str]:
        return [f"{update.action} {update.name}" for update in self.updates]


class FakeJournal:
    """A view of the log; see `BranchJournal`."""

    def __init__(self, log: FakeLog, outer: FakeJournal | None = None) -> None:
        self.log = log
        self.outer = outer
        self.revoked = False

    def check(self) -> None:
        if self.revoked:
            raise OrphanedBranch
        if self.outer is not None:
            self.outer.check()

    def get(self, operation_id: str) -> Operation | None:
        return self.log.operations.get(operation_id)

    def record(self, update: Update) -> None:
        self.check()
        self.log.append(update)

    def record_all(self, updates: Sequence[Update]) -> None:
        for update in updates:
            self.record(update)

    def flush(self) -> None:
        self.check()
        self.log.flushes += 1

    def barrier(self) -> None:
        self.check()
        self.log.barriers += 1

    def settle(self) -> None:
        for operation in list(self.log.operations.values()):
            if operation.due_at is not None and operation.due_at <= self.log.now and not operation.status.is_terminal:
                action = {
                    OperationType.WAIT: Action.SUCCEED,
                    OperationType.STEP: Action.READY,
                    OperationType.CALLBACK: Action.TIME_OUT,
                }[operation.type]
                self.log.change(operation, action)

    def is_due(self, operation_id: str) -> bool:
        operation = self.get(operation_id)
        return operation is not None and (operation.status.is_terminal or operation.status is OperationStatus.READY)

    def next_due(self) -> float | None:
        due = [operation.due_at for operation in self.log.operations.values() if operation.due_at is not None]
        return max(0.0, min(due) - self.log.now) if due else None

    def now(self) -> float:
        return self.log.now

    def fork(self) -> FakeJournal:
        return FakeJournal(self.log, self)

    def revoke(self) -> None:
        self.revoked = True

    def subtree(self, operation_id: str) -> list[Operation]:
        below, found = {operation_id}, []
        for operation in self.log.operations.values():
            if operation.parent_id in below:
                below.add(operation.id)
                found.append(operation)
        return found


@dataclass
class InlineExecutor:
    """Runs the branches one after the other. Those in `hangs` are started and never end."""

    hangs: frozenset[int] = frozenset()
    plans: list[BatchPlan] = field(default_factory=list)

    def run(self, plan: BatchPlan, scope: Scope) -> BatchOutcome:
        self.plans.append(plan)
        batch = OpenBatch(plan, scope.journal)
        try:
            while True:
                index = batch.next()
                if index is not None and index not in self.hangs:
                    batch.ended(index, self._run(batch, plan, scope, index))
                if batch.crash is not None:
                    raise batch.crash
                outcome = batch.outcome()
                if outcome is not None:
                    return outcome
                assert index is not None, "nothing of the batch can go on"
        finally:
            batch.view.revoke()

    def _run(self, batch: OpenBatch, plan: BatchPlan, scope: Scope, index: int) -> Any:
        name = plan.branch_name(index)
        ref = BranchRef(plan.branch_id(index), plan.operation_id, name, plan.branch_sub_type, index, plan.flat)
        own = replace(
            scope, journal=batch.view.fork(), label=f"branch {index} ({name})", branch=index if plan.flat else None
        )
        return run_branch(plan.function_of(index), ref, own, plan.item_serdes)


class World:
    """One execution: what is recorded of it stays from run to run."""

    def __init__(self, **settings: Any) -> None:
        self.log = FakeLog()
        self.executor = InlineExecutor()
        self.settings = Settings("e1", "arn:durapool:e1", **settings)

    def scope(self) -> Scope:
        return Scope(self.settings, FakeJournal(self.log), lambda spec: self.executor)

    def invoke(self, handler: Callable[[DurableContext], Any]) -> Any:
        """One pass through the handler."""
        scope = self.scope()
        return run_in(scope, handler, DurableContext(scope, None, None))

    def run(self, handler: Callable[[DurableContext], Any]) -> Any:
        """Passes through the handler until it ends; time is skipped."""
        while True:
            try:
                return self.invoke(handler)
            except SuspendExecution as signal:
                self.skip_to_next_due(signal)

    def skip_to_next_due(self, signal: SuspendExecution) -> None:
        journal = FakeJournal(self.log)
        seconds = journal.next_due()
        assert seconds is not None, "nothing will ever wake this handler"
        self.log.now += seconds
        journal.settle()
        assert any(journal.is_due(operation_id) for operation_id in signal.waiting_on)
