"""`context.parallel` and `context.map`: checked, recorded, and rebuilt from the record."""

from __future__ import annotations

import json

import numpy
import pytest
from operation_tools import InlineExecutor, Killed, World

from durapool.config import CompletionConfig, Duration, MapConfig, NestingType, ParallelBranch, ParallelConfig
from durapool.context import durable_parallel_branch
from durapool.exceptions import (
    ChildContextError,
    NonDeterministicExecutionError,
    SuspendExecution,
    ValidationError,
)
from durapool.executors import ProcessExecutor, ThreadExecutor
from durapool.records import Action, OperationStatus
from durapool.results import BatchItemStatus, CompletionReason
from durapool.serdes import PickleSerDes, SerDes

FLAT = ParallelConfig(nesting_type=NestingType.FLAT)
NESTED = ParallelConfig()
BOTH = pytest.mark.parametrize("config", [NESTED, FLAT], ids=["nested", "flat"])
TOLERANT = CompletionConfig.all_completed()


class Point:
    """A value that is not JSON."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x

    __hash__ = None  # type: ignore[assignment]


def steps(*values):
    """One branch for each value: a step that returns it."""
    return [lambda ctx, value=value: ctx.step(lambda _: value, name=f"s{value}") for value in values]


def fails(ctx):
    raise OSError("broken")


def never(ctx):
    raise AssertionError("called again")


@BOTH
def test_results_come_in_index_order_and_again_from_the_record(world, config):
    first = world.invoke(lambda ctx: ctx.parallel(steps(1, 2, 3), name="p", config=config))
    again = world.invoke(lambda ctx: ctx.parallel([never] * 3, name="p", config=config))
    assert first.get_results() == again.get_results() == [1, 2, 3]
    assert first == again
    assert first.completion_reason is CompletionReason.ALL_COMPLETED
    assert len(world.executor.plans) == 1


def test_nested_branches_have_contexts_and_flat_ones_have_not(world):
    world.invoke(lambda ctx: ctx.parallel(steps(1), name="p"))
    assert world.log.lines() == [
        "START p",
        "START parallel-branch-0",
        "START s1",
        "SUCCEED s1",
        "SUCCEED parallel-branch-0",
        "SUCCEED p",
    ]
    flat = World()
    flat.invoke(lambda ctx: ctx.parallel(steps(1), name="p", config=FLAT))
    assert flat.log.lines() == ["START p", "START s1", "SUCCEED s1", "SUCCEED p"]
    assert flat.log.named("s1").parent_id == flat.log.named("p").id
    assert flat.log.named("s1").branch == 0
    assert flat.log.named("s1").id == world.log.named("s1").id


def test_the_record_of_a_nested_batch_is_one_short_line(world):
    world.invoke(lambda ctx: ctx.map(range(1000), lambda ctx, item, index, inputs: item, name="m"))
    assert json.loads(world.log.named("m").payload) == {
        "reason": "ALL_COMPLETED",
        "submitted": 1000,
        "ended": [[0, 999]],
        "started": [],
    }


@BOTH
def test_a_failed_branch_is_in_the_result_with_its_error_and_again(world, config):
    config = ParallelConfig(completion_config=TOLERANT, nesting_type=config.nesting_type)

    def handler(ctx):
        return ctx.parallel([fails, *steps(1)], config=config)

    for result in (world.invoke(handler), world.invoke(handler)):
        assert [item.status for item in result.all] == [BatchItemStatus.FAILED, BatchItemStatus.SUCCEEDED]
        assert result.get_errors()[0].message == "broken"
        with pytest.raises(ChildContextError) as caught:
            result.throw_if_error()
        assert isinstance(caught.value.__cause__, OSError)


@BOTH
def test_an_early_decision_is_replayed_with_the_same_reason_and_started_set(world, config):
    world.executor = InlineExecutor(hangs=frozenset({0, 2}))
    config = ParallelConfig(completion_config=CompletionConfig.first_successful(), nesting_type=config.nesting_type)
    first = world.invoke(lambda ctx: ctx.parallel(steps(0, 1, 2, 3), config=config))
    again = world.invoke(lambda ctx: ctx.parallel([never] * 4, config=config))
    assert first == again
    assert first.completion_reason is CompletionReason.MIN_SUCCESSFUL_REACHED
    assert [item.index for item in first.started()] == [0]
    assert (first.total_count, first.submitted_count) == (2, 4)


@BOTH
def test_binary_results_survive_the_record(world, config):
    branches = [lambda ctx: Point(3), lambda ctx: b"\x80bytes"]
    first = world.invoke(lambda ctx: ctx.parallel(branches, config=config))
    again = world.invoke(lambda ctx: ctx.parallel([never] * 2, config=config))
    assert first.get_results() == again.get_results() == [Point(3), b"\x80bytes"]


def test_an_empty_batch_is_all_completed_and_needs_no_executor(world):
    for _ in range(2):
        result = world.invoke(lambda ctx: ctx.parallel([], name="p"))
        assert (result.total_count, result.completion_reason) == (0, CompletionReason.ALL_COMPLETED)
        assert result.status is BatchItemStatus.SUCCEEDED
    assert not world.executor.plans
    assert world.log.lines() == ["START p", "SUCCEED p"]


@BOTH
def test_a_batch_goes_on_where_it_was_killed(world, config):
    runs = []

    def handler(ctx):
        branches = [lambda c, i=i: c.step(lambda _: runs.append(i) or i, name=f"s{i}") for i in range(3)]
        return ctx.parallel(branches, config=config).get_results()

    world.log.kill_before = (Action.START, "s1")
    with pytest.raises(Killed):
        world.invoke(handler)
    assert world.invoke(handler) == [0, 1, 2]
    assert runs == [0, 1, 2]


@BOTH
def test_a_batch_whose_branches_wait_suspends_on_all_of_them(world, config):
    def waits(seconds):
        return lambda ctx: ctx.wait(Duration.from_seconds(seconds), name=f"w{seconds}")

    def handler(ctx):
        return ctx.parallel([waits(5), waits(9), *steps(1)], config=config).get_results()

    with pytest.raises(SuspendExecution) as caught:
        world.invoke(handler)
    assert caught.value.waiting_on == {world.log.named("w5").id, world.log.named("w9").id}
    assert world.run(handler) == [None, None, 1]


def test_a_system_exit_fails_its_branch(world):
    def leaves(ctx):
        raise SystemExit(3)

    result = world.invoke(lambda ctx: ctx.parallel([leaves]))
    assert result.get_errors()[0].type == "SystemExit"


def test_another_base_exception_ends_the_invocation(world):
    def dies(ctx):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.invoke(lambda ctx: ctx.parallel([dies], name="p"))
    assert world.log.named("p").status is OperationStatus.STARTED


def test_a_replay_error_in_a_branch_is_not_recorded_as_its_failure(world):
    world.log.kill_before = (Action.SUCCEED, "parallel-branch-0")
    with pytest.raises(Killed):
        world.invoke(lambda ctx: ctx.parallel(steps(1)))
    with pytest.raises(NonDeterministicExecutionError):
        world.invoke(lambda ctx: ctx.parallel(steps(2)))
    assert world.log.named("parallel-branch-0").status is OperationStatus.STARTED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ctx: ctx.parallel(steps(1, 2, 3)), "a batch of 2 branches, now came one of 3"),
        (lambda ctx: ctx.parallel([ParallelBranch(never, "new"), never]), "parallel-branch-0.*branch 'new'"),
        (lambda ctx: ctx.map([1, 2], lambda ctx, item, index, inputs: item), "recorded was a parallel, now came a map"),
        (lambda ctx: ctx.parallel([never] * 2, config=FLAT), "NESTED, now came FLAT"),
    ],
)
def test_a_changed_batch_is_named_with_what_was_recorded(world, change, message):
    world.invoke(lambda ctx: ctx.parallel(steps(1, 2)))
    with pytest.raises(NonDeterministicExecutionError, match=message):
        world.invoke(change)


async def coroutine(ctx):
    pass


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ({never}, "set"),
        ({"a": never}, "dict"),
        ((f for f in [never]), "generator"),
        ("ab", "str"),
        (None, "NoneType"),
        ([never, 3], "branch 1 of parallel is not callable"),
        ([lambda: 1], "branch 0 of parallel.*must take 1 positional"),
        ([lambda a, b: 1], "must take 1"),
        ([lambda ctx, *, key: 1], "must take 1"),
        ([coroutine], "coroutine function"),
        ([ParallelBranch(coroutine, "c")], "coroutine function"),
    ],
)
def test_bad_branches_are_refused_and_nothing_is_recorded(world, functions, message):
    with pytest.raises(ValidationError, match=message):
        world.invoke(lambda ctx: ctx.parallel(functions))
    assert not world.log.updates


@pytest.mark.parametrize("inputs", ["abc", {1, 2}, {"a": 1}, iter([1]), 3, None, b"ab"])
def test_bad_inputs_are_refused_and_nothing_is_recorded(world, inputs):
    with pytest.raises(ValidationError, match="inputs of map"):
        world.invoke(lambda ctx: ctx.map(inputs, lambda ctx, item, index, inputs: item))
    assert not world.log.updates


def test_a_map_function_takes_four_arguments(world):
    with pytest.raises(ValidationError, match="4 positional"):
        world.invoke(lambda ctx: ctx.map([1], lambda ctx, item: item))


@pytest.mark.parametrize("inputs", [[1, 2], (1, 2), range(1, 3), numpy.array([1, 2])])
def test_a_map_takes_any_sequence(world, inputs):
    result = world.invoke(lambda ctx: ctx.map(inputs, lambda ctx, item, index, all_: (int(item), index, len(all_))))
    assert result.get_results() == [(1, 0, 2), (2, 1, 2)]


def test_more_successes_than_branches_are_refused(world):
    config = ParallelConfig(completion_config=CompletionConfig(min_successful=3))
    with pytest.raises(ValidationError, match="3 > 2"):
        world.invoke(lambda ctx: ctx.parallel(steps(1, 2), config=config))
    assert not world.log.updates


def test_branches_are_named(world):
    @durable_parallel_branch(name="decorated")
    def decorated(ctx, value):
        return value

    @durable_parallel_branch()
    def unnamed(ctx):
        return 0

    branches = [ParallelBranch(lambda ctx: 1, "given"), decorated(2), unnamed(), lambda ctx: 3]
    result = world.invoke(lambda ctx: ctx.parallel(branches))
    assert result.get_results() == [1, 2, 0, 3]
    plan = world.executor.plans[0]
    names = [plan.branch_name(index) for index in range(4)]
    assert names == ["given", "decorated", "parallel-branch-2", "parallel-branch-3"]


def test_an_item_namer_names_the_items_and_is_checked_first(world):
    config = MapConfig(item_namer=lambda item, index: f"{index}:{item}")
    world.invoke(lambda ctx: ctx.map(["a", "b"], lambda ctx, item, index, inputs: item, config=config))
    assert "SUCCEED 1:b" in world.log.lines()
    fresh = World()
    with pytest.raises(ValidationError, match="item_namer"):
        fresh.invoke(
            lambda ctx: ctx.map([1], lambda ctx, item, index, inputs: item, config=MapConfig(item_namer=lambda *_: 1))
        )
    assert not fresh.log.updates


def test_the_executor_is_that_of_the_call_or_of_the_surroundings():
    world = World(executor="process:3")
    world.invoke(lambda ctx: ctx.parallel(steps(1)))
    world.invoke(lambda ctx: [ctx.parallel(steps(1)), ctx.parallel(steps(2), config=ParallelConfig(executor="thread"))])
    assert [plan.executor for plan in world.executor.plans] == [ProcessExecutor(workers=3), ThreadExecutor()]
    with pytest.raises(ValidationError, match="executor must be"):
        World().invoke(lambda ctx: ctx.parallel(steps(1), config=ParallelConfig(executor="cloud")))


class Results(SerDes):
    """Keeps the results of a BatchResult as a list."""

    def serialize(self, value, context):
        return json.dumps(value.get_results())

    def deserialize(self, data, context):
        return json.loads(data)


def test_a_serdes_of_the_batch_gives_back_what_it_reads(world):
    config = ParallelConfig(serdes=Results())
    assert world.invoke(lambda ctx: ctx.parallel(steps(1, 2), name="p", config=config)) == [1, 2]
    assert world.invoke(lambda ctx: ctx.parallel([never] * 2, name="p", config=config)) == [1, 2]
    assert world.log.named("p").payload == "[1, 2]"


def test_a_serdes_of_the_batch_that_fails_fails_the_batch(world):
    class Broken(Results):
        def serialize(self, value, context):
            raise KeyError("no")

    for _ in range(2):
        with pytest.raises(ChildContextError, match="Broken"):
            world.invoke(lambda ctx: ctx.parallel(steps(1), name="p", config=ParallelConfig(serdes=Broken())))
    assert world.log.named("p").status is OperationStatus.FAILED


def test_an_item_serdes_writes_each_result(world):
    config = ParallelConfig(item_serdes=PickleSerDes())
    result = world.invoke(lambda ctx: ctx.parallel(steps(1), config=config))
    assert result.get_results() == [1]
    assert isinstance(world.log.named("parallel-branch-0").payload, bytes)


def test_a_result_that_cannot_be_serialised_fails_its_branch(world):
    result = world.invoke(lambda ctx: ctx.parallel([lambda ctx: (n for n in [])]))
    assert result.get_errors()[0].type == "SerDesError"


@BOTH
def test_a_batch_above_the_limit_is_summarised_and_rebuilt(config):
    world, runs = World(payload_limit=150), []
    config = ParallelConfig(
        nesting_type=config.nesting_type,
        completion_config=TOLERANT,
        summary_generator=lambda result: f"{result.success_count} of {result.total_count}",
    )

    def text(ctx):
        return ctx.step(lambda _: runs.append(1) or "x" * 100)

    def handler(ctx):
        return ctx.parallel([text, fails, text], name="p", config=config)

    first, again = world.invoke(handler), world.invoke(handler)
    assert first.get_results() == again.get_results() == ["x" * 100] * 2
    assert [item.status for item in first.all] == [item.status for item in again.all]
    assert again.submitted_count == 3
    assert len(runs) == 2
    assert world.log.named("p").payload == "2 of 3"
    assert world.log.named("p").replay_children


def test_the_default_summary_tells_the_outcome():
    world = World(payload_limit=50)
    world.invoke(lambda ctx: ctx.parallel([lambda ctx: "x" * 45], name="p"))
    assert json.loads(world.log.named("p").payload) == {
        "type": "ParallelResult",
        "totalCount": 1,
        "successCount": 1,
        "failureCount": 0,
        "startedCount": 0,
        "completionReason": "ALL_COMPLETED",
        "status": "SUCCEEDED",
    }


def test_one_branch_above_the_limit_is_rebuilt_by_itself():
    world, calls = World(payload_limit=150), []

    def large(ctx):
        calls.append("large")
        return [ctx.step(lambda _: "x" * 100) for _ in range(2)]

    def small(ctx):
        calls.append("small")
        return 1

    for _ in range(2):
        result = world.invoke(lambda ctx: ctx.parallel([large, small]))
        assert result.get_results() == [["x" * 100] * 2, 1]
    assert world.log.named("parallel-branch-0").replay_children
    assert calls == ["large", "small", "large"]


def test_a_large_branch_recorded_before_a_kill_is_rebuilt_when_the_batch_goes_on():
    world = World(payload_limit=150)

    def large(ctx):
        return [ctx.step(lambda _: "x" * 100) for _ in range(2)]

    world.log.kill_before = (Action.START, "s1")
    with pytest.raises(Killed):
        world.invoke(lambda ctx: ctx.parallel([large, *steps(1)]))
    assert world.invoke(lambda ctx: ctx.parallel([large, *steps(1)])).get_results() == [["x" * 100] * 2, 1]


def test_batches_nest(world):
    def group(ctx):
        return ctx.parallel(steps(1, 2)).get_results()

    for _ in range(2):
        assert world.invoke(lambda ctx: ctx.parallel([group, group])).get_results() == [[1, 2], [1, 2]]
