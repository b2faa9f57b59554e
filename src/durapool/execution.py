"""Executions: `run` and `resume`, and how they end. The loop itself is in invocation.py.

User modules come here for the decorator, so the journal, the stores and the executors are imported by the first run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from durapool.decorator import DurableHandler, durable_execution
from durapool.exceptions import (
    ExecutionFailedError,
    ExecutionNotFoundError,
    ExecutionStoppedError,
    SerDesError,
    ValidationError,
)
from durapool.progress.views import QUIET, checked_mode
from durapool.settings import Choices, checked_id, new_execution_id

if TYPE_CHECKING:
    from durapool.config import RetryStrategy
    from durapool.executors import ExecutorSpec
    from durapool.invocation import Ending, Invocations
    from durapool.records import ErrorObject, Payload
    from durapool.scope import Settings
    from durapool.stores.base import Store

    StoreSpec = Store | str | os.PathLike[str] | None

__all__ = [
    "DurableHandler",
    "InvocationStatus",
    "durable_execution",
    "failure_of",
    "new_execution_id",
    "resume",
    "run",
]


class InvocationStatus(StrEnum):
    """How an execution stands after an invocation: it ended, or it waits (PENDING)."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    PENDING = "PENDING"
    STOPPED = "STOPPED"


def run(
    handler: DurableHandler,
    event: Any = None,
    *,
    id: str | None = None,  # what users call it
    store: StoreSpec = None,
    executor: ExecutorSpec | None = None,
    checkpoint: str | None = None,
    retry_failed: bool = False,
    progress: bool | str = False,
    default_retry: RetryStrategy | None = None,
    handler_name: str | None = None,
) -> Any:
    """Run a handler until its execution ends; with a known id, go on from its last checkpoint.

    A finished execution is not run again: its recorded result is returned, or its recorded failure raised. A suspended
    one sleeps until what it waits for is due.

    Args:
        handler: a function under `@durable_execution`.
        event: the input; recorded, and the same in every run of one id.
        id: of the execution, 1 to 200 characters; None for a new one, which is printed to stderr.
        store: a Store, or the path of a journal; None for what is configured, else `.durapool/journal.db`.
        executor: where branches run, if neither they nor the decorator say; None for what is configured, else "thread".
        checkpoint: "sync" (a step counts once it is committed) or "async"; None for what is configured, else "sync".
        retry_failed: reopen a finished execution; only what failed in it runs again, and the batches around it. A step
            that came after a batch with tolerated failures keeps its result; a warning names it.
        progress: True shows what it does while it runs: live on a terminal and in a notebook, else a line on stderr
            every few seconds. "lines" and "json" (one object a line on stdout) choose by name.
        default_retry: for steps without a retry strategy, ahead of the decorator's.
        handler_name: "module:name" or "path.py:name", recorded for `resume`; made from the handler when None.

    Configured is what DURAPOOL_STORE, DURAPOOL_EXECUTOR and DURAPOOL_CHECKPOINT say, else `store`, `executor` and
    `checkpoint` in [tool.durapool] of the nearest pyproject.toml.

    Returns:
        What the handler returned, as the serdes gives it back.

    Raises:
        ExecutionFailedError: the handler raised; `__cause__` is the original exception where it could be kept.
        ExecutionConflictError: the id is recorded with another event.
        ExecutionAlreadyRunningError: another process runs this id now.
        ExecutionStoppedError: it was stopped from outside.
        ValidationError: an argument is wrong; nothing was recorded.
        StoreError: the store failed; what was acknowledged is kept.

    Example:
        >>> durapool.run(handler, {"n": 1}, id="nightly", store=store)
        2
    """
    from durapool.handlers import absolute, target_of
    from durapool.invocation import Invocations, Job

    _check_handler(handler)
    execution_id = new_execution_id() if id is None else checked_id(id)
    choices = Choices.of(handler, executor, checkpoint, default_retry)
    mode = checked_mode(progress)
    target = absolute(handler_name) if handler_name is not None else target_of(handler)
    with _opened(store) as opened, _announced(execution_id, store, is_new=id is None):
        settings = choices.settings(execution_id, opened)
        job = Job(handler, target, _dump_event(event, settings), retry_failed)
        return _conclude(_run(Invocations(job, opened, settings), opened, execution_id, mode), settings)


