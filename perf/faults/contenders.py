"""The pools, each behind the same four calls, each used the way its own documentation shows.

Libraries are imported by name when a contender is made: what is not installed is left out of the table.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from perf.faults.tasks import Task, pids_in, waits_for

WORKERS = 2
PATIENCE = 30.0  # seconds for a batch of short tasks


class NotOfferedError(Exception):
    """The library has no call for this."""


class Contender(ABC):
    """A pool with two workers."""

    module: str  # without which it is left out
    distribution: str

    def open(self) -> None:  # noqa: B027  # not every pool has to be opened
        """Start the pool."""

    def close(self) -> None:  # noqa: B027  # nor closed
        """End the pool."""

    @abstractmethod
    def run_all(self, tasks: Sequence[Task]) -> list[Any]:
        """Each task's result, or the exception that stands for it. What has no end in PATIENCE is a TimeoutError."""

    @abstractmethod
    def run_with_timeout(self, task: Task, seconds: float) -> None:
        """Run with the library's own limit on the time of a task, and return when that has struck."""

    @abstractmethod
    def cancel_running(self, task: Task, folder: str) -> None:
        """Start the task, and once it has said its pid in the folder cancel it by the library's own means."""


def wait_for_pid(folder: str) -> None:
    """Until a task has said its pid."""
    deadline = time.monotonic() + PATIENCE
    while not pids_in(folder) and time.monotonic() < deadline:
        time.sleep(0.01)


class Durapool(Contender):
    """This project, with the records in memory as the others keep none."""

    module = distribution = "durapool"

    def _run(self, tasks: Sequence[Task], completion: str = "all_completed", **options: Any) -> Any:
        import durapool
        from durapool.executors import ProcessExecutor
        from durapool.stores import MemoryStore

        config = durapool.ParallelConfig(
            executor=ProcessExecutor(workers=WORKERS, **options),
            completion_config=getattr(durapool.CompletionConfig, completion)(),
        )

        @durapool.durable_execution
        def handler(_event: Any, context: durapool.DurableContext) -> Any:
            return context.parallel([_branch(task) for task in tasks], config=config).to_dict()

        outcome = durapool.run(handler, id=f"probe-{time.monotonic_ns()}", store=MemoryStore())
        return durapool.BatchResult.from_dict(outcome)

    def run_all(self, tasks: Sequence[Task]) -> list[Any]:
        """See `Contender`."""
        items = self._run(tasks).all
        return [item.result if item.error is None else named(item.error.type, item.error.message) for item in items]

    def run_with_timeout(self, task: Task, seconds: float) -> None:
        """See `Contender`."""
        self._run([task], timeout=seconds)

    def cancel_running(self, task: Task, folder: str) -> None:
        """See `Contender`. The batch is decided by another branch."""
        self._run([task, lambda: waits_for(folder)], "first_successful")


def _branch(task: Task) -> Callable[[Any], Any]:
    return lambda ctx: ctx.step(lambda _: task())


def named(name: str | None, message: str | None) -> Exception:
    """An exception whose class is called so: all that is left of one that lives on as a record."""
    kind: type[Exception] = type(name or "Exception", (Exception,), {})
    return kind(message)


class Futures(Contender):
    """What pools with futures have in common."""

    def __init__(self) -> None:
        self.pool: Any = None

    @abstractmethod
    def submit(self, task: Task) -> Any:
        """A future."""

    def run_all(self, tasks: Sequence[Task]) -> list[Any]:
        """See `Contender`."""
        futures: list[Any] = []
        for task in tasks:
            try:
                futures.append(self.submit(task))
            except Exception as error:  # noqa: BLE001  # a broken pool raises its own
                futures.append(error)
        deadline = time.monotonic() + PATIENCE
        return [self._outcome(future, max(0.01, deadline - time.monotonic())) for future in futures]

    def _outcome(self, future: Any, seconds: float) -> Any:
        if isinstance(future, Exception):
            return future
        try:
            return future.result(timeout=seconds)
        except Exception as error:  # noqa: BLE001  # whatever the library makes of it
            return error

    def run_with_timeout(self, task: Task, seconds: float) -> None:
        """See `Contender`. There is only the limit on waiting."""
        self._outcome(self.submit(task), seconds)

    def cancel_running(self, task: Task, folder: str) -> None:
        """See `Contender`."""
        future = self.submit(task)
        wait_for_pid(folder)
        future.cancel()


