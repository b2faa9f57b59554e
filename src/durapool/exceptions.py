"""Every error of the project, in one tree.

`DurableExecutionsError` is the root of all that user code may catch. Three signals are `BaseException`s instead, so
that a user's ``except Exception`` inside a step or a branch cannot swallow them: a suspension, a store that failed,
and an update by a branch that has no right to one any more.
"""

from __future__ import annotations

from typing import Any


class DurableExecutionsError(Exception):
    """Root of all errors of durapool.

    Example:
        >>> try:
        ...     durapool.resume("never-heard-of", store=store)
        ... except DurableExecutionsError as error:
        ...     print(type(error).__name__)
        ExecutionNotFoundError
    """


class ValidationError(DurableExecutionsError):
    """An argument or a configuration is wrong. Nothing was recorded."""


class InvalidStateError(DurableExecutionsError):
    """A call that is not allowed here: another branch's context, a runner that is closed, a callback that has ended."""


class ExecutionError(DurableExecutionsError):
    """The execution cannot go on and must not be tried again as it is."""


class InvocationError(DurableExecutionsError):
    """This invocation cannot go on; the next may."""


class NonDeterministicExecutionError(ExecutionError):
    """A replay met another operation than the recorded one: the handler is not deterministic, or has changed.

    Args:
        message: which operation, what was recorded, what came now.
        step_id: the id of the operation.
    """

    def __init__(self, message: str, step_id: str | None = None) -> None:
        super().__init__(message)
        self.step_id = step_id

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.step_id)


class SerDesError(DurableExecutionsError):
    """A value cannot be serialised or read back. The message names the value, its type and the way out."""


class StepInterruptedError(InvocationError):
    """A step with at-most-once semantics had started when the program died; it is not known whether it finished.

    Args:
        message: which step, and which attempt.
        step_id: the id of the operation.
    """

    def __init__(self, message: str, step_id: str | None = None) -> None:
        super().__init__(message)
        self.step_id = step_id

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.step_id)


class DurableOperationError(DurableExecutionsError):
    """An operation failed. Rebuilt from the record on a replay, so it carries plain text.

    Args:
        message: what happened.
        error_type: the class name of the original exception.
        data: free text of the user's.
        stack_trace: the traceback's lines where the error arose.

    Example:
        >>> try:
        ...     context.step(lambda _: {}["missing"], config=StepConfig(RetryPresets.none()))
        ... except StepError as error:
        ...     print(error.error_type, type(error.__cause__).__name__)
        KeyError KeyError
    """

    def __init__(
        self,
        message: str | None = None,
        error_type: str | None = None,
        data: str | None = None,
        stack_trace: list[str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.error_type = error_type
        self.data = data
        self.stack_trace = stack_trace

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.message, self.error_type, self.data, self.stack_trace)
        return type(self), arguments, {"__notes__": self.__notes__} if hasattr(self, "__notes__") else None

    def __str__(self) -> str:
        return self.message or self.error_type or type(self).__name__


class StepError(DurableOperationError):
    """A step failed and is not tried again."""


class ChildContextError(DurableOperationError):
    """A child context or a branch failed. `__cause__` is the original exception where it could be kept."""


class WaitForConditionError(DurableOperationError):
    """The check of a wait_for_condition failed, or it was given up."""


class InvokeError(DurableOperationError):
    """An invoked function failed."""


class CallbackError(DurableOperationError):
    """A callback did not succeed."""


class CallbackExternalError(CallbackError):
    """The outside world reported a failure."""


class CallbackTimeoutError(CallbackError):
    """The callback, or its heartbeat, did not come in time."""


class CallbackSubmitterError(CallbackError):
    """The submitter of a wait_for_callback failed."""


class WorkerLostError(DurableExecutionsError):
    """The worker process of a branch died. The message tells how: exit code or signal, memory, last lines of stderr."""


class BranchTimeoutError(DurableExecutionsError):
    """A branch ran longer than the executor's timeout."""


class BranchMemoryError(DurableExecutionsError):
    """A branch used more memory than the executor's memory_limit."""


class WorkerProtocolError(DurableExecutionsError):
    """A worker sent what no worker may send. It was discarded."""


class PoolError(DurableExecutionsError):
    """The process pool could not be started or has lost its supervisor for good."""


class ClusterError(PoolError):
    """A cluster cannot be reached, cannot run branches, or is gone.

    What was recorded is kept: run the same id again, on this executor or on another one.
    """


class StoreError(DurableExecutionsError):
    """The store cannot be read or written. What was acknowledged before is kept."""


class StoreVersionError(StoreError):
    """The store was written by another version of durapool."""


class ExecutionAlreadyRunningError(DurableExecutionsError):
    """Another process runs this execution id now."""


class ExecutionNotFoundError(DurableExecutionsError):
    """The store knows no execution of this id."""


class ExecutionConflictError(DurableExecutionsError):
    """This id was recorded with another event. The message shows both."""


class ExecutionFailedError(DurableExecutionsError):
    """The handler raised. `__cause__` is the original exception where it could be kept.

    Args:
        message: what happened, with the execution's id.
        execution_id: the id.
        error_type: class name of the original exception.
        stack_trace: its traceback's lines.

    Example:
        >>> @durable_execution
        ... def divides(event, context):
        ...     return 1 / event
        >>> try:
        ...     durapool.run(divides, 0, id="division", store=store)
        ... except ExecutionFailedError as error:
        ...     print(error.execution_id, error.error_type)
        division ZeroDivisionError
    """

    def __init__(
        self,
        message: str,
        execution_id: str = "",
        error_type: str | None = None,
        stack_trace: list[str] | None = None,
    ) -> None:
        super().__init__(message)
        self.execution_id = execution_id
        self.error_type = error_type
        self.stack_trace = stack_trace

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.execution_id, self.error_type, self.stack_trace)


class ExecutionStoppedError(DurableExecutionsError):
    """The execution was stopped by `durapool stop`."""


class HandlerImportError(DurableExecutionsError):
    """The handler named on the command line, or recorded with the execution, cannot be imported."""


class UnsupportedModuleError(DurableExecutionsError, ImportError):
    """A module of the original SDK that durapool does not have."""


class Signal(BaseException):
    """Base of what passes through user code without being caught by ``except Exception``."""


class SuspendExecution(Signal):
    """The branch (or the handler) cannot go on before something is due.

    Args:
        waiting_on: the ids of the operations that it waits for: waits, retries, callbacks.
    """

    def __init__(self, waiting_on: frozenset[str] = frozenset()) -> None:
        super().__init__(f"suspended on {len(waiting_on)} operation(s)")
        self.waiting_on = waiting_on


class StoreFailure(Signal):
    """Carries a StoreError through user code; `durapool.run` raises the StoreError."""

    def __init__(self, error: StoreError) -> None:
        super().__init__(str(error))
        self.error = error


class ClusterFailure(Signal):
    """Carries a ClusterError through user code; `durapool.run` raises the ClusterError."""

    def __init__(self, error: ClusterError) -> None:
        super().__init__(str(error))
        self.error = error


class OrphanedBranch(Signal):
    """This branch's batch was decided without it: its updates are rejected and its thread should end."""
