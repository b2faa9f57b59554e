"""What becomes of values: types, serdes, summaries, large results. The same under every executor."""

from __future__ import annotations

import datetime
import json
import uuid
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from semantic_tools import execute, note, notes, returned

from durapool.concurrency.models import BatchItem, BatchItemStatus, BatchResult, CompletionReason
from durapool.config import Duration, MapConfig, ParallelConfig, StepConfig
from durapool.records import ErrorObject
from durapool.serdes import SerDes
from durapool.testing import OperationStatus

LARGE = 300 * 1024  # characters: above the 256 KiB that the runner's store takes


@dataclass(frozen=True)
class Point:
    """A value of the user's own: goes by pickle."""

    x: int
    y: int


VALUES: dict[str, Any] = {
    "none": None,
    "bool": True,
    "int": 2**70,
    "float": -0.1,
    "str": "snö \u2028 \U0001f600",
    "bytes": b"\x00\xff",
    "list": [1, "a", None, [2.5]],
    "tuple": (1, (2,), []),
    "dict": {"a": 1, "b": {"c": ()}},
    "dict-keys": {1: "int", (2, 3): "tuple", None: "none"},
    "datetime": datetime.datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=datetime.UTC),
    "naive": datetime.datetime(2024, 2, 29),
    "date": datetime.date(2024, 2, 29),
    "decimal": Decimal("1.10"),
    "uuid": uuid.UUID(int=5),
    "error": ErrorObject(message="m", type="T", data="d", stack_trace=("a", "b")),
    "item": BatchItem(index=0, status=BatchItemStatus.SUCCEEDED, result=(1,), error=None),
    "batch": BatchResult(
        all=[BatchItem(index=0, status=BatchItemStatus.SUCCEEDED, result=1, error=None)],
        completion_reason=CompletionReason.ALL_COMPLETED,
    ),
    "set": {1, 2},
    "complex": 1 + 2j,
    "own": Point(1, 2),
    "mark": {"$durapool": 1},
}


def same(left: Any, right: Any) -> bool:
    """Equal, and of exactly the same types all the way down."""
    if type(left) is not type(right) or left != right:
        return False
    if isinstance(left, dict):
        pairs = zip(left.items(), right.items(), strict=True)
        return all(same(k, k2) and same(v, v2) for (k, v), (k2, v2) in pairs)
    if isinstance(left, list | tuple):
        return all(same(a, b) for a, b in zip(left, right, strict=True))
    return True


@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back_with_the_same_type_at_first_and_on_replay(executor: str, name: str) -> None:
    value = VALUES[name]

    def handler(event, context):
        def branch(ctx):
            stepped = ctx.step(lambda _: value)
            assert same(stepped, value), stepped
            return stepped

        result = context.parallel([branch])
        assert same(result.get_results()[0], value), result.get_results()
        mapped = context.map([value], lambda ctx, item, index, inputs: item).get_results()[0]
        assert same(mapped, value), mapped
        context.wait(Duration.from_seconds(1))
        return value

    assert same(returned(handler, executor), value)


def test_numpy_values_keep_their_type(executor: str) -> None:
    numpy = pytest.importorskip("numpy")

    def handler(event, context):
        def branch(ctx):
            return [numpy.float64(0.5), numpy.arange(3)]

        scalar, array = context.parallel([branch]).get_results()[0]
        return [type(scalar).__name__, scalar.item(), type(array).__name__, array.tolist()]

    assert returned(handler, executor) == ["float64", 0.5, "ndarray", [0, 1, 2]]


class Shouting(SerDes[str]):
    """Changes what it writes, so that a test sees whether it was used."""

    def serialize(self, value, context):
        return value.upper()

    def deserialize(self, data, context):
        return f"{data}!"


class Whole(SerDes[Any]):
    """A serdes of a whole BatchResult."""

    def serialize(self, value, context):
        return json.dumps(value.to_dict())

    def deserialize(self, data, context):
        found = BatchResult.from_dict(json.loads(data))
        return BatchResult(all=[*found.all], completion_reason=found.completion_reason)


def test_item_serdes_is_used_for_each_branch_at_first_and_on_replay(executor: str) -> None:
    def handler(event, context):
        config = ParallelConfig(item_serdes=Shouting())
        result = context.parallel([lambda ctx: "a", lambda ctx: "b"], name="batch", config=config)
        context.wait(Duration.from_seconds(1))
        return result.get_results()

    result = execute(handler, executor)
    assert result.result == ["A!", "B!"]
    assert sorted(child.result for child in result.get_context("batch").child_operations) == ["A", "B"]


