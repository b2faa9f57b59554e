"""The context that durable functions get. The decorators for what it calls are in operations/bound.py.

A context hands out operation ids by position and passes each call on to operations/. It belongs to one run: of the
handler, or of one branch. Threads that this run starts may use it; another branch may not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from durapool.config import (
    CallbackConfig,
    ChildConfig,
    Duration,
    InvokeConfig,
    MapConfig,
    ParallelConfig,
    StepConfig,
    WaitForCallbackConfig,
)
from durapool.exceptions import ChildContextError
from durapool.logger import DurableLogger, context_logger, operation_logger
from durapool.operations.bound import (
    default_name,
    durable_parallel_branch,
    durable_step,
    durable_wait_for_callback,
    durable_with_child_context,
)
from durapool.operations.callback import Callback, raise_as_callback_error, run_create_callback, submit_and_wait
from durapool.operations.checks import check_function, check_name, checked_config, takes_plainly
from durapool.operations.child import run_child
from durapool.operations.condition import check_condition, run_wait_for_condition
from durapool.operations.invoke import check_function_name, run_invoke
from durapool.operations.ownership import foreign_use, seed_of
from durapool.operations.replay import Call
from durapool.operations.step import run_step
from durapool.operations.wait import check_duration, run_wait
from durapool.records import OperationSubType, OperationType, child_id
from durapool.scope import Scope, running_scope
from durapool.types import ExecutionContext, StepContext, WaitForCallbackContext, WaitForConditionCheckContext

if TYPE_CHECKING:
    from durapool.results import BatchResult
    from durapool.types import LambdaContext, LoggerInterface
    from durapool.waits import WaitForConditionConfig

__all__ = [
    "Callback",
    "DurableContext",
    "ExecutionContext",
    "StepContext",
    "durable_parallel_branch",
    "durable_step",
    "durable_wait_for_callback",
    "durable_with_child_context",
]

T = TypeVar("T")
U = TypeVar("U")

_AS_USUAL = StepConfig()


class DurableContext:
    """Runs durable operations: each is recorded, and answered from the record when the handler is run again.

    The order of the calls gives the operations their ids, so it must be the same in every run: nothing that changes
    between runs (time, random numbers, the environment) may decide which operation comes next, unless it comes from
    a step.

    Example:
        >>> @durable_execution
        ... def handler(event, context):
        ...     files = context.step(lambda _: list_files(event["folder"]), name="list")
        ...     sizes = context.map(files, lambda ctx, file, index, inputs: ctx.step(lambda _: len(file)))
        ...     return sum(sizes.successful_results)
        >>> handler({"folder": "data"}, context)
        2
    """

    def __init__(
        self,
        scope: Scope,
        parent_id: str | None,
        id_root: str | None,
        name: str | None = None,
        logger: LoggerInterface | None = None,
    ) -> None:
        self._scope = scope
        self._parent_id = parent_id
        self._id_root = id_root
        self._name = name
        self._base_logger = logger
        self._position = 0
        self._lock = threading.Lock()
        self._logger: DurableLogger | None = None  # made when it is first asked for; it refers to this context

    def step(self, func: Callable[[StepContext], T], name: str | None = None, config: StepConfig | None = None) -> T:
        """Run a function once and record its result; return it as the serdes gives it back, the first time too.

        Args:
            func: called with a StepContext (attempt, logger). It must not use the durable context.
            name: shown in history and errors; by default that of a `durable_step`.
            config: retries, semantics, serdes.

        Raises:
            StepError: the function failed and is not tried again; `__cause__` is the original where it was kept.

        Example:
            >>> context.step(lambda _: parse("a.txt"), name="parse")
            'A.TXT'
        """
        call = self._call(OperationType.STEP, OperationSubType.STEP, default_name(name, func))
        if not takes_plainly(func, 1):
            check_function(func, f"the function of {call.what}", 1, "step_context")
        return run_step(call, func, _AS_USUAL if config is None else checked_config(config, StepConfig, call.what))

    def wait(self, duration: Duration, name: str | None = None) -> None:
        """Let time pass, at least a second: the branch frees its worker, and the program may end meanwhile.

        Raises:
            ValidationError: less than a second, or not a Duration.

        Example:
            >>> context.wait(Duration.from_minutes(5))
        """
        check_duration(duration)
        run_wait(self._call(OperationType.WAIT, OperationSubType.WAIT, name), duration)

    def parallel(
        self,
        functions: Sequence[Callable[[DurableContext], T]],
        name: str | None = None,
        config: ParallelConfig | None = None,
    ) -> BatchResult[T]:
        """Run functions concurrently, each in its own child context.

        Args:
            functions: callables of one argument, the branch's DurableContext; `ParallelBranch(func, name)` is one
                with a name.
            name: shown in history and errors.
            config: concurrency, completion, serdes, nesting, and where the branches run.

        Returns:
            The outcomes in index order. A failed branch raises nothing here: see `BatchResult.throw_if_error`.

        Raises:
            ValidationError: no sequence of such callables, or a config that cannot be met; nothing was recorded.

        Example:
            >>> context.parallel([lambda ctx: ctx.step(first), lambda ctx: ctx.step(second)]).successful_results
            ['first', 'second']
        """
        from durapool.operations.batch import plan_parallel, run_batch  # here: few branches have batches of their own

        config = config or ParallelConfig()
        call = self._call(OperationType.CONTEXT, OperationSubType.PARALLEL, name)
        return run_batch(call, plan_parallel(call, functions, config), config)

    def map(
        self,
        inputs: Sequence[U],
        func: Callable[[DurableContext, U, int, Sequence[U]], T],
        name: str | None = None,
        config: MapConfig[U] | None = None,
    ) -> BatchResult[T]:
        """Run one function for each item concurrently, each in its own child context.

        Args:
            inputs: a sequence: list, tuple, range, array.
            func: called with the branch's DurableContext, the item, its index, and all inputs.
            name: shown in history and errors; by default that of a `durable_with_child_context`.
            config: as of `parallel`, and how the branches are named.

        Returns:
            The outcomes in index order. A failed branch raises nothing here: see `BatchResult.throw_if_error`.

        Raises:
            ValidationError: no sequence, another signature, or a config that cannot be met; nothing was recorded.

        Example:
            >>> context.map(["a", "b"], lambda ctx, file, index, inputs: ctx.step(lambda _: parse(file))).get_results()
            ['A', 'B']
        """
        from durapool.operations.batch import plan_map, run_batch  # as in `parallel`

        config = config or MapConfig()
        call = self._call(OperationType.CONTEXT, OperationSubType.MAP, default_name(name, func))
        return run_batch(call, plan_map(call, inputs, func, config), config)

    def run_in_child_context(
        self, func: Callable[[DurableContext], T], name: str | None = None, config: ChildConfig[T] | None = None
    ) -> T:
        """Run a function with a context of its own: a group of operations with one name and one result.

        Args:
            func: called with the child's DurableContext.
            name: shown in history and errors; by default that of a `durable_with_child_context`.
            config: serdes, sub-type, summary; `is_virtual` records no operation for the group itself.

        Raises:
            ChildContextError: the function failed; `__cause__` is the original where it was kept.

        Example:
            >>> context.run_in_child_context(lambda child: [child.step(first), child.step(second)])
            ['first', 'second']
        """
        config = checked_config(config, ChildConfig, "a child context")
        sub_type: Any = config.sub_type or OperationSubType.RUN_IN_CHILD_CONTEXT  # one of the user's own stays text
        call = self._call(OperationType.CONTEXT, sub_type, default_name(name, func))
        check_function(func, f"the function of {call.what}", 1, "ctx")
        return run_child(call, func, config, self._child(call, virtual=config.is_virtual))

    def wait_for_condition(
        self,
        check: Callable[[T, WaitForConditionCheckContext], T],
        config: WaitForConditionConfig[T],
        name: str | None = None,
    ) -> T:
        """Call a check until the config's wait strategy stops; the branch is suspended in between.

        Args:
            check: called with the state and a WaitForConditionCheckContext; returns the new state, which is recorded.
            config: the wait strategy, the initial state, serdes.
            name: shown in history and errors.

        Raises:
            WaitForConditionError: the check failed, or the strategy gave up.

        Example:
            >>> strategy = WaitStrategyConfig(should_continue_polling=lambda state: state != "done")
            >>> context.wait_for_condition(lambda state, _: poll(state), WaitForConditionConfig(strategy, "new"))
            'done'
        """
        check_condition(check, config)
        call = self._call(OperationType.STEP, OperationSubType.WAIT_FOR_CONDITION, default_name(name, check))
        return run_wait_for_condition(call, check, config)

    def create_callback(self, name: str | None = None, config: CallbackConfig | None = None) -> Callback[Any]:
        """Make an id under which the outside world can send a result; ``.result()`` waits for it.

        Args:
            name: shown in history and errors.
            config: timeout, heartbeat timeout, serdes. Without a serdes the text is handed over as it is.

        Example:
            >>> callback = context.create_callback(config=CallbackConfig(timeout=Duration.from_hours(1)))
            >>> context.step(lambda _: send_mail(callback.callback_id))
            >>> callback.result()
            'approved'
        """
        call = self._call(OperationType.CALLBACK, OperationSubType.CALLBACK, name)
        return run_create_callback(call, checked_config(config, CallbackConfig, call.what), self)

    def wait_for_callback(
        self,
        submitter: Callable[[str, WaitForCallbackContext], Any],
        name: str | None = None,
        config: WaitForCallbackConfig | None = None,
    ) -> Any:
        """Create a callback, hand its id out in a step, and wait for the result.

        Args:
            submitter: called with the callback's id and a WaitForCallbackContext (logger), as a step with retries.
            name: shown in history and errors; by default that of a `durable_wait_for_callback`.
            config: as of `create_callback`, and the submitter's retry strategy.

        Raises:
            CallbackSubmitterError, CallbackExternalError, CallbackTimeoutError: what did not succeed.

        Example:
            >>> context.wait_for_callback(lambda callback_id, _: send_mail(callback_id), name="approval")
            'approved'
        """
        name = default_name(name, submitter)
        config = checked_config(config, WaitForCallbackConfig, "a wait_for_callback")
        call = self._call(OperationType.CONTEXT, OperationSubType.WAIT_FOR_CALLBACK, name)
        check_function(submitter, f"the submitter of {call.what}", 2, "callback_id, context")

        def submit(child: DurableContext) -> Any:
            return submit_and_wait(child, submitter, name, config)

        try:
            return run_child(call, submit, ChildConfig(), self._child(call, virtual=False))
        except ChildContextError as error:
            raise_as_callback_error(error, call)

    def invoke(
        self, function_name: str, payload: Any, name: str | None = None, config: InvokeConfig[Any, Any] | None = None
    ) -> Any:
        """Call another function and return its result: on Lambda by the service, else one of `register_function`.

        Args:
            function_name, payload: name or ARN of the function, and its event.
            name: shown in history and errors.
            config: serdes of payload and result, tenant.

        Raises:
            InvokeError: the function failed, or a local run knows none of this name.

        Example:
            >>> durapool.register_function("price", lambda event, context: event["n"] * 2)
            >>> context.invoke("price", {"n": 21})
            42
        """
        check_function_name(function_name)
        call = self._call(OperationType.CHAINED_INVOKE, OperationSubType.CHAINED_INVOKE, name)
        config = checked_config(config, InvokeConfig, call.what)
        return run_invoke(call, function_name, payload, config, self._child(call, virtual=False))

    @property
    def logger(self) -> DurableLogger:
        """Logs with execution and operation in `extra`; silent while this context replays what was recorded."""
        if self._logger is None:
            self._logger = self.logger_to(self._base_logger)
        return self._logger

    def set_logger(self, new_logger: LoggerInterface) -> None:
        """Send the lines of this context, and of child contexts made from now on, to another logger.

        Example:
            >>> context.set_logger(logging.getLogger("orders"))
        """
        self._base_logger = new_logger
        self._logger = None

    @property
    def execution_context(self) -> ExecutionContext:
        """Which execution this is."""
        return ExecutionContext(self._scope.settings.arn)

    @property
    def lambda_context(self) -> LambdaContext | None:
        """What Lambda called the function with; None in a local run and in workers."""
        return self._scope.lambda_context

    @property
    def seed(self) -> int:
        """A number of 64 bits from the execution and this context: the same in every replay and on every executor.

        Example:
            >>> random.Random(context.seed).random() == random.Random(context.seed).random()
            True
        """
        return seed_of(self._scope.settings.execution_id, self._id_root)

    def is_replaying(self) -> bool:
        """Whether the next operation of this context is recorded already, or the context itself has ended."""
        journal = self._scope.journal
        if journal.get(child_id(self._id_root, self._position + 1)) is not None:
            return True
        own = None if self._parent_id is None else journal.get(self._parent_id)
        return own is not None and own.status.is_terminal

    def claim(self, what: str) -> Scope:
        """The run that owns this context, if it is the one that asks.

        Raises:
            InvalidStateError: another branch asks.
        """
        running = running_scope.get()
        if running is not None and running is not self._scope:
            raise foreign_use(what, self._scope.label, running.label)
        return self._scope

    def _call(self, kind: OperationType, sub_type: OperationSubType, name: str | None) -> Call:
        """The next operation of this context."""
        if running_scope.get() is not self._scope:
            self.claim(f"{sub_type} {name!r}" if name else str(sub_type))
        if name is not None and type(name) is not str:
            check_name(name, f"a {sub_type}")
        with self._lock:
            self._position = position = self._position + 1
        return self.call_of(child_id(self._id_root, position), kind, sub_type, name)

    def call_of(self, operation_id: str, kind: OperationType, sub_type: OperationSubType, name: str | None) -> Call:
        """The call that an operation of this context belongs to."""
        return Call(self._scope, operation_id, kind, sub_type, self._parent_id, name, self._scope.branch, self)

    def operation_logger(self, operation_id: str, name: str | None, attempt: int) -> DurableLogger:
        """For the code of an operation of this context, which never replays."""
        return operation_logger(self._base_logger, self._scope.settings.execution_id, operation_id, name, attempt)

    def logger_to(self, logger: LoggerInterface | None) -> DurableLogger:
        """This context's logger, over another one."""
        return context_logger(logger, self._scope.settings.execution_id, self._id_root, self._name, self.is_replaying)

    def _child(self, call: Call, *, virtual: bool) -> DurableContext:
        parent_id = self._parent_id if virtual else call.operation_id
        return DurableContext(self._scope, parent_id, call.operation_id, call.name, self._base_logger)

    def __reduce__(self) -> tuple[Any, ...]:
        """A context that was captured by a branch arrives there as one that can log, and no more."""
        from durapool.operations.captured import CapturedContext  # a subclass of this class

        settings, label = self._scope.settings, self._scope.label
        return CapturedContext, (settings.execution_id, settings.arn, self._id_root, self._name, label)
