"""What progress looks like: plain numbers, made by the observer, shown by the views."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class End(StrEnum):
    """How a batch stopped being open."""

    DECIDED = "decided"
    SUSPENDED = "suspended"  # it goes on in a later invocation
    CUT_OFF = "cut off"  # an interrupt, a crash, a failed store


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """How one batch stands.

    Args:
        operation_id: of the batch.
        name: as given, else "map" or "parallel".
        kind: "map" or "parallel".
        place: the branch that it is nested in; empty for a batch of the handler's.
        total: branches given.
        succeeded: branches that have ended well, also in earlier runs.
        failed: branches that have failed, also in earlier runs.
        running: branches that have a thread or a worker.
        waiting: branches that have begun and wait for something, such as a retry.
        recorded_before: ended branches that an earlier run had recorded.
        seconds: since the batch was opened in this run.
        rate: branches a second, of late.
        end: None while it is open.
    """

    operation_id: str
    name: str
    kind: str
    place: str
    total: int
    succeeded: int
    failed: int
    running: int
    waiting: int
    recorded_before: int
    seconds: float
    rate: float
    end: End | None = None

    @property
    def ended(self) -> int:
        """Branches that have ended."""
        return self.succeeded + self.failed

    @property
    def seconds_left(self) -> float | None:
        """As it goes now, until the last branch has ended; None while nothing ends."""
        return (self.total - self.ended) / self.rate if self.rate > 0 and self.end is None else None


@dataclass(frozen=True, slots=True)
class Load:
    """What a process uses: per cent of one CPU, and resident memory in bytes."""

    cpu_percent: float
    rss: int


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker process. `pid` 0 until it has come up; `branch` empty while it is idle.

    `lent` tells that it only waits for a batch that its branch has started; `load` None where it is not known;
    `is_here` that the process is one of this machine.
    """

    number: int
    pid: int
    branch: str = ""
    lent: bool = False
    load: Load | None = None
    is_here: bool = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one execution is doing in this process.

    Args:
        execution_id: of the execution.
        seconds: since this run began.
        batches: open ones, outer before inner, and suspended ones.
        ended: outermost batches that have ended since the last snapshot.
        workers: of all pools that it uses.
        on_threads: branches that run on threads of this process.
        load: of this process.
    """

    execution_id: str
    seconds: float
    batches: tuple[BatchProgress, ...] = ()
    ended: tuple[BatchProgress, ...] = ()
    workers: tuple[WorkerRow, ...] = ()
    on_threads: int = 0
    load: Load | None = None
