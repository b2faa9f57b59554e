"""Threads against processes: from which length of a branch on each mode pays, by what the branch does.

    pure Python   keeps the GIL
    numpy         releases it: ufuncs on arrays
    sleeping      waits, as for a disk or a service

Each mode as it comes: threads on demand, and two worker processes. SQLite NORMAL, one step in each branch.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from durapool import DurableContext, SQLiteStore, durable_execution
from durapool.executors import ExecutorSpec
from durapool.stores.base import Store
from perf.benchmarks.cpu import burn
from perf.durable import PROCESSES, THREADS, run_anew
from perf.harness import Contender, measure_cold, timed
from perf.peer import WORKERS
from perf.report import Curve, Figure, Report, Table

ROUNDS = 3
MODES: dict[str, ExecutorSpec] = {"thread": THREADS, "process": PROCESSES}
LONG_ARRAY_FROM = 1e-3  # seconds: shorter branches work on shorter arrays


@dataclass(frozen=True)
class Sizes:
    """Lengths of a branch in seconds; how long the branches of one run take together; how many they are at most."""

    lengths: tuple[float, ...]
    together: float
    fewest: int
    most: int

    def branches(self, length: float) -> int:
        """How many branches of this length one run has."""
        return min(self.most, max(self.fewest, round(self.together / length)))


FULL = Sizes(lengths=(1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0), together=0.5, fewest=4, most=500)
QUICK = Sizes(lengths=(1e-5, 1e-3), together=0.005, fewest=2, most=4)


@cache
def numbers(length: int) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], ...]:
    """An input and an output, made once in each thread's process."""
    return np.linspace(0, 1, length), np.empty(length)


def sines(length: int, times: int) -> None:
    """Sines of `length` numbers, `times` times; the GIL is free meanwhile."""
    source, target = numbers(length)
    for _ in range(times):
        np.sin(source, out=target)


def work_of(kind: str, seconds: float) -> list[float]:
    """What `perform` needs to be busy for so long alone on an idle CPU: found by trying. The best of seven counts."""
    if kind == "sleeping":
        return [seconds]
    if kind == "pure Python":
        return [max(1, round(seconds / best_of(partial(burn, 100_000)) * 100_000))]
    length = 16_384 if seconds >= LONG_ARRAY_FROM else 500
    return [length, max(1, round(seconds / best_of(partial(sines, length, 100)) * 100))]


def best_of(work: Callable[[], object]) -> float:
    """Seconds."""
    return min(timed(work)() for _ in range(7))


def perform(kind: str, work: Sequence[float]) -> None:
    """Be busy."""
    match kind:
        case "sleeping":
            time.sleep(work[0])
        case "pure Python":
            burn(int(work[0]))
        case "numpy":
            sines(int(work[0]), int(work[1]))


KINDS = ("pure Python", "numpy", "sleeping")


@durable_execution
def handler(event: dict[str, Any], context: DurableContext) -> int:
    """Branches with one step each."""
    kind, work, branches = event["kind"], event["work"], event["branches"]
    result = context.parallel([lambda ctx: ctx.step(lambda _: perform(kind, work))] * branches)
    return result.success_count


def run_mode(mode: str, store: Store, kind: str, work: list[float], branches: int) -> None:
    """One execution."""
    event = {"kind": kind, "work": work, "branches": branches}
    assert run_anew(handler, event, MODES[mode], store) == branches


def in_words(seconds: float) -> str:
    """A length as text."""
    if seconds >= 1:
        return f"{seconds:g} s"
    return f"{seconds * 1e3:g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:g} us"


def from_which_length(ratios: dict[float, float]) -> str:
    """What the ratios process / thread say: where processes are faster for this length and all longer ones."""
    pays: list[float] = []
    for length in sorted(ratios, reverse=True):
        if ratios[length] >= 1:
            break
        pays.append(length)
    if not pays:
        return "threads pay at every length that was tried"
    if len(pays) == len(ratios):
        return "processes pay at every length that was tried"
    return f"processes pay from {in_words(min(pays))}, threads below"


def tables_of(kind: str, rounds: int, sizes: Sizes, store: Store) -> dict[float, Table]:
    """Both modes, one table for each length."""
    tables = {}
    for length in sizes.lengths:
        branches, work = sizes.branches(length), work_of(kind, length)
        contenders = [
            Contender(mode, timed(partial(run_mode, mode, store, kind, work, branches)), branches) for mode in MODES
        ]
        tables[length] = measure_cold(f"{kind}, {in_words(length)}", contenders, rounds)
    return tables


def run(rounds: int, sizes: Sizes = FULL) -> Report:
    """All kinds and lengths."""
    report = Report("modes", settings={**asdict(sizes), "workers": WORKERS, "store": "sqlite"})
    with tempfile.TemporaryDirectory(prefix="durapool-perf-") as folder:
        store = SQLiteStore(Path(folder) / "journal.db")
        for kind in KINDS:
            for mode in MODES:
                run_mode(mode, store, kind, work_of(kind, 1e-5), 2 * WORKERS)  # warms up
            tables = tables_of(kind, rounds, sizes, store)
            report.tables += tables.values()
            ratios = {length: table.ratio("process", "thread") for length, table in tables.items()}
            report.figures += [
                Figure(f"process / thread, {kind}, {in_words(length)}", ratio) for length, ratio in ratios.items()
            ]
            report.notes.append(f"{kind}: {from_which_length(ratios)}")
            lines = {mode: [(at, table.each(mode) / at) for at, table in tables.items()] for mode in MODES}
            report.curves.append(Curve(kind, "length of a branch, s", "time for a branch / its length", lines))
        store.close()
    return report
