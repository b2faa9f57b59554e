"""The executions that `profile_branch` looks at, and the profiler that runs in their worker.

One worker, so that all branches and the questions to it meet the same process:

    plain run      processor time of parent and worker, with no profiler in the way
    profiled run   cProfile in the parent, and by the pool's initializer in the worker
"""

from __future__ import annotations

import cProfile
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from durapool import DurableContext, MemoryStore, PickleSerDes, ProcessExecutor, StepConfig, durable_execution
from durapool.stores.base import Store
from perf.durable import run_anew
from perf.stages import Stats

WARM = 200  # branches ahead of what is looked at

worker_profile = cProfile.Profile()
"""Of this process, if it is a worker whose initializer was `begin`."""


def begin() -> None:
    """The initializer: profile all that this worker does from now on."""
    worker_profile.enable()


def forget() -> None:
    """Start afresh. In the worker."""
    worker_profile.disable()
    worker_profile.clear()
    worker_profile.enable()


def collect() -> Stats:
    """What was seen since. In the worker."""
    worker_profile.disable()
    return stats_of(worker_profile)


def stats_of(profile: cProfile.Profile) -> Stats:
    """As plain data."""
    profile.create_stats()
    return cast("Stats", profile.stats)  # typeshed says that seconds are int


@dataclass(frozen=True)
class Job:
    """What kind of execution is looked at."""

    branches: int
    kind: str  # "parallel": a lambda with a step each; "map": a module's function whose result alone is recorded
    open_store: Callable[[], Store]
    checkpoint: str


@dataclass(frozen=True)
class Cost:
    """Processor time in seconds: in programs and libraries, and in the kernel on their behalf."""

    user: float
    kernel: float

    @property
    def total(self) -> float:
        """Both."""
        return self.user + self.kernel

    def since(self, before: Cost, branches: int) -> Cost:
        """Of one branch."""
        return Cost((self.user - before.user) / branches, (self.kernel - before.kernel) / branches)


def spent() -> Cost:
    """By this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Cost(usage.ru_utime, usage.ru_stime)


@dataclass(frozen=True)
class Costs:
    """Of one branch; `wall` in seconds."""

    wall: float
    parent: Cost
    worker: Cost


@durable_execution
def handler(event: dict[str, Any], context: DurableContext) -> int:
    """The branches."""
    if event["kind"] == "map":
        result = context.map(range(event["branches"]), give_back)
    else:
        result = context.parallel([one_step(number) for number in range(event["branches"])])
    result.throw_if_error()
    return result.success_count


def one_step(number: int) -> Callable[[DurableContext], int]:
    """A branch of its own for each number."""
    return lambda ctx: ctx.step(lambda _: number)


def give_back(_ctx: DurableContext, item: int, _index: int, _inputs: Sequence[int]) -> int:
    """A branch that does nothing."""
    return item


def ask(executor: ProcessExecutor, question: Callable[[], Any]) -> Any:
    """What a function says in the worker of a pool."""

    def questioning(_event: Any, context: DurableContext) -> Any:
        config: StepConfig = StepConfig(serdes=PickleSerDes())
        result = context.parallel([lambda ctx: ctx.step(lambda _: question(), config=config)])
        result.throw_if_error()
        return result.get_results()[0]

    return run_anew(durable_execution(questioning), None, executor, MemoryStore())


def run_job(job: Job, executor: ProcessExecutor, branches: int) -> None:
    """One execution."""
    event = {"kind": job.kind, "branches": branches}
    assert run_anew(handler, event, executor, job.open_store(), job.checkpoint) == branches


def plain_costs(job: Job) -> Costs:
    """Without a profiler."""
    executor = ProcessExecutor(workers=1)
    run_job(job, executor, WARM)
    worker_before, parent_before = ask(executor, spent), spent()
    began = time.perf_counter()
    run_job(job, executor, job.branches)
    wall, parent, worker = time.perf_counter() - began, spent(), ask(executor, spent)
    count = job.branches
    return Costs(wall / count, parent.since(parent_before, count), worker.since(worker_before, count))


def profiles(job: Job) -> tuple[Stats, Stats]:
    """Of the parent's thread that drives the batch, and of the worker."""
    executor = ProcessExecutor(workers=1, initializer=begin)
    run_job(job, executor, WARM)
    ask(executor, forget)
    profile = cProfile.Profile()
    profile.enable()
    run_job(job, executor, job.branches)
    profile.disable()
    return stats_of(profile), ask(executor, collect)
