"""What a test looks at after a run: the outcome, the operations, the history. Plain data; it outlives the runner.

Made from the records of one execution: `operations_of` folds them, `DurableFunctionTestResult` finds things in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar, assert_never

from durapool import records
from durapool.blobs import BlobStore, read
from durapool.exceptions import DurableExecutionsError
from durapool.execution import InvocationStatus
from durapool.history import history
from durapool.invocation import Raised, Returned, Stopped
from durapool.records import (
    DETAIL_CALLBACK_ID,
    Action,
    BlobRef,
    ErrorObject,
    OperationStatus,
    OperationType,
    Payload,
    Record,
)

_Op = TypeVar("_Op", bound="Operation")


class OperationNotFoundError(DurableExecutionsError, LookupError):
    """No operation of that name and kind was recorded. The message lists those that were."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation as it was at the end of the run.

    Args:
        operation_id: stable over replays and executors.
        operation_type: its kind.
        status: where it stands.
        parent_id: the id of the context that it is in; None directly under the handler.
        name: as given, or the default name of a branch.
        sub_type: the context call that made it, such as ``"ParallelBranch"``.
        start_timestamp: when it started (UTC).
        end_timestamp: when it ended (UTC); None if it has not.
        result: the result as the serdes wrote it (see `durapool.serdes`), or a BlobRef of a large pickle; None if
            there is none.
        error: the last error; None if there is none.
        child_operations: the operations directly under it, in order of start.
    """

    operation_id: str
    operation_type: OperationType
    status: OperationStatus
    parent_id: str | None = None
    name: str | None = None
    sub_type: str | None = None
    start_timestamp: datetime | None = None
    end_timestamp: datetime | None = None
    result: Payload | None = None
    error: ErrorObject | None = None
    child_operations: list[Operation] = field(default_factory=list)

    def get_operation_by_name(self, name: str) -> Operation:
        """The first operation of that name below this one, direct children before deeper ones.

        Raises:
            OperationNotFoundError: there is none.
        """
        return _find(self.child_operations, name, Operation)

    def get_step(self, name: str) -> StepOperation:
        """As `get_operation_by_name`, steps only."""
        return _find(self.child_operations, name, StepOperation)

    def get_wait(self, name: str) -> WaitOperation:
        """As `get_operation_by_name`, waits only."""
        return _find(self.child_operations, name, WaitOperation)

    def get_context(self, name: str) -> ContextOperation:
        """As `get_operation_by_name`, contexts (batches, branches, child contexts) only."""
        return _find(self.child_operations, name, ContextOperation)

    def get_callback(self, name: str) -> CallbackOperation:
        """As `get_operation_by_name`, callbacks only."""
        return _find(self.child_operations, name, CallbackOperation)


@dataclass(frozen=True, kw_only=True)
class ExecutionOperation(Operation):
    """The execution itself. `input_payload` is the event as recorded."""

    input_payload: Payload | None = None


@dataclass(frozen=True, kw_only=True)
class ContextOperation(Operation):
    """A child context, a batch, or a branch of one."""


@dataclass(frozen=True, kw_only=True)
class StepOperation(Operation):
    """A step, or a wait_for_condition.

    `attempt` counts from 1; `next_attempt_timestamp` (UTC) is set while it waits for its next attempt.
    """

    attempt: int = 0
    next_attempt_timestamp: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class WaitOperation(Operation):
    """A wait. `scheduled_end_timestamp` (UTC) is the end that was asked for."""

    scheduled_end_timestamp: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class CallbackOperation(Operation):
    """A callback. `callback_id` is what the outside world completes it by."""

    callback_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class InvokeOperation(Operation):
    """A call of another durable function."""


@dataclass(frozen=True)
class DurableFunctionTestResult:
    """The outcome of one run.

    Args:
        status: SUCCEEDED or FAILED; STOPPED if it was stopped from outside.
        result: what the handler returned, deserialised; None if it failed.
        error: what the handler raised; None if it succeeded.
        operations: every operation, nested ones included, in order of start (the execution itself left out).
        history: the events, in the shape of Lambda's GetDurableExecutionHistory.
        execution: the execution's own operation.

    Example:
        >>> with DurableFunctionTestRunner(handler=handler) as runner:
        ...     result = runner.run(input={"n": 1}, timeout=10)
        >>> result.get_step("add").status.value
        'SUCCEEDED'
    """

    status: InvocationStatus
    result: Any = None
    error: ErrorObject | None = None
    operations: list[Operation] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    execution: ExecutionOperation | None = None

    def get_operation_by_name(self, name: str) -> Operation:
        """The first operation of that name, top-level ones before nested ones.

        Raises:
            OperationNotFoundError: there is none.
        """
        return _find(self._top_level(), name, Operation)

    def get_step(self, name: str) -> StepOperation:
        """As `get_operation_by_name`, steps only."""
        return _find(self._top_level(), name, StepOperation)

    def get_wait(self, name: str) -> WaitOperation:
        """As `get_operation_by_name`, waits only."""
        return _find(self._top_level(), name, WaitOperation)

    def get_context(self, name: str) -> ContextOperation:
        """As `get_operation_by_name`, contexts (batches, branches, child contexts) only."""
        return _find(self._top_level(), name, ContextOperation)

    def get_callback(self, name: str) -> CallbackOperation:
        """As `get_operation_by_name`, callbacks only."""
        return _find(self._top_level(), name, CallbackOperation)

    def get_all_operations(self) -> list[Operation]:
        """The same as `operations`, in a new list."""
        return list(self.operations)

    def _top_level(self) -> list[Operation]:
        return [operation for operation in self.operations if operation.parent_id is None]


def result_of(
    ending: Returned | Raised | Stopped, log: Sequence[Record], blobs: BlobStore | None
) -> DurableFunctionTestResult:
    """What a test sees of an execution that has ended. It outlives the store, so what is in blobs is read now."""
    execution, operations = operations_of(log if blobs is None else [_whole(record, blobs) for record in log])
    value, error = None, None
    match ending:
        case Returned():
            status, value = InvocationStatus.SUCCEEDED, ending.value
        case Raised():
            status, error = InvocationStatus.FAILED, ending.error
        case Stopped():
            status, error = InvocationStatus.STOPPED, ending.error
        case _:
            assert_never(ending)
    return DurableFunctionTestResult(status, value, error, operations, history(log), execution)


def _whole(record: Record, blobs: BlobStore) -> Record:
    """The record with its payload in place of a reference; a pickle with buffers of its own stays in its blob."""
    update = record.update
    if not isinstance(update.payload, BlobRef):
        return record
    found = read(update.payload, blobs)
    return record._replace(update=update._replace(payload=found)) if isinstance(found, (str, bytes)) else record


def operations_of(log: Iterable[Record]) -> tuple[ExecutionOperation | None, list[Operation]]:
    """The execution and, in order of start, all other operations that the records fold into."""
    folded: dict[str, records.Operation] = {}
    starts: dict[str, Record] = {}
    for record in log:
        update = record.update
        operation = folded.get(update.operation_id)
        if operation is None:
            operation = folded[update.operation_id] = records.Operation.begin(update)
        operation.apply(record)
        if update.action is Action.START:
            starts[update.operation_id] = record
    execution: ExecutionOperation | None = None
    made: dict[str, Operation] = {}
    for operation in folded.values():
        view = _view(operation, starts[operation.id])
        if isinstance(view, ExecutionOperation):
            execution = view
            continue
        made[operation.id] = view
        if operation.parent_id in made:
            made[operation.parent_id].child_operations.append(view)
    return execution, list(made.values())


def _view(operation: records.Operation, start: Record) -> Operation:
    """The public view of one operation, without children."""
    succeeded = operation.status is OperationStatus.SUCCEEDED
    common: dict[str, Any] = {
        "operation_id": operation.id,
        "operation_type": operation.type,
        "status": operation.status,
        "parent_id": operation.parent_id,
        "name": operation.name,
        "sub_type": operation.sub_type,
        "start_timestamp": _time(operation.started_at or None),
        "end_timestamp": _time(operation.ended_at),
        "result": operation.payload if succeeded else None,
        "error": operation.error,
    }
    match operation.type:
        case OperationType.EXECUTION:
            return ExecutionOperation(**common, input_payload=start.update.payload)
        case OperationType.STEP:
            return StepOperation(**common, attempt=operation.attempt, next_attempt_timestamp=_time(operation.due_at))
        case OperationType.WAIT:
            return WaitOperation(**common, scheduled_end_timestamp=_time(start.at + (start.update.delay or 0)))
        case OperationType.CONTEXT:
            return ContextOperation(**common)
        case OperationType.CALLBACK:
            return CallbackOperation(**common, callback_id=(operation.details or {}).get(DETAIL_CALLBACK_ID))
        case OperationType.CHAINED_INVOKE:
            return InvokeOperation(**common)


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _find(level: Sequence[Operation], name: str, kind: type[_Op]) -> _Op:
    """Breadth first: the first of that name and kind on the highest level that has one."""
    seen: list[str] = []
    while level:
        for operation in level:
            if operation.name == name and isinstance(operation, kind):
                return operation
            seen.append(f"{operation.name!r} ({operation.sub_type or operation.operation_type})")
        level = [child for operation in level for child in operation.child_operations]
    wanted = "operation" if kind is Operation else kind.__name__
    raise OperationNotFoundError(f"no {wanted} named {name!r} was recorded, only: {', '.join(seen) or 'nothing'}")
