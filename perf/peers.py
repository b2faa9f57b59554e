"""The process pools that durapool is compared with, each behind the same calls, each used as its documentation shows.

Libraries are imported by name when a pool is opened: what is not installed is left out, by name (`installed`).
None of them records anything. The durable libraries are in `durable_peers.py`.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from perf.faults.tasks import Task, waits_for
from perf.peer import PATIENCE, WORKERS, FaultPeer, Peer, wait_for_pid


class Durapool(FaultPeer):
    """This project, with the records in memory as the others keep none."""

    name = module = distribution = "durapool"
    sends_lambdas = True

    def _run(self, tasks: Sequence[Task], completion: str = "all_completed", **options: Any) -> Any:
        import durapool
        from durapool.executors import ProcessExecutor
        from durapool.stores import MemoryStore

        config = durapool.ParallelConfig(
            executor=ProcessExecutor(workers=self.workers, **options),
            completion_config=getattr(durapool.CompletionConfig, completion)(),
        )

        @durapool.durable_execution
        def handler(_event: Any, context: durapool.DurableContext) -> Any:
            return context.parallel([_branch(task) for task in tasks], config=config).to_dict()

        outcome = durapool.run(handler, id=f"probe-{time.monotonic_ns()}", store=MemoryStore())
        return durapool.BatchResult.from_dict(outcome)

    def call_each(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """See `Peer`."""
        result = self._run([partial(function, item) for item in items])
        result.throw_if_error()
        results: list[Any] = result.get_results()
        return results

    def run_all(self, tasks: Sequence[Task]) -> list[Any]:
        """See `FaultPeer`."""
        items = self._run(tasks).all
        return [item.result if item.error is None else named(item.error.type, item.error.message) for item in items]

    def run_with_timeout(self, task: Task, seconds: float) -> None:
        """See `FaultPeer`."""
        self._run([task], timeout=seconds)

    def cancel_running(self, task: Task, folder: str) -> None:
        """See `FaultPeer`. The batch is decided by another branch."""
        self._run([task, lambda: waits_for(folder)], "first_successful")


def _branch(task: Task) -> Callable[[Any], Any]:
    return lambda ctx: ctx.step(lambda _: task())


def named(name: str | None, message: str | None) -> Exception:
    """An exception whose class is called so: all that is left of one that lives on as a record."""
    kind: type[Exception] = type(name or "Exception", (Exception,), {})
    return kind(message)


class Futures(FaultPeer):
    """What pools with futures have in common."""

    pool: Any = None

    @abstractmethod
    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A future."""

    def call_each(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """See `Peer`."""
        futures = [self.submit(function, item) for item in items]
        return [future.result() for future in futures]

    def run_all(self, tasks: Sequence[Task]) -> list[Any]:
        """See `FaultPeer`."""
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
        """See `FaultPeer`. There is only the limit on waiting."""
        self._outcome(self.submit(task), seconds)

    def cancel_running(self, task: Task, folder: str) -> None:
        """See `FaultPeer`."""
        future = self.submit(task)
        wait_for_pid(folder)
        future.cancel()


class ConcurrentFutures(Futures):
    """`concurrent.futures.ProcessPoolExecutor` as it comes."""

    name = module = "concurrent.futures"
    start_method: str | None = None

    def open(self) -> None:
        """See `Peer`."""
        context = import_module("multiprocessing").get_context(self.start_method)
        self.pool = import_module("concurrent.futures").ProcessPoolExecutor(self.workers, mp_context=context)

    def close(self) -> None:
        """See `Peer`. As its `with` does."""
        self.pool.shutdown(wait=True)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """See `Futures`."""
        return self.pool.submit(function, *arguments)


class ConcurrentFuturesFork(ConcurrentFutures):
    """The same with forked workers: the baseline of most benchmarks, as the quickest to start."""

    name, start_method = "PPE (fork)", "fork"


class ConcurrentFuturesForkServer(ConcurrentFutures):
    """The same with multiprocessing's fork server."""

    name, start_method = "PPE (fork server)", "forkserver"


class Loky(Futures):
    """`loky.get_reusable_executor`."""

    name = module = distribution = "loky"
    sends_lambdas = True

    def open(self) -> None:
        """See `Peer`."""
        self.pool = import_module("loky").get_reusable_executor(max_workers=self.workers)

    def close(self) -> None:
        """See `Peer`."""
        self.pool.shutdown(wait=True)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """See `Futures`."""
        return self.pool.submit(function, *arguments)


class Pebble(Futures):
    """`pebble.ProcessPool`."""

    name, module, distribution = "Pebble", "pebble", "Pebble"

    def open(self) -> None:
        """See `Peer`."""
        self.pool = import_module("pebble").ProcessPool(max_workers=self.workers)

    def close(self) -> None:
        """See `Peer`. As its `with` does."""
        self.pool.close()
        self.pool.join()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """See `Futures`."""
        return self.pool.schedule(function, args=arguments)

    def run_with_timeout(self, task: Task, seconds: float) -> None:
        """See `FaultPeer`."""
        self._outcome(self.pool.schedule(task, timeout=seconds), PATIENCE)


class Dask(Futures):
    """`dask.distributed` with a local cluster."""

    name, module, distribution = "dask.distributed", "distributed", "distributed"
    sends_lambdas = True

    def open(self) -> None:
        """See `Peer`."""
        distributed = import_module("distributed")
        path = sys.path[:]
        self.cluster = distributed.LocalCluster(
            n_workers=self.workers, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
        )
        self.pool = distributed.Client(self.cluster)
        sys.path[:] = path  # it adds its scratch folder, where all others would look for modules too

    def close(self) -> None:
        """See `Peer`."""
        self.pool.close()
        with suppress(AssertionError):  # "can only join a started process": a worker is being replaced
            self.cluster.close()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """See `Futures`."""
        return self.pool.submit(function, *arguments, pure=False)

    def cancel_running(self, task: Task, folder: str) -> None:
        """See `FaultPeer`."""
        future = self.submit(task)
        wait_for_pid(folder)
        self.pool.cancel([future], force=True)


class Ray(Peer):
    """`ray.remote` on a local cluster, of which a process has one: `workers` bounds the tasks that run at once.

    It has CPUs to spare, so that tasks need not wait for actors that still hold theirs.
    """

    name, module, distribution = "ray", "ray", "ray"
    sends_lambdas = True

    def open(self) -> None:
        """See `Peer`."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self.ray = import_module("ray")
        if not self.ray.is_initialized():
            amounts = {"num_cpus": 2 * WORKERS, "resources": {"turn": WORKERS}}
            self.ray.init("local", include_dashboard=False, log_to_driver=False, logging_level="ERROR", **amounts)

    def close(self) -> None:
        """See `Peer`."""
        self.ray.shutdown()

    def call_each(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """See `Peer`."""
        turn = {"turn": WORKERS / self.workers}
        remote = self.ray.remote(num_cpus=0, max_retries=0, resources=turn)(function)
        results: list[Any] = self.ray.get([remote.remote(item) for item in items])
        return results


class Joblib(FaultPeer):
    """`joblib.Parallel` on its default backend, loky. It joins short tasks to larger ones by itself."""

    name, module, distribution = "joblib (loky)", "joblib", "joblib"
    sends_lambdas = True

    def call_each(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """See `Peer`."""
        joblib = import_module("joblib")
        results: list[Any] = joblib.Parallel(n_jobs=self.workers)(joblib.delayed(function)(item) for item in items)
        return results

    def _start(self, tasks: Sequence[Task], **options: Any) -> Any:
        """Results are taken as they come, the most that it gives."""
        joblib = import_module("joblib")
        parallel = joblib.Parallel(n_jobs=self.workers, batch_size=1, return_as="generator_unordered", **options)
        return parallel(joblib.delayed(numbered)(number, task) for number, task in enumerate(tasks))

    def run_all(self, tasks: Sequence[Task]) -> list[Any]:
        """See `FaultPeer`. The first error ends the call; what had come before it counts."""
        results: dict[int, Any] = {}
        failure: Exception = TimeoutError("no result")
        try:
            for number, result in self._start(tasks):
                results[number] = result
        except Exception as error:  # noqa: BLE001  # whatever the library makes of it
            failure = error
        return [results.get(number, failure) for number in range(len(tasks))]

    def run_with_timeout(self, task: Task, seconds: float) -> None:
        """See `FaultPeer`."""
        try:
            list(self._start([task], timeout=seconds))
        except Exception:  # noqa: BLE001  # the limit has struck; what matters is whether the task has ended
            return

    def cancel_running(self, task: Task, folder: str) -> None:
        """See `FaultPeer`. A task cannot be cancelled, but a call can: by closing its generator."""
        running = self._start([task])
        wait_for_pid(folder)
        running.close()


def numbered(number: int, task: Task) -> tuple[int, Any]:
    """A result with its place."""
    return number, task()


class MultiprocessingPool(Peer):
    """`multiprocessing.Pool`. It does not notice dead tasks, so it is no `FaultPeer`."""

    name, module = "multiprocessing.Pool", "multiprocessing"

    def open(self) -> None:
        """See `Peer`."""
        self.pool = import_module("multiprocessing").get_context("fork").Pool(self.workers)

    def close(self) -> None:
        """See `Peer`."""
        self.pool.close()
        self.pool.join()

    def call_each(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """See `Peer`."""
        results: list[Any] = self.pool.map(function, items, chunksize=1)
        return results


FAULT_PEERS: dict[str, type[FaultPeer]] = {
    peer.name: peer for peer in (Durapool, ConcurrentFutures, Joblib, Pebble, Dask)
}
"""Those of the table of faults."""

POOLS: tuple[type[Peer], ...] = (
    ConcurrentFuturesFork,
    ConcurrentFuturesForkServer,
    MultiprocessingPool,
    Pebble,
    Loky,
    Joblib,
    Dask,
)
"""Those that durapool is timed against. Pools that fork come first, before others start threads."""


def is_installed(module: str) -> bool:
    """Whether a module is there."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def installed(peers: Sequence[type[Peer]] = POOLS) -> tuple[list[type[Peer]], list[str]]:
    """Those that are there, and the names of those that are not."""
    missing = [peer for peer in peers if not is_installed(peer.module)]
    return [peer for peer in peers if peer not in missing], [peer.name for peer in missing]


@contextmanager
def opened(peers: Sequence[type[Peer]], workers: int = WORKERS) -> Iterator[dict[str, Peer]]:
    """Pools by name, closed at the end."""
    with ExitStack() as stack:
        pools = {}
        for kind in peers:
            pool = pools[kind.name] = kind(workers)
            pool.open()
            stack.callback(pool.close)
        yield pools
