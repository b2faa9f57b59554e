"""The suspended branches of a batch: which of them can go on, without asking all of them each time.

    add(index, operations)   a time is known of each: by the earliest in a heap; else the branch is looked at every time
    take_due(journal)        those of which an operation has ended, or is READY
    discard(index)           the branch goes on, or has ended

What only time brings costs O(log n) a branch. A callback may be answered at any moment, so its branch is looked at.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from durapool.records import OperationType

if TYPE_CHECKING:
    from durapool.executors.base import BranchJournal


class Waiting:
    """Owned by one open batch: no lock."""

    __slots__ = ("_looked_at", "_operations", "_timed")

    def __init__(self) -> None:
        self._operations: dict[int, frozenset[str]] = {}
        self._timed: list[tuple[float, int]] = []  # heap; an entry of a branch that waits no more is stale
        self._looked_at: set[int] = set()

    def __len__(self) -> int:
        return len(self._operations)

    @property
    def operations(self) -> frozenset[str]:
        """All that the branches wait for."""
        return frozenset().union(*self._operations.values())

    def add(self, index: int, operations: frozenset[str], journal: BranchJournal) -> None:
        """The branch waits for any of these."""
        self._operations[index] = operations
        times = [_time_of(operation_id, journal) for operation_id in operations]
        known = [at for at in times if at is not None]
        if times and len(known) == len(times):
            heappush(self._timed, (min(known), index))
        else:
            self._looked_at.add(index)

    def discard(self, index: int) -> None:
        """The branch waits no more."""
        self._operations.pop(index, None)
        self._looked_at.discard(index)

    def take_due(self, journal: BranchJournal) -> list[int]:
        """Those that can go on, in index order. They wait no more."""
        now = journal.now()
        while self._timed and self._timed[0][0] <= now:
            _, index = heappop(self._timed)
            if index in self._operations:
                self._looked_at.add(index)  # from now on, in case that the journal has not settled it yet
        due = sorted(index for index in self._looked_at if any(map(journal.is_due, self._operations[index])))
        for index in due:
            self.discard(index)
        return due


def _time_of(operation_id: str, journal: BranchJournal) -> float | None:
    """When time alone lets the operation go on; None where something else may."""
    operation = journal.get(operation_id)
    if operation is None or operation.type is OperationType.CALLBACK:
        return None
    return operation.due_at
