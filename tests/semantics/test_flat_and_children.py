"""FLAT nesting and child contexts. The same under every executor."""

from __future__ import annotations

import pytest
from semantic_tools import execute, returned

from durapool import durable_step, durable_with_child_context
from durapool.config import ChildConfig, CompletionConfig, MapConfig, NestingType, ParallelConfig
from durapool.exceptions import ChildContextError
from durapool.testing import OperationType

FLAT = ParallelConfig(nesting_type=NestingType.FLAT, max_concurrency=1)


def test_a_flat_batch_has_no_context_for_its_branches(executor: str) -> None:
    def handler(event, context):
        def branch(ctx):
            return ctx.step(lambda _: 1, name="s") + ctx.step(lambda _: 1, name="t")

        return context.parallel([branch, branch], name="flat", config=FLAT).get_results()

    result = execute(handler, executor)
    assert result.result == [2, 2]
    batch = result.get_context("flat")
    assert [child.name for child in batch.child_operations] == ["s", "t", "s", "t"]
    assert {child.parent_id for child in batch.child_operations} == {batch.operation_id}
    assert len({operation.operation_id for operation in result.operations}) == 5


def test_flat_and_nested_batches_give_the_same_result(executor: str) -> None:
    def handler(event, context):
        def branch(ctx, item, index, inputs):
            if item == 2:
                raise ValueError("no")
            return ctx.step(lambda _: item * 10)

        found = []
        for nesting in (NestingType.NESTED, NestingType.FLAT):
            config = MapConfig(nesting_type=nesting, completion_config=CompletionConfig.all_completed())
            result = context.map([1, 2, 3], branch, config=config)
            found.append([result.successful_results, result.failed_results[0].message, result.completion_reason.value])
        return found

    nested, flat = returned(handler, executor)
    assert nested == flat == [[10, 30], "no", "ALL_COMPLETED"]


def test_a_batch_in_a_flat_branch(executor: str) -> None:
    def handler(event, context):
        def inner(ctx, item, index, inputs):
            return ctx.step(lambda _: item)

        def branch(ctx):
            return ctx.map([1, 2], inner, name="inner").get_results()

        return context.parallel([branch, branch], config=FLAT).get_results()

    assert returned(handler, executor) == [[1, 2], [1, 2]]


def test_child_contexts_nest_inside_branches(executor: str) -> None:
    def handler(event, context):
        def descend(ctx, depth):
            if depth == 0:
                return ctx.step(lambda _: "bottom", name="bottom")
            return ctx.run_in_child_context(lambda c: descend(c, depth - 1), name=f"level-{depth}")

        return context.parallel([lambda ctx: descend(ctx, 4)]).get_results()

    result = execute(handler, executor)
    assert result.result == ["bottom"]
    chain = [result.get_context("parallel-branch-0")]
    for depth in (4, 3, 2, 1):
        chain.append(chain[-1].get_context(f"level-{depth}"))
    assert [context.sub_type for context in chain[1:]] == ["RunInChildContext"] * 4
    assert chain[-1].child_operations[0].operation_type is OperationType.STEP


def test_the_error_of_a_child_context_has_type_message_and_cause(executor: str) -> None:
    def handler(event, context):
        def child(ctx):
            raise LookupError("nothing there")

        def branch(ctx):
            with pytest.raises(ChildContextError) as caught:
                ctx.run_in_child_context(child, name="child")
            return [caught.value.error_type, caught.value.message, type(caught.value.__cause__).__name__]

        return context.parallel([branch]).get_results()[0]

    assert returned(handler, executor) == ["LookupError", "nothing there", "LookupError"]


def test_a_virtual_child_context_records_no_operation_of_its_own(executor: str) -> None:
    def handler(event, context):
        def child(ctx):
            return ctx.step(lambda _: 5, name="inside")

        def branch(ctx):
            return ctx.run_in_child_context(child, name="virtual", config=ChildConfig(is_virtual=True))

        return context.parallel([branch], name="batch").get_results()

    result = execute(handler, executor)
    assert result.result == [5]
    assert [operation.name for operation in result.operations] == ["batch", "parallel-branch-0", "inside"]


@durable_step
def scaled(step, value, factor=2):
    return value * factor


@durable_with_child_context
def summed(ctx, values):
    return sum(ctx.step(scaled(value, factor=3)) for value in values)


def test_decorated_steps_and_children_work_in_branches(executor: str) -> None:
    def handler(event, context):
        def branch(ctx):
            return [ctx.step(scaled(4)), ctx.run_in_child_context(summed([1, 2]))]

        return context.parallel([branch]).get_results()

    result = execute(handler, executor)
    assert result.result == [[8, 9]]
    assert {"scaled", "summed"} <= {operation.name for operation in result.operations}
