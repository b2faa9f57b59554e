"""What a worker knows of the operations that its branch has recorded."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from durapool.pool.wire import pack_operation
from durapool.records import Action, Operation, OperationSubType, OperationType, Record, Update
from durapool.worker import journal as worker_journal
from durapool.worker.journal import StreamedJournal

STARTS = [
    Update("a", Action.START, OperationType.STEP, OperationSubType.STEP, "parent", "name", 3, attempt=1),
    Update("a", Action.START, OperationType.WAIT, OperationSubType.WAIT, delay=5.0),
    Update("a", Action.START, OperationType.CONTEXT, payload="text", details={"total": 2}),
]


@pytest.mark.parametrize("update", STARTS)
def test_the_short_way_to_a_started_operation_is_the_long_one(update: Update) -> None:
    folded = Operation.begin(update)
    folded.apply(Record(0, 1000.0, update))
    assert Operation.started(update, 1000.0) == folded


class Parent:
    """The channel to a parent that commits all at once."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.told: list[object] = []

    def send_frame(self, frame: bytes) -> None:
        pass

    def wait(self, until: Callable[[], bool]) -> None:
        self.acknowledged = 1 << 20
        assert until()


UPDATES = [
    Update("branch", Action.START, OperationType.CONTEXT, OperationSubType.PARALLEL_BRANCH, "batch", "b", 0),
    Update("child", Action.START, OperationType.CONTEXT, OperationSubType.RUN_IN_CHILD_CONTEXT, "branch"),
    Update("step", Action.START, OperationType.STEP, OperationSubType.STEP, "child", "s", attempt=1),
    Update("step", Action.SUCCEED, OperationType.STEP, OperationSubType.STEP, "child", "s", payload="1", attempt=1),
    Update("old", Action.START, OperationType.STEP, OperationSubType.STEP, "branch", attempt=2),
    Update("odd", Action.SUCCEED, OperationType.STEP, OperationSubType.STEP, "branch", payload="2"),
    Update("child", Action.SUCCEED, OperationType.CONTEXT, None, "branch", payload="3", details={"total": 2}),
]


def waiting() -> Operation:
    """A step of the branch, as it was when the run began."""
    operation = Operation("old", OperationType.STEP, OperationSubType.STEP, "branch", None, None)
    operation.apply(Record(0, 999.0, Update("old", Action.RETRY, OperationType.STEP, payload="state", attempt=1)))
    return operation


@pytest.fixture(params=[0, 2, 1000])
def journal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StreamedJournal:
    """One that keeps at most so many operations unfolded."""
    monkeypatch.setattr(worker_journal, "MOST_UNFOLDED", request.param)
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    return StreamedJournal(Parent(), 1, "branch", {"old": waiting()}, "sync", False)  # type: ignore[arg-type]


def test_what_a_branch_has_recorded_can_be_asked_for_at_any_time(journal: StreamedJournal) -> None:
    operations = {"old": waiting()}
    for update in UPDATES:
        journal.record(update)
        operation = operations.setdefault(update.operation_id, Operation.begin(update))
        operation.apply(Record(0, 1000.0, update))
        assert {each: journal.get(each) for each in operations} == operations
    assert journal.get("none") is None
    assert journal.is_due("step")
    assert not journal.is_due("branch")


def test_what_is_below_an_operation_comes_after_it(journal: StreamedJournal) -> None:
    for update in UPDATES:
        journal.record(update)
    below = [operation.id for operation in journal.subtree("branch")]
    assert sorted(below) == ["child", "odd", "old", "step"]
    assert below.index("child") < below.index("step")


def test_what_the_store_has_completed_goes_before_what_was_recorded(journal: StreamedJournal) -> None:
    for update in UPDATES:
        journal.record(update)
    step = Operation("step", OperationType.STEP, OperationSubType.STEP, "child", "s", None, payload="by the store")
    journal._channel.told = [list(pack_operation(step, 1000.0))]
    journal.barrier()
    assert journal.get("step") == step
    assert "step" in [operation.id for operation in journal.subtree("child")]
