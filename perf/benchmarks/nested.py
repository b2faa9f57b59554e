"""Batches within batches: what it costs that the branches of a map run maps of their own, on the same two workers.

The same number of leaves, each with one step, in one batch, in batches two deep and three deep. With other pools a
task has to make a pool of its own for its tasks (`concurrent.futures`), or the library does (joblib, by its own rules).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from math import prod
from typing import Any

from durapool import DurableContext, MemoryStore, durable_execution
from durapool.executors import ExecutorSpec
from perf.durable import PROCESSES, THREADS, run_anew
from perf.harness import Contender, measure, timed
from perf.peer import WORKERS, Peer
from perf.peers import ConcurrentFuturesFork, Joblib, installed, opened
from perf.report import Figure, Report

ROUNDS = 5
PEERS = (ConcurrentFuturesFork, Joblib)
ONE_DEEP, TWO_DEEP, THREE_DEEP = "process, 1 deep", "process, 2 deep", "process, 3 deep"


@dataclass(frozen=True)
class Sizes:
    """Branches of a batch at each depth; both have as many leaves in all."""

    two: tuple[int, int]
    three: tuple[int, int, int]

    @property
    def leaves(self) -> int:
        """In one run."""
        assert prod(self.two) == prod(self.three)
        return prod(self.two)


FULL = Sizes(two=(20, 50), three=(5, 10, 20))
QUICK = Sizes(two=(2, 4), three=(2, 2, 2))


@durable_execution
def handler(event: dict[str, list[int]], context: DurableContext) -> int:
    """A tree of maps."""
    return descend(context, event["widths"])


def descend(context: DurableContext, widths: Sequence[int]) -> int:
    """The number of leaves below."""
    if not widths:
        return context.step(lambda _: 1)

    def branch(ctx: DurableContext, _item: int, _index: int, _inputs: Sequence[int]) -> int:
        return descend(ctx, widths[1:])

    result = context.map(range(widths[0]), branch)
    result.throw_if_error()
    return sum(result.get_results())


def durable(widths: Sequence[int], executor: ExecutorSpec) -> None:
    """durapool."""
    assert run_anew(handler, {"widths": list(widths)}, executor, MemoryStore()) == prod(widths)


def one(_item: Any) -> int:
    """A leaf of the other pools."""
    return 1


def pool_in_pool(width: int) -> int:
    """In a worker: a pool for the tasks of this task."""
    with ProcessPoolExecutor(WORKERS) as pool:
        return sum(pool.map(one, range(width)))


def joblib_in_joblib(width: int) -> int:
    """In a worker: joblib decides where these run."""
    return sum(Joblib(WORKERS).call_each(one, range(width)))


INNER: dict[str, Callable[[int], int]] = {ConcurrentFuturesFork.name: pool_in_pool, Joblib.name: joblib_in_joblib}


def pooled(pool: Peer, widths: tuple[int, int]) -> None:
    """Another pool, two deep."""
    assert sum(pool.call_each(INNER[pool.name], [widths[1]] * widths[0])) == prod(widths)


def run(rounds: int, sizes: Sizes = FULL) -> Report:
    """All depths."""
    report = Report("nested", settings={**asdict(sizes), "workers": WORKERS, "store": "memory"})
    peers, missing = installed(PEERS)
    report.skip(missing)
    shapes: dict[str, tuple[tuple[int, ...], ExecutorSpec]] = {
        ONE_DEEP: ((sizes.leaves,), PROCESSES),
        TWO_DEEP: (sizes.two, PROCESSES),
        THREE_DEEP: (sizes.three, PROCESSES),
        "thread, 2 deep": (sizes.two, THREADS),
        "thread, 3 deep": (sizes.three, THREADS),
    }
    with opened(peers) as pools:
        contenders = [
            Contender(name, timed(partial(durable, widths, executor)), sizes.leaves)
            for name, (widths, executor) in shapes.items()
        ]
        contenders += [
            Contender(f"{name}, 2 deep", timed(partial(pooled, pool, sizes.two)), sizes.leaves)
            for name, pool in pools.items()
        ]
        table = measure("leaves", contenders, rounds)
    report.tables = [table]
    report.figures = [
        Figure(f"a leaf in {depth} / in {ONE_DEEP}", table.ratio(depth, ONE_DEEP)) for depth in (TWO_DEEP, THREE_DEEP)
    ]
    return report
