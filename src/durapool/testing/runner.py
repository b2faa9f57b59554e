"""The runner: executions of one handler in a test, with the clock set forward instead of waited for.

    run_async -> a thread with the invocation loop -> the store
    wait_for_result, wait_for_callback <- what the store holds
    send_callback_* -> a signal in the store -> the loop

Each execution has a thread of its own, so that a test can answer callbacks and give up after a timeout.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from durapool.clock import Clock, SkippingClock, SystemClock
from durapool.decorator import DurableHandler
from durapool.exceptions import ExecutionNotFoundError, InvalidStateError, SerDesError, ValidationError
from durapool.execution import InvocationStatus
from durapool.executors import parse_executor
from durapool.handlers import target_of
from durapool.invocation import Invocations, Job
from durapool.journal import EXECUTION_ID
from durapool.records import ErrorObject, OperationStatus, OperationType, Payload
from durapool.serdes import dump
from durapool.settings import Choices
from durapool.stores.base import SignalRecord, blobs_of
from durapool.stores.memory import MemoryStore
from durapool.testing.result import (
    CallbackOperation,
    ContextOperation,
    DurableFunctionTestResult,
    ExecutionOperation,
    InvokeOperation,
    Operation,
    StepOperation,
    WaitOperation,
    operations_of,
    result_of,
)
from durapool.testing.running import RunningExecution, open_callback, still_running

if TYPE_CHECKING:
    from durapool.executors import ExecutorSpec
    from durapool.scope import Settings
    from durapool.stores.base import Store

__all__ = [  # where the thread-based SDK has them
    "CallbackOperation",
    "ContextOperation",
    "DurableFunctionTestResult",
    "DurableFunctionTestRunner",
    "ExecutionOperation",
    "InvocationStatus",
    "InvokeOperation",
    "Operation",
    "OperationStatus",
    "OperationType",
    "StepOperation",
    "WaitOperation",
]

PAYLOAD_LIMIT = 256 * 1024  # bytes; that of the service
INVOCATIONS = 10  # crashed invocations after which the execution has failed
PATIENCE = 0.1  # real seconds that run() leaves to answer a callback before its timeout is skipped to
PATIENCE_ASYNC = 2.0  # the same of run_async(): the test is expected to answer
_POLL = 0.01  # seconds between two looks for a callback
_FAREWELL = 2.0  # seconds that close() waits for each running execution


class _Store(MemoryStore):
    """Outlives the crashes of the program that the runner plays, and so does not have `volatile` of its own."""


class DurableFunctionTestRunner:
    """Runs a durable handler in a test.

    Args:
        handler: a function under `@durable_execution`.
        skip_time: set the clock forward instead of waiting: an hour takes no time and is an hour in the history.
        executor: where branches run, also ahead of the decorator's choice; None for the handler's own.
        store: where executions are recorded; None for memory with the service's payload limit (256 KiB).
        function_name: the beginning of the executions' ids.

    Raises:
        ValidationError: not a durable handler, or not an executor.

    Example:
        >>> with DurableFunctionTestRunner(handler=handler) as runner:
        ...     result = runner.run(input={"n": 1}, timeout=10)
        >>> result.result
        2
    """

    def __init__(
        self,
        handler: DurableHandler,
        *,
        skip_time: bool = True,
        executor: ExecutorSpec | None = None,
        store: Store | None = None,
        function_name: str = "test-function",
    ) -> None:
        if not isinstance(handler, DurableHandler):
            name = getattr(handler, "__qualname__", repr(handler))
            raise ValidationError(f"the runner takes a function under @durable_execution; {name:.100} is none")
        if executor is not None:
            parse_executor(executor)
        self._handler = handler
        self._skip_time = skip_time
        self._executor = executor
        self._owned = _Store(payload_limit=PAYLOAD_LIMIT) if store is None else None
        self._store: Store = store if store is not None else self._owned  # type: ignore[assignment]  # one of the two
        self._function_name = function_name
        self._executions: dict[str, RunningExecution] = {}
        self._closed = False
        self._lock = threading.Lock()  # executions, and one answer to a callback at a time

    def __enter__(self) -> DurableFunctionTestRunner:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what still runs. The runner cannot be used any more; results that it gave can. Again: nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        for execution in self._executions.values():
            execution.pause()
        for execution in self._executions.values():
            execution.join(_FAREWELL)
        if self._owned is not None:
            self._owned.close()

    def run(self, input: Any = None, timeout: float = 60) -> DurableFunctionTestResult:
        """Run the handler to its end.

        Args:
            input: the event, any JSON value; text is taken as JSON where it parses, else as itself.
            timeout: real seconds.

        Returns:
            What became of it, also if it failed.

        Raises:
            TimeoutError: it did not end in time; the message names what still runs.
            InvalidStateError: the runner is closed.
            ValidationError: an argument is wrong.
            StoreError: the store failed.

        Example:
            >>> with DurableFunctionTestRunner(handler=handler) as runner:
            ...     runner.run(input='{"n": 1}', timeout=10).status.value
            'SUCCEEDED'
        """
        _check_timeout(timeout)
        return self.wait_for_result(self._start(input, PATIENCE), timeout)

    def run_async(self, input: Any = None) -> str:
        """Start the handler, and return its execution's arn at once.

        Args:
            input: as of `run`.

        Raises:
            InvalidStateError: the runner is closed.
            ValidationError: the input cannot be serialised.

        Example:
            >>> with DurableFunctionTestRunner(handler=handler) as runner:
            ...     runner.wait_for_result(runner.run_async({"n": 1}), timeout=10).result
            2
        """
        return self._start(input, PATIENCE_ASYNC)

    def wait_for_result(self, execution_arn: str, timeout: float = 60) -> DurableFunctionTestResult:
        """Wait for the end of an execution.

        Args:
            execution_arn: what `run_async` returned.
            timeout: real seconds.

        Returns:
            What became of it, also if it failed.

        Raises:
            TimeoutError: it did not end in time; the message names what still runs.
            ExecutionNotFoundError: this runner did not start it.
            InvalidStateError: the runner is closed.
            StoreError: the store failed.

        Example:
            >>> with DurableFunctionTestRunner(handler=handler) as runner:
            ...     runs = [runner.run_async({"n": n}) for n in range(3)]
            ...     [runner.wait_for_result(arn, timeout=10).result for arn in runs]
            [1, 2, 3]
        """
        _check_timeout(timeout)
        execution = self._execution(execution_arn)
        if not execution.join(timeout):
            running = still_running(list(self._store.read(execution.id)))
            raise TimeoutError(f"{execution.id} did not end within {timeout:g} s; still running: {running}")
        log = list(self._store.read(execution.id))
        return result_of(execution.ending(), log, blobs_of(self._store, execution.id))

    def wait_for_callback(self, execution_arn: str, name: str | None = None, timeout: float = 60) -> str:
        """Wait until an execution is suspended with an open callback.

        Args:
            execution_arn: what `run_async` returned.
            name: that of the callback or of the wait_for_callback; None for the latest.
            timeout: real seconds.

        Returns:
            The callback's id.

        Raises:
            TimeoutError: there was none in time.
            InvalidStateError: the execution has ended without one, or the runner is closed.
            ExecutionNotFoundError: this runner did not start it.

        Example:
            >>> with DurableFunctionTestRunner(handler=asks) as runner:
            ...     arn = runner.run_async()
            ...     runner.send_callback_success(runner.wait_for_callback(arn, "approval"), "yes")
            ...     runner.wait_for_result(arn, timeout=10).result
            'yes'
        """
        _check_timeout(timeout)
        execution = self._execution(execution_arn)
        wanted = "a callback" if name is None else f"a callback {name!r}"
        deadline = time.monotonic() + timeout
        while True:
            ended = execution.join(_POLL)
            log = list(self._store.read(execution.id))
            found = open_callback(log, name)
            if ended:
                raise InvalidStateError(f"{execution.id} has ended without {wanted} that is open")
            if found is not None:
                return found
            if time.monotonic() > deadline:
                running = still_running(log)
                raise TimeoutError(
                    f"{execution.id} did not wait for {wanted} within {timeout:g} s; still running: {running}"
                )

    def send_callback_success(self, callback_id: str, result: Any = None) -> None:
        """Complete a callback.

        Args:
            callback_id: the id.
            result: text, or UTF-8 bytes, handed to the callback's serdes as it is; another value goes as its JSON.

        Raises:
            InvalidStateError: the callback has ended, or the runner is closed.
            ValidationError: no callback has this id, or the result is no text.

        Example:
            >>> with DurableFunctionTestRunner(handler=asks) as runner:
            ...     arn = runner.run_async()
            ...     runner.send_callback_success(runner.wait_for_callback(arn), {"answer": "yes"})
            ...     runner.wait_for_result(arn, timeout=10).result
            '{"answer": "yes"}'
        """
        self._answer(SignalRecord("succeed", callback_id, payload=_text_of(result), at=time.time()))

    def send_callback_failure(self, callback_id: str, error: ErrorObject | None = None) -> None:
        """Let a callback fail.

        Args:
            callback_id: the id.
            error: what the handler gets to see; None for one that says so.

        Raises:
            InvalidStateError: the callback has ended, or the runner is closed.
            ValidationError: no callback has this id, or `error` is no ErrorObject.

        Example:
            >>> with DurableFunctionTestRunner(handler=asks) as runner:
            ...     arn = runner.run_async()
            ...     runner.send_callback_failure(runner.wait_for_callback(arn), ErrorObject("no", "Refusal"))
            ...     runner.wait_for_result(arn, timeout=10).error.message
            'no'
        """
        if error is not None and not isinstance(error, ErrorObject):
            raise ValidationError(f"error must be an ErrorObject, not {error!r}")
        failure = error if error is not None else ErrorObject("the callback was reported as failed")
        self._answer(SignalRecord("fail", callback_id, error=failure, at=time.time()))

    def send_callback_heartbeat(self, callback_id: str) -> None:
        """Say that a callback's answer is still under way: its heartbeat timeout begins anew.

        Args:
            callback_id: the id.

        Raises:
            InvalidStateError: the callback has ended, or the runner is closed.
            ValidationError: no callback has this id.

        Example:
            >>> with DurableFunctionTestRunner(handler=asks) as runner:
            ...     arn = runner.run_async()
            ...     callback_id = runner.wait_for_callback(arn)
            ...     runner.send_callback_heartbeat(callback_id)
            ...     runner.send_callback_success(callback_id, "yes")
            ...     runner.wait_for_result(arn, timeout=10).result
            'yes'
        """
        self._answer(SignalRecord("heartbeat", callback_id, at=time.time()))

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidStateError("the runner is closed: make a new one")

    def _start(self, event: Any, patience: float) -> str:
        with self._lock:
            self._check_open()
            settings = self._settings()
            try:
                payload = dump(_event_of(event), None, settings, EXECUTION_ID, "the input")
            except SerDesError as error:
                raise ValidationError(str(error)) from error
            clock: Clock = SkippingClock(patience) if self._skip_time else SystemClock()
            job = Job(self._handler, target_of(self._handler), payload)
            invocations = Invocations(job, self._store, settings, clock, crashes=INVOCATIONS - 1)
            self._executions[settings.arn] = RunningExecution(settings.execution_id, invocations)
        return settings.arn

    def _settings(self) -> Settings:
        """Of the next execution. Its id is the same in every run of a test, and so are its seeds."""
        number = len(self._executions) + 1
        while self._store.find(f"{self._function_name}-{number}") is not None:
            number += 1
        choices = Choices.of(self._handler, self._executor)
        if self._executor is not None:
            choices = replace(choices, executor=self._executor)
        return choices.settings(f"{self._function_name}-{number}", self._store)

    def _execution(self, arn: str) -> RunningExecution:
        self._check_open()
        execution = self._executions.get(arn)
        if execution is None:
            raise ExecutionNotFoundError(f"this runner has started no execution {arn!r}")
        return execution

    def _answer(self, signal: SignalRecord) -> None:
        with self._lock:
            self._check_open()
            execution, callback = self._callback(signal.callback_id)
            name = f"callback {callback.name!r} ({callback.callback_id})"
            if callback.status.is_terminal:
                raise InvalidStateError(f"{name} has already ended: {callback.status.value}")
            for earlier in self._store.signals(execution.id):
                if earlier.callback_id == signal.callback_id and earlier.kind != "heartbeat":
                    raise InvalidStateError(f"{name} is already answered ({earlier.kind})")
            if execution.has_ended():
                raise InvalidStateError(f"{name} waits no longer: {execution.id} has ended")
            self._store.post(execution.id, signal)
            execution.wake()

    def _callback(self, callback_id: str | None) -> tuple[RunningExecution, CallbackOperation]:
        for execution in self._executions.values():
            for operation in operations_of(self._store.read(execution.id))[1]:
                if isinstance(operation, CallbackOperation) and operation.callback_id == callback_id:
                    return execution, operation
        raise ValidationError(f"no callback has the id {callback_id!r}")


def _check_timeout(timeout: object) -> None:
    number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not number or not timeout > 0 or math.isnan(timeout):  # type: ignore[operator, arg-type]  # a number by now
        raise ValidationError(f"timeout is a number of seconds above 0, not {timeout!r}")


def _event_of(given: Any) -> Any:
    if isinstance(given, str):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(given)
    return given


def _text_of(result: Any) -> Payload | None:
    if result is None or isinstance(result, str):
        return result
    try:
        return result.decode() if isinstance(result, bytes) else json.dumps(result)
    except (TypeError, ValueError) as error:
        raise ValidationError(f"the result of a callback is text, or a JSON value: {error}") from error
