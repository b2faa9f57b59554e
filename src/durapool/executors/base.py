"""The protocol between the operations and the executors: plain plans in, plain outcomes out.

    context.parallel -> BatchPlan -> Executor.run(plan, scope) -> Decided | Suspended

A plan says what the branches are; an executor runs them and drives the coordinator. The same types serve the parent
and a worker, so this module imports neither stores nor pools.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from durapool.records import ErrorObject, Operation, OperationSubType, Payload, Update, child_id
from durapool.values import dataclass

if TYPE_CHECKING:
    from durapool.config import CompletionConfig
    from durapool.executors import ExecutorSpec
    from durapool.results import BatchItemStatus, CompletionReason
    from durapool.scope import Scope
    from durapool.serdes import SerDes
    from durapool.usage import Usage


class Succeeded(NamedTuple):
    """A branch returned; `payload` is its serialised result.

    `summary` holds the text recorded instead where the payload is above the store's limit.
    """

    payload: Payload
    summary: str | None = None
    usage: Usage | None = None


class Failed(NamedTuple):
    """A branch raised; `usage` None where it could not be measured: its worker was lost, say."""

    error: ErrorObject
    usage: Usage | None = None


class Suspended(NamedTuple):
    """A branch (or a whole batch) waits for these operations; it runs again when one of them is due."""

    waiting_on: frozenset[str]


class Crashed(NamedTuple):
    """A branch raised a BaseException that is neither a suspension nor SystemExit: it ends the invocation."""

    exception: BaseException


BranchOutcome = Succeeded | Failed | Suspended | Crashed


class ItemRecord(NamedTuple):
    """One item of a batch's result, still serialised."""

    index: int  # type: ignore[assignment]  # not what `index` is of a tuple, which nobody asks it for
    status: BatchItemStatus
    payload: Payload | None = None
    error: ErrorObject | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """The batch is complete. `items` in index order: ended branches, and STARTED for those cut off."""

    reason: CompletionReason
    items: Sequence[ItemRecord]


BatchOutcome = Decided | Suspended


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Everything about a batch that is known before it starts.

    `function_of(i)` gives the callable of branch i, called with its child context alone. `shared` is the function of
    a map, called with (ctx, item, index, inputs): executors that serialise send it once.
    """

    operation_id: str
    sub_type: OperationSubType  # PARALLEL or MAP
    name: str | None
    total: int
    branch_name: Callable[[int], str]
    functions: Sequence[Callable[..., Any]] | None  # of a parallel
    shared: Callable[..., Any] | None  # of a map
    inputs: Sequence[Any] | None  # of a map
    completion: CompletionConfig
    max_concurrency: int | None
    flat: bool
    item_serdes: SerDes[Any] | None
    executor: ExecutorSpec  # resolved: of the call, or of the enclosing batch, decorator, run

    @property
    def branch_sub_type(self) -> OperationSubType:
        """The sub-type of the branches' context operations."""
        if self.sub_type is OperationSubType.MAP:
            return OperationSubType.MAP_ITERATION
        return OperationSubType.PARALLEL_BRANCH

    def branch_id(self, index: int) -> str:
        """The id of the branch's context; for a FLAT branch only the root of its operations' ids."""
        return child_id(self.operation_id, index)

    def function_of(self, index: int) -> Callable[[Any], Any]:
        """The callable of one branch."""
        if self.functions is not None:
            return self.functions[index]
        shared, inputs = self.shared, self.inputs
        assert shared is not None
        assert inputs is not None
        return lambda ctx: shared(ctx, inputs[index], index, inputs)


class BranchJournal(Protocol):
    """The journal as a context sees it: in the parent a leased view of the Journal, in a worker a stream to it.

    All raise OrphanedBranch when the branch has no right to record any more, and StoreFailure when the store failed.
    """

    def get(self, operation_id: str) -> Operation | None:
        """The operation as recorded before this run of the branch, or as this run has changed it; None if unknown."""
        ...

    def record(self, update: Update) -> None:
        """Append without waiting."""
        ...

    def record_all(self, updates: Sequence[Update]) -> None:
        """Append several without waiting."""
        ...

    def flush(self) -> None:
        """Wait until all that was recorded is committed (mode async: only when the window is full)."""
        ...

    def barrier(self) -> None:
        """Wait until all that was recorded is committed, in every mode."""
        ...

    def settle(self) -> Sequence[str]:
        """Let everything that is due fall due (waits end, retries become READY, callbacks time out), take signals.

        The ids of the operations that time or the outside world have changed since this view was last settled.
        """
        ...

    def is_due(self, operation_id: str) -> bool:
        """Whether a branch that is suspended on this operation can go on: it has ended, or is READY."""
        ...

    def next_due(self) -> float | None:
        """Seconds until `settle` is worth calling again (0 for now); None when nothing is timed or expected."""
        ...

    def now(self) -> float:
        """The journal's clock, epoch seconds."""
        ...

    def fork(self) -> BranchJournal:
        """A view for one branch run: it can be revoked by itself, and is revoked with this one."""
        ...

    def revoke(self) -> None:
        """Reject all further updates through this view and its forks."""
        ...

    def subtree(self, operation_id: str) -> Sequence[Operation]:
        """The recorded operations below this one (it excluded), parents before children, in order of start."""
        ...


class Executor(Protocol):
    """Runs the branches of batches."""

    def run(self, plan: BatchPlan, scope: Scope) -> BatchOutcome:
        """Run until the batch is decided, or until nothing of it can go on before something is due.

        Raises:
            BaseException: what a branch crashed with, and OrphanedBranch or StoreFailure of the scope's journal.
        """
        ...
