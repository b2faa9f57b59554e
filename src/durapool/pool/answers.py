"""What workers wait for: that what they have sent is committed.

    owe(worker, run)   it has said that it waits
    give(batches)      one commit for all that has been staged, then an ACK to each of them

What nobody waits for (starts, mode async, ends of brisk branches) is committed along with it, by a later turn, or by
the journal's own flush after 20 ms at the latest.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from durapool.pool.batches import COMPANY, ActiveRun, PoolBatch
from durapool.pool.messages import acknowledge
from durapool.pool.wire import Kind
from durapool.pool.workers import Worker
from durapool.pool.workforce import Workforce

SLOW = 0.0002  # seconds of a commit; one that waits for a disk takes longer, and a call of a service 10 ms and more
LINGER = 0.003  # seconds, and never longer than the last commit took
_ACK = Kind.ACK  # to look it up takes time


class Answers:
    """Part of the pool's loop."""

    def __init__(self, workforce: Workforce) -> None:
        self._workforce = workforce
        self._owed: dict[Worker, ActiveRun] = {}
        self._commit_seconds = 0.0  # that the last one took for which workers waited

    def owe(self, worker: Worker, run: ActiveRun) -> None:
        """The worker waits for the commit of what this run has sent."""
        self._owed[worker] = run

    def linger(self) -> None:
        """Where commits are slow, let one be for several workers: wait for what others are about to say."""
        if not self._owed or self._commit_seconds < SLOW:
            return
        running = sum(1 for worker in self._workforce if worker.runs and not worker.runs[0].nested)
        if len(self._owed) < running:
            seconds = min(self._commit_seconds, LINGER)
            self._workforce.read_for(seconds, lambda: len(self._owed) < running)

    def give(self, batches: Sequence[PoolBatch]) -> None:
        """Commit, and let those who wait for it go on."""
        if not self._owed:
            return
        began = time.perf_counter()
        for batch in batches:
            commit(batch)
        self._commit_seconds = time.perf_counter() - began
        for worker, run in self._owed.items():
            if worker.run is run and run.batch.open.crash is None:
                worker.post(_ACK, *acknowledge(run))
                self._workforce.wants_to_send(worker)
        self._owed.clear()


def commit_ends(batches: Sequence[PoolBatch]) -> list[PoolBatch]:
    """Commit what is not left to the next commit; the batches that are over, or have crashed."""
    ended = []
    for batch in batches:
        is_over = batch.open.coordinator.is_over
        if is_over or batch.uncommitted >= COMPANY:
            commit(batch)
        if is_over or batch.open.crash is not None:
            ended.append(batch)
    return ended


def commit(batch: PoolBatch) -> None:
    """All that has been staged of this batch."""
    batch.uncommitted = 0
    batch.attempt(batch.open.view.barrier)
