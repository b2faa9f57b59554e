"""Records in the service's form, and back. Pure.

    Update --Ids.update_dict--> an item of CheckpointDurableExecution's Updates
    an item of its Operations --snapshot--> Snapshot --records--> START, then where the operation stands

The service has no place for some of what a record holds, so it travels elsewhere:

    index of a branch          at the end of the operation's Id: <id>-<index>
    number of branches         at the end of the batch's Id: <id>-n<total>
    the outline of a batch     in the payload, beside the summary (see payloads)
    bytes of a binary serdes   in the payload, as base64

Not sent: usage, invocations, pickled exceptions, and what the service does itself (READY, the ends of waits).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from durapool.aws.payloads import error_dict, error_from, payload_from, payload_text
from durapool.exceptions import StoreError
from durapool.journal import EXECUTION_ID
from durapool.naming import service_name, service_sub_type
from durapool.records import (
    DETAIL_CALLBACK_ID,
    DETAIL_FUNCTION,
    DETAIL_HEARTBEAT,
    DETAIL_REPLAY_CHILDREN,
    DETAIL_TENANT,
    DETAIL_TOTAL,
    Action,
    ErrorObject,
    OperationStatus,
    OperationSubType,
    OperationType,
    Payload,
    Record,
    Update,
)

_ID = re.compile(r"([0-9a-f]{32})(?:-(\d+))?(?:-n(\d+))?")
_RESULT_ID = "execution-result"  # of the update that ends an execution; the Id of its EXECUTION is the service's
_SUB_TYPES: Mapping[str, OperationSubType] = {str(sub_type): sub_type for sub_type in OperationSubType}
_ENDS: Mapping[OperationStatus, Action] = {
    OperationStatus.SUCCEEDED: Action.SUCCEED,
    OperationStatus.FAILED: Action.FAIL,
    OperationStatus.CANCELLED: Action.CANCEL,
    OperationStatus.TIMED_OUT: Action.TIME_OUT,
    OperationStatus.STOPPED: Action.STOP,
}


class Ids:
    """The Ids under which the service knows the operations of one execution."""

    def __init__(self) -> None:
        self._by_id: dict[str, str] = {}

    def learn(self, snapshot: Snapshot) -> None:
        """An operation that the service has told of."""
        self._by_id[snapshot.id] = snapshot.service_id

    def of(self, update: Update) -> str:
        """The Id of the update's operation."""
        if update.type is OperationType.EXECUTION:
            return _RESULT_ID
        found = self._by_id.get(update.operation_id)
        if found is None:
            total = (update.details or {}).get(DETAIL_TOTAL)
            branch = "" if update.branch is None else f"-{update.branch}"
            found = f"{update.operation_id}{branch}{'' if total is None else f'-n{total}'}"
            self._by_id[update.operation_id] = found
        return found

    def update_dict(self, update: Update) -> dict[str, Any]:
        """The update as the service takes it."""
        found: dict[str, Any] = {
            "Id": self.of(update),
            "Type": update.type.value,
            "Action": update.action.value,
            "SubType": service_sub_type(update.sub_type),
            "Name": service_name(update.name),
            "ParentId": None if update.parent_id is None else self._by_id.get(update.parent_id, update.parent_id),
            "Payload": payload_text(update.payload, update.details),
            "Error": None if update.error is None else error_dict(update.error),
            **_options(update),
        }
        if update.action is Action.RETRY and update.payload is not None:
            del found["Error"]  # the service takes one of them
        return {key: value for key, value in found.items() if value is not None}


def is_sent(update: Update) -> bool:
    """Whether the service wants to know of it."""
    match update.action:
        case Action.INVOCATION | Action.READY | Action.TIME_OUT | Action.STOP:
            return False
        case Action.START:
            return update.type is not OperationType.EXECUTION
        case _:
            return True


def is_held_back(update: Update) -> bool:
    """Whether it is sent only with the next update of its operation.

    The service forgets a condition's state when its next check starts; were the invocation killed in it, the state
    would be lost.
    """
    is_check = update.sub_type is OperationSubType.WAIT_FOR_CONDITION
    return is_check and update.action is Action.START and update.attempt > 1


def _options(update: Update) -> dict[str, Any]:
    details, delay = update.details or {}, update.delay
    match update.type, update.action:
        case OperationType.STEP, Action.RETRY:
            return {"StepOptions": {"NextAttemptDelaySeconds": _seconds(delay, 1)}}
        case OperationType.WAIT, Action.START:
            return {"WaitOptions": {"WaitSeconds": _seconds(delay, 1)}}
        case OperationType.CALLBACK, Action.START:
            heartbeat = details.get(DETAIL_HEARTBEAT)
            options = {
                "TimeoutSeconds": _seconds(delay, 0),
                "HeartbeatTimeoutSeconds": _seconds(heartbeat, 0),
            }
            return {"CallbackOptions": options}
        case OperationType.CHAINED_INVOKE, Action.START:
            invoked = {"FunctionName": details[DETAIL_FUNCTION]}
            if details.get(DETAIL_TENANT) is not None:
                invoked["TenantId"] = details[DETAIL_TENANT]
            return {"ChainedInvokeOptions": invoked}
        case OperationType.CONTEXT, Action.SUCCEED if details.get(DETAIL_REPLAY_CHILDREN):
            return {"ContextOptions": {"ReplayChildren": True}}
        case _:
            return {}


