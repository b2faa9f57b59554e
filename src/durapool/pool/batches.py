"""The batches that are open in a pool, and the runs of their branches."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from durapool.exceptions import Signal
from durapool.executors.base import Decided, Suspended
from durapool.flag import Flag
from durapool.pausing import PauseAfter
from durapool.pool.wire import WireError, pack_error
from durapool.records import Update

if TYPE_CHECKING:
    from durapool.blobs import BlobStore, NewBlob
    from durapool.executors.base import BatchOutcome
    from durapool.executors.open_batch import OpenBatch
    from durapool.pool.cargo import Cargo, Limits
    from durapool.pool.workers import Worker

MOST_AHEAD = 16  # branches in a line
COMPANY = 64  # records that are committed together where nobody waits for them
BRISK = 0.005
"""Seconds; shorter branches are sent ahead, and their STARTs travel with what follows them."""

BRISK_ON_SERVICE = 0.25
"""The same where each commit is a call over the network, of 10 ms and more."""

_keys = itertools.count(1)


@dataclass(eq=False, slots=True)
class PoolBatch:
    """An open batch: of a thread of this process (`owner` None), or nested in a run.

    `finished` is read by the waiting thread: `outcome`, `crash` are set before it.
    """

    open: OpenBatch
    cargo: Cargo
    limits: Limits
    mode: str  # of checkpoints: "sync" or "async"
    surroundings: Any
    execution_id: str
    blobs: BlobStore | None = None  # of the execution; only the outermost batch has it
    invocation: object = None  # of a batch of the handler's: what stops it at the latest, by identity
    owner: NestedOwner | None = None
    brisk: float = BRISK  # seconds
    key: int = field(default_factory=lambda: next(_keys))
    runs: dict[int, ActiveRun] = field(default_factory=dict)  # by index of the branch
    losses: dict[int, int] = field(default_factory=dict)  # how often a branch has lost its worker
    mean_seconds: float = math.inf  # of a branch, as its workers measure it; before the first one has ended: infinite
    ahead: int = 0  # branches that may wait in a worker's line: what it runs in a few ms
    is_brisk: bool = False  # whether a branch takes so little that its way to the worker matters
    awaits: bool = True  # whether its branches wait for answers, by the last updates that came of one
    uncommitted: int = 0  # records that nobody waits for, since it was last flushed
    warned: set[Any] = field(default_factory=set)  # warnings shown already
    outcome: BatchOutcome | None = None
    crash: BaseException | None = None
    finished: bool = False
    signal: Flag = field(default_factory=Flag)
    depth: int = field(init=False)  # 0 for a batch of the handler's, 1 for one in its branches, and so on

    def __post_init__(self) -> None:
        self.depth = 0 if self.owner is None else self.owner.run.batch.depth + 1

    def measured(self, seconds: float) -> None:
        """One more branch has ended after so long. The last few count: the first ones of a worker import modules."""
        mean = self.mean_seconds
        self.mean_seconds = mean = seconds if mean == math.inf else (mean + seconds) / 2
        self.ahead = ahead = min(MOST_AHEAD, int(self.brisk / mean)) if mean > 0 else MOST_AHEAD
        self.is_brisk = ahead > 0

    def count_end(self) -> None:
        """A branch has ended; that of a long one is worth a commit of its own."""
        self.uncommitted += 1 if self.is_brisk else COMPANY

    def finish(self) -> None:
        """Let the waiting thread go on."""
        self.finished = True
        self.signal.set()

    def attempt(self, action: Callable[..., None], *args: Any) -> None:
        """Call it. A store that failed, or a lost right to record, ends the batch and those around it."""
        try:
            action(*args)
        except Signal as signal:
            self.open.crash = signal

    @property
    def root(self) -> PoolBatch:
        """The outermost batch, whose thread waits."""
        return self if self.owner is None else self.owner.run.batch.root


@dataclass(frozen=True, slots=True)
class NestedOwner:
    """Who waits for a nested batch: a run, under the number that its worker gave."""

    run: ActiveRun
    number: int


@dataclass(eq=False, slots=True)
class ActiveRun:
    """One run of one branch on one worker."""

    number: int
    batch: PoolBatch
    index: int
    start: Update  # of the branch; where it has an operation of its own, that is recorded when it begins
    worker: Worker
    started: float  # time.monotonic() at which it became the first in its worker's line, and so could begin
    operations: set[str]  # the branch's own and all below it: what this worker may update
    pause_after: PauseAfter
    begun: bool  # the branch's own START is recorded, or it has none
    received: int = 0  # updates
    to_tell: Sequence[str] = ()  # its new operations of which the store knows more than it
    files: dict[str, NewBlob] = field(default_factory=dict)  # given to it to write; by name
    nested: dict[int, PoolBatch] = field(default_factory=dict)  # undecided, by the worker's number
    detached: bool = False  # its batch was decided and lets it finish
    lent_seconds: float = 0.0  # in nested batches so far
    lent_since: float = 0.0  # time.monotonic(), while it is lent

    @property
    def lent(self) -> bool:
        """Whether the worker only waits for nested batches, and so takes no place."""
        return bool(self.nested)

    def deadline(self) -> float | None:
        """When it has run too long (time.monotonic()); None without a timeout.

        None, too, while its worker starts or runs others, and while it lends its place: that is not the branch's time.
        """
        timeout = self.batch.limits.timeout
        if timeout is None or self.lent or not self.worker.ready or self.worker.run is not self:
            return None
        return self.started + self.lent_seconds + timeout

    def lend(self, number: int, nested: PoolBatch) -> None:
        """Wait for a nested batch."""
        if not self.nested:
            self.lent_since = time.monotonic()
        self.nested[number] = nested

    def resume(self, number: int) -> None:
        """The nested batch has ended."""
        if self.nested.pop(number, None) is not None and not self.nested:
            self.lent_seconds += time.monotonic() - self.lent_since

    @property
    def label(self) -> str:
        """What errors call it."""
        plan = self.batch.open.plan
        return f"branch {self.index} ({plan.branch_name(self.index)}) of {plan.name or plan.sub_type}"

    def admit(self, updates: Sequence[Update]) -> None:
        """Check that the updates belong to this branch.

        Raises:
            WireError: one does not.
        """
        operations, branch_id, opened = self.operations, self.start[0], self.batch.open
        admitted = None
        for update in updates:
            identity, parent, branch = update[0], update[4], update[6]
            if admitted is not None and identity is admitted[0] and parent is admitted[4] and branch is admitted[6]:
                continue  # another one of the same operation
            if parent not in operations or (identity not in operations and opened.view.get(identity) is not None):
                raise WireError(f"an update of operation {identity}, which is not of branch {self.index}")
            if identity == branch_id:
                raise WireError(f"a {update.action} of the branch's own operation {branch_id}")
            if branch != self.index and parent == opened.plan.operation_id:
                raise WireError(f"an update of branch {branch} from branch {self.index}")
            operations.add(identity)
            admitted = update


class Levels:
    """How deep batches nest: for each level, as many idle workers as the pool has places are worth keeping.

    An execution whose last outermost batch nested may nest again, so what that one needed is kept for the next.
    """

    def __init__(self) -> None:
        self._execution = ""
        self._deepest = self._deepest_before = 0

    @property
    def count(self) -> int:
        """Levels in use, the outermost included."""
        return max(self._deepest, self._deepest_before) + 1

    def begin(self, execution_id: str) -> None:
        """An outermost batch opens, and nothing else is open."""
        self._deepest_before = self._deepest if execution_id == self._execution else 0
        self._deepest, self._execution = 0, execution_id

    def note(self, depth: int) -> None:
        """A batch of this depth opens."""
        self._deepest = max(self._deepest, depth)


def nested_batch(run: ActiveRun, number: int, open_batch: OpenBatch, cargo: Cargo, limits: Limits) -> PoolBatch:
    """A batch that the worker of `run` has started, under the number that it gave."""
    outer = run.batch
    owner = NestedOwner(run, number)
    return PoolBatch(
        open_batch,
        cargo,
        limits,
        outer.mode,
        outer.surroundings,
        outer.execution_id,
        owner=owner,
        brisk=outer.brisk,
    )


def pack_outcome(outcome: BatchOutcome) -> list[Any]:
    """How a nested batch ended, for its worker."""
    match outcome:
        case Suspended(waiting_on):
            return ["suspended", list(waiting_on)]
        case Decided(reason, items):
            rows = [(item.index, item.status.value, item.payload, pack_error(item.error)) for item in items]
            return ["decided", reason.value, rows]
