"""What the loop asks of its open batches and their runs about time: what is due, when, and how soon news may come."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from operator import attrgetter

from durapool.pool.batches import ActiveRun, PoolBatch

_MEAN_SECONDS = attrgetter("mean_seconds")


def shortest(batches: Sequence[PoolBatch]) -> float:
    """Seconds of a branch, of the batch whose branches take least; infinite where none has ended yet."""
    return min(map(_MEAN_SECONDS, batches), default=math.inf)


def timed(batches: Sequence[PoolBatch]) -> list[PoolBatch]:
    """Those in which something may fall due: they have suspended branches, or a time limit."""
    return [batch for batch in batches if batch.open.suspended or batch.limits.timeout is not None]


def waits(batches: Sequence[PoolBatch]) -> list[float]:
    """Seconds until something of these is due: what suspended branches wait for, and the times of running ones."""
    due = [batch.open.view.next_due() for batch in batches if batch.open.suspended]
    deadlines = [run.deadline() for run in _limited(batches)]
    left = [deadline - time.monotonic() for deadline in deadlines if deadline is not None]
    return left + [seconds for seconds in due if seconds is not None]


def wake_suspended(batches: Sequence[PoolBatch]) -> None:
    """Let suspended branches go on whose time has come."""
    for batch in batches:
        if batch.open.suspended:
            batch.attempt(batch.open.wake_due)


def overdue(batches: Sequence[PoolBatch]) -> list[ActiveRun]:
    """The runs whose time is over."""
    now = time.monotonic()
    return [run for run in _limited(batches) if (deadline := run.deadline()) is not None and deadline <= now]


def _limited(batches: Sequence[PoolBatch]) -> list[ActiveRun]:
    return [run for batch in batches if batch.limits.timeout is not None for run in batch.runs.values()]