class ConcurrentFutures(Futures):
    """`concurrent.futures.ProcessPoolExecutor` as it comes."""

    module, distribution = "concurrent.futures", ""

    def open(self) -> None:
        """See `Contender`."""
        self.pool = import_module("concurrent.futures").ProcessPoolExecutor(WORKERS)

    def close(self) -> None:
        """See `Contender`. As its `with` does."""
        self.pool.shutdown(wait=True)

    def submit(self, task: Task) -> Any:
        """See `Futures`."""
        return self.pool.submit(task)


class Pebble(Futures):
    """`pebble.ProcessPool`."""

    module, distribution = "pebble", "Pebble"

    def open(self) -> None:
        """See `Contender`."""
        self.pool = import_module("pebble").ProcessPool(max_workers=WORKERS)

    def close(self) -> None:
        """See `Contender`. As its `with` does."""
        self.pool.close()
        self.pool.join()

    def submit(self, task: Task) -> Any:
        """See `Futures`."""
        return self.pool.schedule(task)

    def run_with_timeout(self, task: Task, seconds: float) -> None:
        """See `Contender`."""
        self._outcome(self.pool.schedule(task, timeout=seconds), PATIENCE)


class Dask(Futures):
    """`dask.distributed` with a local cluster."""

    module, distribution = "distributed", "distributed"

    def open(self) -> None:
        """See `Contender`."""
        distributed = import_module("distributed")
        self.cluster = distributed.LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)
        self.pool = distributed.Client(self.cluster)

    def close(self) -> None:
        """See `Contender`."""
        self.pool.close()
        self.cluster.close()

    def submit(self, task: Task) -> Any:
        """See `Futures`."""
        return self.pool.submit(task, pure=False)

    def cancel_running(self, task: Task, folder: str) -> None:
        """See `Contender`."""
        future = self.submit(task)
        wait_for_pid(folder)
        self.pool.cancel([future], force=True)


class Joblib(Contender):
    """`joblib.Parallel` on its default backend, loky. Results are taken as they come, the most that it gives."""

    module, distribution = "joblib", "joblib"

    def _start(self, tasks: Sequence[Task], **options: Any) -> Any:
        joblib = import_module("joblib")
        parallel = joblib.Parallel(n_jobs=WORKERS, batch_size=1, return_as="generator_unordered", **options)
        return parallel(joblib.delayed(numbered)(number, task) for number, task in enumerate(tasks))

    def run_all(self, tasks: Sequence[Task]) -> list[Any]:
        """See `Contender`. The first error ends the call; what had come before it counts."""
        results: dict[int, Any] = {}
        failure: Exception = TimeoutError("no result")
        try:
            for number, result in self._start(tasks):
                results[number] = result
        except Exception as error:  # noqa: BLE001  # whatever the library makes of it
            failure = error
        return [results.get(number, failure) for number in range(len(tasks))]

    def run_with_timeout(self, task: Task, seconds: float) -> None:
        """See `Contender`."""
        try:
            list(self._start([task], timeout=seconds))
        except Exception:  # noqa: BLE001  # the limit has struck; what matters is whether the task has ended
            return

    def cancel_running(self, task: Task, folder: str) -> None:
        """See `Contender`. A task cannot be cancelled, but a call can: by closing its generator."""
        running = self._start([task])
        wait_for_pid(folder)
        running.close()


def numbered(number: int, task: Task) -> tuple[int, Any]:
    """A result with its place."""
    return number, task()


CONTENDERS: dict[str, type[Contender]] = {
    "durapool": Durapool,
    "concurrent.futures": ConcurrentFutures,
    "joblib (loky)": Joblib,
    "Pebble": Pebble,
    "dask.distributed": Dask,
}
