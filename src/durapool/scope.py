"""What all contexts of one run share: the handler's run in the parent, or one branch's run anywhere."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from durapool.values import dataclass

if TYPE_CHECKING:
    from types import CodeType

    from durapool.blobs import Blobs
    from durapool.config import RetryStrategy
    from durapool.executors import ExecutorSpec
    from durapool.executors.base import BranchJournal, Executor
    from durapool.types import LambdaContext


@dataclass(frozen=True, slots=True)
class Settings:
    """What is the same in the whole execution; it travels to workers.

    `executor` is the enclosing batch's, and so the default of a nested one. `default_retry` None stands for the
    default strategy; `payload_limit` in bytes, None for a store without one; `local_store` allows pickles.
    """

    execution_id: str
    arn: str
    executor: ExecutorSpec = "thread"
    default_retry: RetryStrategy | None = None
    payload_limit: int | None = None
    local_store: bool = True
    checkpoint: str = "sync"  # or "async"
    blobs: bool = False  # large payloads are kept beside the records
    volatile: bool = False  # the store ends with the program that runs the handler
    functions: Mapping[str, Callable[[Any, Any], Any]] | None = None  # what `invoke` calls in a local run
    service: bool = False  # the store is a service that keeps the time, makes callback ids, and forgets what has ended


@dataclass(slots=True, eq=False)
class Scope:
    """One run of a branch or of the handler. Nobody changes it; frozen, it would take thrice the time to make.

    Compared by identity: a context may be used only by the run that owns it (and by threads which that run started).
    `branch` is the index where the run is a FLAT branch: all its updates carry it. `blobs` keeps large payloads, where
    the store has a place for them. `branch_code` is the code of the branch's function, where the branch need not wait
    for a step whose value it returns at once (see `operations.tail_call`).
    """

    settings: Settings
    journal: BranchJournal
    executor_for: Callable[[ExecutorSpec], Executor]
    label: str = "the handler"
    branch: int | None = None
    blobs: Blobs | None = None
    lambda_context: LambdaContext | None = None
    branch_code: CodeType | None = None


running_scope: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("durapool_running_scope", default=None)
"""The run that this thread is in; None in threads that users start."""


def run_in(scope: Scope, function: Callable[..., Any], *args: Any) -> Any:
    """Call `function` as part of `scope`."""
    token = running_scope.set(scope)
    try:
        return function(*args)
    finally:
        running_scope.reset(token)
