"""Which branch goes to which worker, and which ones are sent ahead of their turn.

    a free place:    the next branch of the deepest open batch, on an idle or a new worker
    no free place:   brisk branches go ahead to the workers that run others of their batch
    taken back:      where a worker would idle, where the line of a slow branch holds up the next ones, at the decision,
                     and whenever the first in the line ends otherwise than by itself

A branch that was sent ahead is in flight for the coordinator, but has not started: its permit (`pool.claims`) is
unused. Part of the pool's loop.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from durapool.errors import error_of
from durapool.exceptions import SerDesError
from durapool.executors.base import Failed
from durapool.pool.batches import MOST_AHEAD, ActiveRun, PoolBatch
from durapool.pool.messages import post_run
from durapool.pool.supervisor import SupervisorGoneError
from durapool.pool.transfer import Part
from durapool.pool.workers import Worker
from durapool.pool.workforce import Workforce

MOST_AT_ONCE = 2  # branches that a line gets before the loop looks again, where workers wait for answers
FEW = 2  # branches that a worker got and has not ended; it may ask for more any moment
STUCK = 2  # times the longest brisk branch: a line whose first one has taken so long was measured wrongly


class Dispatcher:
    """Gives branches to workers, and takes them back."""

    def __init__(self, workforce: Workforce, most_branches: int | None) -> None:
        self._workforce = workforce
        self._most_branches = most_branches  # that a worker runs before it is replaced
        self._numbers = itertools.count(1)
        self.returning: deque[tuple[ActiveRun, int, list[Any]]] = deque()  # with the outcomes of their nested batches
        self.again = False  # the loop has more to do, without waiting for anybody

    @property
    def _size(self) -> int:
        return self._workforce.link.size

    def take_returning(self, sites: list[int]) -> tuple[ActiveRun, int, list[Any]] | None:
        """A run whose nested batch has ended, and that can go on where it is, or is there no more."""
        for returning in self.returning:
            worker = returning[0].worker
            if worker.site in sites or worker.run is not returning[0]:
                self.returning.remove(returning)
                return returning
        return None

    def adjust(self, batches: Sequence[PoolBatch]) -> float | None:
        """Let the link know how many places are of use; seconds until it wants to hear of it again, if it does."""
        if self._workforce.link.sends_ahead:
            return None  # this machine stays as it is
        startable = sum(batch.open.coordinator.startable for batch in batches)
        running = [worker for worker in self._workforce if worker.runs or worker.stale]
        lent = sum(1 for worker in running if worker.run is not None and worker.run.lent)
        wanted = startable + len(self.returning) + len(running) - lent
        return self._workforce.link.adjust(wanted, {worker.site for worker in running})

    def start_one(self, batches: Sequence[PoolBatch], site: int) -> bool:
        """Start one branch on a worker of its own; False where there is none to start, or no worker to be had.

        Args:
            batches: those that are open, deepest first.
            site: where there is a place.
        """
        lent = [run.batch.depth for worker in self._workforce if (run := worker.run) is not None and run.lent]
        for batch in batches:
            if lent.count(batch.depth) >= self._size:
                continue  # so many wait for nested batches already: these go first
            index = batch.open.next()
            if index is None and self._recall(batch):
                index = batch.open.next()
            if index is not None:
                return self._start(batch, index, site)
        return False

    def _start(self, batch: PoolBatch, index: int, site: int) -> bool:
        parts = self._parts(batch, index)
        if parts is None:
            return True
        try:
            worker = self._workforce.take(site)
        except SupervisorGoneError:  # the next turn hears of it, and starts another one
            batch.open.lost(index)
            self.again = True
            return False
        self._workforce.limit_memory(worker, batch.limits.memory_limit or 0)
        self._give(worker, batch, index, parts)
        return True

    def send_ahead(self, batches: Sequence[PoolBatch]) -> None:
        """Lengthen the lines of workers that run brisk branches; of the deepest batches only, others wait for them."""
        if not self._workforce.link.sends_ahead:
            return
        depth = batches[0].depth
        now = time.monotonic()
        for worker in self._workforce.employed:
            runs = worker.runs
            if not runs or worker.stale:
                continue
            first, waiting = runs[0], len(runs) - 1
            batch = first.batch
            if waiting and now - first.started > STUCK * batch.brisk and self._size > 1:
                self.take_back(worker)  # what waits behind a slow branch is for others: lower indices start first
            elif waiting <= batch.ahead // 2 and batch.depth == depth and _may_wait_behind(first):
                self._lengthen(worker, batch)

    def _lengthen(self, worker: Worker, batch: PoolBatch) -> None:
        """A few more branches for a line that is half empty, but no more than the worker's share of those left."""
        waiting = len(worker.runs) - 1
        most = MOST_AT_ONCE if batch.awaits else MOST_AHEAD
        room = min(batch.ahead - waiting, most, -(-batch.open.coordinator.pending // self._size))
        if self._most_branches is not None:
            room = min(room, self._most_branches - worker.branches - waiting - 1)
        for _ in range(room):
            index = batch.open.next()
            if index is None:
                return
            parts = self._parts(batch, index)
            if parts is not None:
                self._give(worker, batch, index, parts)
        if room > 0 and not waiting:
            self.again = True  # it was empty: do not wait for the next message

    def _give(self, worker: Worker, batch: PoolBatch, index: int, parts: tuple[Part | None, Part | None]) -> None:
        opened = batch.open
        recorded, start, begun = opened.recorded(index), opened.start_of(index), opened.plan.flat
        branch_id, batch_id = start.operation_id, opened.plan.operation_id
        known = {batch_id if begun else branch_id}
        if recorded:
            known.update(operation.id for operation in recorded)
            begun = begun or recorded[0].id == branch_id
        number, now, pause_after = next(self._numbers), time.monotonic(), opened.coordinator.pause_after
        batch.runs[index] = run = ActiveRun(number, batch, index, start, worker, now, known, pause_after, begun)
        worker.runs.append(run)
        post_run(run, recorded, *parts)
        self._send_in_time(worker)

    def _send_in_time(self, worker: Worker) -> None:
        """Send its runs before it has done those that it got; else they go with the next answer, in one system call."""
        if worker.outgoing and len(worker.runs) - worker.permits <= FEW:
            self._workforce.wants_to_send(worker)

    def _recall(self, batch: PoolBatch) -> bool:
        """Take back half of the longest line of this batch, for a worker that would idle."""
        lines = [worker for worker in self._workforce if len(worker.runs) > 1 and worker.runs[0].batch is batch]
        if not lines:
            return False
        longest = max(lines, key=lambda worker: len(worker.runs))
        return bool(self.take_back(longest, len(longest.runs) // 2))

    def take_back(self, worker: Worker, most: int | None = None) -> int:
        """Take back what was sent to this worker and has not begun, at most `most` branches from the end of its line.

        Only a branch that it has begun stays in its line, and one that has just ended.
        """
        count = worker.take_back(len(worker.runs) if most is None else most)
        worker.stale += count
        if worker.outgoing:
            self._workforce.wants_to_send(worker)  # it tells when it has skipped them
        for _ in range(count):
            run = worker.runs.pop()
            run.batch.runs.pop(run.index, None)
            run.batch.open.taken_back(run.index)
        return count

    def next_in_line(self, worker: Worker) -> None:
        """The first branch in the worker's line has ended."""
        worker.runs.popleft()
        worker.branches += 1
        if worker.runs:
            worker.runs[0].started = time.monotonic()
            self._send_in_time(worker)

    def _parts(self, batch: PoolBatch, index: int) -> tuple[Part | None, Part | None] | None:
        """The pickled function and item of a branch; None where they cannot be pickled, which ends the branch."""
        try:
            return batch.cargo.function(index), batch.cargo.item(index)
        except SerDesError as error:
            batch.attempt(batch.open.ended, index, Failed(error_of(error, local=True)))
            self.again = True
            return None


def _may_wait_behind(run: ActiveRun) -> bool:
    """Whether branches of its batch may be sent to the worker that runs this one."""
    worker = run.worker
    return worker.ready and not (run.nested or run.detached or run.batch.open.decided or worker.is_laden)
