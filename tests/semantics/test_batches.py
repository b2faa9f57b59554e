"""parallel and map: order, names, inputs, limits, nesting. The same under every executor."""

from __future__ import annotations

from pathlib import Path

import pytest
from semantic_tools import execute, most_in_flight, note, notes, returned, shape, wait_until

from durapool import ParallelBranch, durable_parallel_branch
from durapool.config import Duration, MapConfig, ParallelConfig
from durapool.exceptions import ValidationError
from durapool.testing import OperationType


def test_results_come_in_the_order_of_the_branches(executor: str) -> None:
    def handler(event, context):
        # The first branch ends last: it waits, and the others do not.
        def slow(ctx):
            ctx.wait(Duration.from_seconds(5))
            return "slow"

        return context.parallel([slow, lambda ctx: "b", lambda ctx: "c"]).get_results()

    assert returned(handler, executor) == ["slow", "b", "c"]


def test_a_branch_that_returned_none_has_a_result(executor: str) -> None:
    def handler(event, context):
        result = context.parallel([lambda ctx: None, lambda ctx: 1])
        return [result.successful_results, result.success_count]

    assert returned(handler, executor) == [[None, 1], 2]


@pytest.mark.parametrize("call", ["parallel", "map"])
def test_an_empty_list_is_a_completed_batch(executor: str, call: str) -> None:
    def handler(event, context):
        result = context.parallel([]) if call == "parallel" else context.map([], lambda ctx, item, i, all_: item)
        return [result.status.value, result.completion_reason.value, result.total_count, result.get_results()]

    assert returned(handler, executor) == ["SUCCEEDED", "ALL_COMPLETED", 0, []]


def test_a_map_function_sees_item_index_and_all_inputs(executor: str) -> None:
    def handler(event, context):
        def look(ctx, item, index, inputs):
            return [item, index, list(inputs), len(inputs), inputs[-1]]

        return context.map(event, look).get_results()

    assert returned(handler, executor, [3, 4, 5]) == [
        [3, 0, [3, 4, 5], 3, 5],
        [4, 1, [3, 4, 5], 3, 5],
        [5, 2, [3, 4, 5], 3, 5],
    ]


def test_branches_have_default_names_and_given_ones(executor: str) -> None:
    @durable_parallel_branch(name="decorated")
    def decorated(ctx, number):
        return number

    def handler(event, context):
        named = ParallelBranch(func=lambda ctx: 1, name="named")
        context.parallel([named, lambda ctx: 2, decorated(3)], name="p")
        context.map(["x", "y"], lambda ctx, item, i, inputs: item, name="m")
        namer = MapConfig(item_namer=lambda item, index: f"{item}@{index}")
        context.map(["x", "y"], lambda ctx, item, i, inputs: item, name="n", config=namer)

    result = execute(handler, executor)

    def names_in(batch: str) -> list[str | None]:
        return sorted(child.name or "" for child in result.get_context(batch).child_operations)

    assert names_in("p") == ["decorated", "named", "parallel-branch-1"]
    assert names_in("m") == ["map-item-0", "map-item-1"]
    assert names_in("n") == ["x@0", "y@1"]


