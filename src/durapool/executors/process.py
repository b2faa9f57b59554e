"""Executors with worker processes, here or on a cluster.

Hands a batch to the pool of its kind and drives the pool until the batch has ended.
"""

from __future__ import annotations

from durapool.exceptions import ClusterError, ClusterFailure
from durapool.executors import PooledExecutor
from durapool.executors.base import BatchOutcome, BatchPlan
from durapool.executors.open_batch import OpenBatch
from durapool.pickling import pickler_for
from durapool.pool import registry
from durapool.pool.batches import BRISK, BRISK_ON_SERVICE, PoolBatch
from durapool.pool.cargo import Limits, LocalCargo
from durapool.pool.places import surroundings_for
from durapool.progress.observer import watched
from durapool.scope import Scope


class ProcessBatches:
    """Runs batches on the pool of one kind of executor."""

    def __init__(self, config: PooledExecutor, used: set[registry.RunningPool]) -> None:
        self._config = config
        self._used = used

    def run(self, plan: BatchPlan, scope: Scope) -> BatchOutcome:
        """See `Executor.run`."""
        try:
            return self._run(plan, scope)
        except ClusterError as error:
            raise ClusterFailure(error) from error.__cause__  # no failure of the handler: it can be resumed

    def _run(self, plan: BatchPlan, scope: Scope) -> BatchOutcome:
        running = registry.acquire(self._config)  # a new pool starts up while this thread serialises
        self._used.add(running)
        try:
            cargo = LocalCargo(plan, scope, pickler_for(self._config))
            batch = PoolBatch(
                OpenBatch(plan, scope.journal),
                cargo,
                Limits.of(self._config),
                scope.settings.checkpoint,
                surroundings_for(self._config, running.pool.link.size),
                scope.settings.execution_id,
                blobs=scope.blobs,  # type: ignore[arg-type]  # in the parent it is the store's
                invocation=self._used,
                brisk=BRISK_ON_SERVICE if scope.settings.service else BRISK,
            )
            with watched(batch.open, scope, running.pool):
                return _drive(running, batch)
        finally:
            registry.release(running)


def _drive(running: registry.RunningPool, batch: PoolBatch) -> BatchOutcome:
    try:
        running.pool.hand_in(batch)
        running.driver.drive(batch)
    except BaseException as interrupt:
        reason = interrupt
        if running.driver.poisoned:
            registry.remove(running)
        else:
            running.driver.while_paused(lambda: running.pool.withdraw(batch, reason))
        raise
    if batch.crash is not None:
        raise batch.crash
    assert batch.outcome is not None
    return batch.outcome
