"""How long it takes to go on: half of a map's branches have ended, and the program starts again.

The store is made by a run that ends at the first branch of the second half, so that exactly half have ended, in order.
Each round resumes it in an interpreter of its own up to the same branch: no new branch ever ends, and the store stays
as it is but for a few records. The clock runs from the call of `durapool.run` to the call of that branch's function.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import durapool
from durapool import CompletionConfig, DurableContext, MapConfig, SQLiteStore, durable_execution
from durapool.executors import ExecutorSpec, ThreadExecutor
from perf.durable import PROCESSES, TWO_THREADS
from perf.harness import Contender, call_afresh, measure_cold
from perf.report import Figure, Report

ROUNDS = 5
TARGET = 2.0
NAME = "half-finished"
EXECUTORS: dict[str, ExecutorSpec] = {"process": PROCESSES, "thread": TWO_THREADS}


@dataclass(frozen=True)
class Sizes:
    """How many branches the map has; half of them have ended."""

    branches: int


FULL = Sizes(branches=100_000)
QUICK = Sizes(branches=200)


class HalfDoneError(BaseException):
    """Ends the invocation, as a kill would: nothing is recorded of the branch that raises it."""


@durable_execution
def handler(event: dict[str, Any], context: DurableContext) -> int:
    """A map whose second half never runs."""
    half = event["branches"] // 2
    mark = Path(event["mark"])

    def branch(ctx: DurableContext, item: int, index: int, _inputs: Sequence[int]) -> int:
        if index < half:
            return ctx.step(lambda _: item)
        now = time.monotonic()
        with mark.open("a") as file:
            file.write(f"{now}\n")
        raise HalfDoneError

    config: MapConfig[int] = MapConfig(completion_config=CompletionConfig.all_completed())
    return context.map(range(event["branches"]), branch, config=config).success_count


def go_on(folder: str, branches: int, executor: ExecutorSpec) -> float:
    """Run until a branch of the second half is called; seconds from here to there. The clock is the whole machine's."""
    mark = Path(folder) / "mark"
    mark.unlink(missing_ok=True)
    store = SQLiteStore(Path(folder) / "journal.db")
    began = time.monotonic()
    try:
        durapool.run(handler, {"branches": branches, "mark": str(mark)}, id=NAME, store=store, executor=executor)
    except HalfDoneError:
        return min(map(float, mark.read_text().split())) - began
    finally:
        store.close()
    raise AssertionError("the second half ran")


def resume(folder: str, branches: int, executor: str) -> float:
    """In an interpreter of its own."""
    return go_on(folder, branches, EXECUTORS[executor])


def ended_branches(folder: str) -> int:
    """Branches whose end is in the store."""
    store = SQLiteStore(Path(folder) / "journal.db")
    ended = sum(
        record.update.sub_type == durapool.OperationSubType.MAP_ITERATION and record.update.action.value == "SUCCEED"
        for record in store.read(NAME)
    )
    store.close()
    return ended


def run(rounds: int, sizes: Sizes = FULL) -> Report:
    """Both executors, on one store."""
    report = Report("resume", settings={**asdict(sizes), "store": "sqlite"})
    with tempfile.TemporaryDirectory(prefix="durapool-perf-") as folder:
        go_on(folder, sizes.branches, ThreadExecutor(max_threads=1))
        report.settings["ended"] = ended_branches(folder)
        assert report.settings["ended"] == sizes.branches // 2
        contenders = [
            Contender(name, partial(_resumed, folder, sizes.branches, name), sizes.branches // 2) for name in EXECUTORS
        ]
        table = measure_cold("to the first new branch", contenders, rounds)
    report.tables = [table]
    report.figures = [
        Figure(
            f"{name}: resume with {sizes.branches // 2:,} of {sizes.branches:,} branches done",
            table.each(name) * (sizes.branches // 2),
            TARGET,
            unit="s",
        )
        for name in EXECUTORS
    ]
    return report


def _resumed(folder: str, branches: int, executor: str) -> float:
    return float(call_afresh("perf.benchmarks.resume", "resume", folder, branches, executor))
