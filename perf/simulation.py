"""A batch on simulated workers: all that its coordinator is asked and told, without workers, I/O or waiting.

    heap of (time, what, branch)      Coordinator
    a worker is free           ---->  next            runs for a random time of the simulated clock
    SUCCEEDED, FAILED          ---->  on_succeeded, on_failed
    LOST                       ---->  on_lost_retry   the worker is gone; another one comes a while later
    TAKEN_BACK                 ---->  on_returned     the branch had been sent ahead, and goes elsewhere
    SUSPENDED, then READY      ---->  on_suspended, on_ready

Chance comes from a seed and the coordinator is pure, so the calls of one run (its `Course`) can be made again, on the
coordinator alone or on one with a journal, with nothing of the simulation around them.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from heapq import heappop, heappush
from itertools import accumulate, count
from random import Random

from durapool.clock import SystemClock
from durapool.collector import patience
from durapool.config import CompletionConfig
from durapool.coordinator import CompletionPolicy, Coordinator
from durapool.executors.base import BatchPlan, Decided, Failed, Succeeded, Suspended
from durapool.executors.open_batch import OpenBatch
from durapool.journal import EXECUTION_ID, Journal
from durapool.pausing import PauseAfter
from durapool.records import (
    DETAIL_HANDLER,
    Action,
    ErrorObject,
    OperationSubType,
    OperationType,
    Record,
    Update,
    child_id,
)
from durapool.stores.memory import MemoryStore

WAIT = 5.0  # simulated seconds that a suspended branch waits; a branch runs for one second on average
REPLACEMENT = 3.0  # simulated seconds until a lost worker is replaced
TURN = 100  # branches that end between two commits: a loop makes one for all that it has read
SUCCESS = Succeeded("1")
FAILURE = Failed(ErrorObject("simulated", "RuntimeError"))


class Call(IntEnum):
    """What happens: a question to the coordinator, or news for it."""

    NEXT = 0  # which branch starts? This one
    NOTHING = 1  # which branch starts? None now
    SUCCEEDED = 2
    FAILED = 3
    LOST = 4
    TAKEN_BACK = 5
    SUSPENDED = 6
    READY = 7


@dataclass(frozen=True)
class Cluster:
    """The workers, and of 1,000 runs of a branch how many end in another way than well."""

    workers: int
    failed: int = 20
    lost: int = 5
    taken_back: int = 10
    suspended: int = 10
    seed: int = 20


@dataclass
class Course:
    """The calls of one batch, in order."""

    branches: int
    cluster: Cluster
    calls: bytearray = field(default_factory=bytearray)
    indexes: array[int] = field(default_factory=lambda: array("q"))
    instants: array[float] = field(default_factory=lambda: array("d"))  # of the calls SUSPENDED and READY alone
    most_in_flight: int = 0

    def add(self, call: Call, index: int) -> None:
        """One more."""
        self.calls.append(call)
        self.indexes.append(index)

    def count(self, call: Call) -> int:
        """How often it was made."""
        return self.calls.count(call)


def simulate(branches: int, cluster: Cluster) -> Course:
    """Run a batch of so many branches to its end; each worker runs one at a time.

    Raises:
        AssertionError: a branch ended twice or not at all, too many were in flight, or the coordinator counted wrongly.
    """
    coordinator = Coordinator(_policy(branches), cluster.workers)
    tell = _news_for(coordinator)
    course = Course(branches, cluster)
    chance = Random(cluster.seed)
    fates = [Call.FAILED, Call.LOST, Call.TAKEN_BACK, Call.SUSPENDED, Call.SUCCEEDED]
    thousandths = list(accumulate([cluster.failed, cluster.lost, cluster.taken_back, cluster.suspended, 0]))
    thousandths[-1] = 1_000
    idle, now, order = cluster.workers, 0.0, count()
    events: list[tuple[float, int, Call | None, int]] = []  # None: a worker is replaced
    while coordinator.decision is None:
        while idle:
            index = coordinator.next()
            if index is None:
                course.add(Call.NOTHING, -1)
                break
            course.add(Call.NEXT, index)
            idle -= 1
            (fate,) = chance.choices(fates, cum_weights=thousandths)
            heappush(events, (now + chance.expovariate(1.0), next(order), fate, index))
        course.most_in_flight = max(course.most_in_flight, coordinator.in_flight)
        now, _, news, index = heappop(events)
        if news is None:
            idle += 1
            continue
        course.add(news, index)
        tell[news](index)
        if news is Call.LOST:
            heappush(events, (now + REPLACEMENT, next(order), None, -1))
        elif news is not Call.READY:
            idle += 1
        if news in (Call.SUSPENDED, Call.READY):
            course.instants.append(now)
        if news is Call.SUSPENDED:
            heappush(events, (now + WAIT, next(order), Call.READY, index))
    _check(course, coordinator)
    return course


def _policy(branches: int) -> CompletionPolicy:
    return CompletionPolicy.of(CompletionConfig.all_completed(), branches)


def _news_for(coordinator: Coordinator) -> dict[Call, Callable[[int], object]]:
    return {
        Call.SUCCEEDED: coordinator.on_succeeded,
        Call.FAILED: coordinator.on_failed,
        Call.LOST: coordinator.on_lost_retry,
        Call.TAKEN_BACK: coordinator.on_returned,
        Call.SUSPENDED: coordinator.on_suspended,
        Call.READY: coordinator.on_ready,
    }


def _check(course: Course, coordinator: Coordinator) -> None:
    ended = [
        index for call, index in zip(course.calls, course.indexes, strict=True) if call in (Call.SUCCEEDED, Call.FAILED)
    ]
    assert sorted(ended) == list(range(course.branches)), "a branch ended twice, or not at all"
    assert course.most_in_flight <= course.cluster.workers, "more branches were in flight than max_concurrency"
    counts = coordinator.counts
    assert (counts.succeeded, counts.failed) == (course.count(Call.SUCCEEDED), course.count(Call.FAILED))
    assert counts.unfinished == counts.pending == coordinator.running == coordinator.in_flight == 0


def follow_alone(course: Course) -> Coordinator:
    """Make the calls of a course on a coordinator with nothing around it."""
    coordinator = Coordinator(_policy(course.branches), course.cluster.workers)
    _follow(course, coordinator, coordinator.next, _news_for(coordinator))
    return coordinator


def follow_recorded(course: Course) -> tuple[Journal, Decided]:
    """Make the calls of a course on a batch as an executor has it: each branch is in its journal."""
    clock = _Clock()
    journal = Journal.open(_ForgetfulStore(), "simulation", clock)
    batch_id = child_id(None, 1)
    journal.append(
        [
            Update(EXECUTION_ID, Action.START, OperationType.EXECUTION, details={DETAIL_HANDLER: "perf:simulation"}),
            Update(batch_id, Action.START, OperationType.CONTEXT, OperationSubType.MAP),
        ]
    )
    batch = OpenBatch(_plan(course, batch_id), journal.view("the batch"))
    recorded = _Recorded(batch, clock, iter(course.instants))
    try:
        with patience.hold(here=False):
            _follow(course, batch.coordinator, batch.next, recorded.news())
            outcome = batch.outcome()
            batch.view.barrier()
    finally:
        journal.close()
    assert isinstance(outcome, Decided)
    return journal, outcome


def _follow(
    course: Course,
    coordinator: Coordinator,
    next_branch: Callable[[], int | None],
    news: dict[Call, Callable[[int], object]],
) -> None:
    tell = [news.get(call) for call in Call]
    for call, index in zip(course.calls, course.indexes, strict=True):
        told = tell[call]
        if told is not None:
            told(index)
        elif call == Call.NEXT:
            assert next_branch() == index
            assert coordinator.pause_after is PauseAfter.NEVER  # which goes with the branch to its worker
        else:
            assert next_branch() is None


class _ForgetfulStore(MemoryStore):
    """Keeps no record: what a store does with them is another matter."""

    def write(self, execution_id: str, records: Sequence[Record]) -> None:
        """Nothing."""


class _Clock(SystemClock):
    """Stands where the simulation sets it."""

    at = 0.0

    def now(self) -> float:
        return self.at


@dataclass
class _Recorded:
    """Tells an open batch what happens, as the loop of a pool does: one commit for many calls."""

    batch: OpenBatch
    clock: _Clock
    instants: Iterator[float]
    waits: Iterator[int] = field(default_factory=lambda: count(1))
    since_commit: int = 0

    def news(self) -> dict[Call, Callable[[int], object]]:
        """What to call."""
        return {
            Call.SUCCEEDED: self.succeeded,
            Call.FAILED: self.failed,
            Call.LOST: self.batch.lost,
            Call.TAKEN_BACK: self.batch.taken_back,
            Call.SUSPENDED: self.suspended,
            Call.READY: self.ready,
        }

    def succeeded(self, index: int) -> None:
        self.ended(index, SUCCESS)

    def failed(self, index: int) -> None:
        self.ended(index, FAILURE)

    def ended(self, index: int, outcome: Succeeded | Failed) -> None:
        self.batch.ended(index, outcome)
        self.since_commit += 1
        if self.since_commit == TURN:
            self.batch.view.barrier()
            self.since_commit = 0

    def suspended(self, index: int) -> None:
        """The branch has recorded its start and that of a wait."""
        self.clock.at = next(self.instants)
        view, start = self.batch.view, self.batch.start_of(index)
        branch_id = start.operation_id
        wait = child_id(branch_id, next(self.waits))
        if view.get(branch_id) is None:
            view.record(start)
        view.record(Update(wait, Action.START, OperationType.WAIT, OperationSubType.WAIT, branch_id, delay=WAIT))
        self.batch.ended(index, Suspended(frozenset({wait})))

    def ready(self, _index: int) -> None:
        """The time of one has come; whose it is, the journal knows."""
        self.clock.at = next(self.instants)
        self.batch.wake_due()


def _plan(course: Course, batch_id: str) -> BatchPlan:
    return BatchPlan(
        operation_id=batch_id,
        sub_type=OperationSubType.MAP,
        name=None,
        total=course.branches,
        branch_name=lambda index: f"map-item-{index}",
        functions=None,
        shared=None,
        inputs=None,
        completion=CompletionConfig.all_completed(),
        max_concurrency=course.cluster.workers,
        flat=False,
        item_serdes=None,
        executor="thread",
    )
