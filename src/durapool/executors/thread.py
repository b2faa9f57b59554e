"""The thread executor: branches on daemon threads of this process, started on demand.

    the calling thread            branch threads
    OpenBatch.next() ----jobs---> run_branch
    OpenBatch.ended() <--ends---- (index, outcome)

The calling thread owns the batch; threads share nothing with it but the two queues. Both are short: no more branches
are given out than a few for each thread, and those that nobody has begun are taken back at the decision.

Short branches need few threads, which take one branch after the other; the more there are, the longer each waits for
the interpreter. So there are few at first, and twice as many whenever branches wait for a thread and none has ended for
a while: then all of them sleep, compute at length, or wait for each other.
"""

from __future__ import annotations

import contextlib
import threading
from queue import Empty, SimpleQueue

from durapool.exceptions import OrphanedBranch
from durapool.executors import ThreadExecutor
from durapool.executors.base import BatchOutcome, BatchPlan, BranchOutcome, Crashed, Failed, Succeeded
from durapool.executors.open_batch import OpenBatch
from durapool.operations.child import BranchRef, run_branch
from durapool.progress.observer import watched
from durapool.scope import Scope
from durapool.usage import ThreadMeter
from durapool.values import replace

FIRST = 32  # threads that a batch may have from its start
WHILE = 0.005  # seconds without an end after which it may have twice as many
AHEAD = 64  # branches given out beyond those that threads can run at once

_NOBODY = -1  # the index of no branch
_LONGEST_NAP = 3600.0  # seconds; a due time beyond it is looked at again


class ThreadBatches:
    """Runs batches on threads; notes the crews at work, and threads that outlive their batch."""

    def __init__(
        self, config: ThreadExecutor, stragglers: list[threading.Thread], crews: set[Crew] | None = None
    ) -> None:
        self._config = config
        self._stragglers = stragglers
        self._crews = set() if crews is None else crews

    def run(self, plan: BatchPlan, scope: Scope) -> BatchOutcome:
        """See `Executor.run`."""
        batch = OpenBatch(plan, scope.journal)
        crew = Crew(batch, scope, self._config.max_threads)
        self._crews.add(crew)
        try:
            with watched(batch, scope):
                return _drive(batch, scope, crew)
        finally:
            self._crews.discard(crew)
            batch.view.revoke()
            self._stragglers.extend(crew.dismiss())


def _drive(batch: OpenBatch, scope: Scope, crew: Crew) -> BatchOutcome:
    while True:
        while crew.has_room and (index := batch.next()) is not None:
            crew.start(index)
        if batch.decided:
            for index in crew.take_back():
                batch.taken_back(index)
        outcome = batch.outcome()
        if outcome is not None:
            scope.journal.flush()
            return outcome
        for index, ended in crew.ends(batch.view.next_due() if batch.suspended else None):
            batch.ended(index, ended)
        if batch.crash is not None:
            raise batch.crash
        scope.journal.flush()
        batch.wake_due()


class Crew:
    """The threads of one batch."""

    def __init__(self, batch: OpenBatch, scope: Scope, limit: int) -> None:
        self._plan = batch.plan
        self._limit = limit
        self._allowed = min(FIRST, limit)  # threads, for now
        self._base = replace(
            scope, settings=replace(scope.settings, executor=batch.plan.executor), journal=batch.view, branch=None
        )
        self._jobs: SimpleQueue[int | None] = SimpleQueue()
        self._ends: SimpleQueue[tuple[int, BranchOutcome]] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0  # branches given out that have not come back

    @property
    def has_room(self) -> bool:
        """Whether one more branch may be given out."""
        return self._busy < self._allowed + AHEAD

    def start(self, index: int) -> None:
        """Give out a branch. Some thread will take it, unless it is taken back before."""
        self._busy += 1
        self._jobs.put(index)
        self._hire()

    def _hire(self) -> None:
        """One more thread, if there are not as many as branches that have not ended."""
        unfinished = self._busy - self._ends.qsize()  # a short branch may have ended, and its thread be idle
        if len(self._threads) < min(unfinished, self._allowed):
            thread = threading.Thread(target=self._work, name=f"durapool-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def ends(self, timeout: float | None) -> list[tuple[int, BranchOutcome]]:
        """All that has ended; waits for the first, at most `timeout` seconds, or until there may be more threads."""
        longest = _LONGEST_NAP if timeout is None else min(timeout, _LONGEST_NAP)
        is_short = self._allowed < self._limit and not self._jobs.empty()
        found: list[tuple[int, BranchOutcome]] = []
        try:
            found.append(self._ends.get(timeout=min(longest, WHILE) if is_short else longest))
            while True:
                found.append(self._ends.get_nowait())
        except Empty:
            if is_short and not found:
                self._grow()
        self._busy -= sum(index != _NOBODY for index, _ in found)
        return found

    def _grow(self) -> None:
        self._allowed = min(2 * self._allowed, self._limit)
        for _ in range(self._jobs.qsize()):
            self._hire()

    def take_back(self) -> list[int]:
        """The branches that no thread has begun; none of them runs any more."""
        found: list[int] = []
        with contextlib.suppress(Empty):
            while (index := self._jobs.get_nowait()) is not None:
                found.append(index)
        self._busy -= len(found)
        return found

    def interrupt(self) -> None:
        """End the batch from outside, whatever its threads do. From any thread."""
        self._ends.put((_NOBODY, Crashed(OrphanedBranch("the execution was stopped"))))

    def dismiss(self) -> list[threading.Thread]:
        """Send idle threads home; the ones that still run user code are given back."""
        self.take_back()
        for _ in self._threads:
            self._jobs.put(None)
        return self._threads if self._busy else []

    def _work(self) -> None:
        while (index := self._jobs.get()) is not None:
            meter = ThreadMeter()
            try:
                outcome: BranchOutcome = self._run(index)
                if isinstance(outcome, (Succeeded, Failed)):
                    outcome = outcome._replace(usage=meter.read())
            except BaseException as signal:  # noqa: BLE001  # the batch's own thread raises it
                outcome = Crashed(signal)
            self._ends.put((index, outcome))

    def _run(self, index: int) -> BranchOutcome:
        plan = self._plan
        name = plan.branch_name(index)
        ref = BranchRef(plan.branch_id(index), plan.operation_id, name, plan.branch_sub_type, index, plan.flat)
        base = self._base
        scope = Scope(
            settings=base.settings,
            journal=base.journal,
            executor_for=base.executor_for,
            label=f"branch {index} ({name})",
            branch=index if plan.flat else None,
            blobs=base.blobs,
        )
        return run_branch(plan.function_of(index), ref, scope, plan.item_serdes)
