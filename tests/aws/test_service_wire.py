"""Records in the service's form and back, and what one call may hold. All pure."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest
from fake_service import EXECUTION
from hypothesis import given
from hypothesis import strategies as st

from durapool.aws.payloads import MAX_ERROR, error_dict, error_from, payload_from, payload_text
from durapool.aws.store import batches
from durapool.aws.wire import Ids, is_held_back, is_sent, records, snapshot
from durapool.exceptions import StoreError
from durapool.journal import EXECUTION_ID
from durapool.naming import service_name
from durapool.records import (
    DETAIL_CALLBACK_ID,
    DETAIL_REPLAY_CHILDREN,
    DETAIL_TOTAL,
    Action,
    ErrorObject,
    Operation,
    OperationStatus,
    OperationSubType,
    OperationType,
    Record,
    Update,
    child_id,
)

BATCH = child_id(None, 1)
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def update(action, kind=OperationType.STEP, sub_type=OperationSubType.STEP, **fields):
    return Update(fields.pop("operation_id", child_id(BATCH, 3)), action, kind, sub_type, **fields)


def folded(*items):
    """The operations that the service's items come to, by id."""
    found: dict[str, Operation] = {}
    for record in records([snapshot({"StartTimestamp": AT, **item}, EXECUTION) for item in items]):
        identity = record.update.operation_id
        if identity not in found:
            found[identity] = Operation.begin(record.update)
        found[identity].apply(record)
    return found


def test_the_index_of_a_branch_and_the_size_of_a_batch_travel_in_the_id():
    ids = Ids()
    batch = update(
        Action.START,
        OperationType.CONTEXT,
        OperationSubType.MAP,
        operation_id=BATCH,
        branch=2,
        details={DETAIL_TOTAL: 7},
    )
    step = update(Action.START, parent_id=BATCH, branch=5)
    sent = [ids.update_dict(batch), ids.update_dict(step)]
    assert sent[0]["Id"] == f"{BATCH}-2-n7"
    assert sent[1]["Id"] == f"{child_id(BATCH, 3)}-5"
    assert sent[1]["ParentId"] == sent[0]["Id"]
    assert ids.update_dict(batch._replace(action=Action.SUCCEED, details=None))["Id"] == sent[0]["Id"]
    found = folded(
        {"Id": sent[0]["Id"], "Type": "CONTEXT", "Status": "STARTED", "SubType": "Map"},
        {"Id": sent[1]["Id"], "Type": "STEP", "Status": "STARTED", "ParentId": sent[0]["Id"]},
    )
    assert (found[BATCH].branch, found[BATCH].details) == (2, {DETAIL_TOTAL: 7})
    assert (found[step.operation_id].branch, found[step.operation_id].parent_id) == (5, BATCH)


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_an_id_is_one_that_the_service_takes(branch, total):
    made = Ids().of(update(Action.START, branch=branch, details={DETAIL_TOTAL: total}))
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", made)


@given(st.text())
def test_a_name_is_one_that_the_service_takes_and_stays_the_same(name):
    kept = service_name(name)
    assert kept is None or re.fullmatch(r"[\x20-\x7e]{1,256}", kept)
    assert service_name(kept) == kept
    assert (kept is None) == (name == "")


@pytest.mark.parametrize(
    ("details", "status", "attempt", "payload"),
    [
        ({"Attempt": 0}, "STARTED", 1, None),
        ({"Attempt": 2}, "STARTED", 3, None),
        ({"Attempt": 2, "NextAttemptTimestamp": AT, "Result": "7"}, "PENDING", 2, "7"),
        ({"Attempt": 2, "Result": "7"}, "READY", 2, "7"),
        ({"Attempt": 3, "Result": "8"}, "SUCCEEDED", 3, "8"),
    ],
)
def test_attempts_of_a_step_are_those_of_durapool(details, status, attempt, payload):
    (found,) = folded(
        {"Id": BATCH, "Type": "STEP", "Status": status, "StepDetails": details, "EndTimestamp": AT}
    ).values()
    assert (found.status.value, found.attempt, found.payload) == (status, attempt, payload)


def test_what_is_due_when_is_told_by_the_service():
    later = datetime(2026, 1, 2, 3, 5, 5, tzinfo=UTC)
    (wait,) = folded(
        {"Id": BATCH, "Type": "WAIT", "Status": "STARTED", "WaitDetails": {"ScheduledEndTimestamp": later}}
    ).values()
    assert wait.due_at == later.timestamp()
    (step,) = folded(
        {"Id": BATCH, "Type": "STEP", "Status": "PENDING", "StepDetails": {"NextAttemptTimestamp": later}}
    ).values()
    assert step.due_at == later.timestamp()


@pytest.mark.parametrize("moment", [AT, int(AT.timestamp() * 1000), AT.isoformat(), "2026-01-02T03:04:05Z"])
def test_times_come_in_every_form(moment):
    (found,) = folded({"Id": BATCH, "Type": "STEP", "Status": "STARTED", "StartTimestamp": moment}).values()
    assert found.started_at == AT.timestamp()


def test_branches_end_in_the_order_of_their_times():
    def branch(index, second):
        end = AT.replace(second=second)
        return {"Id": f"{child_id(BATCH, index)}-{index}", "Type": "CONTEXT", "Status": "FAILED", "EndTimestamp": end}

    found = folded(branch(0, 30), branch(1, 10), branch(2, 20))
    assert sorted(range(3), key=lambda index: found[child_id(BATCH, index)].ended_seq) == [1, 2, 0]


