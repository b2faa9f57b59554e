"""What is written: the update, and the operation that updates fold into.

An execution is a log of updates. Each context call appends one or two of them (START, then SUCCEED or FAIL); the
state of an operation is the fold of its updates, and the history shown to users is the log itself. The same tuple
travels from a worker to the parent and into the store, so nothing is parsed or packed twice.

This module is imported by workers: it must stay light and must not know of stores, pools or coordinators.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from durapool.digests import blake2b
from durapool.values import dataclass


class BlobRef(NamedTuple):
    """Stands in a record for a payload that is kept beside the records: its name in the store, and its bytes.

    A NamedTuple because it crosses to workers as an array.
    """

    name: str
    size: int


Payload = str | bytes | BlobRef
"""A serialised value: text from a text serdes (JSON), bytes from a binary one (pickle), or where a large one lies."""


class OperationType(StrEnum):
    """The kind of an operation."""

    EXECUTION = "EXECUTION"
    STEP = "STEP"
    WAIT = "WAIT"
    CONTEXT = "CONTEXT"
    CALLBACK = "CALLBACK"
    CHAINED_INVOKE = "CHAINED_INVOKE"


class OperationSubType(StrEnum):
    """Which context call made an operation."""

    STEP = "Step"
    WAIT = "Wait"
    RUN_IN_CHILD_CONTEXT = "RunInChildContext"
    PARALLEL = "Parallel"
    PARALLEL_BRANCH = "ParallelBranch"
    MAP = "Map"
    MAP_ITERATION = "MapIteration"
    CALLBACK = "Callback"
    WAIT_FOR_CALLBACK = "WaitForCallback"
    WAIT_FOR_CONDITION = "WaitForCondition"
    CHAINED_INVOKE = "ChainedInvoke"


class OperationStatus(StrEnum):
    """Where an operation stands."""

    STARTED = "STARTED"
    PENDING = "PENDING"  # a step that waits for its next attempt
    READY = "READY"  # a step whose next attempt is due
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"
    STOPPED = "STOPPED"

    @property
    def is_terminal(self) -> bool:
        """Whether the operation has ended for good."""
        return self in TERMINAL


TERMINAL = frozenset(
    {
        OperationStatus.SUCCEEDED,
        OperationStatus.FAILED,
        OperationStatus.CANCELLED,
        OperationStatus.TIMED_OUT,
        OperationStatus.STOPPED,
    }
)


class Action(StrEnum):
    """What an update does to its operation."""

    START = "START"
    SUCCEED = "SUCCEED"
    FAIL = "FAIL"
    RETRY = "RETRY"  # the attempt failed, the next is due after `delay`
    READY = "READY"  # the parent alone: the delay of a RETRY is over; no event of the history
    CANCEL = "CANCEL"
    TIME_OUT = "TIME_OUT"  # the parent alone: a callback's time is over
    STOP = "STOP"  # EXECUTION only: ended by `durapool stop`
    INVOCATION = "INVOCATION"  # EXECUTION only: one invocation has ended


STATUS_AFTER: Mapping[Action, OperationStatus] = {
    Action.START: OperationStatus.STARTED,
    Action.SUCCEED: OperationStatus.SUCCEEDED,
    Action.FAIL: OperationStatus.FAILED,
    Action.RETRY: OperationStatus.PENDING,
    Action.READY: OperationStatus.READY,
    Action.CANCEL: OperationStatus.CANCELLED,
    Action.TIME_OUT: OperationStatus.TIMED_OUT,
    Action.STOP: OperationStatus.STOPPED,
}
"""The status that each action leads to; INVOCATION changes none."""

_STARTED, _SUCCEEDED = OperationStatus.STARTED, OperationStatus.SUCCEEDED
_SUCCEED = Action.SUCCEED  # to look a member up in its class takes longer than most of what is done with it


@dataclass(frozen=True, slots=True)
class ErrorObject:
    """An error as it is recorded: plain text that outlives the process and the code that raised it.

    Args:
        message: what happened.
        type: the class name of the original exception, such as ``"ValueError"``.
        data: free text of the user's, carried along.
        stack_trace: the lines of the traceback where the error arose.
        pickled: the exception itself (pickle protocol 5, notes and cause chain included) where the store is local
            and it could be pickled. Never compared and never shown.

    Example:
        >>> ErrorObject("no such order", "KeyError").to_dict()
        {'ErrorMessage': 'no such order', 'ErrorType': 'KeyError'}
    """

    message: str | None = None
    type: str | None = None
    data: str | None = None
    stack_trace: tuple[str, ...] | None = None
    pickled: bytes | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ErrorObject):
            return NotImplemented
        return self.public() == other.public()

    def __hash__(self) -> int:
        return hash(self.public())

    def public(self) -> tuple[str | None, str | None, str | None, tuple[str, ...] | None]:
        """The four public fields."""
        return self.message, self.type, self.data, self.stack_trace

    def to_dict(self) -> dict[str, Any]:
        """The shape of the service's ErrorObject; absent fields are left out."""
        fields = {
            "ErrorMessage": self.message,
            "ErrorType": self.type,
            "ErrorData": self.data,
            "StackTrace": list(self.stack_trace) if self.stack_trace is not None else None,
        }
        return {key: value for key, value in fields.items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ErrorObject:
        """The inverse of :meth:`to_dict`."""
        trace = data.get("StackTrace")
        return cls(
            message=data.get("ErrorMessage"),
            type=data.get("ErrorType"),
            data=data.get("ErrorData"),
            stack_trace=tuple(trace) if trace is not None else None,
        )


class Update(NamedTuple):
    """One change to an operation. A NamedTuple because it is also the row of the wire and of the store.

    Every update carries the identity fields (type to branch), so that each record can be read alone.
    """

    operation_id: str
    action: Action
    type: OperationType
    sub_type: OperationSubType | None = None
    parent_id: str | None = None  # None: directly under the handler
    name: str | None = None
    branch: int | None = None  # the index, for a branch's context and for the operations of a FLAT branch
    payload: Payload | None = None  # START of EXECUTION: the event; SUCCEED: the result; RETRY: a condition's state
    error: ErrorObject | None = None  # FAIL, RETRY, INVOCATION after a crash
    attempt: int = 0  # STEP: 1 for the first attempt; else 0
    delay: float | None = None  # seconds from now until due: a wait, a retry, a callback's timeout
    details: Mapping[str, Any] | None = None  # plain msgpack values; keys are the DETAIL_* names


DETAIL_TOTAL = "total"  # START of a batch: how many branches were given
DETAIL_BLOBS = "blobs"  # SUCCEED of a FLAT batch: the names of the blobs that its payload refers to
DETAIL_REPLAY_CHILDREN = "replay_children"  # SUCCEED: the payload is a summary, rebuild by replaying the children
DETAIL_HEARTBEAT = "heartbeat"  # START of a CALLBACK: heartbeat timeout in seconds
DETAIL_CALLBACK_ID = "callback_id"  # START of a CALLBACK
DETAIL_FUNCTION = "function"  # START of a CHAINED_INVOKE: name or ARN of the function
DETAIL_TENANT = "tenant"  # START of a CHAINED_INVOKE: whose function it is
DETAIL_HANDLER = "handler"  # START of EXECUTION: "module:name" or "file.py:name", what `durapool resume` imports
DETAIL_REQUEST_ID = "request_id"  # INVOCATION
DETAIL_STARTED_AT = "started_at"  # INVOCATION: epoch seconds
DETAIL_CPUS = "cpus"  # INVOCATION: how many CPUs this process could use
DETAIL_USAGE = "usage"  # INVOCATION, and the end of a branch's context: a `usage.Usage` of its last run; not folded


class Record(NamedTuple):
    """One row of the log. `seq` counts from 1 without gaps; `at` is the parent's clock in epoch seconds."""

    seq: int
    at: float
    update: Update


@dataclass(slots=True)
class Operation:
    """The fold of an operation's updates. Only the journal changes one (by `apply`); all others read."""

    id: str
    type: OperationType
    sub_type: OperationSubType | None
    parent_id: str | None
    name: str | None
    branch: int | None
    status: OperationStatus = OperationStatus.STARTED
    payload: Payload | None = None
    error: ErrorObject | None = None
    attempt: int = 0
    details: Mapping[str, Any] | None = None  # of START, then with those of the end added
    started_at: float = 0.0  # epoch seconds
    ended_at: float | None = None
    due_at: float | None = None  # epoch seconds: end of the wait, next attempt, timeout of the callback
    ended_seq: int = 0  # the place in the log of the end: the order in which branches ended

    @classmethod
    def begin(cls, update: Update) -> Operation:
        """The operation before its first update is applied."""
        return cls(update[0], *update[2:7])

    @classmethod
    def started(cls, update: Update, at: float) -> Operation:
        """The operation after a START that is its first update: `begin` and `apply` at once.

        It sets all fields, without `__init__`: an update is unpacked right into them, in half of the time.
        """
        self = cls.__new__(cls)
        (
            self.id,
            _,
            self.type,
            self.sub_type,
            self.parent_id,
            self.name,
            self.branch,
            self.payload,
            _,
            self.attempt,
            delay,
            self.details,
        ) = update
        self.status, self.started_at = _STARTED, at
        self.error = self.ended_at = None
        self.ended_seq = 0
        self.due_at = None if delay is None else at + delay
        return self

    def apply(self, record: Record) -> None:
        """Fold one more record in. A START of an ended operation reopens it."""
        update = record[2]
        action = update[1]
        if action is _SUCCEED:  # as below, for what comes most often
            self.ended_seq, self.ended_at, _ = record
            self.status, self.payload = _SUCCEEDED, update[7]
            self.error = self.due_at = None
            if attempt := update[9]:
                self.attempt = attempt
            if (details := update[11]) and (len(details) > 1 or DETAIL_USAGE not in details):
                self._add(details)
            return
        if action is Action.INVOCATION:
            return
        seq, at, (*_, payload, error, attempt, delay, details) = record
        self.status = STATUS_AFTER[action]
        self.due_at = None if delay is None else at + delay
        match action:
            case Action.START:
                if self.ended_at is not None:
                    self.payload, self.attempt = None, 0  # reopened: all attempts again
                if self.ended_at is not None or not self.started_at:
                    self.started_at = at
                    self.attempt = 0
                self.ended_at, self.error = None, None
                if payload is not None:
                    self.payload = payload
                self.details = details
            case Action.RETRY:
                self.error = error
                self.payload = payload
            case Action.READY:
                return
            case _:
                self.payload, self.error = payload, error
                self.ended_at, self.ended_seq = at, seq
                if details and (len(details) > 1 or DETAIL_USAGE not in details):
                    self._add(details)
        if attempt:
            self.attempt = attempt

    def _add(self, details: Mapping[str, Any]) -> None:
        """Those of the end; what the run used is left to whoever reads the records: every branch has it."""
        added = {key: value for key, value in details.items() if key != DETAIL_USAGE}
        if added:
            self.details = {**(self.details or {}), **added}

    @property
    def replay_children(self) -> bool:
        """Whether the payload is only a summary and the value is rebuilt from the children."""
        return bool(self.details and self.details.get(DETAIL_REPLAY_CHILDREN))


def child_id(parent_id: str | None, position: int) -> str:
    """The id of the operation at `position` (from 1; a branch's index from 0) under `parent_id`.

    blake2b of parent and position, 128 bits in hex: the same in every run, never from timing.
    """
    return blake2b(f"{parent_id or ''}/{position}".encode(), digest_size=16).hexdigest()
