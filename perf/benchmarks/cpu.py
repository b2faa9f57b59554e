"""Equal CPU-bound branches on two workers: what durapool's processes cost against a bare fork.

The figure is (durapool process / durapool thread) over (raw fork / raw threads), all in the same run: the speed-up that
processes give under durapool, against the one that the machine gives at this moment.
"""

from __future__ import annotations

import os
import pickle
import tempfile
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from durapool import DurableContext, durable_execution
from durapool.executors import ExecutorSpec
from perf.durable import PROCESSES, TWO_THREADS, run_anew
from perf.harness import Contender, measure, timed
from perf.peer import WORKERS, Peer
from perf.peers import installed, opened
from perf.report import Figure, Report

TARGET = 1.05
ROUNDS = 7
FEWER = 3  # rounds among the other pools, which only say what is usual


@dataclass(frozen=True)
class Sizes:
    """How much is done in one run."""

    branches: int
    seconds: float  # a branch alone on an idle CPU


FULL = Sizes(branches=16, seconds=0.25)
QUICK = Sizes(branches=4, seconds=0.01)


def burn(loops: int) -> int:
    """Integer work that keeps the GIL and touches no memory to speak of."""
    value = 1
    for i in range(loops):
        value = (value * 1103515245 + i) % 2147483647
    return value


def loops_of(seconds: float) -> int:
    """How many loops take about so long. The best of five, so that a busy moment does not make the branches short."""
    probe = 200_000
    best = min(_seconds_of(probe) for _ in range(5))
    return max(1, int(probe * seconds / best))


def _seconds_of(loops: int) -> float:
    began = time.perf_counter()
    burn(loops)
    return time.perf_counter() - began


@durable_execution
def handler(event: dict[str, int], context: DurableContext) -> list[int]:
    """One step in each branch."""
    loops = event["loops"]
    result = context.parallel([lambda ctx: ctx.step(lambda _: burn(loops)) for _ in range(event["branches"])])
    result.throw_if_error()
    return result.get_results()


def raw_threads(loops: int, branches: int) -> list[int]:
    """The standard library's thread pool."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(burn, [loops] * branches))


def raw_fork(loops: int, branches: int) -> list[int]:
    """A bare fork for each worker, which does its share and sends the results through a pipe."""
    readers = []
    for _ in range(WORKERS):
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads: this child only computes
            child = os.fork()
        if child == 0:
            os.write(writer, pickle.dumps([burn(loops) for _ in range(branches // WORKERS)]))
            os._exit(0)
        os.close(writer)
        readers.append((child, reader))
    results: list[int] = []
    for child, reader in readers:
        with os.fdopen(reader, "rb") as pipe:
            results += pickle.load(pipe)
        os.waitpid(child, 0)
    return results


def pooled(pool: Peer, loops: int, expected: list[int]) -> None:
    """The same work on another pool."""
    assert pool.call_each(burn, [loops] * len(expected)) == expected


def run(rounds: int, sizes: Sizes = FULL) -> Report:
    """Time durapool, the bare fork, threads, and the other pools, which say what is usual."""
    loops, branches = loops_of(sizes.seconds), sizes.branches
    expected = [burn(loops)] * branches
    report = Report("cpu", settings={**asdict(sizes), "workers": WORKERS, "loops": loops, "store": "sqlite"})
    peers, missing = installed()
    report.skip(missing)

    with tempfile.TemporaryDirectory(prefix="durapool-perf-") as folder:
        store = str(Path(folder) / "journal.db")

        def durable(executor: ExecutorSpec) -> None:
            checked(run_anew(handler, {"loops": loops, "branches": branches}, executor, store))

        def checked(results: Sequence[int]) -> None:
            assert list(results) == expected

        processes = Contender("durapool process", timed(lambda: durable(PROCESSES)), branches)
        contenders = [
            processes,
            Contender("raw fork", timed(lambda: checked(raw_fork(loops, branches))), branches),
            Contender("durapool thread", timed(lambda: durable(TWO_THREADS)), branches),
            Contender("raw threads", timed(lambda: checked(raw_threads(loops, branches))), branches),
        ]
        table = measure("CPU-bound branches", contenders, rounds, baseline="raw fork")
        with opened(peers) as pools:
            others = [
                Contender(name, timed(partial(pooled, pool, loops, expected)), branches) for name, pool in pools.items()
            ]
            among = measure("among pools", [processes, *others], min(rounds, FEWER))

    report.tables = [table, among]
    ours_to_threads = table.ratio("durapool process", "durapool thread")
    raw_to_threads = table.ratio("raw fork", "raw threads")
    report.figures = [
        Figure("durapool process / durapool thread", ours_to_threads),
        Figure("raw fork / raw threads", raw_to_threads),
        Figure("durapool process / raw fork", table.ratio("durapool process", "raw fork")),
        Figure("(process / thread) / (raw fork / raw threads)", ours_to_threads / raw_to_threads, TARGET),
    ]
    return report
