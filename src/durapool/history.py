"""The history of an execution, in the shape of Lambda's GetDurableExecutionHistory. Pure: records in, events out.

Nearly each record is one event. READY is none, nor is what reopens a failed step (its next attempt is); a START that
reopens the execution itself is ExecutionResumed. EventIds number the events, so they have no gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from durapool.records import (
    DETAIL_CALLBACK_ID,
    DETAIL_HEARTBEAT,
    DETAIL_REQUEST_ID,
    DETAIL_STARTED_AT,
    STATUS_AFTER,
    Action,
    BlobRef,
    ErrorObject,
    OperationStatus,
    OperationType,
    Payload,
    Record,
)

Event = dict[str, Any]

_NOUNS: Mapping[OperationType, str] = {
    OperationType.EXECUTION: "Execution",
    OperationType.STEP: "Step",
    OperationType.WAIT: "Wait",
    OperationType.CONTEXT: "Context",
    OperationType.CALLBACK: "Callback",
    OperationType.CHAINED_INVOKE: "ChainedInvoke",
}
_VERBS: Mapping[Action, str] = {
    Action.START: "Started",
    Action.SUCCEED: "Succeeded",
    Action.FAIL: "Failed",
    Action.CANCEL: "Cancelled",
    Action.TIME_OUT: "TimedOut",
    Action.STOP: "Stopped",
}


def history(records: Iterable[Record], *, pickles_as: Callable[[bytes], str] | None = None) -> list[Event]:
    """The events of an execution, oldest first.

    Args:
        records: its log, as a store reads it.
        pickles_as: makes the text that stands for a payload of bytes; by default its length is told.

    Returns:
        Dicts with EventId (from 1), EventType, EventTimestamp (datetime, UTC), where they apply SubType, Id, ParentId
        (absent directly under the handler) and Name, and `<EventType>Details`.

    Example:
        >>> [event["EventType"] for event in history(store.read("nightly"))][0]  # doctest: +SKIP
        'ExecutionStarted'
    """
    writer = _Writer(pickles_as or _pickle_text)
    return [
        {"EventId": number, **event} for number, event in enumerate(filter(None, map(writer.event, records)), start=1)
    ]


def _pickle_text(data: bytes) -> str:
    return f"<pickle, {len(data)} bytes>"


class _Writer:
    """Renders record by record; remembers what an event needs from earlier ones."""

    def __init__(self, pickles_as: Callable[[bytes], str]) -> None:
        self._pickles_as = pickles_as
        self._status: dict[str, OperationStatus] = {}
        self._waits: dict[str, int] = {}  # seconds

    def event(self, record: Record) -> Event | None:
        """The event of this record, without its number; None if it is none."""
        update = record.update
        before = self._status.get(update.operation_id)
        self._status[update.operation_id] = STATUS_AFTER.get(update.action, before or OperationStatus.STARTED)
        kind = self._kind(record, before)
        if kind is None:
            return None
        event: Event = {"EventType": kind, "EventTimestamp": _moment(record.at)}
        if update.type is not OperationType.EXECUTION:
            event["SubType"] = None if update.sub_type is None else str(update.sub_type)
            event["Id"] = update.operation_id
            event["ParentId"] = update.parent_id
        event["Name"] = update.name
        event[f"{kind}Details"] = self._details(kind, record)
        return {key: value for key, value in event.items() if value is not None}

    def _kind(self, record: Record, before: OperationStatus | None) -> str | None:
        update = record.update
        reopens = update.action is Action.START and before is not None and before.is_terminal
        match update.type, update.action:
            case _, Action.READY:
                return None
            case _, Action.INVOCATION:
                return "InvocationCompleted"
            case OperationType.EXECUTION, Action.START if reopens:
                return "ExecutionResumed"
            case OperationType.STEP, Action.START if reopens:
                return None
            case OperationType.STEP, Action.RETRY:
                return "StepSucceeded" if update.error is None else "StepFailed"
            case kind, action:
                return f"{_NOUNS[kind]}{_VERBS[action]}"

    def _details(self, kind: str, record: Record) -> Event:
        update, details = record.update, record.update.details or {}
        match kind:
            case "ExecutionStarted":
                return {"Input": self._payload(update.payload)}
            case "ExecutionResumed":
                return {"ResumeRequestTimestamp": _moment(record.at)}
            case "InvocationCompleted":
                started = details.get(DETAIL_STARTED_AT, record.at)
                found = {
                    "StartTimestamp": _moment(started),
                    "EndTimestamp": _moment(record.at),
                    "RequestId": details.get(DETAIL_REQUEST_ID, ""),
                }
                return found if update.error is None else found | {"Error": _error(update.error)}
            case "WaitStarted":
                seconds = self._waits[update.operation_id] = round(update.delay or 0)
                return {"Duration": seconds, "ScheduledEndTimestamp": _moment(record.at + seconds)}
            case "WaitSucceeded":
                return {"Duration": self._waits.get(update.operation_id, 0)}
            case "CallbackStarted":
                callback = {
                    "CallbackId": details.get(DETAIL_CALLBACK_ID),
                    "Timeout": round(update.delay or 0) or None,
                    "HeartbeatTimeout": details.get(DETAIL_HEARTBEAT),
                }
                return {key: value for key, value in callback.items() if value is not None}
            case "StepSucceeded":
                return {"Result": self._payload(update.payload), "RetryDetails": _retry(record)}
            case "StepFailed":
                return {"Error": _error(update.error), "RetryDetails": _retry(record)}
            case _ if update.action is Action.SUCCEED:
                return {"Result": self._payload(update.payload)}
            case _ if update.action is not Action.START:
                return {"Error": _error(update.error)}
            case _:
                return {}

    def _payload(self, payload: Payload | None) -> Event:
        if payload is None:
            return {"Truncated": False}
        if isinstance(payload, BlobRef):
            return {"Payload": f"<{payload.size} bytes, kept beside the records>", "Truncated": True}
        if isinstance(payload, bytes):
            return {"Payload": self._pickles_as(payload), "Truncated": True}
        return {"Payload": payload, "Truncated": False}


def _error(error: ErrorObject | None) -> Event:
    return {"Payload": {} if error is None else error.to_dict(), "Truncated": False}


def _retry(record: Record) -> Event:
    retry: Event = {"CurrentAttempt": record.update.attempt}
    if record.update.delay is not None:
        retry["NextAttemptDelaySeconds"] = round(record.update.delay)
    return retry


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
