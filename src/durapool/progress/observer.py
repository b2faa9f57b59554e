"""The observer of an execution: which batches are open, how they stand, which worker runs what."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from durapool.progress.model import BatchProgress, End, Snapshot, WorkerRow

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from durapool.executors.open_batch import OpenBatch
    from durapool.pool.batches import ActiveRun
    from durapool.pool.workers import Worker
    from durapool.scope import Scope

WINDOW = 60.0  # seconds over which a rate is taken
_MARKS = 30  # points that are kept of it
_MOST_ENDED = 1000  # ends that nobody has asked for yet; older ones are forgotten
_OUTERMOST = "the handler"  # the label of the handler's scope


class HasWorkers(Protocol):
    """A pool, as far as it is looked at."""

    @property
    def workers(self) -> Iterable[Worker]:
        """All workers; each iteration goes over those of that moment. From any thread."""
        ...


class _Watch:
    """One open batch, and how fast it goes."""

    def __init__(self, batch: OpenBatch, place: str, pool: HasWorkers | None = None) -> None:
        self.batch = batch
        self.place = place
        self.pool = pool
        self._opened_at = time.monotonic()
        counts = batch.coordinator.counts
        self._ended_before = counts.succeeded + counts.failed
        self._marks: deque[tuple[float, int]] = deque([(self._opened_at, self._ended_before)])

    def progress(self, now: float, end: End | None = None, ahead: int = 0) -> BatchProgress:
        """How it stands; `ahead` branches of it wait in the line of a worker and do not run yet."""
        coordinator, plan = self.batch.coordinator, self.batch.plan
        counts, running = coordinator.counts, coordinator.running
        kind = str(plan.sub_type).lower()
        return BatchProgress(
            operation_id=plan.operation_id,
            name=plan.name or kind,
            kind=kind,
            place=self.place,
            total=plan.total,
            succeeded=counts.succeeded,
            failed=counts.failed,
            running=max(0, min(running, counts.unfinished) - ahead),
            waiting=max(0, counts.unfinished - running),
            recorded_before=self._ended_before,
            seconds=now - self._opened_at,
            rate=self._rate(now, counts.succeeded + counts.failed),
            end=end,
        )

    def _rate(self, now: float, ended: int) -> float:
        """Branches a second over the last `WINDOW` seconds of this run."""
        marks = self._marks
        if now - marks[-1][0] >= WINDOW / _MARKS:
            marks.append((now, ended))
            while len(marks) > 2 and now - marks[1][0] >= WINDOW:
                marks.popleft()
        since, before = marks[0]
        return (ended - before) / (now - since) if now > since else 0.0


class Observer:
    """What is open of one execution, for whoever wants to look. Made by `observing`.

    Thread-safe: batches come and go in the threads that run them, snapshots are taken in another one.
    """

    def __init__(self, execution_id: str) -> None:
        self.execution_id = execution_id
        self._started = time.monotonic()
        self._lock = threading.Lock()  # of the next three; held for moments
        self._open: list[_Watch] = []
        self._paused: dict[str, BatchProgress] = {}  # outermost batches between two invocations
        self._ended: deque[BatchProgress] = deque(maxlen=_MOST_ENDED)
        self._nested: dict[OpenBatch, _Watch] = {}  # of workers; the snapshots' own

    @contextmanager
    def watch(self, batch: OpenBatch, scope: Scope, pool: HasWorkers | None) -> Iterator[None]:
        """Count the batch as open while the block runs."""
        watch = _Watch(batch, "" if scope.label == _OUTERMOST else scope.label, pool)
        with self._lock:
            self._paused.pop(batch.plan.operation_id, None)
            self._open.append(watch)
        try:
            yield
        except BaseException:
            self._close(watch, End.CUT_OFF)
            raise
        self._close(watch, End.SUSPENDED if batch.coordinator.decision is None else End.DECIDED)

    def _close(self, watch: _Watch, end: End) -> None:
        progress = watch.progress(time.monotonic(), end)
        with self._lock:
            self._open.remove(watch)
            if watch.place:
                return
            if end is End.SUSPENDED:
                self._paused[progress.operation_id] = progress
            else:
                self._ended.append(progress)

    def snapshot(self) -> Snapshot:
        """What is open now, and which outermost batches have ended since the last snapshot. From one thread."""
        now = time.monotonic()
        with self._lock:
            open_now, paused, ended = list(self._open), tuple(self._paused.values()), tuple(self._ended)
            self._ended.clear()
        pools = {id(watch.pool): watch.pool for watch in open_now if watch.pool is not None}
        workers = [worker for pool in pools.values() for worker in pool.workers]
        runs = [(worker, _run_of(worker)) for worker in workers]
        ahead: Counter[OpenBatch] = Counter()
        for worker, run in runs:
            if run is not None:
                ahead[run.batch.open] += max(0, len(worker.runs) - 1)
        watches = (*open_now, *self._watch_nested(runs))
        on_threads = sum(watch.batch.coordinator.running for watch in open_now if watch.pool is None)
        return Snapshot(
            execution_id=self.execution_id,
            seconds=now - self._started,
            batches=(*(watch.progress(now, ahead=ahead[watch.batch]) for watch in watches), *paused),
            ended=ended,
            workers=tuple(self._row(worker, run) for worker, run in runs),
            on_threads=on_threads,
        )

    def _watch_nested(self, runs: Sequence[tuple[Worker, ActiveRun | None]]) -> Sequence[_Watch]:
        """The batches that branches on workers wait for."""
        found: dict[OpenBatch, _Watch] = {}
        for _, run in runs:
            if run is None or run.batch.execution_id != self.execution_id:
                continue
            for nested in list(run.nested.values()):
                found[nested.open] = self._nested.get(nested.open) or _Watch(nested.open, run.label)
        self._nested = found
        return tuple(found.values())

    def _row(self, worker: Worker, run: ActiveRun | None) -> WorkerRow:
        row = WorkerRow(worker.number, worker.pid, is_here=not worker.site)
        if run is None:
            return row
        if run.batch.execution_id != self.execution_id:
            return replace(row, branch=f"a branch of {run.batch.execution_id}")
        return replace(row, branch=run.label, lent=run.lent)


def _run_of(worker: Worker) -> ActiveRun | None:
    """What the worker runs at this moment."""
    try:
        return worker.run
    except IndexError:  # it has ended since the worker was asked whether there is one
        return None


_observers: dict[str, Observer] = {}


def watched(batch: OpenBatch, scope: Scope, pool: HasWorkers | None = None) -> AbstractContextManager[None]:
    """Let whoever observes the scope's execution see the batch while the block runs; nothing where nobody does."""
    observer = _observers.get(scope.settings.execution_id) if _observers else None
    return nullcontext() if observer is None else observer.watch(batch, scope, pool)


@contextmanager
def observing(execution_id: str) -> Iterator[Observer]:
    """An observer of what this process runs of an execution while the block runs.

    Example:
        >>> with observing("nightly") as observer:
        ...     observer.snapshot().batches
        ()
    """
    observer = Observer(execution_id)
    before = _observers.get(execution_id)
    _observers[execution_id] = observer
    try:
        yield observer
    finally:
        if before is None:
            del _observers[execution_id]
        else:
            _observers[execution_id] = before
