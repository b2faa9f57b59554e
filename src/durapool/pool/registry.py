"""The pools of this process: one for each kind of executor, kept warm between batches, closed at exit."""

from __future__ import annotations

import atexit
import os
import threading
import time
from dataclasses import dataclass, field
from functools import cache

from durapool.exceptions import ClusterError, OrphanedBranch
from durapool.executors import PooledExecutor, ProcessExecutor
from durapool.flag import Flag
from durapool.pool.drive import Driver
from durapool.pool.pool import Pool

BEAT_SECONDS = 5.0  # between two words to the nodes of a cluster, which wait for a minute
IDLE_SECONDS = 60.0  # a pool that nobody has used for so long is closed
KEEP_SECONDS = 0.5  # between two looks at whether a cluster's slots are still of use
LOOK_SECONDS = 0.005  # between two looks at branches that an invocation waits for
MOST_IDLE = 4  # pools that are kept warm; an initializer that is made anew for each call makes a pool each


@dataclass(eq=False)
class RunningPool:
    """A pool with the election of its driver."""

    pool: Pool
    driver: Driver = field(init=False)
    users: int = 0
    last_used: float = 0.0
    _closing: Flag = field(default_factory=Flag)  # tells the keeper
    _closed: bool = False

    def __post_init__(self) -> None:
        self.driver = Driver(self.pool)

    def keep_in_background(self) -> None:
        """Tell the nodes of a cluster that we live, and free its slots while there is nothing to run."""
        threading.Thread(target=self._keep, name="durapool-keeper", daemon=True).start()

    def _keep(self) -> None:
        due = 0.0
        while not self._closing.wait(KEEP_SECONDS):
            if time.monotonic() >= due:
                self.pool.link.beat()
                due = time.monotonic() + BEAT_SECONDS
            if self.users == 0:
                try:
                    self.driver.while_paused(self.pool.let_go)
                except ClusterError:
                    remove(self)

    def close(self) -> None:
        """End the pool; whoever waits for it gets OrphanedBranch."""
        self.driver.while_paused(self._close_paused)
        if not self._closed:  # poisoned: nobody turns the loop any more
            self._close_paused()

    def _close_paused(self) -> None:
        if not self._closed:
            self._closing.set()
            try:
                self.pool.close()
            finally:
                self.driver.poisoned = True
            self._closed = True

    def finish_in_background(self) -> None:
        """Branches of decided batches go on: a thread of our own turns the loop for them while nobody else does."""
        threading.Thread(target=self._finish, name="durapool-background", daemon=True).start()

    def _finish(self) -> None:
        try:
            self.driver.drive(_Stragglers(self.pool))
        except OrphanedBranch:
            return  # the pool was closed

    def end_invocation(self, invocation: object, seconds: float) -> None:
        """Stop what still runs of an invocation, and wait for it at most so long.

        What `cancel_running=False` has left at work may finish first, in as much time; threads turn the loop for it.
        """
        deadline = time.monotonic() + seconds
        while self.pool.has_detached(invocation) and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        if not self.pool.is_done_with(invocation):
            self.driver.while_paused(lambda: self.pool.end_invocation(invocation, seconds))


class _Stragglers:
    """What the background thread waits for."""

    def __init__(self, pool: Pool) -> None:
        self.signal = Flag()
        self._pool = pool

    @property
    def finished(self) -> bool:
        return not self._pool.has_detached()


_lock = threading.Lock()
_pools: dict[tuple[object, ...], RunningPool] = {}
_closer: threading.Thread | None = None


def _key(executor: PooledExecutor) -> tuple[object, ...]:
    """What batches must have in common to share a pool."""
    shared = (executor.workers, executor.initializer, executor.preload, executor.max_branches_per_worker)
    if isinstance(executor, ProcessExecutor):
        return ("process", executor.start_method, *shared)
    return (type(executor), executor.address, repr(executor.resources), *shared)


def acquire(executor: PooledExecutor) -> RunningPool:
    """The pool of this executor, started if need be. Give it back with `release`.

    Raises:
        PoolError: it cannot be started.
    """
    key = _key(executor)
    with _lock:
        running = _pools.get(key)
        crowded = []
        if running is not None and running.pool.link.is_gone:
            crowded.append(_pools.pop(key))
            running = None
        if running is None:
            running = _pools[key] = RunningPool(Pool(executor))
            crowded += _take_idle(MOST_IDLE)
            if not isinstance(executor, ProcessExecutor):
                running.keep_in_background()
                _close_clusters_in_time()
        running.users += 1
    for other in crowded:
        other.close()
    return running


@cache
def _close_clusters_in_time() -> None:
    """At the end of the program, while threads can still be started: the libraries of clusters want some."""
    register = getattr(threading, "_register_atexit", atexit.register)  # as concurrent.futures does
    register(close_clusters)


def _take_idle(keep: int) -> list[RunningPool]:
    """Take the idle pools out that were used longest ago, above `keep`. The lock is held."""
    idle = [key for key, pool in _pools.items() if pool.users == 0 and pool.last_used and not pool.pool.has_detached()]
    idle.sort(key=lambda key: _pools[key].last_used, reverse=True)
    return [_pools.pop(key) for key in idle[keep:]]


def release(running: RunningPool) -> None:
    """The caller's batch has ended."""
    global _closer
    with _lock:
        running.users -= 1
        running.last_used = time.monotonic()
        if running.users == 0 and running.pool.has_detached():
            running.finish_in_background()
        if _closer is None:
            _closer = threading.Thread(target=_close_idle, name="durapool-idle", daemon=True)
            _closer.start()


def remove(running: RunningPool) -> None:
    """Close a pool whose state cannot be trusted any more, such as after an interrupt."""
    with _lock:
        keys = [key for key, value in _pools.items() if value is running]
        for key in keys:
            del _pools[key]
    if keys:  # else another thread has come first
        try:
            running.close()
        except BaseException:  # Ctrl-C once more: no worker and no descriptor may stay all the same
            running.close()
            raise


def close_all() -> None:
    """Close every pool; the next batch starts a new one."""
    _close_those(list(_pools))


def close_clusters() -> None:
    """Close the pools on clusters."""
    _close_those([key for key, running in list(_pools.items()) if not running.pool.link.sends_ahead])


def _close_those(keys: list[tuple[object, ...]]) -> None:
    with _lock:
        pools = [_pools.pop(key) for key in keys if key in _pools]
    for running in pools:
        running.close()


def _close_idle() -> None:
    while True:
        time.sleep(IDLE_SECONDS / 4)
        now = time.monotonic()
        with _lock:
            idle = [
                key for key, running in _pools.items() if running.users == 0 and now - running.last_used > IDLE_SECONDS
            ]
            pools = [_pools.pop(key) for key in idle]
        for running in pools:
            running.close()


def _forget_after_fork() -> None:
    """In a forked child the pools are the parent's: their sockets must not be used, nor their threads waited for."""
    global _lock, _closer
    _lock = threading.Lock()
    _closer = None
    for running in _pools.values():
        running.pool.abandon()
    _pools.clear()


atexit.register(close_all)
os.register_at_fork(after_in_child=_forget_after_fork)
