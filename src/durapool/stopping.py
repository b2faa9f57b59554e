"""Stopping an execution from outside.

    nobody runs it:   stop_execution records the STOP itself
    somebody does:    stop_execution --signal--> store <--looks-- StopWatch of the run --> Invocations.stop

Whoever holds the execution's lock writes its journal, so there is no third case.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

from durapool.clock import SystemClock
from durapool.exceptions import ExecutionAlreadyRunningError, InvalidStateError, StoreError, StoreFailure
from durapool.flag import Flag
from durapool.journal import EXECUTION_ID, Journal
from durapool.records import Action, ErrorObject, OperationType, Update
from durapool.stores.base import SignalRecord

if TYPE_CHECKING:
    from durapool.invocation import Invocations
    from durapool.stores.base import Store

STOP = "stop"
LOOK_SECONDS = 0.5  # between two looks for a request


def stop_execution(store: Store, execution_id: str, reason: str) -> bool:
    """End an execution as STOPPED; `retry_failed` goes on with it later.

    Returns:
        True if it has ended with that; False if a run was asked to end it.

    Raises:
        InvalidStateError: the execution has ended already.
        StoreError: the store failed.
    """
    error = ErrorObject(reason, "ExecutionStoppedError")
    try:
        with store.lock(execution_id):
            _record(store, execution_id, error)
            return True
    except ExecutionAlreadyRunningError:
        store.post(execution_id, SignalRecord(STOP, error=error, at=time.time()))
        return False


def _record(store: Store, execution_id: str, error: ErrorObject) -> None:
    journal = Journal.open(store, execution_id, SystemClock())
    try:
        execution = journal.execution
        if execution is None or execution.status.is_terminal:
            ended = "is unknown" if execution is None else f"has already ended: {execution.status.value}"
            raise InvalidStateError(f"execution {execution_id!r} {ended}")
        journal.append((Update(EXECUTION_ID, Action.STOP, OperationType.EXECUTION, error=error),))
        journal.barrier()
    except StoreFailure as failure:
        raise failure.error from failure.__cause__
    finally:
        journal.close()


class StopWatch:
    """Looks for a request to stop while the `with` block runs, in a thread of its own: the handler may be busy."""

    def __init__(self, store: Store, execution_id: str, invocations: Invocations, every: float = LOOK_SECONDS) -> None:
        self._store = store
        self._execution_id = execution_id
        self._invocations = invocations
        self._every = every
        self._ending = Flag()
        self._thread = threading.Thread(target=self._look, name="durapool-stop", daemon=True)

    def __enter__(self) -> StopWatch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._ending.set()
        self._thread.join()  # it uses the store, which is closed next

    def _look(self) -> None:
        while not self._ending.wait(self._every):
            try:
                if any(signal.kind == STOP for signal in self._store.signals(self._execution_id)):
                    self._invocations.stop()
                    return
            except (StoreError, StoreFailure):
                return  # the run meets it, too, and tells
