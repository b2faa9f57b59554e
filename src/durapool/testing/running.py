"""One execution of a runner while it runs: its thread, and what its log says of it meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from durapool.exceptions import InvalidStateError
from durapool.invocation import Ending, Invocations, Paused, Raised, Returned, Stopped
from durapool.records import Action, OperationType, Record
from durapool.testing.result import CallbackOperation, Operation, operations_of


class RunningExecution:
    """One run of the invocation loop on a thread of its own."""

    def __init__(self, execution_id: str, invocations: Invocations) -> None:
        self.id = execution_id
        self._invocations = invocations
        self._ending: Ending | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"durapool-test-{execution_id}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._ending = self._invocations.run()
        except BaseException as error:  # noqa: BLE001  # whoever waits for the result raises it
            self._error = error

    def join(self, timeout: float) -> bool:
        """Wait for the end; whether it came within `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def has_ended(self) -> bool:
        """Whether it has ended; asked by the handler itself too, which answers its own callback."""
        return not self._thread.is_alive()

    def ending(self) -> Returned | Raised | Stopped:
        """How it ended; raises what the loop itself raised."""
        if self._error is not None:
            raise self._error
        if self._ending is None or isinstance(self._ending, Paused):
            raise InvalidStateError(f"{self.id} was ended before its end: the runner is closed")
        return self._ending

    def wake(self) -> None:
        """A signal is in the store."""
        self._invocations.wake()

    def pause(self) -> None:
        """End at the next operation."""
        self._invocations.pause()


def open_callback(log: list[Record], name: str | None) -> str | None:
    """The id of the latest open callback (of this name) whose invocation has ended."""
    names = (None,) if name is None else (name, f"{name} create callback id")
    suspended = max((record.seq for record in log if record.update.action is Action.INVOCATION), default=0)
    started = {
        record.update.operation_id
        for record in log
        if record.update.type is OperationType.CALLBACK and record.seq < suspended
    }
    found = [
        operation
        for operation in operations_of(log)[1]
        if isinstance(operation, CallbackOperation)
        and operation.operation_id in started
        and not operation.status.is_terminal
        and (name is None or operation.name in names)
    ]
    return found[-1].callback_id if found else None


def still_running(log: list[Record]) -> str:
    """The innermost operations that have not ended, in words."""
    _, operations = operations_of(log)
    by_id = {operation.operation_id: operation for operation in operations}
    open_ones = [operation for operation in operations if not operation.status.is_terminal]
    parents = {operation.parent_id for operation in open_ones}
    leaves = [operation for operation in open_ones if operation.operation_id not in parents]
    shown = ", ".join(" in ".join(_path(leaf, by_id)) for leaf in leaves[:10])
    more = f" and {len(leaves) - 10} more" if len(leaves) > 10 else ""
    return f"{shown}{more}" if leaves else "the handler itself"


def _path(operation: Operation | None, by_id: dict[str, Operation]) -> Iterator[str]:
    while operation is not None:
        yield f"{operation.sub_type or operation.operation_type} {operation.name!r}"
        operation = by_id.get(operation.parent_id or "")
