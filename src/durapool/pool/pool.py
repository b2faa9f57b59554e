"""The pool: places, open batches, and the loop that moves records between batches and workers.

    thread in context.parallel          this loop                          worker
    PoolBatch --inbox--> dispatch: next() of the deepest batch --RUN-->    runs the branch
                         read: UPDATES, DONE ... are staged   <--UPDATES-- streams what it records
                         commit: one flush for all of a turn
                         answer                               --ACK-->     goes on
    outcome  <---------- settle: batches that are decided or blocked

Every turn goes through these stages in this order, so nothing is acknowledged or acted on before it is committed.
All state belongs to the thread that turns the loop (see `drive`); other threads only use the inbox.

A worker holds one of the pool's `size` places while it runs a branch, and lends it while it waits for nested batches.
"""

from __future__ import annotations

import contextlib
import itertools
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from durapool.errors import error_of
from durapool.exceptions import OrphanedBranch, SerDesError, Signal
from durapool.executors import ProcessExecutor
from durapool.executors.base import BranchOutcome, Failed
from durapool.executors.open_batch import OpenBatch
from durapool.pickling import dump_function
from durapool.pool.batches import ActiveRun, PoolBatch, nested_batch, overdue, pack_outcome, waits
from durapool.pool.cargo import part_or_why, unpack_plan
from durapool.pool.losses import HeldLosses, lost_error, timeout_error
from durapool.pool.machine import default_start_method, usable_cpus
from durapool.pool.messages import outcome_of, post_run, stage_updates, take_of_worker
from durapool.pool.supervisor import SupervisorGoneError, SupervisorLink
from durapool.pool.wire import Kind, WireError
from durapool.pool.workers import Worker
from durapool.pool.workforce import Loss, Workforce

GRACE = 1.0  # seconds between SIGTERM and SIGKILL for a branch over its time
LONGEST_WAIT = 3600.0  # seconds; epoll takes no more than 24 days at once
BRISK = 0.005  # seconds; STARTs of shorter branches travel with what follows them


