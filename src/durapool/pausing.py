"""After which outcome of a branch its worker waits for the parent before it begins the next branch sent ahead.

The coordinator computes it, a worker obeys it: this module is light, because workers import no coordinator.
"""

from __future__ import annotations

from enum import StrEnum

from durapool.executors.base import BranchOutcome, Crashed, Failed, Succeeded, Suspended


class PauseAfter(StrEnum):
    """The outcomes that may decide the batch."""

    NEVER = "never"
    SUCCESS = "success"
    FAILURE = "failure"
    ANY = "any"

    @classmethod
    def of(cls, *, success: bool, failure: bool) -> PauseAfter:
        """From whether a success and whether a failure may decide."""
        if success:
            return cls.ANY if failure else cls.SUCCESS
        return cls.FAILURE if failure else cls.NEVER


_NEVER = PauseAfter.NEVER  # to look a member up in its class takes time, for each branch


def pauses(pause_after: PauseAfter, outcome: BranchOutcome) -> bool:
    """Whether a worker waits after this outcome. A crash ends the invocation, whatever the batch's rules are."""
    if pause_after is _NEVER and type(outcome) is not Crashed:
        return False
    match outcome:
        case Succeeded():
            return pause_after in (PauseAfter.SUCCESS, PauseAfter.ANY)
        case Failed():
            return pause_after in (PauseAfter.FAILURE, PauseAfter.ANY)
        case Crashed():
            return True
        case Suspended():
            return False
