"""`durable_execution`: what makes a function a durable handler.

User modules import this for the decorator, in workers too, so it imports nothing heavy.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

from durapool.exceptions import ValidationError
from durapool.executors import ExecutorSpec, parse_executor

if TYPE_CHECKING:
    from durapool.config import RetryStrategy
    from durapool.context import DurableContext

    Function = Callable[[Any, DurableContext], Any]


class DurableHandler:
    """A function under `@durable_execution`. Run it with `durapool.run`; pickled by reference to its module.

    It is the entry point of a Lambda function, too: called with an event of the durable execution service and a
    Lambda context, it runs one invocation and gives the service's answer.

    Args:
        function: called with (event, context).
        executor: where its branches run unless they say otherwise.
        default_retry: for steps that have no retry strategy of their own.
        boto3_client: of Lambda, for invocations by the service; None for one made from the environment.

    Raises:
        ValidationError: not a plain function, or not an executor.

    Example:
        >>> @durable_execution(executor="process:2")
        ... def nightly(event, context):
        ...     return context.parallel([first, second]).get_results()
        >>> nightly.executor
        'process:2'
    """

    __qualname__: str
    __wrapped__: Function

    def __init__(
        self,
        function: Function,
        executor: ExecutorSpec | None = None,
        default_retry: RetryStrategy | None = None,
        boto3_client: Any = None,
    ) -> None:
        if not callable(function):
            raise ValidationError(f"@durable_execution decorates a function of (event, context), not {function!r:.100}")
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise ValidationError(
                f"{getattr(function, '__qualname__', function)} is a coroutine or generator function, but a durable "
                "handler is a plain function: call asyncio.run() inside a step"
            )
        if executor is not None:
            parse_executor(executor)
        if default_retry is not None and not callable(default_retry):
            raise ValidationError(f"default_retry must be callable, not {default_retry!r}")
        self.executor = executor
        self.default_retry = default_retry
        self.boto3_client = boto3_client
        functools.update_wrapper(self, function)

    def __call__(self, event: Any, context: Any) -> Any:
        """Call the function as part of a run, such as from another handler; or serve an invocation on Lambda.

        Raises:
            ExecutionError: called by Lambda, and the event has no durable fields: durability is not switched on.
            ValidationError: `context` is neither durapool's nor Lambda's.
        """
        from durapool.context import DurableContext

        if isinstance(context, DurableContext):
            return self.__wrapped__(event, context)
        from durapool.aws.entry import is_invocation, refuse, serve  # only here: it is a world of its own

        if is_invocation(event):
            return serve(self, event, context)
        if hasattr(context, "get_remaining_time_in_millis"):
            refuse(self, context)
        raise ValidationError(
            f"{self.__qualname__} is a durable handler and needs a DurableContext, not {context!r:.100}: "
            f"run it with durapool.run({self.__qualname__}, event)"
        )

    def __reduce__(self) -> str | tuple[Any, ...]:
        from durapool.pickling import is_importable

        if is_importable(self.__module__):
            return self.__qualname__
        return DurableHandler, (self.__wrapped__, self.executor, self.default_retry)

    def __repr__(self) -> str:
        return f"<durable handler {self.__module__}.{self.__qualname__}>"


@overload
def durable_execution(func: Function, /) -> DurableHandler: ...
@overload
def durable_execution(
    func: None = None,
    /,
    *,
    executor: ExecutorSpec | None = None,
    default_retry: RetryStrategy | None = None,
    boto3_client: Any = None,
) -> Callable[[Function], DurableHandler]: ...
def durable_execution(
    func: Function | None = None,
    /,
    *,
    executor: ExecutorSpec | None = None,
    default_retry: RetryStrategy | None = None,
    boto3_client: Any = None,
) -> DurableHandler | Callable[[Function], DurableHandler]:
    """Make a function of (event, context) a durable handler; with and without arguments.

    Args:
        func: the function.
        executor: where its branches run: "thread", "process", "process:8", "dask", "ray", or an executor object.
        default_retry: for steps that have no retry strategy of their own.
        boto3_client: a boto3 Lambda client for invocations by AWS's durable execution service; None for one made from
            the environment. Without effect in `durapool.run`.

    Raises:
        ValidationError: not a plain function, or not an executor.

    Example:
        >>> @durable_execution(executor="process")
        ... def handler(event, context):
        ...     return context.step(lambda _: event["n"] + 1)
        >>> durapool.run(handler, {"n": 1}, id="nightly", store=store)
        2
    """
    if func is None:
        return functools.partial(
            DurableHandler, executor=executor, default_retry=default_retry, boto3_client=boto3_client
        )
    return DurableHandler(func, executor, default_retry, boto3_client)
