"""The pure state machine of one batch: who starts next, when the batch is complete, what the result reports.

No I/O, no clock, no threads, no lock: one caller owns a Coordinator, tells it what happened and asks it what to do.

    PENDING  --next--> RUNNING --on_succeeded / on_failed--> ended
    READY    --next--> RUNNING --on_suspended--> SUSPENDED --on_ready--> READY
    RECORDED --next--> RUNNING --on_lost_retry--> READY
                       RUNNING --on_returned--> PENDING (its first run) or READY (a later one)

RECORDED is a branch that an earlier run of the program left STARTED (`recover`).
RUNNING, SUSPENDED and READY branches are in flight: each holds one place of `max_concurrency`. Every call costs at
most O(log n) (amortised over the batch), except `unfinished` and `recover`, which walk over the branches once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush

from durapool.config import CompletionConfig
from durapool.exceptions import InvalidStateError, ValidationError
from durapool.pausing import PauseAfter
from durapool.results import CompletionReason


@dataclass(frozen=True, slots=True)
class CompletionPolicy:
    """When a batch of `total` branches is complete. Pure: counts in, verdict out.

    Args:
        total: the number of branches given.
        min_successful: complete after so many successes; None for no such rule.
        tolerated_failures: complete as failed above so many failures: the smaller of the count and the share of
            `total`; `math.inf` where failures are ignored.
    """

    total: int
    min_successful: int | None
    tolerated_failures: float

    @classmethod
    def of(cls, config: CompletionConfig, total: int) -> CompletionPolicy:
        """The policy of a config for `total` branches.

        Raises:
            ValidationError: `min_successful` is above `total`.
        """
        if config.min_successful is not None and config.min_successful > total:
            raise ValidationError(
                f"min_successful cannot be above the number of branches: {config.min_successful} > {total}"
            )
        return cls(total, config.min_successful, _tolerated_failures(config, total))

    def verdict(self, succeeded: int, failed: int) -> CompletionReason | None:
        """The reason to stop now, or None to go on. Tolerance is checked before success."""
        if failed > self.tolerated_failures:
            return CompletionReason.FAILURE_TOLERANCE_EXCEEDED
        if succeeded + failed == self.total:
            return CompletionReason.ALL_COMPLETED
        if self.min_successful is not None and succeeded >= self.min_successful:
            return CompletionReason.MIN_SUCCESSFUL_REACHED
        return None


def _tolerated_failures(config: CompletionConfig, total: int) -> float:
    count, percentage = config.tolerated_failure_count, config.tolerated_failure_percentage
    if count is None and percentage is None:
        # min_successful alone waits for its successes through any number of failures
        return 0 if config.min_successful is None else math.inf
    limits: list[int] = [] if count is None else [count]
    if percentage is not None:
        # exact for the decimal that the user wrote: as floats, 2.3 * 1000 / 100 is less than 23
        limits.append(math.floor(Fraction(repr(float(percentage))) * total / 100))
    return min(limits)


@dataclass(frozen=True, slots=True)
class Counts:
    """How the branches of a batch stand now; the four numbers add up to the branches given.

    `unfinished` have started and have not ended, `pending` have not started.
    """

    succeeded: int
    failed: int
    unfinished: int
    pending: int


# The states of a branch, one byte each. The first run and a later one differ in what being taken back means.
_PENDING, _RUNNING_FIRST, _RUNNING_AGAIN, _SUSPENDED, _READY, _RECORDED, _LATE, _SUCCEEDED, _FAILED = range(9)
_NAMES = ("pending", "running", "running", "suspended", "ready", "recorded as started") + ("ended",) * 3
_NEVER = PauseAfter.NEVER  # to look a member up in its class takes time
_RUNNING = (_RUNNING_FIRST, _RUNNING_AGAIN)
_IN_FLIGHT = (_RUNNING_FIRST, _RUNNING_AGAIN, _SUSPENDED, _READY)
_UNFINISHED = frozenset((*_IN_FLIGHT, _RECORDED, _LATE))  # _LATE: ended after the decision, so it counts as STARTED


class Coordinator:
    """Decides for one batch. Not thread-safe: one caller at a time.

    Args:
        policy: when the batch is complete.
        max_concurrency: at most so many branches in flight; None for no limit.

    Raises:
        ValidationError: `max_concurrency` below 1.
    """

    __slots__ = (
        "_failed",
        "_in_flight",
        "_next_new",
        "_policy",
        "_ready",
        "_recorded",
        "_returned",
        "_room",
        "_running",
        "_states",
        "_succeeded",
        "_unfinished",
        "decision",
    )

    def __init__(self, policy: CompletionPolicy, max_concurrency: int | None = None) -> None:
        if max_concurrency is not None and max_concurrency < 1:
            raise ValidationError(f"max_concurrency must be at least 1, not {max_concurrency}")
        self._policy = policy
        self._room = policy.total if max_concurrency is None else max_concurrency
        self._states = bytearray(policy.total)
        self._next_new = 0  # no pending branch below it, but for those in _returned
        self._returned: list[int] = []  # heap
        self._ready: list[int] = []  # heap; an entry whose branch is not READY any more is stale
        self._recorded: list[int] = []  # descending, so that the lowest index is popped
        self._running = self._in_flight = self._unfinished = self._succeeded = self._failed = 0
        self.decision: CompletionReason | None = policy.verdict(0, 0)  # why it is complete; once made it stays

    # What the batch looks like

    @property
    def running(self) -> int:
        """How many branches were given out by `next` and have not come back: neither suspended nor ready."""
        return self._running

    @property
    def in_flight(self) -> int:
        """How many branches hold a place of `max_concurrency`: running, suspended or ready."""
        return self._in_flight

    @property
    def counts(self) -> Counts:
        """How the branches stand now."""
        return Counts(self._succeeded, self._failed, self._unfinished, self.pending)

    @property
    def pending(self) -> int:
        """How many branches have not started."""
        return self._policy.total - self._succeeded - self._failed - self._unfinished

    @property
    def startable(self) -> int:
        """How many branches `next` would give one after the other; after a loss it may say one too many."""
        if self.decision is not None:
            return 0
        pending = self._policy.total - self._succeeded - self._failed - self._unfinished
        return len(self._ready) + max(0, min(self._room - self._in_flight, pending + len(self._recorded)))

    @property
    def unfinished(self) -> list[int]:
        """The branches that have started and not ended, in index order: what the result reports as STARTED."""
        return [index for index, state in enumerate(self._states) if state in _UNFINISHED]

    @property
    def is_blocked(self) -> bool:
        """Whether the undecided batch waits for suspended branches alone: nothing runs and nothing may start."""
        return self.decision is None and self.is_over

    @property
    def is_over(self) -> bool:
        """Whether the batch has come to something: it is decided, or it is blocked."""
        return self.decision is not None or (not self._running and self._candidate() is None)

    @property
    def pause_after(self) -> PauseAfter:
        """Which outcome of a branch that runs now may decide the batch while others are left to start.

        Those that run beside it may end the same way before it does, so all of them are counted. ANY once it is
        decided.
        """
        if self.decision is not None:
            return PauseAfter.ANY
        policy, running = self._policy, self._running or 1
        wanted = policy.min_successful
        success = wanted is not None and self._succeeded + running >= wanted
        failure = self._failed + running > policy.tolerated_failures
        return PauseAfter.of(success=success, failure=failure) if success or failure else _NEVER

    # Resuming

    def recover(self, ended: Sequence[tuple[int, bool]], started: Iterable[int]) -> None:
        """Take over what an earlier run recorded; called before anything else.

        The decision falls at the same branch as it did (or would have done) then: those that ended after it count as
        STARTED.

        Args:
            ended: index and success of each branch that has ended, in the order of its record.
            started: the branches recorded as STARTED that have not ended, in any order.

        Raises:
            InvalidStateError: called too late, or a branch that is unknown or named twice.
        """
        if self._unfinished or self._succeeded or self._failed:
            raise InvalidStateError("a batch takes over its record before its first branch starts, and once")
        for index, succeeded in ended:
            self._expect(index, (_PENDING,), "take over the end of")
            if self.decision is None:
                self._count(index, _SUCCEEDED if succeeded else _FAILED)
            else:
                self._states[index] = _LATE
                self._unfinished += 1
        for index in sorted(started, reverse=True):
            self._expect(index, (_PENDING,), "restart")
            self._states[index] = _RECORDED
            self._recorded.append(index)
        self._unfinished += len(self._recorded)

    # What to do next

    def next(self) -> int | None:
        """The branch to start or to go on with now; from then on it is in flight and running.

        Branches that had started before go first, in index order, then new ones, in index order. None when the batch
        is decided, when `max_concurrency` is used up, or when nothing is left.
        """
        index = self._candidate()
        if index is None:
            return None
        state, run = self._states[index], _RUNNING_AGAIN
        if state == _PENDING:
            run = _RUNNING_FIRST
            self._unfinished += 1
            if self._returned:
                heappop(self._returned)
            else:
                self._next_new = index + 1
        elif state == _READY:
            heappop(self._ready)
            self._in_flight -= 1  # it has a place already
        else:
            self._recorded.pop()
        self._states[index] = run
        self._in_flight += 1
        self._running += 1
        return index

    def _candidate(self) -> int | None:
        """What `next` would give."""
        if self.decision is not None:
            return None
        while self._ready and self._states[self._ready[0]] != _READY:
            heappop(self._ready)
        has_room = self._in_flight < self._room
        if self._ready and not (has_room and self._recorded and self._recorded[-1] < self._ready[0]):
            return self._ready[0]
        if not has_room:
            return None
        if self._recorded:
            return self._recorded[-1]
        if self._returned:
            return self._returned[0]
        self._next_new = self._states.find(_PENDING, self._next_new)
        if self._next_new < 0:
            self._next_new = len(self._states)
            return None
        return self._next_new

    # What happened

    def on_succeeded(self, index: int) -> bool:
        """The branch has ended well. False where the batch was decided already, so that it does not count.

        Raises:
            InvalidStateError: the branch is not in flight, or has ended before.
        """
        return self._end(index, _SUCCEEDED)

    def on_failed(self, index: int) -> bool:
        """The branch has failed for good. As `on_succeeded`."""
        return self._end(index, _FAILED)

    def on_suspended(self, index: int) -> None:
        """The running branch waits for something that is not due. It keeps its place in `max_concurrency`."""
        self._stop_running(index, "suspend", _SUSPENDED)

    def on_ready(self, index: int) -> None:
        """The suspended branch can go on: `next` gives it again, before any new one. Saying so twice does no harm."""
        self._expect(index, (_SUSPENDED, _READY), "make ready")
        if self._states[index] == _SUSPENDED:
            self._states[index] = _READY
            heappush(self._ready, index)

    def on_lost_retry(self, index: int) -> None:
        """The worker of this running branch died and the branch runs again: as after `on_ready`."""
        self._stop_running(index, "run again", _READY)
        heappush(self._ready, index)

    def on_returned(self, index: int) -> None:
        """The branch was given out by `next` and taken back before it began: `next` will give it again.

        A branch that had never begun is pending again and its place is free. One that had begun in an earlier run
        stays started, keeps its place and is ready.
        """
        if 0 <= index < len(self._states) and self._states[index] == _RUNNING_AGAIN:
            self.on_lost_retry(index)
            return
        self._stop_running(index, "take back", _PENDING)
        self._in_flight -= 1
        self._unfinished -= 1
        heappush(self._returned, index)

    def _stop_running(self, index: int, what: str, state: int) -> None:
        self._expect(index, _RUNNING, what)
        self._states[index] = state
        self._running -= 1

    def _end(self, index: int, state: int) -> bool:
        if self._expect(index, _IN_FLIGHT, "end") in _RUNNING:
            self._running -= 1
        self._in_flight -= 1
        if self.decision is not None:
            self._states[index] = _LATE
            return False
        self._unfinished -= 1
        self._count(index, state)
        return True

    def _count(self, index: int, state: int) -> None:
        self._states[index] = state
        if state == _SUCCEEDED:
            self._succeeded += 1
        else:
            self._failed += 1
        self.decision = self._policy.verdict(self._succeeded, self._failed)

    def _expect(self, index: int, states: tuple[int, ...], what: str) -> int:
        """The state of the branch, which must be one of these."""
        if not 0 <= index < len(self._states):
            raise InvalidStateError(f"cannot {what} branch {index}: the batch has {len(self._states)} branches")
        state = self._states[index]
        if state not in states:
            raise InvalidStateError(f"cannot {what} branch {index}: it is {_NAMES[state]}")
        return state
