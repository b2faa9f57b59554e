"""Child contexts: of `run_in_child_context`, and of the branches of a batch on every executor.

`run_branch` is the one way in which any executor, in a thread or in a worker, runs a branch. It records the START of
the branch's context; the terminal update is the coordinator's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from durapool.config import ChildConfig
from durapool.errors import error_of, raise_from
from durapool.exceptions import (
    ChildContextError,
    ClusterFailure,
    ExecutionError,
    NonDeterministicExecutionError,
    OrphanedBranch,
    StoreFailure,
    SuspendExecution,
    ValidationError,
)
from durapool.executors.base import BranchOutcome, Crashed, Failed, Succeeded, Suspended
from durapool.operations.replay import Call, default_summary
from durapool.records import (
    DETAIL_REPLAY_CHILDREN,
    Action,
    ErrorObject,
    OperationStatus,
    OperationSubType,
    OperationType,
    Payload,
)
from durapool.scope import Scope, run_in

if TYPE_CHECKING:
    from durapool.context import DurableContext
    from durapool.serdes import SerDes
    from durapool.types import SummaryGenerator

T = TypeVar("T")

_CONTEXT = OperationType.CONTEXT  # looked up once: in its class a member of an enum takes as long as a call
_START = Action.START
_new = tuple.__new__  # of a NamedTuple it takes half the time of a call, which goes through a function


def run_child(
    call: Call, function: Callable[[DurableContext], T], config: ChildConfig[T], context: DurableContext
) -> T:
    """The result of `function(context)`: recorded, or by running it now.

    Raises:
        ChildContextError: the function failed.
    """
    if config.is_virtual:
        return _run_virtual(call, function, config, context)
    recorded = call.recorded()
    if recorded is None:
        call.record(Action.START)
        return _run(call, function, config, context)
    match recorded.status:
        case OperationStatus.SUCCEEDED if recorded.replay_children:
            return _result_again(call, function, config, context)
        case OperationStatus.SUCCEEDED:
            return call.load(recorded.payload, config.serdes)  # type: ignore[no-any-return]
        case status if status.is_terminal:
            return raise_from(recorded.error or ErrorObject(f"{call.what} has ended as {status}"), ChildContextError)
        case _:
            return _run(call, function, config, context)


def _run(call: Call, function: Callable[[DurableContext], T], config: ChildConfig[T], context: DurableContext) -> T:
    try:
        result = function(context)
        payload, value = call.round_trip(result, config.serdes)
        summary = _summary_of(call, payload, result, config.summary_generator)
    except ExecutionError:
        raise  # ends the execution as it is, no failure of this context
    except Exception as error:  # noqa: BLE001  # user code may raise anything
        failure = call.error_of(error)
    else:
        if summary is None:
            call.commit(Action.SUCCEED, payload=payload)
        else:
            call.commit(Action.SUCCEED, payload=summary, details={DETAIL_REPLAY_CHILDREN: True})
        return value  # type: ignore[no-any-return]
    call.commit(Action.FAIL, error=failure)
    return raise_from(failure, ChildContextError)


def _run_virtual(
    call: Call, function: Callable[[DurableContext], T], config: ChildConfig[T], context: DurableContext
) -> T:
    """No operation of its own: it runs in every replay, over the recorded operations inside."""
    if call.scope.journal.get(call.operation_id) is not None:
        call.differs("a context that is not virtual", "a virtual one")
    return _result_again(call, function, config, context)


def _result_again(
    call: Call, function: Callable[[DurableContext], T], config: ChildConfig[T], context: DurableContext
) -> T:
    """Run the function and record nothing of its end."""
    try:
        return call.round_trip(function(context), config.serdes)[1]  # type: ignore[no-any-return]
    except ExecutionError:
        raise
    except Exception as error:  # noqa: BLE001  # user code may raise anything
        failure = call.error_of(error)
    return raise_from(failure, ChildContextError)


def _summary_of(call: Call, payload: Payload, result: T, generator: SummaryGenerator[T] | None) -> str | None:
    """The text to record in place of a payload that is too large; None for one that is not."""
    if not call.is_too_large(payload):
        return None
    return default_summary(payload) if generator is None else make_summary(generator, result, call.what)


def make_summary(generator: SummaryGenerator[T], result: T, what: str) -> str:
    """The text of the user's generator. Raises ValidationError where it is none."""
    summary = generator(result)
    if not isinstance(summary, str):
        raise ValidationError(f"the summary_generator of {what} must return text, not a {type(summary).__name__}")
    return summary


class BranchRef(NamedTuple):
    """Which branch: the identity of its context, also where a FLAT one records none."""

    operation_id: str
    batch_id: str
    name: str | None
    sub_type: OperationSubType
    index: int  # type: ignore[assignment]  # a tuple's own `index` is not needed
    flat: bool


def run_branch(
    function: Callable[..., Any],
    ref: BranchRef,
    scope: Scope,
    item_serdes: SerDes[Any] | None,
    arguments: tuple[Any, ...] = (),
) -> BranchOutcome:
    """Run one branch in its own scope, from its first line to its end or its suspension.

    Its function is called with the branch's context and these arguments.

    Raises:
        OrphanedBranch: the batch was decided without this branch.
        StoreFailure: the store failed.
    """
    try:
        return run_in(scope, call_branch, function, arguments, ref, scope, item_serdes)  # type: ignore[no-any-return]
    except SuspendExecution as signal:
        return Suspended(signal.waiting_on)
    except (OrphanedBranch, StoreFailure, ClusterFailure):
        raise
    except ExecutionError as error:
        return Crashed(error)  # the execution cannot go on; recorded as a failure it could never be mended
    except (Exception, SystemExit) as error:  # noqa: BLE001  # user code may raise anything
        return Failed(error_of(error, local=scope.settings.local_store))
    except BaseException as error:  # noqa: BLE001  # the batch's own thread raises it
        return Crashed(error)


def call_branch(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    ref: BranchRef,
    scope: Scope,
    item_serdes: SerDes[Any] | None,
) -> Succeeded:
    """The branch from its START to its value. The one place that calls its function (see `operations.tail_call`)."""
    operation_id, batch_id, name, sub_type, index, is_flat = ref
    context = _context_class()(scope, batch_id if is_flat else operation_id, operation_id, name)
    fields = (scope, operation_id, _CONTEXT, sub_type, batch_id, name, index, context)
    call = _new(Call, fields)  # its own context operation
    if not is_flat and call.recorded() is None:
        call.record(_START)
    payload = call.dump(function(context, *arguments), item_serdes)
    if item_serdes is not None or not isinstance(payload, str):
        call.load(payload, item_serdes)  # what cannot be read back fails here, in the branch that made it
    summary = default_summary(payload) if call.is_too_large(payload) else None
    return _new(Succeeded, (payload, summary, None))


@cache
def _context_class() -> type[DurableContext]:
    from durapool.context import DurableContext  # context.py imports this module

    return DurableContext


def run_branch_again(
    function: Callable[[DurableContext], Any], ref: BranchRef, scope: Scope, item_serdes: SerDes[Any] | None
) -> Succeeded | Failed:
    """Rebuild the outcome of a branch that has ended, over its recorded operations. Records nothing.

    Raises:
        NonDeterministicExecutionError: it does not come to an end again.
    """
    outcome = run_branch(function, ref, scope, item_serdes)
    match outcome:
        case Succeeded() | Failed():
            return outcome
        case Crashed(exception):
            raise exception
        case Suspended():
            raise NonDeterministicExecutionError(
                f"{scope.label} had ended, but waits for something when it is called again to rebuild its result",
                ref.operation_id,
            )
