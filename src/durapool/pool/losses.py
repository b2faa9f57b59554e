"""What becomes of a branch whose worker was lost: the error that says how it died."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Iterator

from durapool.exceptions import (
    BranchMemoryError,
    BranchTimeoutError,
    DurableExecutionsError,
    WorkerLostError,
    WorkerProtocolError,
)
from durapool.pool.batches import ActiveRun
from durapool.pool.workforce import Loss

GRACE = 1.0  # seconds between SIGTERM and SIGKILL for a branch over its time
SIGNAL_PATIENCE = 1.0  # seconds that a worker lost to a signal of service managers is not recorded


def lost_error(loss: Loss, branch: str, memory_limit: int | None) -> DurableExecutionsError:
    """The error of the branch, with all that is known of the worker's end."""
    if loss.excess:
        return BranchMemoryError(
            f"{branch} was stopped: with its child processes it held {loss.excess / 2**20:.0f} MiB of memory, over the "
            f"executor's memory_limit of {(memory_limit or 0) / 2**20:.0f} MiB. Raise the limit, or let it hold less"
        )
    if loss.problem is not None:
        return WorkerProtocolError(
            f"{branch}: its worker was discarded, it sent what no worker may send: {loss.problem}"
        )
    text = f"{branch} lost its worker process{_where(loss)}"
    if loss.peak:
        text += f"; its memory had reached {loss.peak / 2**20:.0f} MiB"
    if loss.tail:
        text += "; it last wrote to stderr:\n" + "\n".join(loss.tail)
    else:
        text += ". All that the branch had recorded is kept; retry_lost=1 on the executor runs such a branch again"
    return WorkerLostError(text)


def _where(loss: Loss) -> str:
    if loss.status is None:
        return f": {loss.where}" if loss.where else ": the pool's supervisor ended, and the worker with it"
    where = f" {loss.where}" if loss.where else ""
    return f"{where}: {describe(loss.status)}"


def describe(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        hint = " (out of memory, perhaps)" if number == signal.SIGKILL else ""
        return f"killed by {name}{hint}"
    return f"it exited with code {os.waitstatus_to_exitcode(status)}"


def timeout_error(branch: str, timeout: float) -> BranchTimeoutError:
    """The error of a branch that ran too long."""
    return BranchTimeoutError(
        f"{branch} ran longer than the executor's timeout of {timeout:g} s and was stopped; what it recorded is kept"
    )


class HeldLosses:
    """Losses that may be one signal to every process of the program, as service managers send it.

    They are held for a while: if the parent was signalled too, it is about to end and records no failure for them.
    """

    def __init__(self) -> None:
        self._held: deque[tuple[float, ActiveRun, Loss]] = deque()

    def hold(self, run: ActiveRun, loss: Loss) -> bool:
        """Hold the loss if it is such a one; whether it is."""
        if loss.status is None or loss.problem is not None or loss.excess or not os.WIFSIGNALED(loss.status):
            return False
        if os.WTERMSIG(loss.status) not in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            return False
        self._held.append((time.monotonic() + SIGNAL_PATIENCE, run, loss))
        return True

    def waits(self) -> list[float]:
        """Seconds until the next is due; empty without one."""
        return [self._held[0][0] - time.monotonic()] if self._held else []

    def take_due(self) -> Iterator[tuple[ActiveRun, Loss]]:
        """Those that happened to their workers alone, and whose batch still waits for them."""
        while self._held and self._held[0][0] <= time.monotonic():
            _, run, loss = self._held.popleft()
            if run.batch.runs.get(run.index) is run:
                yield run, loss