def test_a_step_serdes_is_used_in_a_branch(executor: str) -> None:
    def handler(event, context):
        return context.parallel(
            [lambda ctx: ctx.step(lambda _: "a", config=StepConfig(serdes=Shouting()))]
        ).get_results()

    assert returned(handler, executor) == ["A!"]


def test_a_serdes_of_the_whole_result(executor: str) -> None:
    def handler(event, context):
        def bad(ctx):
            raise ValueError("no")

        config = ParallelConfig(serdes=Whole(), max_concurrency=1)
        result = context.parallel([lambda ctx: [1], bad], name="batch", config=config)
        context.wait(Duration.from_seconds(1))
        return [result.successful_results, result.failed_results[0].message, result.completion_reason.value]

    result = execute(handler, executor)
    assert result.result == [[[1]], "no", "FAILURE_TOLERANCE_EXCEEDED"]
    recorded = result.get_context("batch").result
    assert isinstance(recorded, str)
    assert json.loads(recorded)["completionReason" if "completionReason" in recorded else "completion_reason"]


def test_a_result_that_cannot_be_serialised_fails_its_branch_with_a_clear_error(executor: str) -> None:
    def handler(event, context):
        error = context.parallel([lambda ctx: (item for item in ())], name="batch").failed_results[0]
        return [error.type, error.message]

    kind, message = returned(handler, executor)
    assert kind == "SerDesError"
    assert "generator" in message


def test_large_results_are_rebuilt_from_their_children(executor: str, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def handler(event, context):
        def branch(ctx, item, index, inputs):
            half = ctx.step(lambda _: note(log, f"step {item}") or item * (LARGE // 2), name=f"half-{item}")
            return half + half

        result = context.map(["a", "b"], branch, name="batch")
        context.wait(Duration.from_seconds(1))
        return [text == item * len(text) and len(text) for item, text in zip("ab", result.get_results(), strict=True)]

    result = execute(handler, executor)
    assert result.result == [LARGE, LARGE]
    assert sorted(notes(log)) == ["step a", "step b"]
    batch = result.get_context("batch")
    assert batch.status is OperationStatus.SUCCEEDED
    assert len(batch.result) < 256 * 1024
    assert all(len(child.result) < 256 * 1024 for child in batch.child_operations)


def test_a_large_batch_of_small_results_is_rebuilt(executor: str, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def handler(event, context):
        def branch(ctx, item, index, inputs):
            return ctx.step(lambda _: note(log, "step") or str(index) * 60_000)

        result = context.map(list(range(6)), branch, name="batch")
        context.wait(Duration.from_seconds(1))
        return [len(text) for text in result.get_results()]

    assert execute(handler, executor).result == [60_000] * 6
    assert notes(log) == ["step"] * 6


def test_a_large_result_of_a_child_context_is_rebuilt(executor: str, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def handler(event, context):
        def child(ctx):
            return ctx.step(lambda _: note(log, "step") or "x" * 1000, name="part") * 300

        def branch(ctx):
            text = ctx.run_in_child_context(child, name="child")
            ctx.wait(Duration.from_seconds(1))
            return len(text)

        return context.parallel([branch]).get_results()

    assert execute(handler, executor).result == [300_000]
    assert notes(log) == ["step"]


def test_a_summary_generator_writes_what_is_recorded_in_place_of_a_large_result(executor: str) -> None:
    def handler(event, context):
        config = MapConfig(summary_generator=lambda result: f"{result.success_count} large texts")
        result = context.map(["a"] * 2, lambda c, item, i, all_: item * LARGE, name="batch", config=config)
        context.wait(Duration.from_seconds(1))
        return [len(text) for text in result.get_results()]

    result = execute(handler, executor)
    assert result.result == [LARGE, LARGE]
    assert result.get_context("batch").result == "2 large texts"


def test_a_changed_argument_does_not_change_what_was_recorded(executor: str) -> None:
    def handler(event, context):
        shared: list[int] = []

        def branch(ctx):
            found = ctx.step(lambda _: shared)
            found.append(1)  # the step's result is a copy: neither the record nor the original sees this
            return [len(found), len(shared)]

        first = context.parallel([branch]).get_results()[0]
        return [first, shared]

    assert returned(handler, executor) == [[1, 0], []]
