"""One batch while it runs: the pure coordinator, tied to a journal.

    next() -> index        the driver starts that branch
    ended(index, outcome)  the driver reports; the terminal update is staged, the coordinator decides
    wake_due()             suspended branches whose time has come may start again

Owned by one driver (the thread inside `context.parallel`, or the pool's loop): no lock. The driver flushes the
journal after a round of reports and before it acts on what they led to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durapool.coordinator import CompletionPolicy, Coordinator
from durapool.executors.base import (
    BatchOutcome,
    BatchPlan,
    BranchJournal,
    BranchOutcome,
    Crashed,
    Decided,
    Failed,
    ItemRecord,
    Succeeded,
    Suspended,
)
from durapool.executors.waiting import Waiting
from durapool.records import (
    DETAIL_REPLAY_CHILDREN,
    DETAIL_USAGE,
    Action,
    ErrorObject,
    Operation,
    OperationStatus,
    OperationType,
    Payload,
    Update,
    child_id,
)
from durapool.results import BatchItemStatus

if TYPE_CHECKING:
    from durapool.usage import Usage


_START, _SUCCEED, _CONTEXT = Action.START, Action.SUCCEED, OperationType.CONTEXT  # looked up once: that takes time
_new = tuple.__new__  # twice as fast as to call a NamedTuple, which goes through a function


class OpenBatch:
    """The coordinator of a batch, its outcomes so far, and the journal view that its branches record through."""

    def __init__(self, plan: BatchPlan, journal: BranchJournal) -> None:
        self.plan = plan
        self.view = journal.fork()
        self._sub_type = plan.branch_sub_type
        self.coordinator = Coordinator(CompletionPolicy.of(plan.completion, plan.total), plan.max_concurrency)
        self.crash: BaseException | None = None
        self._payloads: dict[int, Payload | None] = {}  # of branches that succeeded; None: only a summary is recorded
        self._errors: dict[int, ErrorObject | None] = {}  # of those that failed
        self._waiting = Waiting()
        self.suspended = self._waiting.branches  # by index, with what they wait for
        self._starts: dict[int, Update] = {}  # of branches that run
        self._begun = bytearray(plan.total)  # 1: something may be recorded below the branch
        self._recover()

    def _recover(self) -> None:
        """Take what an earlier run recorded: ended branches in the order of their ends, then the started ones."""
        branches = [op for op in self.view.subtree(self.plan.operation_id) if op.parent_id == self.plan.operation_id]
        if not branches:
            return
        if self.plan.flat:
            # branches start in index order, and one that calls no operation leaves no record
            begun = range(max((op.branch for op in branches if op.branch is not None), default=-1) + 1)
            self._begun[: len(begun)] = b"\1" * len(begun)
            self.coordinator.recover([], begun)
            return
        started = []
        ended = []
        for op in branches:
            index = op.branch or 0
            self._begun[index] = 1
            if not op.status.is_terminal:
                started.append(index)
                continue
            ended.append((op.ended_seq, index, op.status is OperationStatus.SUCCEEDED))
            if op.status is OperationStatus.SUCCEEDED:
                self._payloads[index] = None if op.replay_children else op.payload
            else:
                self._errors[index] = op.error
        ended.sort()
        self.coordinator.recover([(index, succeeded) for _, index, succeeded in ended], started)

    def next(self) -> int | None:
        """The branch to start now, or None."""
        index = self.coordinator.next()
        if index is not None and self.suspended:
            self._waiting.discard(index)
        return index

    def recorded(self, index: int) -> list[Operation]:
        """What earlier runs recorded of a branch that starts now: its own operation, then all below it."""
        if not self._begun[index]:
            self._begun[index] = 1
            return []
        if not self.plan.flat:
            branch_id = self.plan.branch_id(index)
            own = self.view.get(branch_id)
            return [*([] if own is None else [own]), *self.view.subtree(branch_id)]
        found: dict[str, Operation] = {}
        for op in self.view.subtree(self.plan.operation_id):
            own_child = op.parent_id == self.plan.operation_id and op.branch == index
            if own_child or op.parent_id in found:
                found[op.id] = op
        return list(found.values())

    def ended(self, index: int, outcome: BranchOutcome) -> None:
        """Take the outcome of a run of branch `index`; after the decision it is ignored."""
        match outcome:
            case Succeeded(payload, summary, usage):
                if self.coordinator.on_succeeded(index):
                    self._payloads[index] = payload
                    self._record_end(index, _SUCCEED, payload if summary is None else summary, None, summary, usage)
            case Failed(error, usage):
                if self.coordinator.on_failed(index):
                    self._errors[index] = error
                    self._record_end(index, Action.FAIL, None, error, None, usage)
            case Suspended(waiting_on):
                self._waiting.add(index, waiting_on, self.view)
                self.coordinator.on_suspended(index)
            case Crashed(exception):
                if self.coordinator.decision is None:
                    self.crash = exception

    def lost(self, index: int) -> None:
        """The worker of this branch was lost; it runs again from its checkpoints."""
        self.coordinator.on_lost_retry(index)

    def taken_back(self, index: int) -> None:
        """The branch was sent to a worker and taken back before it began; `next` gives it again."""
        self.coordinator.on_returned(index)

    @property
    def decided(self) -> bool:
        """Whether no branch may start any more."""
        return self.coordinator.decision is not None

    def start_of(self, index: int) -> Update:
        """What is recorded when a branch that has an operation of its own begins; made once, and kept to its end."""
        start = self._starts.get(index)
        if start is None:
            start = self._starts[index] = self._start(index)
        return start

    def _start(self, index: int) -> Update:
        plan = self.plan
        batch_id, name = plan.operation_id, plan.branch_name(index)
        identity = child_id(batch_id, index)
        return _new(
            Update, (identity, _START, _CONTEXT, self._sub_type, batch_id, name, index, None, None, 0, None, None)
        )

    def _record_end(
        self,
        index: int,
        action: Action,
        payload: Payload | None,
        error: ErrorObject | None,
        summary: str | None,
        usage: Usage | None,
    ) -> None:
        if self.plan.flat:
            self._starts.pop(index, None)
            return
        start = self._starts.pop(index, None) or self._start(index)
        details: dict[str, Any] | None = None if usage is None else {DETAIL_USAGE: usage}
        if summary is not None:
            details = {**(details or {}), DETAIL_REPLAY_CHILDREN: True}
        identity = start[0]
        end = _new(Update, (identity, action, *start[2:7], payload, error, 0, None, details))
        if self.view.get(identity) is None:
            # all that was heard of it is its end: a short branch without operations, or one that could not be sent
            self.view.record_all((start, end))
        else:
            self.view.record(end)

    def wake_due(self) -> None:
        """Let suspended branches go on whose operations are due."""
        if not self.suspended:
            return
        for index in self._waiting.take_due(self.view.settle(), self.view):
            self.coordinator.on_ready(index)

    def outcome(self) -> BatchOutcome | None:
        """What the batch has come to, or None while something of it can still go on."""
        reason = self.coordinator.decision
        if reason is not None:
            return Decided(reason, self._items())
        if self.coordinator.is_blocked:
            return Suspended(self._waiting.operations)
        return None

    def _items(self) -> list[ItemRecord]:
        """In index order. Those that ended after the decision, in an earlier run, are among the unfinished."""
        succeeded, failed, started = BatchItemStatus.SUCCEEDED, BatchItemStatus.FAILED, BatchItemStatus.STARTED
        items = {
            index: _new(ItemRecord, (index, succeeded, payload, None)) for index, payload in self._payloads.items()
        }
        items |= {index: ItemRecord(index, failed, error=error) for index, error in self._errors.items()}
        items |= {index: ItemRecord(index, started) for index in self.coordinator.unfinished}
        return [items[index] for index in sorted(items)]
