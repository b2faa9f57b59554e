"""What user functions are called with, and what users may bring along. Imports nothing of the project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from durapool.values import dataclass

T_contra = TypeVar("T_contra", contravariant=True)


class LoggerInterface(Protocol):
    """A logger: that of a context, or one that users set. The methods are those of the standard `logging.Logger`."""

    def debug(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log at level DEBUG."""
        ...

    def info(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log at level INFO."""
        ...

    def warning(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log at level WARNING."""
        ...

    def error(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log at level ERROR."""
        ...

    def exception(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log at level ERROR with the traceback of the exception that is being handled."""
        ...


@dataclass(frozen=True)
class StepContext:
    """What the function of a step is called with.

    Args:
        attempt: which attempt this is, from 1.
        logger: names the execution, the step and the attempt in every line.
    """

    attempt: int
    logger: LoggerInterface


@dataclass(frozen=True)
class WaitForConditionCheckContext:
    """What the check of a `wait_for_condition` is called with, after the state.

    Args:
        attempt: which check this is, from 1.
        logger: names the execution, the operation and the attempt in every line.
    """

    attempt: int
    logger: LoggerInterface


@dataclass(frozen=True)
class WaitForCallbackContext:
    """What the submitter of a `wait_for_callback` is called with, after the callback's id.

    Args:
        logger: names the execution and the operation in every line.
    """

    logger: LoggerInterface


@dataclass(frozen=True, slots=True)
class ExecutionContext:
    """What a context knows of its execution. `durable_execution_arn` names it; locally it is made of the id."""

    durable_execution_arn: str


class SummaryGenerator(Protocol[T_contra]):
    """Makes the text recorded in place of a result that is too large for the store."""

    def __call__(self, result: T_contra, /) -> str:
        """A short text about the result."""
        ...


class LambdaContext(Protocol):
    """The second argument of a Lambda function: what `durable_execution` accepts in its place and hands on."""

    aws_request_id: str
    log_group_name: str | None
    log_stream_name: str | None
    function_name: str | None
    memory_limit_in_mb: str | None
    function_version: str | None
    invoked_function_arn: str | None
    tenant_id: str | None
    client_context: Any
    identity: Any

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is stopped."""
        ...

    def log(self, msg: str) -> None:
        """Write a line to the function's log."""
        ...
