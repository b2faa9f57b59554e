"""The suspended branches of a batch: which of them can go on, without asking all of them each time.

    add(index, operations)   the branch waits for any of these; it may be due already
    take_due(changed)        those of which one of the changed operations has ended, or is READY
    discard(index)           the branch goes on, or has ended

The journal tells what has changed, so a wake costs what has changed, however many branches wait.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durapool.executors.base import BranchJournal


class Waiting:
    """Owned by one open batch: no lock."""

    __slots__ = ("_due", "_waiters", "branches")

    def __init__(self) -> None:
        self.branches: dict[int, frozenset[str]] = {}  # by index, with what they wait for
        self._waiters: dict[str, int] = {}  # an operation is below one branch
        self._due: set[int] = set()

    @property
    def operations(self) -> frozenset[str]:
        """All that the branches wait for."""
        return frozenset(self._waiters)

    def add(self, index: int, operations: frozenset[str], journal: BranchJournal) -> None:
        """The branch waits for any of these. One that has changed while the branch suspended is not told again."""
        self.branches[index] = operations
        self._waiters.update(dict.fromkeys(operations, index))
        if any(map(journal.is_due, operations)):
            self._due.add(index)

    def discard(self, index: int) -> None:
        """The branch waits no more."""
        for operation_id in self.branches.pop(index, ()):
            self._waiters.pop(operation_id, None)
        self._due.discard(index)

    def take_due(self, changed: Iterable[str], journal: BranchJournal) -> list[int]:
        """Those that can go on, in index order. They wait no more."""
        for operation_id in changed:
            index = self._waiters.get(operation_id)
            if index is not None and journal.is_due(operation_id):
                self._due.add(index)
        due = sorted(self._due)
        for index in due:
            self.discard(index)
        return due