class Pool:
    """One pool of worker processes."""

    def __init__(self, executor: ProcessExecutor) -> None:
        self.executor = executor
        self.size = executor.workers or usable_cpus()
        method = executor.start_method or default_start_method()
        initializer = executor.initializer
        self._selector = selectors.DefaultSelector()
        self._workforce = Workforce(
            lambda: SupervisorLink(method, self.size, executor.preload),
            self._selector,
            None if initializer is None else dump_function(initializer, "the initializer"),
        )
        self._workforce.listen(self)
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._woken)
        self._inbox: deque[PoolBatch] = deque()
        self._batches: list[PoolBatch] = []  # deepest first, then oldest
        self._deepest = 0  # since the pool was last without a batch: for each level more workers are worth keeping
        self._returning: deque[tuple[ActiveRun, int, list[Any]]] = deque()
        self._acks: dict[Worker, ActiveRun] = {}
        self._held = HeldLosses()
        self._again = False  # something was staged after the commit: turn once more without waiting
        self._mean_seconds = BRISK
        self._run_numbers = itertools.count(1)

    # what other threads call

    def hand_in(self, batch: PoolBatch) -> None:
        """Give the loop a batch to run."""
        self._inbox.append(batch)
        self.wake()

    def wake(self) -> None:
        """Let the loop look up from its waiting."""
        with contextlib.suppress(OSError):  # it has enough to wake it, or it was closed, which the driver tells
            self._wake_write.send(b"\0")

    def withdraw(self, batch: PoolBatch, crash: BaseException) -> None:
        """Stop a batch whose thread does not wait any more. Only while nobody turns the loop."""
        self._take_inbox()
        if not batch.finished:
            batch.crash = crash
            self._finish(batch)
        self._again = True

    def is_done_with(self, invocation: object) -> bool:
        """Whether nothing of the invocation is in this pool, and no worker that was told to end still runs."""
        batches = [*list(self._batches), *list(self._inbox), *(run.batch for run in self._runs())]
        return not self._workforce.ending and all(batch.root.invocation is not invocation for batch in batches)

    def _runs(self) -> list[ActiveRun]:
        return [run for worker in self._workforce if (run := worker.run) is not None]

    @property
    def has_detached(self) -> bool:
        """Whether branches of decided batches are still finishing (cancel_running=False)."""
        return self.has_detached_of(None)

    def has_detached_of(self, invocation: object) -> bool:
        """Whether some of this invocation are, or of any for None."""
        return any(
            run.detached and (invocation is None or run.batch.root.invocation is invocation) for run in self._runs()
        )

    def end_invocation(self, invocation: object, seconds: float) -> None:
        """Stop what still runs of an invocation, and wait for it at most so long. Only while nobody turns the loop."""
        self._take_inbox()
        for batch in [each for each in self._batches if each.owner is None and each.invocation is invocation]:
            self.withdraw(batch, OrphanedBranch("the invocation around this batch has ended"))
        for run in self._runs():
            if run.batch.root.invocation is invocation:
                self._stop(run)
        deadline = time.monotonic() + seconds
        while self._workforce.ending and (left := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                key.data()
        self._again = True  # what was read of other batches is theirs to act on: the next turn must not wait for more

    def close(self) -> None:
        """End the supervisor and all workers. Only while nobody turns the loop."""
        for batch in [*self._batches, *self._inbox]:
            batch.crash = batch.crash or OrphanedBranch("the process pool was closed")
            batch.finish()
        self._batches.clear()
        self._inbox.clear()
        self._workforce.close()
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()

    def abandon(self) -> None:
        """In a forked child: let go of the parent's descriptors."""
        self._workforce.abandon()
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()

    # one turn of the loop

    def turn(self) -> None:
        """Read, commit, answer, settle, dispatch, send; waits where there is nothing to do."""
        for key, _ in self._selector.select(self._patience()):
            key.data()
        self._take_inbox()
        self._wake_suspended()
        self._stop_overdue()
        for run, loss in self._held.take_due():
            self._lose(run, loss)
        self._commit()
        self._settle()
        self._dispatch()
        self._workforce.send()

    def _patience(self) -> float | None:
        if self._again or self._inbox:
            self._again = False
            return 0
        timed = [*waits(self._batches), *self._held.waits()]
        return max(0.0, min(*timed, LONGEST_WAIT)) if timed else None

    def _stop_overdue(self) -> None:
        """End the branches that have run longer than their executor's timeout."""
        for run in overdue(self._batches):
            run.worker.run = None
            self._workforce.dismiss(run.worker, GRACE)
            error = timeout_error(run.label, run.batch.limits.timeout or 0.0)
            self._ended(run, Failed(error_of(error, local=True)))

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_read.recv(4096)

    def _take_inbox(self) -> None:
        while self._inbox:
            self._open(self._inbox.popleft())

    def _open(self, batch: PoolBatch) -> None:
        self._batches.append(batch)
        self._batches.sort(key=lambda each: (-each.depth, each.key))
        if len(self._batches) == 1:
            self._deepest = 0
            self._workforce.trim(self.size)
        self._deepest = max(self._deepest, batch.depth)
        self._again = True

    def _wake_suspended(self) -> None:
        for batch in self._batches:
            if batch.open.has_waiting:
                with self._crashing(batch):
                    batch.open.wake_due()

    def _commit(self) -> None:
        """All that this turn has staged, then the acknowledgements."""
        for batch in self._batches:
            with self._crashing(batch):
                batch.open.view.barrier()
        for worker, run in self._acks.items():
            if worker.run is run and run.batch.open.crash is None:
                self._post(worker, Kind.ACK, run.number, run.received)
        self._acks.clear()

    def _settle(self) -> None:
        """Finish the batches that are decided, blocked or crashed."""
        for batch in list(self._batches):
            if batch.finished:
                continue
            if batch.open.crash is not None:
                batch.root.crash = batch.open.crash
                self._finish(batch.root)
            elif (outcome := batch.open.outcome()) is not None:
                batch.outcome = outcome
                self._finish(batch)

    @contextlib.contextmanager
    def _crashing(self, batch: PoolBatch) -> Iterator[None]:
        """A store that failed, or a batch that lost its right to record, ends the batch and those around it."""
        try:
            yield
        except Signal as signal:
            batch.open.crash = signal

    # batches and runs

    def _finish(self, batch: PoolBatch) -> None:
        """Close the batch: stop what still runs of it, tell its owner."""
        if batch in self._batches:
            self._batches.remove(batch)
        batch.open.view.revoke()
        for run in list(batch.runs.values()):
            if batch.limits.cancel_running or batch.crash is not None or run.nested:
                self._stop(run)
            else:
                run.detached = True
        for worker in self._workforce:
            if batch.key in worker.known_batches:
                worker.known_batches.discard(batch.key)
                self._post(worker, Kind.FORGET, batch.key)
        if batch.owner is not None and batch.outcome is not None:
            self._returning.append((batch.owner.run, batch.owner.number, pack_outcome(batch.outcome)))
        batch.finish()

    def _stop(self, run: ActiveRun) -> None:
        """Kill the worker of a run, its nested batches first."""
        self._abandon_nested(run)
        run.batch.runs.pop(run.index, None)
        run.worker.run = None
        self._workforce.dismiss(run.worker)

    def _abandon_nested(self, run: ActiveRun) -> None:
        for nested in list(run.nested.values()):
            if not nested.finished:
                nested.crash = OrphanedBranch("the branch around this batch has ended")
                self._finish(nested)
        run.nested.clear()

    def _ended(self, run: ActiveRun, outcome: BranchOutcome) -> None:
        """A run has ended, and with it whatever it had nested."""
        self._abandon_nested(run)
        run.batch.runs.pop(run.index, None)
        if run.detached:
            return
        self._mean_seconds += (time.monotonic() - run.started - self._mean_seconds) * 0.1
        with self._crashing(run.batch):
            run.batch.open.ended(run.index, outcome)

    # dispatch

    def _dispatch(self) -> None:
        while self._returning or self._batches:
            held = sum(1 for worker in self._workforce if worker.run is not None and not worker.run.lent)
            if held >= self.size:
                return
            if self._returning:
                self._give_back(*self._returning.popleft())
            elif not self._start_one():
                return

    def _give_back(self, run: ActiveRun, number: int, outcome: list[Any]) -> None:
        run.resume(number)
        if run.worker.run is run:
            self._post(run.worker, Kind.NESTED_END, number, outcome)

    def _start_one(self) -> bool:
        lent = [worker.run.batch.depth for worker in self._workforce if worker.run is not None and worker.run.lent]
        for batch in self._batches:
            if lent.count(batch.depth) >= self.size:
                continue  # so many wait for nested batches already: these go first
            index = batch.open.next()
            if index is not None:
                return self._start(batch, index)
        return False

    def _start(self, batch: PoolBatch, index: int) -> bool:
        """Give the branch to a worker; False where none can be had now."""
        try:
            function, item = batch.cargo.function(index), batch.cargo.item(index)
        except SerDesError as error:
            with self._crashing(batch):
                batch.open.ended(index, Failed(error_of(error, local=True)))
            self._again = True
            return True
        try:
            worker = self._workforce.take()
        except SupervisorGoneError:  # the next turn hears of it, and starts another one
            batch.open.lost(index)
            self._again = True
            return False
        self._workforce.limit_memory(worker, batch.limits.memory_limit or 0)
        plan, recorded = batch.open.plan, batch.open.recorded(index)
        root = plan.operation_id if plan.flat else plan.branch_id(index)
        known = {root, *(operation.id for operation in recorded)}
        run = ActiveRun(next(self._run_numbers), batch, index, worker, time.monotonic(), known)
        batch.runs[index] = run
        worker.run = run
        post_run(run, recorded, function, item, brisk=self._mean_seconds < BRISK)
        self._workforce.wants_to_send(worker)
        return True

    def _post(self, worker: Worker, kind: Kind, *body: Any) -> None:
        worker.post(kind, *body)
        self._workforce.wants_to_send(worker)

    # what workers say (see workforce.Listener)

    def on_message(self, worker: Worker, kind: Kind, body: list[Any]) -> None:
        """See `Listener.on_message`."""
        if take_of_worker(worker, kind, body):
            return
        run = worker.run
        if run is None or run.number != body[0]:
            raise WireError(f"{kind.name} of run {body[0]}, which is not what it runs")
        match kind:
            case Kind.UPDATES:
                self._acks[worker] = run
                with self._crashing(run.batch):
                    stage_updates(run, body[1])
            case Kind.SPAWN_BATCH:
                self._spawn(run, body[1], body[2])
            case Kind.FETCH_INPUTS:
                total = run.batch.open.plan.total
                self._post(worker, Kind.INPUTS, body[1], [part_or_why(run.batch.cargo.item, i) for i in range(total)])
            case _:
                self._take_end(worker, run, outcome_of(kind, body))

    def _take_end(self, worker: Worker, run: ActiveRun, outcome: BranchOutcome) -> None:
        worker.run = None
        worker.branches += 1
        worker.relay()
        self._ended(run, outcome)
        most = self.executor.max_branches_per_worker
        if most is not None and worker.branches >= most:
            self._workforce.retire(worker)
        else:
            self._workforce.release(worker, keep=self.size * (self._deepest + 1))

    def _spawn(self, run: ActiveRun, number: int, body: Any) -> None:
        plan, cargo, limits = unpack_plan(body, self.executor)
        if plan.operation_id not in run.operations or run.detached:
            raise WireError(f"a nested batch {plan.operation_id}, which is not of branch {run.index}")
        nested = nested_batch(run, number, OpenBatch(plan, run.batch.open.view), cargo, limits)
        run.lend(number, nested)
        self._open(nested)

    def on_lost(self, worker: Worker, loss: Loss) -> None:
        """See `Listener.on_lost`."""
        run = worker.run
        if run is None:
            return
        worker.run = None
        if not self._held.hold(run, loss):
            self._lose(run, loss)

    def _lose(self, run: ActiveRun, loss: Loss) -> None:
        batch = run.batch
        if loss.untouched and not run.received and not run.detached:
            self._run_again(run)
            return
        losses = batch.losses[run.index] = batch.losses.get(run.index, 0) + 1
        if losses <= batch.limits.retry_lost and not (loss.problem or loss.excess or run.detached):
            self._run_again(run)
            return
        error = lost_error(loss, run.label, batch.limits.memory_limit)
        self._ended(run, Failed(error_of(error, local=True)))

    def _run_again(self, run: ActiveRun) -> None:
        self._abandon_nested(run)
        run.batch.runs.pop(run.index, None)
        run.batch.open.lost(run.index)
        self._again = True
