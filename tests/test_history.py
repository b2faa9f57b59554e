"""The history: the log rendered in the shape of GetDurableExecutionHistory."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest

from durapool.history import history
from durapool.records import (
    DETAIL_CALLBACK_ID,
    DETAIL_HEARTBEAT,
    DETAIL_REQUEST_ID,
    DETAIL_STARTED_AT,
    Action,
    ErrorObject,
    OperationSubType,
    OperationType,
    Record,
    Update,
)

ERROR = ErrorObject("no", "OSError", stack_trace=("line 1",), pickled=b"\x80...")


def log(*updates: Update) -> list[Record]:
    return [Record(seq, 1000.0 + seq, update) for seq, update in enumerate(updates, start=1)]


def execution(action: Action, **fields: Any) -> Update:
    return Update("e", action, OperationType.EXECUTION)._replace(**fields)


def step(action: Action, **fields: Any) -> Update:
    return Update("s", action, OperationType.STEP, OperationSubType.STEP, name="load", attempt=1)._replace(**fields)


def of(kind: OperationType, action: Action, **fields: Any) -> Update:
    return Update("o", action, kind)._replace(**fields)


def kinds(*updates: Update) -> list[str]:
    return [event["EventType"] for event in history(log(*updates))]


def details(*updates: Update) -> dict[str, Any]:
    """The details of the last event."""
    last = history(log(*updates))[-1]
    found: dict[str, Any] = last[f"{last['EventType']}Details"]
    return found


def test_an_event_has_exactly_the_fields_of_the_service() -> None:
    start = step(Action.START, parent_id="p")
    assert history(log(start))[0] == {
        "EventId": 1,
        "EventType": "StepStarted",
        "EventTimestamp": datetime.fromtimestamp(1001, UTC),
        "SubType": "Step",
        "Id": "s",
        "ParentId": "p",
        "Name": "load",
        "StepStartedDetails": {},
    }


def test_what_does_not_apply_is_absent() -> None:
    begin, wait = history(log(execution(Action.START, payload="{}"), of(OperationType.WAIT, Action.START, delay=5.0)))
    assert set(begin) == {"EventId", "EventType", "EventTimestamp", "ExecutionStartedDetails"}
    assert set(wait) == {"EventId", "EventType", "EventTimestamp", "Id", "WaitStartedDetails"}


def test_event_ids_have_no_gaps_where_records_are_no_events() -> None:
    events = history(
        log(
            execution(Action.START),
            step(Action.START),
            step(Action.RETRY, error=ERROR, delay=5.0),
            step(Action.READY),
            step(Action.START, attempt=2),
            step(Action.SUCCEED, attempt=2),
        )
    )
    assert [(event["EventId"], event["EventType"]) for event in events] == [
        (1, "ExecutionStarted"),
        (2, "StepStarted"),
        (3, "StepFailed"),
        (4, "StepStarted"),
        (5, "StepSucceeded"),
    ]


@pytest.mark.parametrize(
    ("update", "kind", "expected"),
    [
        (
            execution(Action.START, payload='{"n":1}'),
            "ExecutionStarted",
            {"Input": {"Payload": '{"n":1}', "Truncated": False}},
        ),
        (
            execution(Action.SUCCEED, payload="1"),
            "ExecutionSucceeded",
            {"Result": {"Payload": "1", "Truncated": False}},
        ),
        (
            execution(Action.FAIL, error=ErrorObject("no", "OSError")),
            "ExecutionFailed",
            {"Error": {"Payload": {"ErrorMessage": "no", "ErrorType": "OSError"}, "Truncated": False}},
        ),
        (
            execution(Action.STOP, error=ErrorObject("stopped")),
            "ExecutionStopped",
            {"Error": {"Payload": {"ErrorMessage": "stopped"}, "Truncated": False}},
        ),
        (
            step(Action.SUCCEED, payload="1"),
            "StepSucceeded",
            {"Result": {"Payload": "1", "Truncated": False}, "RetryDetails": {"CurrentAttempt": 1}},
        ),
        (
            step(Action.RETRY, payload="1", delay=30.0, attempt=2),  # a condition that goes on polling
            "StepSucceeded",
            {
                "Result": {"Payload": "1", "Truncated": False},
                "RetryDetails": {"CurrentAttempt": 2, "NextAttemptDelaySeconds": 30},
            },
        ),
        (
            step(Action.FAIL, error=ErrorObject("no"), attempt=3),
            "StepFailed",
            {
                "Error": {"Payload": {"ErrorMessage": "no"}, "Truncated": False},
                "RetryDetails": {"CurrentAttempt": 3},
            },
        ),
        (
            of(OperationType.WAIT, Action.START, delay=60.0),
            "WaitStarted",
            {"Duration": 60, "ScheduledEndTimestamp": datetime.fromtimestamp(1061, UTC)},
        ),
        (of(OperationType.CONTEXT, Action.START), "ContextStarted", {}),
        (
            of(
                OperationType.CALLBACK, Action.START, delay=60.0, details={DETAIL_CALLBACK_ID: "c", DETAIL_HEARTBEAT: 5}
            ),
            "CallbackStarted",
            {"CallbackId": "c", "Timeout": 60, "HeartbeatTimeout": 5},
        ),
        (
            of(OperationType.CALLBACK, Action.START, details={DETAIL_CALLBACK_ID: "c"}),
            "CallbackStarted",
            {"CallbackId": "c"},
        ),
        (
            of(OperationType.CALLBACK, Action.TIME_OUT, error=ErrorObject("late")),
            "CallbackTimedOut",
            {"Error": {"Payload": {"ErrorMessage": "late"}, "Truncated": False}},
        ),
        (
            execution(Action.INVOCATION, details={DETAIL_REQUEST_ID: "r", DETAIL_STARTED_AT: 990.0}),
            "InvocationCompleted",
            {
                "StartTimestamp": datetime.fromtimestamp(990, UTC),
                "EndTimestamp": datetime.fromtimestamp(1001, UTC),
                "RequestId": "r",
            },
        ),
    ],
)
def test_each_event_has_its_details(update: Update, kind: str, expected: dict[str, Any]) -> None:
    assert kinds(update) == [kind]
    assert details(update) == expected


def test_a_wait_that_ended_tells_its_duration() -> None:
    wait = of(OperationType.WAIT, Action.START, delay=60.0)
    assert details(wait, of(OperationType.WAIT, Action.SUCCEED)) == {"Duration": 60}


def test_a_crash_is_an_invocation_with_an_error() -> None:
    assert details(execution(Action.INVOCATION, error=ERROR))["Error"]["Payload"]["ErrorType"] == "OSError"


def test_errors_show_their_text_and_never_a_pickle() -> None:
    shown = details(step(Action.FAIL, error=ERROR))["Error"]["Payload"]
    assert shown == {"ErrorMessage": "no", "ErrorType": "OSError", "StackTrace": ["line 1"]}


def test_a_pickle_is_shown_as_a_short_text_or_as_the_caller_wants() -> None:
    records = log(step(Action.SUCCEED, payload=b"\x80" + bytes(122)))
    assert history(records)[0]["StepSucceededDetails"]["Result"] == {
        "Payload": "<pickle, 123 bytes>",
        "Truncated": True,
    }
    shown = history(records, pickles_as=lambda data: data[:1].hex())
    assert shown[0]["StepSucceededDetails"]["Result"]["Payload"] == "80"


def test_what_is_reopened_keeps_both_ends() -> None:
    context = Update("c", Action.START, OperationType.CONTEXT)
    assert kinds(
        execution(Action.START),
        context,
        step(Action.START),
        step(Action.FAIL, error=ERROR),
        context._replace(action=Action.FAIL),
        execution(Action.FAIL, error=ERROR),
        execution(Action.START),
        context,
        step(Action.START, attempt=0),  # reopens
        step(Action.READY),
        step(Action.START),
        step(Action.SUCCEED),
    ) == [
        "ExecutionStarted",
        "ContextStarted",
        "StepStarted",
        "StepFailed",
        "ContextFailed",
        "ExecutionFailed",
        "ExecutionResumed",
        "ContextStarted",
        "StepStarted",
        "StepSucceeded",
    ]


def test_every_pair_of_type_and_action_that_is_recorded_has_an_event() -> None:
    recorded = {
        OperationType.STEP: [Action.START, Action.SUCCEED, Action.FAIL, Action.RETRY],
        OperationType.WAIT: [Action.START, Action.SUCCEED, Action.CANCEL],
        OperationType.CONTEXT: [Action.START, Action.SUCCEED, Action.FAIL],
        OperationType.CALLBACK: [Action.START, Action.SUCCEED, Action.FAIL, Action.TIME_OUT],
    }
    for kind, actions in recorded.items():
        for action in itertools.chain(actions):
            assert len(kinds(of(kind, action))) == 1
