"""`context.invoke`: another function, by name.

service     START --> suspended --> the service has called the function: SUCCEED, FAIL, TIME_OUT, STOP
local run   a registered function is called here; the operations of a durable handler hang under the invoke's own
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from durapool.config import ChildConfig, InvokeConfig
from durapool.errors import raise_from
from durapool.exceptions import ChildContextError, InvokeError, ValidationError
from durapool.invokable import bare_name
from durapool.operations.child import run_child
from durapool.operations.replay import SERVICE_LIMIT, Call, size_of
from durapool.records import DETAIL_FUNCTION, DETAIL_TENANT, Action, ErrorObject, OperationStatus
from durapool.serdes import dump, load

if TYPE_CHECKING:
    from durapool.context import DurableContext


def check_function_name(name: object) -> None:
    """Raises ValidationError unless it is text."""
    if not isinstance(name, str) or not name:
        raise ValidationError(f"invoke takes the name or the ARN of a function, not {name!r:.100}")


def run_invoke(
    call: Call, function_name: str, payload: Any, config: InvokeConfig[Any, Any], context: DurableContext
) -> Any:
    """The function's result: recorded, or by having it called now.

    Raises:
        InvokeError: the function failed, or no function of this name is registered in a local run.
        SuspendExecution: the service has not called it yet.
    """
    if call.scope.settings.service:
        return _invoke_by_service(call, function_name, payload, config)
    return _call_here(call, function_name, payload, config, context)


def _invoke_by_service(call: Call, function_name: str, payload: Any, config: InvokeConfig[Any, Any]) -> Any:
    recorded = call.recorded()
    if recorded is None:
        text = _dump(call, payload, config)
        size = size_of(text)
        if size > SERVICE_LIMIT:
            raise ValidationError(f"the payload of {call.what} has {size} bytes; the service takes {SERVICE_LIMIT}")
        details = {DETAIL_FUNCTION: function_name, DETAIL_TENANT: config.tenant_id}
        call.record(Action.START, payload=text, details=details)
        call.scope.journal.barrier()
        recorded = call.recorded()
    if recorded is None or not recorded.status.is_terminal:
        call.suspend()
    if recorded.status is OperationStatus.SUCCEEDED:
        return call.load(recorded.payload, config.serdes_result)
    return raise_from(recorded.error or ErrorObject(f"{call.what} has ended as {recorded.status}"), InvokeError)


def _call_here(
    call: Call, function_name: str, payload: Any, config: InvokeConfig[Any, Any], context: DurableContext
) -> Any:
    function = _registered(call, function_name)
    event = load(_dump(call, payload, config), config.serdes_payload, call.scope.settings, call.operation_id, call.what)
    try:
        return run_child(call, _body(function, event), ChildConfig(serdes=config.serdes_result), context)
    except ChildContextError as error:
        failure: ChildContextError = error
    raise InvokeError(failure.message, failure.error_type, failure.data, failure.stack_trace) from failure.__cause__


def _registered(call: Call, function_name: str) -> Callable[[Any, Any], Any]:
    functions = call.scope.settings.functions or {}
    for name in (function_name, bare_name(function_name)):
        if name in functions:
            return functions[name]
    return _unknown(call, function_name)


def _unknown(call: Call, function_name: str) -> NoReturn:
    raise InvokeError(
        f"{call.what}: this run is local, and knows no function {function_name!r}. "
        f"Register it with durapool.register_function({bare_name(function_name)!r}, function)",
        "InvokeError",
    )


def _body(function: Callable[[Any, Any], Any], event: Any) -> Callable[[DurableContext], Any]:
    from durapool.decorator import DurableHandler  # which imports what imports this module

    if isinstance(function, DurableHandler):
        return lambda context: function(event, context)
    return lambda _: function(event, None)


def _dump(call: Call, payload: Any, config: InvokeConfig[Any, Any]) -> Any:
    what = f"the payload of {call.what}"
    return dump(payload, config.serdes_payload, call.scope.settings, call.operation_id, what)
