"""Durable parallel and map for compute-bound Python: kill it anywhere, run it again, it goes on where it was.

Example:
    >>> from durapool import durable_execution, run
    >>> @durable_execution
    ... def handler(event, context):
    ...     batch = context.parallel([lambda ctx: ctx.step(lambda _: 1), lambda ctx: 2])
    ...     return batch.get_results()
    >>> run(handler, id="nightly", store="journal.db")
    [1, 2]

The names are loaded when they are first used: workers import this package and need few of them.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # type checkers take it for typing's, which is slow to import
if TYPE_CHECKING:
    from typing import Any

    from durapool.config import (
        CallbackConfig,
        ChildConfig,
        CompletionConfig,
        Duration,
        InvokeConfig,
        JitterStrategy,
        MapConfig,
        NestingType,
        ParallelBranch,
        ParallelConfig,
        StepConfig,
        StepSemantics,
        WaitForCallbackConfig,
    )
    from durapool.context import (
        Callback,
        DurableContext,
        durable_parallel_branch,
        durable_step,
        durable_wait_for_callback,
        durable_with_child_context,
    )
    from durapool.exceptions import (
        BranchMemoryError,
        BranchTimeoutError,
        CallbackError,
        CallbackExternalError,
        CallbackSubmitterError,
        CallbackTimeoutError,
        ChildContextError,
        ClusterError,
        DurableExecutionsError,
        DurableOperationError,
        ExecutionAlreadyRunningError,
        ExecutionConflictError,
        ExecutionError,
        ExecutionFailedError,
        ExecutionNotFoundError,
        ExecutionStoppedError,
        HandlerImportError,
        InvalidStateError,
        InvocationError,
        InvokeError,
        NonDeterministicExecutionError,
        PoolError,
        SerDesError,
        StepError,
        StepInterruptedError,
        StoreError,
        StoreVersionError,
        SuspendExecution,
        UnsupportedModuleError,
        ValidationError,
        WaitForConditionError,
        WorkerLostError,
        WorkerProtocolError,
    )
    from durapool.execution import DurableHandler, InvocationStatus, durable_execution, resume, run
    from durapool.executors import DaskExecutor, ProcessExecutor, RayExecutor, ThreadExecutor
    from durapool.invokable import register_function
    from durapool.records import ErrorObject, OperationStatus, OperationSubType, OperationType
    from durapool.results import BatchItem, BatchItemStatus, BatchResult, CompletionReason
    from durapool.retries import RetryDecision, RetryPresets, RetryStrategyConfig, WithRetryConfig, with_retry
    from durapool.serdes import ExtendedTypeSerDes, JsonSerDes, PassThroughSerDes, PickleSerDes, SerDes, SerDesContext
    from durapool.stores import MemoryStore, SQLiteStore, open_store
    from durapool.types import StepContext

    __version__: str

_HOMES = {
    "durapool.config": (
        "CallbackConfig ChildConfig CompletionConfig Duration InvokeConfig JitterStrategy MapConfig NestingType "
        "ParallelBranch ParallelConfig StepConfig StepSemantics WaitForCallbackConfig"
    ),
    "durapool.context": (
        "Callback DurableContext durable_parallel_branch durable_step durable_wait_for_callback "
        "durable_with_child_context"
    ),
    "durapool.exceptions": (
        "BranchMemoryError BranchTimeoutError CallbackError CallbackExternalError CallbackSubmitterError "
        "CallbackTimeoutError ChildContextError ClusterError DurableExecutionsError DurableOperationError "
        "ExecutionAlreadyRunningError ExecutionConflictError ExecutionError ExecutionFailedError "
        "ExecutionNotFoundError ExecutionStoppedError HandlerImportError InvalidStateError InvocationError InvokeError "
        "NonDeterministicExecutionError PoolError SerDesError StepError StepInterruptedError StoreError "
        "StoreVersionError SuspendExecution UnsupportedModuleError ValidationError WaitForConditionError "
        "WorkerLostError WorkerProtocolError"
    ),
    "durapool.execution": "DurableHandler InvocationStatus durable_execution resume run",
    "durapool.executors": "DaskExecutor ProcessExecutor RayExecutor ThreadExecutor",
    "durapool.invokable": "register_function",
    "durapool.records": "ErrorObject OperationStatus OperationSubType OperationType",
    "durapool.results": "BatchItem BatchItemStatus BatchResult CompletionReason",
    "durapool.retries": "RetryDecision RetryPresets RetryStrategyConfig WithRetryConfig with_retry",
    "durapool.serdes": "ExtendedTypeSerDes JsonSerDes PassThroughSerDes PickleSerDes SerDes SerDesContext",
    "durapool.stores": "MemoryStore SQLiteStore open_store",
    "durapool.types": "StepContext",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "BatchItem",
    "BatchItemStatus",
    "BatchResult",
    "BranchMemoryError",
    "BranchTimeoutError",
    "Callback",
    "CallbackConfig",
    "CallbackError",
    "CallbackExternalError",
    "CallbackSubmitterError",
    "CallbackTimeoutError",
    "ChildConfig",
    "ChildContextError",
    "ClusterError",
    "CompletionConfig",
    "CompletionReason",
    "DaskExecutor",
    "DurableContext",
    "DurableExecutionsError",
    "DurableHandler",
    "DurableOperationError",
    "Duration",
    "ErrorObject",
    "ExecutionAlreadyRunningError",
    "ExecutionConflictError",
    "ExecutionError",
    "ExecutionFailedError",
    "ExecutionNotFoundError",
    "ExecutionStoppedError",
    "ExtendedTypeSerDes",
    "HandlerImportError",
    "InvalidStateError",
    "InvocationError",
    "InvocationStatus",
    "InvokeConfig",
    "InvokeError",
    "JitterStrategy",
    "JsonSerDes",
    "MapConfig",
    "MemoryStore",
    "NestingType",
    "NonDeterministicExecutionError",
    "OperationStatus",
    "OperationSubType",
    "OperationType",
    "ParallelBranch",
    "ParallelConfig",
    "PassThroughSerDes",
    "PickleSerDes",
    "PoolError",
    "ProcessExecutor",
    "RayExecutor",
    "RetryDecision",
    "RetryPresets",
    "RetryStrategyConfig",
    "SQLiteStore",
    "SerDes",
    "SerDesContext",
    "SerDesError",
    "StepConfig",
    "StepContext",
    "StepError",
    "StepInterruptedError",
    "StepSemantics",
    "StoreError",
    "StoreVersionError",
    "SuspendExecution",
    "ThreadExecutor",
    "UnsupportedModuleError",
    "ValidationError",
    "WaitForCallbackConfig",
    "WaitForConditionError",
    "WithRetryConfig",
    "WorkerLostError",
    "WorkerProtocolError",
    "durable_execution",
    "durable_parallel_branch",
    "durable_step",
    "durable_wait_for_callback",
    "durable_with_child_context",
    "open_store",
    "register_function",
    "resume",
    "run",
    "with_retry",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is not None:
        value = globals()[name] = getattr(import_module(home), name)
        return value
    if name == "__version__":
        from importlib.metadata import version

        return version("durapool")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
