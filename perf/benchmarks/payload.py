"""Large arrays out of workers, into them, and shared by many branches; on warm pools, so that segments are recycled.

    out     each branch returns an array that its worker has made before
    in      each branch is given an array of its own
    shared  all branches capture one array; the other pools pickle it for each task

Whoever gets an array reads a number from each of its pages: an array that is only promised has not arrived.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from durapool import DurableContext, MemoryStore, SQLiteStore, durable_execution
from durapool.stores.base import Store
from perf.durable import PROCESSES, run_anew
from perf.harness import Contender, measure, timed
from perf.peer import WORKERS, Peer
from perf.peers import ConcurrentFuturesFork, ConcurrentFuturesForkServer, Joblib, installed, opened
from perf.report import Figure, Report, Table

ROUNDS = 5
BASELINE = ConcurrentFuturesFork.name
SHARED_PEERS = (ConcurrentFuturesFork, Joblib)  # the others need seconds for a round, as the first does
PAGE = 4096 // 8  # numbers

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Sizes:
    """Sizes in MiB."""

    array: int
    arrays: int  # in one run
    shared: int
    branches: int  # that share one array


FULL = Sizes(array=64, arrays=4, shared=16, branches=100)
QUICK = Sizes(array=2, arrays=2, shared=1, branches=4)


@cache
def array_of(mebibytes: int, number: int = 0) -> Array:
    """Made once in each process, and different for each number."""
    return np.full(mebibytes << 17, number + 1.0)


def weigh(array: Array) -> float:
    """Read one number from each page."""
    return float(array[::PAGE].sum())


def weight_of(mebibytes: int, number: int = 0) -> float:
    """What `weigh` says of `array_of`."""
    return (mebibytes << 17) / PAGE * (number + 1.0)


@durable_execution
def give(event: dict[str, int], context: DurableContext) -> float:
    """Arrays come back as the results of branches."""

    def branch(_ctx: DurableContext, mebibytes: int, _index: int, _inputs: Sequence[int]) -> Array:
        return array_of(mebibytes)

    result = context.map([event["array"]] * event["arrays"], branch)
    result.throw_if_error()
    return sum(weigh(array) for array in result.get_results())


@durable_execution
def take(event: dict[str, int], context: DurableContext) -> list[float]:
    """Arrays are the items of a map."""

    def branch(_ctx: DurableContext, array: Array, _index: int, _inputs: Sequence[Array]) -> float:
        return weigh(array)

    result = context.map([array_of(event["array"], number) for number in range(event["arrays"])], branch)
    result.throw_if_error()
    return result.get_results()


@durable_execution
def share(event: dict[str, int], context: DurableContext) -> list[float]:
    """One array is captured by all branches."""
    array = array_of(event["shared"])
    result = context.parallel([lambda _: weigh(array)] * event["branches"])
    result.throw_if_error()
    return result.get_results()


def durable_out(store: Store, sizes: Sizes) -> None:
    """durapool."""
    assert run_anew(give, asdict(sizes), PROCESSES, store) == sizes.arrays * weight_of(sizes.array)


def durable_in(store: Store, sizes: Sizes) -> None:
    """durapool."""
    expected = [weight_of(sizes.array, number) for number in range(sizes.arrays)]
    assert run_anew(take, asdict(sizes), PROCESSES, store) == expected


def durable_shared(store: Store, sizes: Sizes) -> None:
    """durapool."""
    assert run_anew(share, asdict(sizes), PROCESSES, store) == [weight_of(sizes.shared)] * sizes.branches


def pool_out(pool: Peer, sizes: Sizes) -> None:
    """Another pool."""
    arrays = pool.call_each(array_of, [sizes.array] * sizes.arrays)
    assert sum(map(weigh, arrays)) == sizes.arrays * weight_of(sizes.array)


def pool_in(pool: Peer, sizes: Sizes) -> None:
    """Another pool."""
    arrays = [array_of(sizes.array, number) for number in range(sizes.arrays)]
    assert pool.call_each(weigh, arrays) == [weight_of(sizes.array, number) for number in range(sizes.arrays)]


def pool_shared(pool: Peer, sizes: Sizes) -> None:
    """Another pool."""
    array = array_of(sizes.shared)
    assert pool.call_each(weigh, [array] * sizes.branches) == [weight_of(sizes.shared)] * sizes.branches


def compare(
    title: str,
    pools: dict[str, Peer],
    pooled: Callable[[Peer, Sizes], None],
    durable: Callable[[Store, Sizes], None],
    sizes: Sizes,
    tasks: int,
    rounds: int,
    folder: Path,
) -> Table:
    """One table: the pools, then durapool in memory (a new store for each run) and on SQLite."""
    contenders = [Contender(name, timed(partial(pooled, pool, sizes)), tasks) for name, pool in pools.items()]
    store = SQLiteStore(folder / "journal.db")
    contenders += [
        Contender("durapool, memory", timed(lambda: durable(MemoryStore(), sizes)), tasks),
        Contender("durapool, SQLite", timed(lambda: durable(store, sizes)), tasks),
    ]
    table = measure(title, contenders, rounds, BASELINE)
    store.close()
    return table


def speed(table: Table, contender: str, mebibytes: int) -> str:
    """As text: MiB a second."""
    return f"{table.title}, {contender}: {mebibytes / table.each(contender):,.0f} MiB/s"


def run(rounds: int, sizes: Sizes = FULL) -> Report:
    """All three directions."""
    report = Report("payload", settings={**asdict(sizes), "workers": WORKERS})
    peers, missing = installed()
    report.skip(missing)
    with opened([peer for peer in peers if peer is not ConcurrentFuturesForkServer]) as pools:
        for title, pooled, durable in (("out", pool_out, durable_out), ("in", pool_in, durable_in)):
            with tempfile.TemporaryDirectory(prefix="durapool-perf-") as folder:
                table = compare(
                    f"{title}, {sizes.array} MiB", pools, pooled, durable, sizes, sizes.arrays, rounds, Path(folder)
                )
            report.tables.append(table)
            report.notes += [speed(table, name, sizes.array) for name in table.seconds]
        few = {kind.name: pools[kind.name] for kind in SHARED_PEERS if kind.name in pools}
        with tempfile.TemporaryDirectory(prefix="durapool-perf-") as folder:
            title = f"{sizes.shared} MiB shared by {sizes.branches}"
            shared = compare(
                title, few, pool_shared, durable_shared, sizes, sizes.branches, min(rounds, 3), Path(folder)
            )
    report.tables.append(shared)
    for table, target in zip(report.tables, (5.0, 5.0, 50.0), strict=True):
        for store in ("memory", "SQLite"):
            figure = Figure(
                f"{table.title}: {BASELINE} / durapool, {store}",
                table.ratio(BASELINE, f"durapool, {store}"),
                target if store == "memory" else None,
                "at least",
            )
            report.figures.append(figure)
    return report
