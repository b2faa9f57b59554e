"""What a branch costs that does nothing, on warm pools.

    lambdas   one branch with one step, each a lambda of its own; the baseline sends the same lambdas with cloudpickle.
              In memory also such as do something with their step's value, which have to wait for its commit
    map       a module's function over items; each result is recorded, in mode "async"
    threads   the lambdas on threads, against the AWS SDK, which has threads only

The baseline of the first two is `concurrent.futures.ProcessPoolExecutor` with forked workers, which records nothing.
Beside the lambdas runs the floor (`perf.floor`): the same branches with the same records, and nothing but these.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from durapool import DurableContext, MemoryStore, SQLiteStore, durable_execution
from durapool.executors import ExecutorSpec
from durapool.stores.base import Store
from perf.durable import PROCESSES, THREADS, run_anew
from perf.durable_peers import AWS_SDK, MODULES, run_aws
from perf.floor import Floor, opened_floors
from perf.harness import Contender, measure, measure_cold, timed
from perf.peer import WORKERS, Peer
from perf.peers import ConcurrentFuturesFork, Dask, installed, is_installed, opened
from perf.report import Figure, Report, Table

ROUNDS = 7
BASELINE = ConcurrentFuturesFork.name
AWS_LONG_ROUNDS = 3  # a round of the larger size takes about 22 s


@dataclass(frozen=True)
class Sizes:
    """How many branches one run has."""

    branches: int
    dask: int  # fewer, because each takes milliseconds
    aws: int
    aws_long: int


FULL = Sizes(branches=5_000, dask=500, aws=1_000, aws_long=5_000)
QUICK = Sizes(branches=40, dask=10, aws=10, aws_long=20)


@durable_execution
def parallel_lambdas(event: dict[str, int], context: DurableContext) -> int:
    """Branches that each record one step."""
    branches = [lambda ctx, i=i: ctx.step(lambda _: i) for i in range(event["branches"])]
    result = context.parallel(branches)
    result.throw_if_error()
    return sum(result.get_results())


@durable_execution
def parallel_lambdas_going_on(event: dict[str, int], context: DurableContext) -> int:
    """The same branches, which do something with their step's value, and so wait for its commit in memory too."""
    branches = [lambda ctx, i=i: ctx.step(lambda _: i) + 0 for i in range(event["branches"])]
    result = context.parallel(branches)
    result.throw_if_error()
    return sum(result.get_results())


@durable_execution
def map_items(event: dict[str, int], context: DurableContext) -> int:
    """Branches whose result alone is recorded."""
    result = context.map(range(event["branches"]), give_back)
    result.throw_if_error()
    return sum(result.get_results())


@durable_execution
def map_steps(event: dict[str, int], context: DurableContext) -> int:
    """The same with a step in each."""
    result = context.map(range(event["branches"]), give_back_in_step)
    result.throw_if_error()
    return sum(result.get_results())


def give_back(_ctx: DurableContext, item: int, _index: int, _inputs: Sequence[int]) -> int:
    """A branch that does nothing."""
    return item


def give_back_in_step(ctx: DurableContext, item: int, _index: int, _inputs: Sequence[int]) -> int:
    """A branch whose only step does nothing."""
    return ctx.step(lambda _: item)


def same(item: int) -> int:
    """What `give_back` is to the other pools."""
    return item


def run_pool(pool: Peer, count: int) -> None:
    """A lambda of its own for each task."""
    functions: list[Callable[[], int]] = [lambda i=i: i for i in range(count)]  # type: ignore[misc]  # i has a default
    assert sum(pool.call_all(functions)) == sum(range(count))


def run_pool_map(pool: Peer, count: int) -> None:
    """A module's function."""
    assert sum(pool.call_each(same, range(count))) == sum(range(count))


def durable(handler: Any, branches: int, executor: ExecutorSpec, store: Store, checkpoint: str = "sync") -> None:
    """One execution of a handler of this module."""
    assert run_anew(handler, {"branches": branches}, executor, store, checkpoint) == sum(range(branches))


def in_memory(handler: Any, branches: int, executor: ExecutorSpec) -> None:
    """The same, in a store that ends with it."""
    durable(handler, branches, executor, MemoryStore())


def others(pools: dict[str, Peer], work: Callable[[Peer, int], None], sizes: Sizes) -> list[Contender]:
    """The other pools at the same work."""
    counts = {name: sizes.dask if name == Dask.name else sizes.branches for name in pools}
    return [Contender(name, timed(partial(work, pool, counts[name])), counts[name]) for name, pool in pools.items()]


def run_floor(floor: Floor, count: int) -> None:
    """The lambdas of the other pools, each as the step of a branch."""
    functions: list[Callable[[], int]] = [lambda i=i: i for i in range(count)]  # type: ignore[misc]  # i has a default
    assert sum(floor.run(functions)) == sum(range(count))


