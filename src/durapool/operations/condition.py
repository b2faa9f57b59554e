"""`context.wait_for_condition`: a check that is made again and again, with suspensions between.

new / READY --START--> check --+--SUCCEED--> the state
                               +--RETRY----> suspended, with the state recorded, until READY
                               +--FAIL-----> WaitForConditionError
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from durapool.errors import raise_from
from durapool.exceptions import ExecutionError, ValidationError, WaitForConditionError
from durapool.operations.checks import check_function
from durapool.operations.replay import Call
from durapool.records import Action, ErrorObject, OperationStatus, Payload
from durapool.types import WaitForConditionCheckContext

if TYPE_CHECKING:
    from durapool.waits import WaitForConditionConfig, WaitForConditionDecision

    Check = Callable[[Any, WaitForConditionCheckContext], Any]

T = TypeVar("T")


def check_condition(check: object, config: object) -> None:
    """Raises ValidationError unless both are given and can be called."""
    from durapool.waits import WaitForConditionConfig  # only here and below: few handlers wait for a condition

    if check is None or config is None:
        raise ValidationError("wait_for_condition needs both a check and a config")
    check_function(check, "the check of wait_for_condition", 2, "state, context")
    if not isinstance(config, WaitForConditionConfig):
        raise ValidationError(f"wait_for_condition takes a WaitForConditionConfig, not {config!r:.100}")


def run_wait_for_condition(
    call: Call, check: Callable[[T, WaitForConditionCheckContext], T], config: WaitForConditionConfig[T]
) -> T:
    """The state for which the wait strategy stopped polling.

    Raises:
        WaitForConditionError: the check or the strategy raised, or the strategy gave up.
        SuspendExecution: the next poll is not due yet.
    """
    recorded = call.recorded()
    if recorded is None:
        call.record(Action.START, attempt=1)
        return _poll(call, check, config, 1, None)
    match recorded.status:
        case OperationStatus.SUCCEEDED:
            return call.load(recorded.payload, config.serdes)  # type: ignore[no-any-return]
        case OperationStatus.PENDING if not call.is_due():
            return call.suspend()
        case OperationStatus.PENDING | OperationStatus.READY:
            attempt, state = recorded.attempt + 1, recorded.payload
            call.record(Action.START, attempt=attempt)
            return _poll(call, check, config, attempt, state)
        case OperationStatus.STARTED:
            return _poll(call, check, config, recorded.attempt or 1, recorded.payload)
        case status:
            return raise_from(
                recorded.error or ErrorObject(f"{call.what} has ended as {status}"), WaitForConditionError
            )


def _poll(call: Call, check: Check, config: WaitForConditionConfig[T], attempt: int, state: Payload | None) -> T:
    try:
        payload, decision = _ask(call, check, config, attempt, state)
        value = None if decision.should_continue else call.load(payload, config.serdes)
    except ExecutionError:
        raise  # ends the execution as it is, no failure of this operation
    except Exception as error:  # noqa: BLE001  # check, strategy and serdes are user code
        failure = call.error_of(error)
    else:
        if not decision.should_continue:
            call.commit(Action.SUCCEED, payload=payload, attempt=attempt)
            return value  # type: ignore[return-value]
        delay = max(1, decision.delay.to_seconds())
        call.commit(Action.RETRY, payload=payload, attempt=attempt, delay=delay)
        return call.suspend()
    call.commit(Action.FAIL, error=failure, attempt=attempt)
    return raise_from(failure, WaitForConditionError)


def _ask(
    call: Call, check: Check, config: WaitForConditionConfig[T], attempt: int, state: Payload | None
) -> tuple[Payload, WaitForConditionDecision]:
    """Check once and let the strategy decide on the state as every replay will see it."""
    from durapool.waits import WaitForConditionDecision

    before = call.dump(config.initial_state, config.serdes) if state is None else state
    logger = call.context.operation_logger(call.operation_id, call.name, attempt)
    context = WaitForConditionCheckContext(logger=logger, attempt=attempt)
    after = check(call.load(before, config.serdes), context)
    payload, value = call.round_trip(after, config.serdes)
    call.check_size(payload)
    decision = config.wait_strategy(value, attempt)
    if not isinstance(decision, WaitForConditionDecision):
        raise ValidationError(
            f"the wait_strategy of {call.what} must return a WaitForConditionDecision, not {decision!r:.100}"
        )
    return payload, decision
