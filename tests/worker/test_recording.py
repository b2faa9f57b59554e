"""What a worker knows of the operations that its branch has recorded."""

from __future__ import annotations

import pytest

from durapool.records import Action, Operation, OperationSubType, OperationType, Record, Update

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
