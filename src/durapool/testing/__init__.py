"""Tests of durable handlers in milliseconds: a runner that skips time, and what it found.

Example:
    >>> from durapool.testing import DurableFunctionTestRunner, InvocationStatus
    >>> with DurableFunctionTestRunner(handler=my_handler) as runner:  # doctest: +SKIP
    ...     result = runner.run(input={"n": 3}, timeout=10)
    >>> assert result.status is InvocationStatus.SUCCEEDED  # doctest: +SKIP

The names are loaded when first used, because pytest imports this package (for the plugin) in every test run.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durapool.execution import InvocationStatus
    from durapool.records import OperationStatus, OperationSubType, OperationType
    from durapool.testing.result import (
        CallbackOperation,
        ContextOperation,
        DurableFunctionTestResult,
        ExecutionOperation,
        InvokeOperation,
        Operation,
        StepOperation,
        WaitOperation,
    )
    from durapool.testing.runner import DurableFunctionTestRunner

_HOMES = {
    "CallbackOperation": "durapool.testing.result",
    "ContextOperation": "durapool.testing.result",
    "DurableFunctionTestResult": "durapool.testing.result",
    "DurableFunctionTestRunner": "durapool.testing.runner",
    "ExecutionOperation": "durapool.testing.result",
    "InvocationStatus": "durapool.execution",
    "InvokeOperation": "durapool.testing.result",
    "Operation": "durapool.testing.result",
    "OperationStatus": "durapool.records",
    "OperationSubType": "durapool.records",
    "OperationType": "durapool.records",
    "StepOperation": "durapool.testing.result",
    "WaitOperation": "durapool.testing.result",
}

__all__ = [
    "CallbackOperation",
    "ContextOperation",
    "DurableFunctionTestResult",
    "DurableFunctionTestRunner",
    "ExecutionOperation",
    "InvocationStatus",
    "InvokeOperation",
    "Operation",
    "OperationStatus",
    "OperationSubType",
    "OperationType",
    "StepOperation",
    "WaitOperation",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
