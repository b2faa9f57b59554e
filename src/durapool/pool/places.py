"""Where the workers of an executor are: on this machine, or on a cluster. What follows from that is chosen here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from durapool.executors import PooledExecutor, ProcessExecutor
from durapool.pickling import dump_function, pickler_for
from durapool.pool.machine import default_start_method, usable_cpus
from durapool.pool.supervisor import SupervisorLink
from durapool.pool.surroundings import surroundings, surroundings_elsewhere

if TYPE_CHECKING:
    from durapool.pool.supervisor import Link


def connector(executor: PooledExecutor) -> Callable[[], Link]:
    """What makes the link of a pool. It raises PoolError where there is none to be had."""
    if isinstance(executor, ProcessExecutor):
        method, size = executor.start_method or default_start_method(), executor.workers or usable_cpus()
        return lambda: SupervisorLink(method, size, executor.preload)

    from durapool.cluster.engine import open_engine  # for few, and engines are slow to import
    from durapool.cluster.link import RemoteLink

    return lambda: RemoteLink(open_engine(executor), executor.workers, executor.preload)


def initializer_of(executor: PooledExecutor) -> bytes | None:
    """What each worker calls first, pickled."""
    if executor.initializer is None:
        return None
    return dump_function(executor.initializer, "the initializer", pickler_for(executor))


def surroundings_for(executor: PooledExecutor, size: int) -> tuple[Any, ...]:
    """What the workers of a pool of this size follow."""
    return surroundings(size) if isinstance(executor, ProcessExecutor) else surroundings_elsewhere()
