"""The pool: places, open batches, and the loop that moves records between batches and workers.

    thread in context.parallel          this loop                          worker
    PoolBatch --inbox--> read: UPDATES are staged             <--UPDATES-- streams what it records
                         commit: one flush for all of a turn
                         answer                               --ACK-->     goes on
                         ends: branches that have ended       <--DONE--    is at the next one in its line
    outcome  <---------- settle: batches that are decided or blocked, once that is committed
                         dispatch (pool.dispatch)             --RUN-->     runs the branch

Every turn goes through these stages in this order, so nothing is acknowledged, and no batch is decided, before it is
committed.
All state belongs to the thread that turns the loop (see `drive`); other threads only use the inbox.

A worker holds one of the pool's `size` places while it runs a branch, and lends it while it waits for nested batches.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from durapool.errors import error_of
from durapool.exceptions import OrphanedBranch
from durapool.executors import PooledExecutor
from durapool.executors.base import BranchOutcome, Failed
from durapool.executors.open_batch import OpenBatch
from durapool.pausing import pauses
from durapool.pool.answers import Answers, commit_ends
from durapool.pool.batches import ActiveRun, Levels, PoolBatch, nested_batch, pack_outcome
from durapool.pool.cargo import unpack_plan
from durapool.pool.dispatch import Dispatcher
from durapool.pool.losses import GRACE, HeldLosses, lost_error, timeout_error
from durapool.pool.messages import ENDS, OF_WORKERS, outcome_of, stage_updates, take_of_worker
from durapool.pool.places import connector, initializer_of
from durapool.pool.supervisor import Link
from durapool.pool.timing import overdue, shortest, timed, waits, wake_suspended
from durapool.pool.transfer import give_file, shipped
from durapool.pool.watch import Watch
from durapool.pool.wire import Kind, WireError, unpack_usage
from durapool.pool.workers import Worker
from durapool.pool.workforce import AWAKE, Loss, Workforce

SOON = 0.0001  # seconds to the next news: to stay awake for longer takes a CPU from those who are at work (measured)
_UPDATES, _SKIPPED = Kind.UPDATES, Kind.SKIPPED  # to look a member up in its class takes time, for each message


class Pool:
    """One pool of worker processes."""

    def __init__(self, executor: PooledExecutor) -> None:
        self.executor = executor
        self._watch = Watch()
        try:
            self._workforce = Workforce(connector(executor), self._watch, initializer_of(executor))
        except BaseException:
            self._watch.close()
            raise
        self._workforce.listen(self)
        self._dispatcher = Dispatcher(self._workforce, executor.max_branches_per_worker)
        self.workers = self._workforce  # for progress to look at, from any thread
        self._inbox: deque[PoolBatch] = deque()
        self._batches: list[PoolBatch] = []  # deepest first, then oldest
        self._timed: list[PoolBatch] = []  # of these, those in which something may fall due
        self._levels = Levels()
        self._answers = Answers(self._workforce)
        self._ends: deque[tuple[ActiveRun, BranchOutcome]] = deque()  # of this turn, as they came
        self._held = HeldLosses()
        self._again = False  # something was staged after the commit: turn once more without waiting
        self._patient: float | None = None  # seconds until the link wants to be adjusted again

    @property
    def link(self) -> Link:
        """Who starts the workers, here or elsewhere."""
        return self._workforce.link

    # what other threads call

    def hand_in(self, batch: PoolBatch) -> None:
        """Give the loop a batch to run."""
        self._inbox.append(batch)
        self.wake()

    def wake(self) -> None:
        """Let the loop look up from its waiting."""
        self._watch.wake()

    def withdraw(self, batch: PoolBatch, crash: BaseException) -> None:
        """Stop a batch whose thread does not wait any more. Only while nobody turns the loop."""
        self._take_inbox()
        self._take_ends()
        if not batch.finished:
            batch.crash = crash
            self._finish(batch)
        self._again = True

    def is_done_with(self, invocation: object) -> bool:
        """Whether nothing of the invocation is in this pool, and no worker that was told to end still runs."""
        batches = [*list(self._batches), *list(self._inbox), *(run.batch for run in self._runs())]
        return not self._workforce.ending and all(batch.root.invocation is not invocation for batch in batches)

    def _runs(self) -> list[ActiveRun]:
        return [run for worker in self._workforce for run in worker.runs]

    def has_detached(self, invocation: object = None) -> bool:
        """Whether branches of decided batches still finish (cancel_running=False): of this invocation, or of any."""
        detached = [run.batch.root.invocation for run in self._runs() if run.detached]
        return bool(detached) if invocation is None else any(each is invocation for each in detached)

    def end_invocation(self, invocation: object, seconds: float) -> None:
        """Stop what still runs of an invocation, and wait for it at most so long. Only while nobody turns the loop."""
        self._take_inbox()
        self._take_ends()
        for batch in [each for each in self._batches if each.owner is None and each.invocation is invocation]:
            self.withdraw(batch, OrphanedBranch("the invocation around this batch has ended"))
        for worker in self._workforce:
            if any(run.batch.root.invocation is invocation for run in worker.runs):
                self._stop(worker)
        self._workforce.read_for(seconds, lambda: bool(self._workforce.ending))
        self._again = True  # what was read of other batches is theirs to act on: the next turn must not wait for more

    def close(self) -> None:
        """End the supervisor and all workers. Only while nobody turns the loop."""
        for batch in [*self._batches, *self._inbox]:
            batch.crash = batch.crash or OrphanedBranch("the process pool was closed")
            batch.finish()
        self._batches.clear()
        self._inbox.clear()
        self._workforce.close()
        self._watch.close()

    def abandon(self) -> None:
        """In a forked child: let go of the parent's descriptors."""
        self._workforce.abandon()
        self._watch.close()

    # one turn of the loop

    def turn(self) -> None:
        """Read, commit, answer, settle, dispatch; waits where there is nothing to do."""
        patience = self._patience()
        self._watch.look(patience, AWAKE if patience != 0 and self._expects_news else 0.0)
        self._answers.linger()
        self._take_inbox()
        self._take_due()
        self._answers.give(self._batches)
        self._workforce.send()  # workers go on while this loop does what they do not wait for
        self._take_ends()
        self._settle()
        self._dispatch()
        self._workforce.send()

    @property
    def _expects_news(self) -> bool:
        """Whether a worker is about to say something, by what the last few branches have taken."""
        return shortest(self._batches) < SOON * self._workforce.link.size

    def _patience(self) -> float | None:
        self._timed = timed(self._batches)
        if self._again or self._dispatcher.again or self._inbox:
            self._again = self._dispatcher.again = False
            return 0
        due = self._held.waits()
        if self._timed:
            due += waits(self._timed)
        if self._patient is not None:
            due.append(self._patient)
        return max(0.0, min(due)) if due else None

    def _take_due(self) -> None:
        """What time brings: suspended branches go on, those over their executor's timeout end, held losses count."""
        if self._timed:
            wake_suspended(self._timed)
            self._stop_overdue(self._timed)
        for run, loss in self._held.take_due():
            self._lose(run, loss)

    def _stop_overdue(self, batches: list[PoolBatch]) -> None:
        for run in overdue(batches):
            self._dispatcher.take_back(run.worker)
            _, *others = run.worker.clear()
            self._workforce.dismiss(run.worker, GRACE)
            error = timeout_error(run.label, run.batch.limits.timeout or 0.0)
            self._ends.append((run, Failed(error_of(error, local=True))))
            self._run_again(others)

    def _take_inbox(self) -> None:
        while self._inbox:
            self._open(self._inbox.popleft())

    def _open(self, batch: PoolBatch) -> None:
        self._batches.append(batch)
        self._batches.sort(key=lambda each: (-each.depth, each.key))
        if len(self._batches) == 1:
            self._levels.begin(batch.execution_id)
            self._workforce.trim(self.link.size * self._levels.count)
        self._levels.note(batch.depth)
        self._again = True

    def _settle(self) -> None:
        """Finish the batches that are decided, blocked or crashed, once that is committed."""
        for batch in commit_ends(self._batches):
            if batch.open.crash is not None and not batch.finished:
                batch.root.crash = batch.open.crash
                self._finish(batch.root)
            elif not batch.finished:
                batch.outcome = batch.open.outcome()
                self._finish(batch)

    # batches and runs

    def _finish(self, batch: PoolBatch) -> None:
        """Close the batch: stop what still runs of it, tell its owner."""
        if batch in self._batches:
            self._batches.remove(batch)
        batch.open.view.revoke()
        self._take_back_all(batch)
        for worker in self._workforce:
            worker.relay()  # what its branches have printed is there before its result is
        for run in list(batch.runs.values()):
            if batch.limits.cancel_running or batch.crash is not None or run.nested:
                self._stop(run.worker)
            else:
                run.detached = True
        for worker in self._workforce:
            if batch.key in worker.known_batches:
                worker.known_batches.discard(batch.key)
                self._post(worker, Kind.FORGET, batch.key)
        if batch.owner is not None and batch.outcome is not None:
            self._dispatcher.returning.append((batch.owner.run, batch.owner.number, pack_outcome(batch.outcome)))
        batch.finish()

    def _take_back_all(self, batch: PoolBatch) -> None:
        """No branch of this batch begins any more."""
        for worker in {run.worker for run in batch.runs.values()}:
            self._dispatcher.take_back(worker)

    def _stop(self, worker: Worker) -> None:
        """Kill a worker with the nested batches of its branch."""
        for run in worker.clear():
            self._abandon_nested(run)
            run.batch.runs.pop(run.index, None)
        self._workforce.dismiss(worker)

    def _abandon_nested(self, run: ActiveRun) -> None:
        for nested in list(run.nested.values()):
            if not nested.finished:
                nested.crash = OrphanedBranch("the branch around this batch has ended")
                self._finish(nested)
        run.nested.clear()

    def _ended(self, run: ActiveRun, outcome: BranchOutcome) -> None:
        """A run has ended, and with it whatever it had nested."""
        batch = run.batch
        if run.nested:
            self._abandon_nested(run)
        batch.runs.pop(run.index, None)
        if run.detached or batch.finished:
            return
        batch.count_end()
        batch.attempt(batch.open.ended, run.index, outcome)
        if batch.open.decided:
            self._take_back_all(batch)

    def _dispatch(self) -> None:
        if self._fill_places() and self._batches and not self._dispatcher.returning:
            self._dispatcher.send_ahead(self._batches)
        self._patient = self._dispatcher.adjust(self._batches)

    def _fill_places(self) -> bool:
        """Whether all places are taken now."""
        while sites := self._workforce.free_sites():
            returning = self._dispatcher.take_returning(sites)
            if returning is not None:
                self._give_back(*returning)
            elif not self._batches or not self._dispatcher.start_one(self._batches, sites[0]):
                return False
        return True

    def let_go(self) -> None:
        """Nobody has anything to run: free what the cluster has lent us. Only while nobody turns the loop.

        Raises:
            ClusterError: the cluster is gone.
        """
        if not self._batches and not self._inbox:
            self._workforce.look()
            self._patient = self._dispatcher.adjust(self._batches)

    def _give_back(self, run: ActiveRun, number: int, outcome: list[Any]) -> None:
        run.resume(number)
        if run.worker.run is run:
            self._post(run.worker, Kind.NESTED_END, number, outcome)

    def _post(self, worker: Worker, kind: Kind, *body: Any) -> None:
        worker.post(kind, *body)
        self._workforce.wants_to_send(worker)

    # what workers say (see workforce.Listener)

    def on_message(self, worker: Worker, kind: Kind, body: list[Any]) -> None:
        """See `Listener.on_message`."""
        if kind in OF_WORKERS:
            take_of_worker(worker, kind, body)
            if kind is _SKIPPED:
                self._let_rest(worker)
            return
        run = worker.runs[0] if worker.runs else None
        if run is None or run.number != body[0]:
            raise WireError(f"{kind.name} of run {body[0]}, which is not what it runs")
        if kind is _UPDATES:
            run.batch.awaits = body[2]
            if body[2]:
                self._answers.owe(worker, run)
            run.batch.attempt(stage_updates, run, body[1])
        elif kind in ENDS:
            usage = unpack_usage(body[1])
            self._hear_end(worker, run, outcome_of(run, kind, body, usage), usage.seconds)
        else:
            self._serve(run, kind, body)

    def _serve(self, run: ActiveRun, kind: Kind, body: list[Any]) -> None:
        """Give a run what it asks for."""
        worker = run.worker
        match kind:
            case Kind.SPAWN_BATCH:
                self._spawn(run, body[1], body[2])
            case Kind.FETCH_INPUTS:
                items = [shipped(worker, run.batch.key, part) for part in run.batch.cargo.items()]
                self._post(worker, Kind.INPUTS, body[1], items)
            case Kind.NEW_FILE | Kind.OPEN_FILE:
                run.batch.attempt(give_file, run, kind, body)
                self._workforce.wants_to_send(worker)
            case _:
                raise WireError(f"{kind.name}, which only others send")

    def _hear_end(self, worker: Worker, run: ActiveRun, outcome: BranchOutcome, seconds: float) -> None:
        batch = run.batch
        self._dispatcher.next_in_line(worker)
        batch.runs.pop(run.index, None)
        batch.measured(max(0.0, seconds - run.lent_seconds))
        self._ends.append((run, outcome))
        if not worker.runs:
            self._let_rest(worker)

    def _take_ends(self) -> None:
        """Count the branches that have ended, in the order in which that was heard. Only a worker that pauses waits."""
        while self._ends:
            run, outcome = self._ends.popleft()
            self._ended(run, outcome)
            if pauses(run.pause_after, outcome):
                self._post(run.worker, Kind.GO, run.number)

    def _let_rest(self, worker: Worker) -> None:
        """A worker with nothing left to run or to skip is idle."""
        if worker.runs or worker.stale:
            return
        most = self.executor.max_branches_per_worker
        if most is not None and worker.branches >= most:
            self._workforce.retire(worker)
        else:
            self._workforce.release(worker, keep=self.link.size * self._levels.count)

    def _spawn(self, run: ActiveRun, number: int, body: Any) -> None:
        plan, cargo, limits = unpack_plan(body, self.executor)
        if plan.operation_id not in run.operations or run.detached:
            raise WireError(f"a nested batch {plan.operation_id}, which is not of branch {run.index}")
        self._dispatcher.take_back(run.worker)
        nested = nested_batch(run, number, OpenBatch(plan, run.batch.open.view), cargo, limits)
        run.lend(number, nested)
        self._open(nested)

    def on_lost(self, worker: Worker, loss: Loss) -> None:
        """See `Listener.on_lost`."""
        self._dispatcher.take_back(worker, None if loss.blameless else len(worker.runs) - 1)
        self._again = True
        if not worker.runs:
            return
        run, *others = worker.clear()
        if not self._held.hold(run, loss):
            self._lose(run, loss)
        self._run_again(others)

    def _lose(self, run: ActiveRun, loss: Loss) -> None:
        batch = run.batch
        losses = batch.losses[run.index] = batch.losses.get(run.index, 0) + 1
        if losses <= batch.limits.retry_lost and not (loss.problem or loss.excess or run.detached):
            self._run_again([run])
            return
        error = lost_error(loss, run.label, batch.limits.memory_limit)
        self._ends.append((run, Failed(error_of(error, local=True))))

    def _run_again(self, runs: list[ActiveRun]) -> None:
        for run in runs:
            self._abandon_nested(run)
            run.batch.runs.pop(run.index, None)
            run.batch.open.lost(run.index)
            self._again = True