def lambdas(
    rounds: int, sizes: Sizes, pools: dict[str, Peer], floors: dict[str, Floor], normal: Store, full: Store
) -> Table:
    """The rows about a distinct lambda for each branch."""
    count = sizes.branches

    def ours(name: str, work: Callable[[], None]) -> Contender:
        return Contender(name, timed(work), count)

    contenders = [
        *others(pools, run_pool, sizes),
        *(ours(name, partial(run_floor, floor, count)) for name, floor in floors.items()),
        ours("process, memory", lambda: in_memory(parallel_lambdas, count, PROCESSES)),
        ours("process, memory, going on", lambda: in_memory(parallel_lambdas_going_on, count, PROCESSES)),
        ours("process, NORMAL", lambda: durable(parallel_lambdas, count, PROCESSES, normal)),
        ours("process, FULL", lambda: durable(parallel_lambdas, count, PROCESSES, full)),
        ours("process, NORMAL, async", lambda: durable(parallel_lambdas, count, PROCESSES, normal, "async")),
        ours("process, FULL, async", lambda: durable(parallel_lambdas, count, PROCESSES, full, "async")),
        ours("thread, memory", lambda: in_memory(parallel_lambdas, count, THREADS)),
        ours("thread, NORMAL", lambda: durable(parallel_lambdas, count, THREADS, normal)),
    ]
    return measure("a lambda each", contenders, rounds, BASELINE)


def maps(rounds: int, sizes: Sizes, pools: dict[str, Peer], normal: Store) -> Table:
    """The row about the function of a module."""
    count = sizes.branches
    contenders = [
        *others(pools, run_pool_map, sizes),
        Contender("map, NORMAL, async", timed(lambda: durable(map_items, count, PROCESSES, normal, "async")), count),
        Contender("map, NORMAL, sync", timed(lambda: durable(map_items, count, PROCESSES, normal)), count),
        Contender(
            "map of steps, NORMAL, async",
            timed(lambda: durable(map_steps, count, PROCESSES, normal, "async")),
            count,
        ),
    ]
    return measure("a module's function", contenders, rounds, BASELINE)


def against_aws(count: int, rounds: int) -> Table:
    """The rows about threads: both in memory, both as they come."""

    def aws() -> None:
        assert run_aws(count) == sum(range(count))

    contenders = [
        Contender(AWS_SDK, timed(aws), count),
        Contender("durapool thread", timed(lambda: in_memory(parallel_lambdas, count, THREADS)), count),
    ]
    return measure_cold(f"threads, {count:,} branches", contenders, rounds)


def run(rounds: int, sizes: Sizes = FULL) -> Report:
    """All three parts."""
    report = Report("overhead", settings={**asdict(sizes), "workers": WORKERS})
    peers, missing = installed()
    report.skip(missing)
    with tempfile.TemporaryDirectory(prefix="durapool-perf-") as folder:
        normal = SQLiteStore(Path(folder) / "normal.db")
        full = SQLiteStore(Path(folder) / "full.db", synchronous="FULL")
        with opened_floors(Path(folder)) as floors, opened(peers) as pools:  # they fork, so they come before threads
            each = lambdas(rounds, sizes, pools, floors, normal, full)
            mapped = maps(rounds, sizes, pools, normal)
        normal.close()
        full.close()
    report.tables = [each, mapped]
    report.figures = [
        Figure(f"a lambda each, memory / {BASELINE}", each.ratio("process, memory", BASELINE), 0.5),
        Figure(f"a lambda each, memory, going on / {BASELINE}", each.ratio("process, memory, going on", BASELINE)),
        *(Figure(f"a lambda each, {name} / {BASELINE}", each.ratio(name, BASELINE)) for name in floors),
        Figure(f"a lambda each, SQLite NORMAL / {BASELINE}", each.ratio("process, NORMAL", BASELINE), 0.8),
        Figure(f"a lambda each, SQLite FULL / {BASELINE}", each.ratio("process, FULL", BASELINE), 2.0),
        Figure(f"map, SQLite NORMAL, async / {BASELINE}", mapped.ratio("map, NORMAL, async", BASELINE), 0.8),
        Figure(
            f"map of steps, SQLite NORMAL, async / {BASELINE}", mapped.ratio("map of steps, NORMAL, async", BASELINE)
        ),
    ]
    if not is_installed(MODULES[AWS_SDK]):
        report.skip([AWS_SDK])
        return report
    run_aws(1)  # loads it
    sdk_rows = ((sizes.aws, rounds, 0.08), (sizes.aws_long, min(rounds, AWS_LONG_ROUNDS), 0.03))
    for count, sdk_rounds, target in sdk_rows:
        table = against_aws(count, sdk_rounds)
        report.tables.append(table)
        name = f"thread, memory / {AWS_SDK}, {count:,} branches"
        report.figures.append(Figure(name, table.ratio("durapool thread", AWS_SDK), target))
    return report
