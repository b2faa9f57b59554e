"""The executors of one execution in the parent: made from specs, closed down at the end of each invocation."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from durapool.executors import ExecutorSpec, ThreadExecutor, parse_executor
from durapool.executors.thread import Crew, ThreadBatches

if TYPE_CHECKING:
    from durapool.executors.base import Executor
    from durapool.pool.registry import RunningPool

PATIENCE = 1.0  # seconds that what a decision cut off is waited for at the end of an invocation


class Executors:
    """What `Scope.executor_for` asks in the parent."""

    def __init__(self) -> None:
        self._stragglers: list[threading.Thread] = []
        self._crews: set[Crew] = set()
        self._pools: set[RunningPool] = set()

    def executor_for(self, spec: ExecutorSpec) -> Executor:
        """The executor that runs a batch of this spec.

        Raises:
            ValidationError: not a spec.
        """
        match parse_executor(spec):
            case ThreadExecutor() as config:
                return ThreadBatches(config, self._stragglers, self._crews)
            case pooled:
                from durapool.executors.process import ProcessBatches  # heavy, and not needed for threads

                return ProcessBatches(pooled, self._pools)

    def interrupt(self) -> None:
        """End the batches that are open: whoever waits for one gets OrphanedBranch. From any other thread."""
        for crew in list(self._crews):
            crew.interrupt()
        for running in list(self._pools):
            running.end_invocation(self._pools, PATIENCE)

    def finish_invocation(self) -> None:
        """Wait for what decisions cut off.

        Threads end at their next operation, which is rejected. Workers are killed, also those that
        `cancel_running=False` or a thread that was cut off has left at work, and are gone as soon as the kernel has
        cleared them away.
        """
        for running in list(self._pools):
            running.end_invocation(self._pools, PATIENCE)
        self._pools.clear()
        deadline = time.monotonic() + PATIENCE
        for thread in self._stragglers:
            if thread.is_alive():  # an interrupt may have come before it was started
                thread.join(max(0.0, deadline - time.monotonic()))
        self._stragglers.clear()
