"""`context.create_callback` and `context.wait_for_callback`: a result that comes from outside.

The id of a callback is made once, at random or by a service, and recorded with its START; every replay reads it from
there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

from durapool.config import CallbackConfig, StepConfig, WaitForCallbackConfig
from durapool.errors import raise_from
from durapool.exceptions import (
    CallbackError,
    CallbackExternalError,
    CallbackSubmitterError,
    CallbackTimeoutError,
    ChildContextError,
    DurableOperationError,
    InvalidStateError,
    StepError,
)
from durapool.operations.replay import Call
from durapool.records import (
    DETAIL_CALLBACK_ID,
    DETAIL_HEARTBEAT,
    Action,
    ErrorObject,
    Operation,
    OperationStatus,
    OperationSubType,
    OperationType,
    child_id,
)
from durapool.types import StepContext, WaitForCallbackContext

if TYPE_CHECKING:
    from durapool.context import DurableContext
    from durapool.serdes import SerDes

T = TypeVar("T")


class Callback(Generic[T]):
    """Waits for a result from outside: hand `callback_id` out, then call `result()`.

    Example:
        >>> callback = context.create_callback(name="approval")
        >>> context.step(lambda _: send_mail(callback.callback_id))
        >>> callback.result()
        'approved'
    """

    def __init__(
        self,
        callback_id: str,
        operation_id: str,
        context: DurableContext,
        serdes: SerDes[T] | None,
        name: str | None,
    ) -> None:
        self.callback_id = callback_id
        self.operation_id = operation_id
        self._context = context
        self._serdes = serdes
        self._name = name

    def result(self) -> T | None:
        """What the outside world sent; suspends until then.

        Raises:
            CallbackExternalError: a failure was reported.
            CallbackTimeoutError: it, or its heartbeat, did not come in time.
        """
        scope = self._context.claim("result() of a callback")
        callback = OperationType.CALLBACK, OperationSubType.CALLBACK
        call = self._context.call_of(self.operation_id, *callback, self._name)
        recorded = scope.journal.get(self.operation_id)
        if recorded is None:
            raise InvalidStateError(f"{call.what} is not recorded in this execution")
        match recorded.status:
            case OperationStatus.SUCCEEDED:
                return self._read(call, recorded)
            case OperationStatus.TIMED_OUT:
                return raise_from(_error_of(recorded, f"{call.what} timed out"), CallbackTimeoutError)
            case status if status.is_terminal:
                return raise_from(_error_of(recorded, f"{call.what} failed"), CallbackExternalError)
            case _:
                return call.suspend()

    def _read(self, call: Call, recorded: Operation) -> T | None:
        if self._serdes is None:
            return cast("T | None", recorded.payload)
        return cast("T | None", call.load(recorded.payload, self._serdes))


def _error_of(recorded: Operation, fallback: str) -> ErrorObject:
    error = recorded.error
    if error is None:
        return ErrorObject(fallback)
    return error if error.message else ErrorObject(fallback, error.type, error.data, error.stack_trace, error.pickled)


def run_create_callback(call: Call, config: CallbackConfig, context: DurableContext) -> Callback[Any]:
    """The callback of this call; its START is committed before anybody can know its id."""
    recorded = call.recorded()
    callback_id = _id_of(recorded)
    if callback_id is None:
        own = {} if call.scope.settings.service else {DETAIL_CALLBACK_ID: os.urandom(16).hex()}
        heartbeat = config.heartbeat_timeout.to_seconds()
        call.record(
            Action.START,
            delay=config.timeout.to_seconds() or None,
            details=own | ({DETAIL_HEARTBEAT: heartbeat} if heartbeat else {}),
        )
        call.scope.journal.barrier()
        callback_id = _id_of(call.scope.journal.get(call.operation_id))
    if callback_id is None:
        raise InvalidStateError(f"the service gave {call.what} no id")
    return Callback(callback_id, call.operation_id, context, config.serdes, call.name)


def _id_of(recorded: Operation | None) -> str | None:
    """The callback id that is recorded."""
    return None if recorded is None else (recorded.details or {}).get(DETAIL_CALLBACK_ID)


def submit_and_wait(
    context: DurableContext,
    submitter: Callable[[str, WaitForCallbackContext], Any],
    name: str | None,
    config: WaitForCallbackConfig,
) -> Any:
    """The function of a wait_for_callback's child context: a callback, and a step that hands its id out."""
    if not context.claim("wait_for_callback").settings.service:
        return _submit_and_wait(context, submitter, name, config)
    try:
        return _submit_and_wait(context, submitter, name, config)
    except (CallbackError, StepError) as error:
        failure = _telling(error)
    raise failure


def _submit_and_wait(
    context: DurableContext,
    submitter: Callable[[str, WaitForCallbackContext], Any],
    name: str | None,
    config: WaitForCallbackConfig,
) -> Any:
    prefix = f"{name} " if name else ""
    callback = context.create_callback(name=f"{prefix}create callback id", config=config)

    def submit(step_context: StepContext) -> Any:
        return submitter(callback.callback_id, WaitForCallbackContext(logger=step_context.logger))

    step_config = StepConfig(retry_strategy=config.retry_strategy, serdes=config.serdes)
    context.step(submit, name=f"{prefix}submitter", config=step_config)
    return callback.result()


_TELLING = (CallbackTimeoutError, CallbackExternalError, CallbackSubmitterError)


def _telling(error: DurableOperationError) -> CallbackError:
    """The error with its class in its type: a service forgets the operations below a context that has ended."""
    cls = next((cls for cls in _TELLING if isinstance(error, cls)), CallbackSubmitterError)
    return cls(error.message, f"{cls.__name__}: {error.error_type or ''}", error.data, error.stack_trace)


def _told(error: ChildContextError) -> CallbackError | None:
    """The inverse of `_telling`; None for any other error."""
    name, _, kind = (error.error_type or "").partition(": ")
    for cls in _TELLING:
        if name == cls.__name__:
            return cls(error.message, kind or None, error.data, error.stack_trace)
    return None


def raise_as_callback_error(error: ChildContextError, call: Call) -> NoReturn:
    """Give the failure of a wait_for_callback the class that tells callback and submitter apart.

    The record decides, so that a replay raises the same, also where no exception could be kept.
    """
    if call.scope.settings.service and (told := _told(error)) is not None:
        raise told from None
    cause = error.__cause__
    if isinstance(cause, CallbackError):
        raise cause
    text = (error.message, error.error_type, error.data, error.stack_trace)
    journal = call.scope.journal
    callback, submitter = (journal.get(child_id(call.operation_id, position)) for position in (1, 2))
    if submitter is not None and submitter.status is OperationStatus.FAILED:
        raise CallbackSubmitterError(*text) from (cause if isinstance(cause, StepError) else error)
    if callback is not None and callback.status is OperationStatus.TIMED_OUT:
        raise CallbackTimeoutError(*text) from cause
    if callback is not None and callback.status.is_terminal and callback.status is not OperationStatus.SUCCEEDED:
        raise CallbackExternalError(*text) from cause
    raise error