def test_max_concurrency_is_never_exceeded_and_is_used(executor: str, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def handler(event, context):
        def branch(ctx, item, index, inputs):
            note(log, f"start {index}")
            wait_until(lambda: len(notes(log)) >= 2)  # the first two must run at the same time
            return ctx.step(lambda _: item, name="work")

        config = MapConfig(max_concurrency=2)
        return context.map(list(range(9)), branch, config=config).get_results()

    result = execute(handler, executor)
    assert result.result == list(range(9))
    assert most_in_flight(result, "MapIteration") == 2


def test_with_a_limit_of_one_branches_run_one_after_the_other(executor: str) -> None:
    def handler(event, context):
        config = MapConfig(max_concurrency=1)
        context.map([0, 1, 2], lambda ctx, item, i, all_: ctx.step(lambda _: item), config=config)

    result = execute(handler, executor)
    branches = [event for event in result.history if event.get("SubType") == "MapIteration"]
    assert [(event["Name"], event["EventType"]) for event in branches] == [
        (f"map-item-{i}", kind) for i in range(3) for kind in ("ContextStarted", "ContextSucceeded")
    ]


def test_a_suspended_branch_keeps_its_place(executor: str) -> None:
    def handler(event, context):
        def branch(ctx, item, index, inputs):
            ctx.wait(Duration.from_seconds(3), name=f"wait {index}")
            return index

        return context.map([0, 1, 2], branch, config=MapConfig(max_concurrency=1)).get_results()

    result = execute(handler, executor)
    assert result.result == [0, 1, 2]
    assert most_in_flight(result, "MapIteration") == 1


@pytest.mark.parametrize("limit", [None, 1])
def test_batches_nest(executor: str, limit: int | None) -> None:
    def handler(event, context):
        config = ParallelConfig(max_concurrency=limit)

        def tree(ctx, depth, path):
            if depth == 0:
                return ctx.step(lambda _: path, name=path)
            branches = [lambda c, i=i: tree(c, depth - 1, f"{path}{i}") for i in range(2)]
            return ctx.parallel(branches, name=f"under-{path}", config=config).get_results()

        return tree(context, 3, "r")

    expected = [[[f"r{a}{b}{c}" for c in range(2)] for b in range(2)] for a in range(2)]
    result = execute(handler, executor)
    assert result.result == expected
    steps = [op for op in result.operations if op.operation_type is OperationType.STEP]
    assert {op.name for op in steps} == {f"r{a}{b}{c}" for a in range(2) for b in range(2) for c in range(2)}


def test_a_map_in_a_parallel_in_a_child_context(executor: str) -> None:
    def handler(event, context):
        def child(ctx):
            def inner(c):
                return c.map([1, 2, 3], lambda m, item, i, inputs: item * 10).get_results()

            return ctx.parallel([inner, inner]).get_results()

        return context.run_in_child_context(child, name="child")

    assert returned(handler, executor) == [[10, 20, 30], [10, 20, 30]]


@pytest.mark.parametrize("functions", [{1, 2}, (f for f in [print])], ids=["set", "generator"])
def test_what_has_no_order_is_refused_and_leaves_no_event(executor: str, functions: object) -> None:
    def handler(event, context):
        with pytest.raises(ValidationError):
            context.parallel(functions, name="refused")
        return "ok"

    result = execute(handler, executor)
    assert result.operations == []


def test_a_coroutine_function_is_refused(executor: str) -> None:
    async def branch(ctx):
        return 1

    def handler(event, context):
        with pytest.raises(ValidationError):
            context.parallel([branch])

    assert execute(handler, executor).operations == []


def test_many_more_branches_than_workers(executor: str) -> None:
    def handler(event, context):
        return sum(context.map(list(range(200)), lambda ctx, item, i, inputs: item).get_results())

    assert returned(handler, executor) == sum(range(200))


def test_both_executors_write_the_same_history() -> None:
    def handler(event, context):
        config = ParallelConfig(max_concurrency=1)

        def waits(ctx):
            ctx.step(lambda _: 1, name="before")
            ctx.wait(Duration.from_minutes(1), name="pause")
            return ctx.step(lambda _: 2, name="after")

        def nests(ctx):
            return ctx.parallel([lambda c: c.step(lambda _: 3, name="deep")], name="inner", config=config).get_results()

        def fails(ctx):
            raise ValueError("no")

        context.parallel([waits, nests, fails], name="outer", config=config)
        context.map([1, 2], lambda ctx, item, i, inputs: ctx.step(lambda _: item), config=MapConfig(max_concurrency=1))
        return "done"

    assert shape(execute(handler, "thread")) == shape(execute(handler, "process:2"))
