"""`context.step`: a function whose result is recorded, with retries.

new / READY --START--> run --+--SUCCEED--> value
                             +--RETRY----> suspended, until READY
                             +--FAIL-----> StepError
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, TypeVar

from durapool.config import RetryStrategy, StepConfig, StepSemantics
from durapool.errors import raise_from
from durapool.exceptions import ExecutionError, SerDesError, StepError, StepInterruptedError, ValidationError
from durapool.operations.bound import BoundCall
from durapool.operations.replay import Call
from durapool.operations.tail_call import ends_branch
from durapool.records import Action, ErrorObject, Operation, OperationStatus
from durapool.types import StepContext

if TYPE_CHECKING:
    from durapool.strategies import RetryDecision

T = TypeVar("T")

_START, _SUCCEED = Action.START, Action.SUCCEED  # looked up once: that takes as long as a call
_AT_MOST_ONCE = StepSemantics.AT_MOST_ONCE_PER_RETRY

_told: set[str] = set()  # executions of this process that were told about the default retries


def run_step(call: Call, function: Callable[[StepContext], T], config: StepConfig) -> T:
    """The step's result: recorded, or by running the function now.

    Raises:
        StepError: the function failed and is not tried again.
        SuspendExecution: the next attempt is not due yet.
    """
    recorded = call.recorded()
    if recorded is None:
        return _start(call, function, config, attempt=1)
    match recorded.status:
        case OperationStatus.SUCCEEDED:
            return call.load(recorded.payload, config.serdes)  # type: ignore[no-any-return]
        case OperationStatus.PENDING if not call.is_due():
            return call.suspend()
        case OperationStatus.PENDING | OperationStatus.READY:
            return _start(call, function, config, recorded.attempt + 1)
        case OperationStatus.STARTED:
            return _go_on(call, function, config, recorded)
        case _:
            return raise_from(recorded.error or ErrorObject(f"{call.what} has ended as {recorded.status}"), StepError)


def _go_on(call: Call, function: Callable[[StepContext], T], config: StepConfig, recorded: Operation) -> T:
    """The attempt had started when the run ended."""
    attempt = recorded.attempt or 1
    if config.step_semantics is StepSemantics.AT_LEAST_ONCE_PER_RETRY:
        return _attempt(call, function, config, attempt)
    interrupted = StepInterruptedError(
        f"{call.what}: attempt {attempt} had started when its run ended; it is not known whether it finished",
        call.operation_id,
    )
    return _fail(call, interrupted, config.retry_strategy, attempt)


def _start(call: Call, function: Callable[[StepContext], T], config: StepConfig, attempt: int) -> T:
    call.record(_START, attempt=attempt)
    if config.step_semantics is _AT_MOST_ONCE:
        call.scope.journal.barrier()
    return _attempt(call, function, config, attempt)


def _attempt(call: Call, function: Callable[[StepContext], T], config: StepConfig, attempt: int) -> T:
    logger = call.context.operation_logger(call.operation_id, call.name, attempt)
    try:
        result = function(StepContext(logger=logger, attempt=attempt))
        if isinstance(result, BoundCall):
            raise ValidationError(
                f"{call.what} returned the durable function {result.name!r} instead of a result: "
                f"call it first, as in context.step({result.name}(...))"
            )
    except ExecutionError:
        raise  # ends the execution as it is, no failure of this step
    except Exception as error:  # noqa: BLE001  # user code may raise anything
        failure = error
    else:
        return _succeed(call, result, config, attempt)
    return _fail(call, failure, config.retry_strategy, attempt)


def _succeed(call: Call, result: T, config: StepConfig, attempt: int) -> T:
    try:
        payload, value = call.round_trip(result, config.serdes)
        call.check_size(payload)
    except SerDesError as error:
        unreadable = call.error_of(error)
    else:
        call.record(_SUCCEED, payload=payload, attempt=attempt)
        if not ends_branch(call.scope):
            call.scope.journal.flush()
        return value  # type: ignore[no-any-return]
    return _give_up(call, unreadable, attempt)


def _fail(call: Call, error: Exception, strategy: RetryStrategy | None, attempt: int) -> NoReturn:
    """Retry as the strategy says, or give the step up."""
    from durapool.retries import default_strategy_local  # only here: most runs meet no failure
    from durapool.strategies import decide

    failure = call.error_of(error)
    chosen = strategy or call.scope.settings.default_retry
    try:
        decision = decide(chosen or default_strategy_local, error, attempt)
    except Exception as broken:  # noqa: BLE001  # the strategy is user code
        broken.add_note(f"raised by the retry strategy of {call.what}, asked about {type(error).__name__}: {error}")
        _give_up(call, call.error_of(broken), attempt)
    if not decision.should_retry:
        _give_up(call, failure, attempt)
    if chosen is None:
        _tell_once(call, error, decision)
    call.commit(Action.RETRY, error=failure, attempt=attempt, delay=decision.delay.to_seconds())
    call.suspend()


def _give_up(call: Call, failure: ErrorObject, attempt: int) -> NoReturn:
    call.commit(Action.FAIL, error=failure, attempt=attempt)
    raise_from(failure, StepError)


def _tell_once(call: Call, error: Exception, decision: RetryDecision) -> None:
    execution_id = call.scope.settings.execution_id
    if execution_id in _told:
        return
    _told.add(execution_id)
    import logging  # only here: it is slow to import, and most steps do not fail

    logging.getLogger("durapool").warning(
        "%s failed (%s: %s) and is tried again in %d s, as failed steps are by default; "
        "switch it off with --no-retry or default_retry=RetryPresets.none()",
        call.what,
        type(error).__name__,
        error,
        decision.delay.to_seconds(),
    )
