"""How many records a second reach the store, two for each step, from branches that do nothing but steps.

Two branches each run their steps one after the other, so that the wait for each commit is seen in mode "sync".
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import durapool
from durapool import DurableContext, MemoryStore, SQLiteStore, durable_execution
from durapool.executors import ExecutorSpec
from durapool.stores.base import Store
from perf.durable import PROCESSES, TWO_THREADS
from perf.durable_peers import DBOS, MODULES, launched_dbos
from perf.harness import Contender, measure, timed
from perf.peer import WORKERS
from perf.peers import is_installed
from perf.report import Figure, Report, Table

ROUNDS = 5
RECORDS = 2  # of each step: START and SUCCEED
MODES = ("sync", "async")
EXECUTORS: dict[str, ExecutorSpec] = {"process": PROCESSES, "thread": TWO_THREADS}


@dataclass(frozen=True)
class Sizes:
    """How many steps one run has."""

    steps: int  # of each branch
    dbos: int  # in all; fewer, because each takes milliseconds


FULL = Sizes(steps=1_000, dbos=200)
QUICK = Sizes(steps=20, dbos=5)


@durable_execution
def handler(event: dict[str, int], context: DurableContext) -> int:
    """WORKERS branches of many steps."""

    def branch(ctx: DurableContext) -> int:
        return sum(ctx.step(lambda _, i=i: i) for i in range(event["steps"]))  # type: ignore[misc]  # i has a default

    result = context.parallel([branch] * WORKERS)
    result.throw_if_error()
    return sum(result.get_results())


def run_steps(open_store: Callable[[], Store], executor: ExecutorSpec, mode: str, steps: int) -> float:
    """Seconds of one execution; its records are counted afterwards."""
    store, name = open_store(), uuid4().hex
    began = time.perf_counter()
    result = durapool.run(handler, {"steps": steps}, id=name, store=store, executor=executor, checkpoint=mode)
    seconds = time.perf_counter() - began
    assert result == WORKERS * sum(range(steps))
    summary = store.find(name)
    assert summary is not None
    assert summary.records >= RECORDS * WORKERS * steps
    return seconds


def run(rounds: int, sizes: Sizes = FULL) -> Report:
    """Each executor on each store in each mode, and DBOS."""
    report = Report("checkpoint", settings={**asdict(sizes), "branches": WORKERS})
    with tempfile.TemporaryDirectory(prefix="durapool-perf-") as folder:
        normal = SQLiteStore(Path(folder) / "normal.db")
        full = SQLiteStore(Path(folder) / "full.db", synchronous="FULL")
        stores: dict[str, Callable[[], Store]] = {
            "memory": MemoryStore,
            "NORMAL": lambda: normal,
            "FULL": lambda: full,
        }
        contenders = [
            Contender(
                f"{where}, {kept}, {mode}",
                partial(run_steps, open_store, executor, mode, sizes.steps),
                WORKERS * sizes.steps,
            )
            for where, executor in EXECUTORS.items()
            for kept, open_store in stores.items()
            for mode in MODES
        ]
        table = with_dbos(contenders, rounds, sizes, Path(folder), report)
        normal.close()
        full.close()
    report.tables = [table]
    report.figures = [
        Figure(f"records a second: {contender.name}", RECORDS / table.each(contender.name)) for contender in contenders
    ]
    return report


def with_dbos(contenders: list[Contender], rounds: int, sizes: Sizes, folder: Path, report: Report) -> Table:
    """Measure, with DBOS if it is installed."""
    title, baseline = "steps", "process, NORMAL, sync"
    if not is_installed(MODULES[DBOS]):
        report.skip([DBOS])
        return measure(title, contenders, rounds, baseline)
    with launched_dbos(folder) as dbos:
        theirs = Contender(DBOS, timed(lambda: dbos.run(sizes.dbos)), sizes.dbos)
        return measure(title, [*contenders, theirs], rounds, baseline)
