"""Whether a branch costs the same in a batch of 100 and of 100,000: a `map` of an empty function on SQLite.

time      of `context.map` alone, seen from inside the handler
memory    by which an interpreter of its own has grown when the map has ended and its result is held
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from durapool import DurableContext, SQLiteStore, durable_execution
from durapool.executors import ExecutorSpec
from perf.durable import PROCESSES, TWO_THREADS, run_anew
from perf.harness import Contender, call_afresh, measure_cold
from perf.peer import WORKERS
from perf.report import Curve, Figure, Report, Table

ROUNDS = 3
EXECUTORS: dict[str, ExecutorSpec] = {"process": PROCESSES, "thread": TWO_THREADS}
GROWTH = 1.2
MEMORY = 1024.0  # bytes for a branch, its small result included


@dataclass(frozen=True)
class Sizes:
    """How many branches, and how often the small batches run in one round."""

    smallest: int
    small: int
    middle: int
    large: int
    repeats: int
    warm: int  # ahead of what is weighed


FULL = Sizes(smallest=100, small=1_000, middle=10_000, large=100_000, repeats=9, warm=1_000)
QUICK = Sizes(smallest=10, small=20, middle=40, large=80, repeats=1, warm=20)


@durable_execution
def timed_map(event: dict[str, int], context: DurableContext) -> float:
    """Seconds of the map."""
    items = range(event["branches"])
    began = time.perf_counter()
    result = context.map(items, give_back)
    seconds = time.perf_counter() - began
    assert result.success_count == len(items)
    return seconds


@durable_execution
def weighed_map(event: dict[str, int], context: DurableContext) -> float:
    """Bytes by which the process has grown, for each branch."""
    items = range(event["branches"])
    gc.collect()
    before = psutil.Process().memory_info().rss
    result = context.map(items, give_back)
    gc.collect()
    grown = psutil.Process().memory_info().rss - before
    assert result.success_count == len(items)
    return grown / len(items)


def give_back(_ctx: DurableContext, item: int, _index: int, _inputs: Sequence[int]) -> int:
    """A branch that does nothing."""
    return item


def seconds_of(executor: ExecutorSpec, branches: int, repeats: int) -> float:
    """The median of some executions, each over a new store."""
    with tempfile.TemporaryDirectory(prefix="durapool-perf-") as folder:
        store = SQLiteStore(Path(folder) / "journal.db")
        times = [run_anew(timed_map, {"branches": branches}, executor, store) for _ in range(repeats)]
        store.close()
    return float(median(times))


def bytes_of(executor: str, warm: int, branches: int) -> float:
    """In an interpreter of its own: memory for each branch, after a small batch has loaded and started everything."""
    with tempfile.TemporaryDirectory(prefix="durapool-perf-") as folder:
        store = SQLiteStore(Path(folder) / "journal.db")
        run_anew(weighed_map, {"branches": warm}, EXECUTORS[executor], store)
        found: Any = run_anew(weighed_map, {"branches": branches}, EXECUTORS[executor], store)
        store.close()
    return float(found)


def time_table(name: str, rounds: int, sizes: Sizes) -> Table:
    """One executor at all sizes, in turn."""
    executor = EXECUTORS[name]
    counts = {
        sizes.small: sizes.repeats,
        sizes.smallest: sizes.repeats,
        sizes.middle: 1,
        sizes.large: 1,
    }
    seconds_of(executor, sizes.small, 1)  # warms up
    contenders = [
        Contender(f"{count:,} branches", partial(seconds_of, executor, count, repeats), count)
        for count, repeats in counts.items()
    ]
    return measure_cold(name, contenders, rounds)


def run(rounds: int, sizes: Sizes = FULL) -> Report:
    """Processes and threads."""
    report = Report("scale", settings={**asdict(sizes), "workers": WORKERS, "store": "sqlite", "mode": "sync"})
    small, large = f"{sizes.small:,} branches", f"{sizes.large:,} branches"
    for name in EXECUTORS:
        table = time_table(name, rounds, sizes)
        report.tables.append(table)
        grows = table.each(large) / table.each(small)
        report.figures.append(Figure(f"{name}: time for a branch, {large} / {small}", grows, GROWTH))
    for name in EXECUTORS:
        weight = call_afresh("perf.benchmarks.scale", "bytes_of", name, sizes.warm, sizes.large)
        report.figures.append(
            Figure(f"{name}: memory for a finished branch of {sizes.large:,}", weight, MEMORY, unit="B")
        )
    lines = {
        table.title: sorted((float(count), table.each(name) * 1e6) for name, count in table.tasks.items())
        for table in report.tables
    }
    report.curves = [Curve("time for a branch", "branches in the batch", "us for a branch", lines)]
    return report
