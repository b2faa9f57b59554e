"""How long trouble takes: to notice a lost worker, to replace it, to stop the losers of a decided batch.

    notice    from the moment before a task kills its own process to the outcome that its caller gets
    replace   on a pool of one worker: from the same moment to the start of the next task
    losers    from the end of the winner's step to the return, while the other branch still has seconds to run

Tasks say when with `time.monotonic()`, which is the same clock in all processes. What becomes of the other tasks is
in the table of `perf.faults_table`.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from durapool import CompletionConfig, DurableContext, MemoryStore, ParallelConfig, durable_execution
from durapool.executors import ExecutorSpec, ThreadExecutor
from perf.durable import PROCESSES, run_anew
from perf.faults.tasks import pids_in
from perf.harness import Contender, measure
from perf.peer import FaultPeer
from perf.peers import ConcurrentFutures, Dask, Durapool, Joblib, Loky, Pebble, installed
from perf.report import Figure, Report, Table

ROUNDS = 5
STOPPED = 0.05  # seconds
NOTICING = (Durapool, ConcurrentFutures, Loky, Joblib, Pebble, Dask)
REPLACING = (Durapool, Pebble)
"""Those whose pool goes on by itself with one worker; dask.distributed runs the deadly task again first."""


@dataclass(frozen=True)
class Sizes:
    """How long a loser would run, and how many pools are compared, at most."""

    loser_seconds: float
    peers: int


FULL = Sizes(loser_seconds=10.0, peers=len(NOTICING))
QUICK = Sizes(loser_seconds=3.0, peers=2)


def dies(mark: str) -> None:
    """Say when, and be killed."""
    say(mark)
    os.kill(os.getpid(), signal.SIGKILL)


def say(mark: str) -> None:
    """Say when; the first to say it counts."""
    if not os.path.exists(mark):
        Path(mark).write_text(str(time.monotonic()))


def said(mark: str) -> float:
    """When it was."""
    return float(Path(mark).read_text())


def in_pool(kind: type[FaultPeer], workers: int, ask: Callable[[FaultPeer, str], float]) -> float:
    """Ask a pool that was made for it and is warm: a lost worker is the end of some of them."""
    pool = kind(workers)
    pool.open()
    with tempfile.TemporaryDirectory(prefix="durapool-perf-") as folder:
        try:
            assert pool.run_all([partial(str, 7)]) == ["7"]
            return ask(pool, folder)
        finally:
            pool.close()


def notice(pool: FaultPeer, folder: str) -> float:
    """Until the caller knows."""
    mark = f"{folder}/death"
    [outcome] = pool.run_all([partial(dies, mark)])
    seconds = time.monotonic() - said(mark)
    assert isinstance(outcome, Exception), outcome
    return seconds


def replace(pool: FaultPeer, folder: str) -> float:
    """Until the next task runs."""
    death, start = f"{folder}/death", f"{folder}/start"
    pool.run_all([partial(dies, death), partial(say, start)])
    return said(start) - said(death)


@durable_execution
def race(event: dict[str, Any], context: DurableContext) -> float:
    """A winner that ends when the loser has begun; seconds from there to the decision's arrival in the handler."""
    folder, seconds = event["folder"], event["seconds"]

    def lose(_: Any) -> None:
        Path(folder, f"pid-{os.getpid()}").touch()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            sum(range(10_000))

    def win(_: Any) -> float:
        while not pids_in(folder):
            time.sleep(0.001)
        return time.monotonic()

    config = ParallelConfig(completion_config=CompletionConfig.first_successful())
    result = context.parallel([lambda ctx: ctx.step(lose), lambda ctx: ctx.step(win)], config=config)
    [won] = result.get_results()
    assert result.started_count == 1
    return float(won)


def stop_losers(executor: ExecutorSpec, seconds: float) -> float:
    """From the end of the winner's step to the return of `durapool.run`."""
    with tempfile.TemporaryDirectory(prefix="durapool-perf-") as folder:
        won = run_anew(race, {"folder": folder, "seconds": seconds}, executor, MemoryStore())
        return time.monotonic() - float(won)


def losers(rounds: int, sizes: Sizes, name: str, executor: ExecutorSpec) -> Table:
    """One executor alone: threads cannot be stopped, and losers that compute on would slow the next round of others."""
    contender = Contender(name, partial(stop_losers, executor, sizes.loser_seconds))
    return measure(f"losers of {sizes.loser_seconds:g} s", [contender], rounds)


def run(rounds: int, sizes: Sizes = FULL) -> Report:
    """All three; what threads leave at work comes last."""
    report = Report("faults", settings=asdict(sizes))
    report.tables.append(losers(rounds, sizes, "durapool process", PROCESSES))
    for title, kinds, workers, ask in (("notice", NOTICING, 2, notice), ("replace", REPLACING, 1, replace)):
        peers, missing = installed(kinds)
        report.skip(missing)
        contenders = [
            Contender(kind.name, partial(in_pool, kind, workers, ask))  # type: ignore[arg-type]  # all are FaultPeers
            for kind in peers[: sizes.peers]
        ]
        report.tables.append(measure(title, contenders, rounds))
    stopping, noticing, replacing = (table.each(table.baseline) for table in report.tables)
    report.figures = [
        Figure("first_successful: from the decision to the return", stopping * 1e3, STOPPED * 1e3, unit="ms"),
        Figure("a lost worker is noticed after", noticing * 1e3, unit="ms"),
        Figure("the next branch starts on its replacement after", replacing * 1e3, unit="ms"),
    ]
    report.tables.append(losers(1, sizes, "durapool thread", ThreadExecutor()))
    return report
