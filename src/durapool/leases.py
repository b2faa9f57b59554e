"""Views of the journal that can be taken back.

A thread that was cut off by a decision cannot be stopped, but what it records later can be rejected: each run of the
handler, of a batch and of a branch has a view of its own, forked from the one around it, and a view is revoked with
all that were forked from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from durapool.exceptions import OrphanedBranch
from durapool.records import Operation, Update

if TYPE_CHECKING:
    from durapool.journal import Journal


class LeasedJournal:
    """A view of the journal for one run: of the handler, of a batch, of a branch. See `BranchJournal`."""

    __slots__ = ("_journal", "_label", "_outer", "_seen", "get", "revoked")

    def __init__(self, journal: Journal, label: str, outer: LeasedJournal | None) -> None:
        self._journal = journal
        self._label = label
        self._outer = outer
        self.get = journal.get
        self._seen = len(journal.changes)  # up to where whoever waits behind this view has looked
        self.revoked = False

    def check(self) -> None:
        """Raise OrphanedBranch if this view, or one that it was forked from, was revoked."""
        lease: LeasedJournal | None = self
        while lease is not None:
            if lease.revoked:
                raise OrphanedBranch(f"{self._label} has no right to record any more: it was decided without it")
            lease = lease._outer

    def record(self, update: Update) -> None:
        """See `BranchJournal.record`."""
        self._journal.append((update,), self)

    def record_all(self, updates: Sequence[Update]) -> None:
        """See `BranchJournal.record_all`. Those before an invalid one are recorded."""
        self._journal.append(updates, self)

    def flush(self) -> None:
        """See `BranchJournal.flush`."""
        self.check()
        self._journal.flush()

    def barrier(self) -> None:
        """See `BranchJournal.barrier`."""
        self.check()
        self._journal.barrier()

    def settle(self) -> Sequence[str]:
        """See `BranchJournal.settle`. A request to stop the execution ends this run as an orphan."""
        self.check()
        self._journal.settle()
        changed = self._journal.changes[self._seen :]
        self._seen += len(changed)
        if self._journal.stop_requested is not None:
            raise OrphanedBranch(f"execution {self._journal.execution_id!r} was stopped")
        return changed

    def is_due(self, operation_id: str) -> bool:
        """See `BranchJournal.is_due`."""
        return self._journal.is_due(operation_id)

    def next_due(self) -> float | None:
        """See `BranchJournal.next_due`. What another view has settled meanwhile is worth a look at once."""
        return 0.0 if self._seen != len(self._journal.changes) else self._journal.next_due()

    def now(self) -> float:
        """See `BranchJournal.now`."""
        return self._journal.now()

    def fork(self) -> LeasedJournal:
        """See `BranchJournal.fork`."""
        return LeasedJournal(self._journal, self._label, self)

    def revoke(self) -> None:
        """See `BranchJournal.revoke`."""
        self._journal.revoke(self)

    def subtree(self, operation_id: str) -> Sequence[Operation]:
        """See `BranchJournal.subtree`."""
        return self._journal.subtree(operation_id)
