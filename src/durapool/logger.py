"""The logger of a context: it says where a line comes from, and says it once.

A replay runs the handler's lines again. A context is replaying while the operation that it will call next is recorded
already: the lines before that call were logged in an earlier run, so they are left out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durapool.types import LoggerInterface

HANDLER_LOGGER = "durapool.handler"
"""The name of the standard logger that lines go to by default."""


def never() -> bool:
    """For code that runs only when it is not replayed, such as the function of a step."""
    return False


class DurableLogger:
    """Logs with `execution_id`, `operation_id`, `operation_name` and `attempt` in ``extra``; silent while replaying.

    Example:
        >>> @durable_execution
        ... def counts(event, context):
        ...     context.logger.info("%d files", len(event["files"]))
    """

    __slots__ = ("_extra", "_given", "_is_replaying")

    def __init__(
        self,
        logger: LoggerInterface | None = None,
        extra: Mapping[str, object] | None = None,
        is_replaying: Callable[[], bool] = never,
    ) -> None:
        self._given = logger
        self._extra = dict(extra or {})
        self._is_replaying = is_replaying

    def with_is_replaying(self, is_replaying: Callable[[], bool]) -> DurableLogger:
        """The same logger, silent while `is_replaying()` is true."""
        return DurableLogger(self._given, self._extra, is_replaying)

    def get_logger(self) -> LoggerInterface:
        """The logger that lines go to."""
        if self._given is not None:
            return self._given
        import logging  # only here: workers import this module, and many branches log nothing

        return logging.getLogger(HANDLER_LOGGER)

    def debug(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log at level DEBUG."""
        self._log("debug", msg, args, extra)

    def info(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log at level INFO."""
        self._log("info", msg, args, extra)

    def warning(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log at level WARNING."""
        self._log("warning", msg, args, extra)

    def error(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log at level ERROR."""
        self._log("error", msg, args, extra)

    def exception(self, msg: object, *args: object, extra: Mapping[str, object] | None = None) -> None:
        """Log at level ERROR with the traceback of the exception being handled."""
        self._log("exception", msg, args, extra)

    def _log(
        self,
        method: str,
        msg: object,
        args: tuple[object, ...],
        extra: Mapping[str, object] | None,
    ) -> None:
        if self._is_replaying():
            return
        logger = self.get_logger()  # asked for here: most contexts and steps log nothing
        # the caller's line, not ours; loggers that users bring need not know the argument
        stack = {"stacklevel": 3} if _is_standard(logger) or _is_adapter(logger) else {}
        getattr(logger, method)(msg, *args, extra=self._extra | dict(extra or {}), **stack)

    def __reduce__(self) -> tuple[Any, ...]:
        # a standard one is pickled by name; others may hold anything
        return _unpickle, (self._given if _is_standard(self._given) else None, self._extra)


def context_logger(
    logger: LoggerInterface | None,
    execution_id: str,
    operation_id: str | None,
    name: str | None,
    is_replaying: Callable[[], bool],
) -> DurableLogger:
    """The logger of a context. `logger` None stands for the standard one."""
    extra = {"execution_id": execution_id} | _place(operation_id, name, None)
    return DurableLogger(logger, extra, is_replaying)


def operation_logger(
    logger: LoggerInterface | None, execution_id: str, operation_id: str, name: str | None, attempt: int
) -> DurableLogger:
    """The logger of an operation's own code: it never replays, so every line counts."""
    return DurableLogger(logger, {"execution_id": execution_id, **_place(operation_id, name, attempt)})


def _place(operation_id: str | None, name: str | None, attempt: int | None) -> dict[str, object]:
    return {"operation_id": operation_id, "operation_name": name, "attempt": attempt}


def _is_standard(logger: object) -> bool:
    logging = sys.modules.get("logging")
    return logging is not None and isinstance(logger, logging.Logger)


def _is_adapter(logger: object) -> bool:
    return isinstance(logger, sys.modules["logging"].LoggerAdapter) if "logging" in sys.modules else False


def _unpickle(logger: LoggerInterface | None, extra: Mapping[str, object]) -> DurableLogger:
    return DurableLogger(logger, extra)