def resume(
    id: str,  # what users call it
    handler: DurableHandler | None = None,
    *,
    store: StoreSpec = None,
    executor: ExecutorSpec | None = None,
    checkpoint: str | None = None,
    retry_failed: bool = False,
    progress: bool | str = False,
    default_retry: RetryStrategy | None = None,
) -> Any:
    """Go on with an execution: as `run` with the recorded event, and by default the recorded handler.

    Args:
        id: of the execution.
        handler: a function under `@durable_execution`; None for the recorded one, which is imported.
        store: a Store, or the path of a journal; None for DURAPOOL_STORE, else `.durapool/journal.db`.
        executor: where branches run, if neither they nor the decorator say.
        checkpoint: "sync" or "async", as of `run`.
        retry_failed: reopen a finished execution; only what failed in it runs again.
        progress: what it shows while it runs, as of `run`.
        default_retry: for steps without a retry strategy, ahead of the decorator's.

    Returns:
        What the handler returned, as the serdes gives it back.

    Raises:
        ExecutionNotFoundError: the store does not know the id.
        HandlerImportError: the recorded handler cannot be imported.
        DurableExecutionsError: as `run`.

    Example:
        >>> durapool.run(handler, {"n": 1}, id="nightly", store=store)
        2
        >>> durapool.resume("nightly", handler, store=store)
        2
    """
    from durapool.handlers import load_handler, target_of
    from durapool.invocation import Invocations, Job

    checked_id(id)
    if handler is not None:
        _check_handler(handler)
    Choices.of(handler, executor, checkpoint, default_retry)
    mode = checked_mode(progress)
    with _opened(store) as opened, _announced(id, store, is_new=False):
        summary = opened.find(id)
        if summary is None:
            raise ExecutionNotFoundError(f"there is no execution {id!r} in {opened.label}; `durapool ls` lists them")
        target = summary.handler if handler is None else target_of(handler)
        if handler is None and (retry_failed or not summary.status.is_terminal):
            handler = load_handler(target)
        settings = Choices.of(handler, executor, checkpoint, default_retry).settings(id, opened)
        invocations = Invocations(Job(handler, target, None, retry_failed), opened, settings)
        return _conclude(_run(invocations, opened, id, mode), settings)


def _run(invocations: Invocations, store: Store, execution_id: str, progress: str) -> Ending:
    """Run with what goes on beside it: looking for a request to stop, and showing progress."""
    from durapool.stopping import StopWatch

    with StopWatch(store, execution_id, invocations):
        if progress == QUIET:
            return invocations.run()
        from durapool.progress.reporter import reporting
        from durapool.progress.views import view_for

        with reporting(execution_id, view_for(progress)):
            return invocations.run()


@contextmanager
def _announced(execution_id: str, store: StoreSpec, *, is_new: bool) -> Iterator[None]:
    """Tell how to go on: ahead of the run for an id that was made just now, and after Ctrl-C."""
    if is_new:
        go_on = _way_to_go_on(execution_id, store)
        print(f"durapool: execution {execution_id} (resume it with: {go_on})", file=sys.stderr)
    try:
        yield
    except KeyboardInterrupt:
        go_on = _way_to_go_on(execution_id, store)
        print(f"durapool: {execution_id} interrupted; go on with: {go_on}", file=sys.stderr)
        raise


def _way_to_go_on(execution_id: str, store: StoreSpec) -> str:
    import shlex  # only here: whoever names an execution is told only when it is interrupted

    where = f" --store {shlex.quote(os.fspath(store))}" if isinstance(store, (str, os.PathLike)) else ""
    return f"durapool resume {shlex.quote(execution_id)}{where}"


def _conclude(ending: Ending, settings: Settings) -> Any:
    """Return or raise what an execution ended with."""
    from durapool.invocation import Paused, Raised, Returned, Stopped

    match ending:
        case Returned(value=value):
            return value
        case Raised(error, exception):
            raise failure_of(error, settings.execution_id) from exception
        case Stopped(error):
            raise ExecutionStoppedError(
                f"execution {settings.execution_id!r} was stopped: {error.message}. retry_failed=True goes on with it"
            )
        case Paused():
            raise ExecutionStoppedError(f"the run of execution {settings.execution_id!r} was ended; run it again")


def failure_of(error: ErrorObject, execution_id: str) -> ExecutionFailedError:
    """The exception of an execution that failed with this error."""
    what = ": ".join(part for part in (error.type, error.message) if part) or "it is not known why"
    trace = None if error.stack_trace is None else list(error.stack_trace)
    return ExecutionFailedError(f"execution {execution_id!r} failed: {what}", execution_id, error.type, trace)


def _check_handler(handler: object) -> None:
    if not isinstance(handler, DurableHandler):
        name = getattr(handler, "__qualname__", repr(handler))
        raise ValidationError(f"durapool runs functions under @durable_execution; {name:.100} is none")


def _dump_event(event: Any, settings: Settings) -> Payload:
    from durapool.journal import EXECUTION_ID
    from durapool.serdes import dump

    try:
        return dump(event, None, settings, EXECUTION_ID, "the event")
    except SerDesError as error:
        raise ValidationError(str(error)) from error


@contextmanager
def _opened(store: StoreSpec) -> Iterator[Store]:
    """The store; closed afterwards only if it was opened here."""
    from durapool.stores import open_store

    opened = open_store(store)
    try:
        yield opened
    finally:
        if opened is not store:
            opened.close()
