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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import durapool
from durapool import DurableContext, durable_execution
from durapool.executors import ProcessExecutor, ThreadExecutor
from perf.harness import Contender, Figure, Report, measure

BRANCHES = 16
WORKERS = 2
SECONDS = 0.25  # a branch alone on an idle CPU
TARGET = 1.05


def burn(loops: int) -> int:
    """Integer work that keeps the GIL and touches no memory to speak of."""
    value = 1
    for i in range(loops):
        value = (value * 1103515245 + i) % 2147483647
    return value


def calibrate() -> int:
    """How many loops take about SECONDS. The best of five, so that a busy moment does not make the branches short."""
    probe = 200_000
    best = min(_seconds_of(probe) for _ in range(5))
    return int(probe * SECONDS / best)


def _seconds_of(loops: int) -> float:
    began = time.perf_counter()
    burn(loops)
    return time.perf_counter() - began


@durable_execution
def handler(event: dict[str, int], context: DurableContext) -> list[int]:
    """One step in each branch."""
    loops = event["loops"]
    result = context.parallel([lambda ctx: ctx.step(lambda _: burn(loops)) for _ in range(BRANCHES)])
    result.throw_if_error()
    return result.get_results()


def raw_threads(loops: int) -> list[int]:
    """The standard library's thread pool."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(burn, [loops] * BRANCHES))


def raw_fork(loops: int) -> list[int]:
    """A bare fork for each worker, which does its share and sends the results through a pipe."""
    readers = []
    for _ in range(WORKERS):
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads: this child only computes
            child = os.fork()
        if child == 0:
            os.write(writer, pickle.dumps([burn(loops) for _ in range(BRANCHES // WORKERS)]))
            os._exit(0)
        os.close(writer)
        readers.append((child, reader))
    results: list[int] = []
    for child, reader in readers:
        with os.fdopen(reader, "rb") as pipe:
            results += pickle.load(pipe)
        os.waitpid(child, 0)
    return results


def run(rounds: int) -> Report:
    """Time the four contenders."""
    loops = calibrate()
    expected = [burn(loops)] * BRANCHES
    report = Report("cpu", baseline="raw fork", tasks=BRANCHES)
    report.settings = {"branches": BRANCHES, "workers": WORKERS, "loops": loops, "rounds": rounds, "store": "sqlite"}

    with tempfile.TemporaryDirectory(prefix="durapool-perf-") as folder:
        store = str(Path(folder) / "journal.db")

        def durable(executor: ProcessExecutor | ThreadExecutor) -> None:
            result = durapool.run(handler, {"loops": loops}, id=uuid4().hex, store=store, executor=executor)
            assert result == expected

        def checked(results: list[int]) -> None:
            assert results == expected

        contenders = [
            Contender("durapool process", lambda: durable(ProcessExecutor(workers=WORKERS))),
            Contender("raw fork", lambda: checked(raw_fork(loops))),
            Contender("durapool thread", lambda: durable(ThreadExecutor(max_threads=WORKERS))),
            Contender("raw threads", lambda: checked(raw_threads(loops))),
        ]
        measure(report, contenders, rounds)

    ours = report.ratio("durapool process", "durapool thread")
    raw = report.ratio("raw fork", "raw threads")
    report.figures = [
        Figure("durapool process / durapool thread", ours),
        Figure("raw fork / raw threads", raw),
        Figure("durapool process / raw fork", report.ratio("durapool process", "raw fork")),
        Figure("(process / thread) / (raw fork / raw threads)", ours / raw, TARGET),
    ]
    return report
