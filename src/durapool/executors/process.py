"""The process executor: hands a batch to the pool of its kind and drives the pool until the batch has ended."""

from __future__ import annotations

import os
import sys

from durapool.executors import ProcessExecutor
from durapool.executors.base import BatchOutcome, BatchPlan
from durapool.executors.open_batch import OpenBatch
from durapool.pool import registry
from durapool.pool.batches import PoolBatch
from durapool.pool.cargo import Limits, LocalCargo
from durapool.pool.logs import levels
from durapool.scope import Scope

_environment = dict(os.environ)  # at import; workers start with the same or are told the difference


class ProcessBatches:
    """Runs batches on the pool of one kind of process executor."""

    def __init__(self, config: ProcessExecutor, used: set[registry.RunningPool]) -> None:
        self._config = config
        self._used = used

    def run(self, plan: BatchPlan, scope: Scope) -> BatchOutcome:
        """See `Executor.run`."""
        cargo = LocalCargo(plan, scope)
        batch = PoolBatch(
            OpenBatch(plan, scope.journal),
            cargo,
            Limits.of(self._config),
            scope.settings.checkpoint,
            surroundings(),
            scope.settings.execution_id,
        )
        running = registry.acquire(self._config)
        self._used.add(running)
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
        finally:
            registry.release(running)
        if batch.crash is not None:
            raise batch.crash
        assert batch.outcome is not None
        return batch.outcome


def surroundings() -> tuple[str, list[str], dict[str, str | None], dict[str, int]]:
    """Working directory, sys.path, changes of the environment, levels of loggers: what workers follow."""
    try:
        directory = os.getcwd()
    except FileNotFoundError:
        directory = "/"
    now = dict(os.environ)
    changes: dict[str, str | None] = {
        name: now.get(name) for name in now.keys() | _environment.keys() if now.get(name) != _environment.get(name)
    }
    return directory, [os.path.abspath(entry) for entry in sys.path], changes, levels()
