"""durapool as the benchmarks use it: two workers, and an execution of its own for each run."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import durapool
from durapool import DurableHandler
from durapool.executors import ExecutorSpec, ProcessExecutor, ThreadExecutor
from durapool.stores.base import Store
from perf.peer import WORKERS

PROCESSES = ProcessExecutor(workers=WORKERS)
THREADS = ThreadExecutor()
TWO_THREADS = ThreadExecutor(max_threads=WORKERS)


def run_anew(
    handler: DurableHandler,
    event: Any,
    executor: ExecutorSpec,
    store: Store | str,
    checkpoint: str = "sync",
    progress: bool | str = False,
) -> Any:
    """The result of a new execution."""
    return durapool.run(
        handler, event, id=uuid4().hex, store=store, executor=executor, checkpoint=checkpoint, progress=progress
    )
