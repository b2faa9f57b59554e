"""A cluster's engine with and without durapool: what a branch costs, and how CPU-bound ones scale from 1 to 2 workers.

The same functions go to clusters of the same kind (local ones of the engine's own), by the engine's plain futures and
as the branches of a durable map. The store is in memory: what is measured is the way to a worker and back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

from durapool import DaskExecutor, DurableContext, MemoryStore, RayExecutor, durable_execution
from durapool.executors import ClusterExecutor
from durapool.pool import registry
from perf.durable import run_anew
from perf.harness import Contender, measure, timed
from perf.peer import Peer
from perf.peers import Dask, Ray
from perf.report import Figure, Report

ROUNDS = 5


@dataclass(frozen=True)
class Engine:
    """An engine: its plain pool, and the executor that uses the cluster of an open one."""

    peer: Callable[[int], Peer]
    module: str
    executor: Callable[[Any], ClusterExecutor]


ENGINES = {
    "Dask": Engine(Dask, "distributed", lambda peer: DaskExecutor(peer.pool)),
    "Ray": Engine(Ray, "ray", lambda peer: RayExecutor(workers=peer.workers)),
}


@dataclass(frozen=True)
class Sizes:
    """Branches that do nothing; CPU-bound ones, and the loops of each."""

    empty: int
    busy: int
    loops: int


FULL = Sizes(empty=1000, busy=60, loops=1_000_000)
QUICK = Sizes(empty=10, busy=4, loops=1000)


def nothing(item: int) -> int:
    """A task that does nothing."""
    return item


def compute(loops: int) -> int:
    """A task that keeps a CPU busy."""
    total = 0
    for number in range(loops):
        total += number & 1
    return total


@durable_execution
def handler(event: dict[str, Any], context: DurableContext) -> int:
    """One map over the items."""
    function = {"nothing": nothing, "compute": compute}[event["function"]]

    def branch(_ctx: DurableContext, item: int, _index: int, _inputs: Sequence[int]) -> int:
        return function(item)

    result = context.map(event["items"], branch)
    result.throw_if_error()
    return sum(result.get_results())


def durable(function: Callable[[int], int], items: Sequence[int], executor: ClusterExecutor) -> None:
    """By durapool."""
    event = {"function": function.__name__, "items": list(items)}
    assert run_anew(handler, event, executor, MemoryStore()) == _expected[function](items)


def plain(function: Callable[[int], int], items: Sequence[int], peer: Peer) -> None:
    """By the engine's own futures."""
    assert sum(peer.call_each(function, items)) == _expected[function](items)


_expected: dict[Callable[[int], int], Callable[[Sequence[int]], int]] = {
    nothing: sum,
    compute: lambda items: sum(loops // 2 for loops in items),
}


def run(rounds: int, sizes: Sizes = FULL) -> Report:
    """All engines that are installed."""
    report = Report("cluster", settings={**asdict(sizes), "store": "memory"})
    report.skip([name for name, engine in ENGINES.items() if find_spec(engine.module) is None])
    for name, engine in ENGINES.items():
        if find_spec(engine.module) is not None:
            _run_engine(report, name, engine, rounds, sizes)
    return report


@contextmanager
def _opened(peer: Peer) -> Iterator[Peer]:
    peer.open()
    yield peer
    peer.close()


def _run_engine(report: Report, name: str, engine: Engine, rounds: int, sizes: Sizes) -> None:
    overhead, busy = [], []
    with ExitStack() as stack:
        for workers in (1, 2):
            # a cluster for each: the agents of a pool keep their slots for a while, which plain tasks would wait for
            ours, theirs = (stack.enter_context(_opened(engine.peer(workers))) for _ in range(2))
            works = {
                "durapool on ": partial(durable, executor=engine.executor(ours)),
                "plain ": partial(plain, peer=theirs),
            }
            for kind, work in works.items():
                label = f"{kind}{name}, {workers} worker{'s' * (workers > 1)}"
                busy.append(Contender(label, timed(partial(work, compute, [sizes.loops] * sizes.busy)), sizes.busy))
                if workers > 1:
                    overhead.append(Contender(label, timed(partial(work, nothing, range(sizes.empty))), sizes.empty))
        stack.callback(registry.close_all)  # before the clusters that its pools use
        empty_table = measure(f"{name}: branches that do nothing", overhead, rounds)
        busy_table = measure(f"{name}: CPU-bound branches", busy, rounds)
    durapool_on, bare = f"durapool on {name}", f"plain {name}"
    report.tables += [empty_table, busy_table]
    report.figures += [
        Figure(
            f"{name}: a branch / a plain task", empty_table.ratio(f"{durapool_on}, 2 workers", f"{bare}, 2 workers")
        ),
        Figure(
            f"{name}: CPU-bound, durapool / plain", busy_table.ratio(f"{durapool_on}, 2 workers", f"{bare}, 2 workers")
        ),
        Figure(
            f"{name}: 2 workers / 1 worker, durapool",
            busy_table.ratio(f"{durapool_on}, 2 workers", f"{durapool_on}, 1 worker"),
        ),
        Figure(f"{name}: 2 workers / 1 worker, plain", busy_table.ratio(f"{bare}, 2 workers", f"{bare}, 1 worker")),
    ]