def _seconds(delay: float | None, least: int) -> int:
    return max(least, round(delay or 0))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An operation as the service tells of it, in the words of records."""

    service_id: str
    id: str
    type: OperationType
    sub_type: OperationSubType | None
    parent_id: str | None
    name: str | None
    branch: int | None
    status: OperationStatus
    started_at: float
    ended_at: float | None
    due_at: float | None
    attempts: int  # of a step: how many have ended
    payload: Payload | None
    error: ErrorObject | None
    started_with: Mapping[str, Any] | None  # details of the START
    ended_with: Mapping[str, Any] | None  # details of the end

    @property
    def end(self) -> Action | None:
        """The action that ended it; None while it has not ended."""
        return _ENDS.get(self.status)

    def update(self, action: Action) -> Update:
        """An update of this operation, with its identity alone."""
        return Update(self.id, action, self.type, self.sub_type, self.parent_id, self.name, self.branch)


def snapshot(data: Mapping[str, Any], execution_id: str) -> Snapshot:
    """What an item of the service's Operations says.

    Args:
        data: from boto3, or from the invocation's event.
        execution_id: the Id of the EXECUTION.

    Raises:
        StoreError: it is no operation, or another SDK has made it.
    """
    try:
        return _snapshot(data, execution_id)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"the service sent an operation that durapool cannot read ({type(error).__name__}: {error}); its Id is "
            f"{data.get('Id')!r}, its type {data.get('Type')!r}"
        ) from error


def _snapshot(data: Mapping[str, Any], execution_id: str) -> Snapshot:
    kind = OperationType(data["Type"])
    own_id, branch, total = _parse_id(data["Id"], execution_id)
    parent = data.get("ParentId")
    found = data.get(_DETAILS[kind]) or {}
    payload, outline = payload_from(found.get("InputPayload" if kind is OperationType.EXECUTION else "Result"))
    error = found.get("Error")
    sub_type: Any = data.get("SubType")  # text that the record keeps as it is, if it is a user's own
    start: dict[str, Any] = {} if total is None else {DETAIL_TOTAL: total}
    if found.get("CallbackId"):
        start[DETAIL_CALLBACK_ID] = found["CallbackId"]
    end = {DETAIL_REPLAY_CHILDREN: True, **outline} if found.get("ReplayChildren") else None
    return Snapshot(
        service_id=data["Id"],
        id=own_id,
        type=kind,
        sub_type=_SUB_TYPES.get(str(sub_type), sub_type),
        parent_id=None if parent is None else _parse_id(parent, execution_id)[0],
        name=data.get("Name"),
        branch=branch,
        status=OperationStatus(data["Status"]),
        started_at=_epoch(data.get("StartTimestamp")) or 0.0,
        ended_at=_epoch(data.get("EndTimestamp")),
        due_at=_epoch(found.get("NextAttemptTimestamp") or found.get("ScheduledEndTimestamp")),
        attempts=int(found.get("Attempt") or 0),
        payload=payload,
        error=None if not error else error_from(error),
        started_with=start or None,
        ended_with=end,
    )


_DETAILS: Mapping[OperationType, str] = {
    OperationType.EXECUTION: "ExecutionDetails",
    OperationType.CONTEXT: "ContextDetails",
    OperationType.STEP: "StepDetails",
    OperationType.WAIT: "WaitDetails",
    OperationType.CALLBACK: "CallbackDetails",
    OperationType.CHAINED_INVOKE: "ChainedInvokeDetails",
}


def _parse_id(service_id: str, execution_id: str) -> tuple[str, int | None, int | None]:
    if service_id == execution_id:
        return EXECUTION_ID, None, None
    match = _ID.fullmatch(service_id)
    if match is None:
        raise ValueError(
            "its Id is not of durapool's making: the execution was begun by another SDK. "
            "Publish durapool's handler as a new version, and let running executions end on theirs"
        )
    own_id, branch, total = match.groups()
    return own_id, None if branch is None else int(branch), None if total is None else int(total)


def _epoch(value: Any) -> float | None:
    """Epoch seconds of a timestamp: a datetime from boto3, milliseconds or ISO-8601 text from an event."""
    match value:
        case None:
            return None
        case datetime():
            return value.timestamp()
        case int() | float():
            return value / 1000
        case _:
            return datetime.fromisoformat(str(value)).timestamp()


def records(snapshots: Iterator[Snapshot] | list[Snapshot]) -> Iterator[Record]:
    """A log that folds into these operations: all STARTs as they came, then the ends in their order of time."""
    seq = 0
    ends: list[tuple[float, Update]] = []
    for found in snapshots:
        seq += 1
        yield Record(seq, found.started_at, _start(found))
        at = found.ended_at if found.ended_at is not None else found.started_at
        ends += [(at, update) for update in _later(found)]
    ends.sort(key=lambda end: end[0])
    for at, update in ends:
        seq += 1
        yield Record(seq, at, update)


def _start(found: Snapshot) -> Update:
    update = found.update(Action.START)._replace(details=found.started_with)
    match found.type:
        case OperationType.EXECUTION:
            return update._replace(payload=found.payload)
        case OperationType.STEP:
            return update._replace(attempt=found.attempts if found.end else found.attempts + 1)
        case OperationType.WAIT if found.due_at is not None:
            return update._replace(delay=found.due_at - found.started_at)
        case _:
            return update


def _later(found: Snapshot) -> Iterator[Update]:
    """What came after the START."""
    if (end := found.end) is not None:
        payload = None if found.type is OperationType.EXECUTION else found.payload
        attempt = found.attempts if found.type is OperationType.STEP else 0
        yield found.update(end)._replace(payload=payload, error=found.error, attempt=attempt, details=found.ended_with)
    elif found.status in (OperationStatus.PENDING, OperationStatus.READY):
        delay = None if found.due_at is None else found.due_at - found.started_at
        yield found.update(Action.RETRY)._replace(
            payload=found.payload, error=found.error, attempt=found.attempts, delay=delay
        )
        if found.status is OperationStatus.READY:
            yield found.update(Action.READY)
