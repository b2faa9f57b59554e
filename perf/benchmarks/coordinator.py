"""How far one coordinator goes: a batch of very many branches on 10,000 simulated workers (see `perf.simulation`).

alone       the state machine of the batch and nothing else
journal     the batch as executors have it, every branch in its journal; the store forgets the records at once
simulation  the coordinator with the simulated workers, their clock and their chance

A decision is one call: which branch starts, or what a piece of news means. Times are of this process alone (its CPU
time): nothing here waits. Memory is what Python has allocated when the last branch has ended, for each branch.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from perf.harness import Contender, call_afresh, measure_cold
from perf.report import Curve, Figure, Report, Table
from perf.simulation import Call, Cluster, Course, follow_alone, follow_recorded, simulate

ROUNDS = 3
GROWTH = 1.2
MEMORY = 1024.0  # bytes for a branch, its small result included
KINDS: dict[str, Callable[[Course], Any]] = {
    "alone": follow_alone,
    "journal": follow_recorded,
    "simulation": lambda course: simulate(course.branches, course.cluster),
}


@dataclass(frozen=True)
class Sizes:
    """Branches in a batch, ascending; at most `recorded` of them with a journal."""

    branches: tuple[int, ...]
    recorded: int
    workers: int

    def of(self, kind: str) -> list[int]:
        """The batches of this kind."""
        return [count for count in self.branches if kind != "journal" or count <= self.recorded]


FULL = Sizes(branches=(10_000, 100_000, 1_000_000), recorded=100_000, workers=10_000)
LONG = Sizes(branches=(10_000, 100_000, 1_000_000), recorded=1_000_000, workers=10_000)
QUICK = Sizes(branches=(50, 100, 200), recorded=200, workers=20)


def seconds_of(kind: str, course: Course) -> float:
    """CPU seconds of one run of the course."""
    gc.collect()
    began = time.process_time()
    KINDS[kind](course)
    return time.process_time() - began


def bytes_of(kind: str, branches: int, workers: int) -> float:
    """In an interpreter of its own: memory for each branch, all that the batch has come to included."""
    course = simulate(branches, Cluster(workers))
    gc.collect()
    tracemalloc.start()
    held = KINDS[kind](course)
    size, _ = tracemalloc.get_traced_memory()
    del held
    return size / branches


def time_table(kind: str, rounds: int, courses: Sequence[Course]) -> Table:
    """One kind over all sizes, in turn."""
    contenders = [
        Contender(f"{course.branches:,} branches", partial(seconds_of, kind, course), course.branches)
        for course in courses
    ]
    return measure_cold(kind, contenders, rounds)


def run(rounds: int, sizes: Sizes = FULL) -> Report:
    """Times of all kinds, then memory."""
    cluster = Cluster(sizes.workers)
    courses = {branches: simulate(branches, cluster) for branches in sizes.branches}
    report = Report("coordinator", settings={**asdict(sizes), **asdict(cluster)})
    for kind in KINDS:
        report.tables.append(time_table(kind, rounds, [courses[branches] for branches in sizes.of(kind)]))
        report.figures += _figures(report.tables[-1], courses)
    for kind, target in (("alone", None), ("journal", MEMORY)):
        largest = sizes.of(kind)[-1]
        weight = call_afresh("perf.benchmarks.coordinator", "bytes_of", kind, largest, sizes.workers)
        report.figures.append(Figure(f"{kind}: memory for a branch of {largest:,}", weight, target, unit="B"))
    largest_course = courses[sizes.branches[-1]]
    calls = ", ".join(f"{largest_course.count(call):,} {call.name}" for call in Call)
    report.notes.append(f"{largest_course.branches:,} branches on {sizes.workers:,} workers: {calls}")
    lines = {
        table.title: [(float(count), table.each(name) * 1e6) for name, count in table.tasks.items()]
        for table in report.tables
    }
    report.curves = [Curve("CPU time for a branch", "branches in the batch", "us for a branch", lines)]
    return report


def _figures(table: Table, courses: Mapping[int, Course]) -> list[Figure]:
    """How many decisions a second in the largest batch, and whether one costs more than in the smallest."""
    small, *_, large = table.tasks
    course = courses[table.tasks[large]]
    rate = len(course.calls) / course.branches / table.each(large)
    target = GROWTH if table.title == "alone" else None
    return [
        Figure(f"{table.title}: decisions a second, {large}", rate),
        Figure(f"{table.title}: time for a branch, {large} / {small}", table.each(large) / table.each(small), target),
    ]
