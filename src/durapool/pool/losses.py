"""What becomes of a branch whose worker was lost: the error that says how it died."""

from __future__ import annotations

import os
import signal

from durapool.exceptions import (
    BranchMemoryError,
    BranchTimeoutError,
    DurableExecutionsError,
    WorkerLostError,
    WorkerProtocolError,
)
from durapool.pool.workforce import Loss


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
    text = f"{branch} lost its worker process: {describe(loss.status)}"
    if loss.peak:
        text += f"; its memory had reached {loss.peak / 2**20:.0f} MiB"
    if loss.tail:
        text += "; it last wrote to stderr:\n" + "\n".join(loss.tail)
    else:
        text += ". All that the branch had recorded is kept; retry_lost=1 on the executor runs such a branch again"
    return WorkerLostError(text)


def may_be_everybodys(loss: Loss) -> bool:
    """Whether the worker ended by a signal that service managers send to all processes of a program at once.

    The parent is then about to end too, and records no failure of a branch for it.
    """
    if loss.status is None or loss.problem is not None or loss.excess or not os.WIFSIGNALED(loss.status):
        return False
    return os.WTERMSIG(loss.status) in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def describe(status: int | None) -> str:
    """A wait status in words."""
    if status is None:
        return "the pool's supervisor ended, and the worker with it"
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
