"""The end of a function's time: what still runs is suspended, and the service is asked to go on.

A watcher sleeps until shortly before the function would be stopped. Then it takes the right to record away from the
handler and ends the open batches: workers are killed, threads end at their next operation. All that was committed is
kept. The service invokes an execution again only for something that is due, so a wait of one second is recorded; it is
none of the handler's own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from durapool.records import (
    Action,
    ErrorObject,
    OperationStatus,
    OperationSubType,
    OperationType,
    Update,
    child_id,
)

if TYPE_CHECKING:
    from durapool.executors.runtime import Executors
    from durapool.journal import Journal
    from durapool.leases import LeasedJournal

MARGIN = 5.0  # seconds before the end of the function's time, where there is enough of it
_LEAST_MARGIN = 2.0  # seconds: threads are waited for up to 1 s, and there is a checkpoint to write
_AGAIN = 0.1  # seconds; a batch that has opened meanwhile is ended too
MOST_IDLE = 3  # invocations that came no step further in all of their time

_ROOT = "durapool.deadline"
_NAME = "continue in another invocation"


class Deadline:
    """When an invocation must end.

    Args:
        context: of Lambda. Without `get_remaining_time_in_millis` there is no deadline.
    """

    def __init__(self, context: Any) -> None:
        remaining = getattr(context, "get_remaining_time_in_millis", None)
        self._at: float | None = None  # monotonic
        self._reached = threading.Event()
        if callable(remaining):
            seconds = max(0.0, float(remaining()) / 1000)
            margin = min(MARGIN, max(_LEAST_MARGIN, seconds / 10), seconds / 2)
            self._at = time.monotonic() + seconds - margin

    @property
    def reached(self) -> bool:
        """Whether the time was over while the handler ran."""
        return self._reached.is_set()

    @contextmanager
    def watching(self, view: LeasedJournal, executors: Executors) -> Iterator[None]:
        """End what runs in the block when the time is over: whoever records there gets OrphanedBranch."""
        if self._at is None:
            yield
            return
        ended = threading.Event()
        watcher = threading.Thread(
            target=self._watch, args=(self._at, ended, view, executors), name="durapool-deadline", daemon=True
        )
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _watch(self, at: float, ended: threading.Event, view: LeasedJournal, executors: Executors) -> None:
        if ended.wait(max(0.0, at - time.monotonic())):
            return
        self._reached.set()
        view.revoke()
        executors.interrupt()
        while not ended.wait(_AGAIN):
            executors.interrupt()

    def record(self, journal: Journal) -> ErrorObject | None:
        """Record that another invocation is to go on; an error where that would never come to an end."""
        earlier = []
        number = 1
        while (mark := journal.get(child_id(_ROOT, number))) is not None:
            earlier.append(mark)
            number += 1
        marks = {mark.id for mark in earlier}
        others = [op for op in journal.operations() if op.id not in marks and op.type is not OperationType.EXECUTION]
        moved = max((max(op.started_at, op.ended_at or 0.0) for op in others), default=0.0)
        if sum(mark.started_at > moved for mark in earlier) + 1 >= MOST_IDLE:
            running = [op.name or op.id for op in others if op.status is OperationStatus.STARTED]
            return ErrorObject(
                f"{MOST_IDLE} invocations in a row used up the function's time without finishing anything. Running "
                f"were: {', '.join(running[:5]) or 'no operation'}. Raise the function's timeout, or split the work "
                "into shorter steps",
                "FunctionTimeError",
            )
        mark_of = Update(
            child_id(_ROOT, number), Action.START, OperationType.WAIT, OperationSubType.WAIT, None, _NAME, delay=1.0
        )
        journal.append((mark_of,))
        journal.barrier()
        return None
