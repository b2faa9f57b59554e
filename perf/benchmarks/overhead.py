"""What one branch with one step costs when it does nothing: each branch a lambda of its own, on a warm pool.

The baseline is the standard library's process pool, which keeps nothing: the same lambdas, sent with cloudpickle.
"""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import cloudpickle

import durapool
from durapool import DurableContext, durable_execution
from durapool.executors import ExecutorSpec, ProcessExecutor, ThreadExecutor
from durapool.stores.base import Store
from durapool.stores.memory import MemoryStore
from perf.harness import Contender, Figure, Report, measure

BRANCHES = 2000
WORKERS = 2
BASELINE = "ProcessPoolExecutor"


@durable_execution
def handler(event: dict[str, int], context: DurableContext) -> int:
    """Branches that each record one step."""
    branches = [lambda ctx, i=i: ctx.step(lambda _: i) for i in range(event["branches"])]
    result = context.parallel(branches)
    result.throw_if_error()
    return sum(result.get_results())


def call(function: bytes) -> Any:
    """In a worker of the baseline: load the function and call it."""
    return pickle.loads(function)()


def run(rounds: int) -> Report:
    """Time each executor on each store."""
    expected = sum(range(BRANCHES))
    report = Report("overhead", baseline=BASELINE, tasks=BRANCHES)
    report.settings = {"branches": BRANCHES, "workers": WORKERS, "rounds": rounds}

    with (
        tempfile.TemporaryDirectory(prefix="durapool-perf-") as folder,
        ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("forkserver")) as pool,
    ):
        database = str(Path(folder) / "journal.db")

        def plain() -> None:
            functions: list[Callable[[], int]] = [lambda i=i: i for i in range(BRANCHES)]  # type: ignore[misc]
            futures = [pool.submit(call, cloudpickle.dumps(function)) for function in functions]
            assert sum(future.result() for future in futures) == expected

        def durable(executor: ExecutorSpec, store: str | Store) -> None:
            event = {"branches": BRANCHES}
            assert durapool.run(handler, event, id=uuid4().hex, store=store, executor=executor) == expected

        processes, threads = ProcessExecutor(workers=WORKERS), ThreadExecutor(max_threads=WORKERS)
        contenders = [
            Contender(BASELINE, plain),
            Contender("process, memory", lambda: durable(processes, MemoryStore())),
            Contender("process, sqlite", lambda: durable(processes, database)),
            Contender("thread, memory", lambda: durable(threads, MemoryStore())),
            Contender("thread, sqlite", lambda: durable(threads, database)),
        ]
        measure(report, contenders, rounds)

    report.figures = [
        Figure(f"{contender.name} / {BASELINE}", report.ratio(contender.name, BASELINE)) for contender in contenders[1:]
    ]
    return report