@pytest.mark.parametrize(
    ("status", "action"), [("FAILED", "FAILED"), ("TIMED_OUT", "TIMED_OUT"), ("STOPPED", "STOPPED")]
)
def test_a_callback_keeps_its_id_and_how_it_ended(status, action):
    details = {"CallbackId": "abc", "Error": {"ErrorMessage": "no"}}
    (found,) = folded({"Id": BATCH, "Type": "CALLBACK", "Status": status, "CallbackDetails": details}).values()
    assert found.details == {DETAIL_CALLBACK_ID: "abc"}
    assert (found.status, found.error) == (OperationStatus(action), ErrorObject("no"))


def test_the_execution_is_known_by_its_arn():
    details = {"InputPayload": '{"n": 1}'}
    found = folded({"Id": EXECUTION, "Type": "EXECUTION", "Status": "STARTED", "ExecutionDetails": details})
    assert found[EXECUTION_ID].payload == '{"n": 1}'


@pytest.mark.parametrize(
    "data", [{}, {"Id": BATCH}, {"Id": "1-2", "Type": "STEP", "Status": "STARTED"}, {"Id": BATCH, "Type": "X"}]
)
def test_what_is_no_operation_is_refused(data):
    with pytest.raises(StoreError, match="cannot read"):
        snapshot(data, EXECUTION)


def test_what_the_service_does_itself_is_not_sent():
    execution = OperationType.EXECUTION
    assert not is_sent(update(Action.READY))
    assert not is_sent(update(Action.TIME_OUT, OperationType.CALLBACK))
    assert not is_sent(update(Action.INVOCATION, execution))
    assert not is_sent(update(Action.START, execution))
    assert is_sent(update(Action.SUCCEED, execution))
    condition = OperationSubType.WAIT_FOR_CONDITION
    assert not is_held_back(update(Action.START, sub_type=condition, attempt=1))
    assert is_held_back(update(Action.START, sub_type=condition, attempt=2))


@pytest.mark.parametrize(
    ("made", "options"),
    [
        (update(Action.RETRY, delay=0.0), {"StepOptions": {"NextAttemptDelaySeconds": 1}}),
        (update(Action.START, OperationType.WAIT, delay=30), {"WaitOptions": {"WaitSeconds": 30}}),
        (
            update(Action.START, OperationType.CALLBACK, details={"heartbeat": 9}),
            {"CallbackOptions": {"TimeoutSeconds": 0, "HeartbeatTimeoutSeconds": 9}},
        ),
        (
            update(Action.START, OperationType.CHAINED_INVOKE, details={"function": "f", "tenant": "t"}),
            {"ChainedInvokeOptions": {"FunctionName": "f", "TenantId": "t"}},
        ),
        (
            update(Action.SUCCEED, OperationType.CONTEXT, details={DETAIL_REPLAY_CHILDREN: True}),
            {"ContextOptions": {"ReplayChildren": True}},
        ),
    ],
)
def test_options_are_those_of_the_service(made, options):
    sent = Ids().update_dict(made)
    assert {key: sent[key] for key in sent if key.endswith("Options")} == options


OUTLINE = {"reason": "ALL_COMPLETED", "submitted": 3, "ended": [[0, 2]], "started": []}


@pytest.mark.parametrize("payload", [None, "", '{"a":1}', b"", b"\x00\xff", '{"$durapool":1,"value":["tuple"]}'])
@pytest.mark.parametrize("outline", [{}, OUTLINE])
def test_payloads_come_back(payload, outline):
    if outline and not isinstance(payload, str):
        return  # a summary is text
    assert payload_from(payload_text(payload, outline)) == (payload, outline)


@given(st.text(), st.lists(st.text(max_size=200), max_size=300), st.integers(1, 3000))
def test_an_error_fits_and_keeps_what_it_can(message, trace, times):
    error = ErrorObject(message * times, "ValueError", None, tuple(trace * 5))
    kept = error_dict(error)
    assert len(json.dumps(kept)) <= MAX_ERROR + 100
    assert kept["StackTrace"] == list(error.stack_trace)[len(error.stack_trace) - len(kept["StackTrace"]) :]
    if len(json.dumps(error.to_dict())) <= 8_000:
        assert error_from(kept) == error


def test_a_step_may_start_and_end_in_one_call_but_no_more():
    start, retry = {"Id": "a", "Type": "STEP", "Action": "START"}, {"Id": "a", "Type": "STEP", "Action": "RETRY"}
    wait = {"Id": "w", "Type": "WAIT", "Action": "START"}
    cancel = {"Id": "w", "Type": "WAIT", "Action": "CANCEL"}
    assert list(batches([start, wait, retry, start, retry, cancel])) == [[start, wait, retry], [start, retry, cancel]]
    assert list(batches([wait, cancel])) == [[wait], [cancel]]
    assert list(batches([])) == []


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["START", "SUCCEED"]), st.integers(0, 400_000))))
def test_calls_keep_the_order_lose_nothing_and_stay_within_the_limits(rows):
    updates = [{"Id": str(n), "Type": "STEP", "Action": action, "Payload": "x" * size} for n, action, size in rows]
    calls = list(batches(updates))
    assert [each for call in calls for each in call] == updates
    for call in calls:
        assert len(call) == 1 or len(json.dumps(call)) < 800 * 1024
        assert len(call) <= 12


def test_records_of_the_log_have_no_gaps():
    snapshots = [snapshot({"Id": BATCH, "Type": "STEP", "Status": "READY", "StartTimestamp": AT}, EXECUTION)]
    found = list(records(snapshots))
    assert all(isinstance(record, Record) for record in found)
    assert [record.seq for record in found] == [1, 2, 3]
