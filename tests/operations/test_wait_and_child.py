"""`context.wait` and `context.run_in_child_context`."""

from __future__ import annotations

import pytest
from operation_tools import Killed, World

from durapool.config import ChildConfig, Duration, StepConfig
from durapool.context import durable_with_child_context
from durapool.exceptions import (
    ChildContextError,
    NonDeterministicExecutionError,
    StepError,
    SuspendExecution,
    ValidationError,
)
from durapool.records import Action, OperationStatus, child_id
from durapool.retries import RetryDecision

NO_RETRY = StepConfig(lambda error, attempt: RetryDecision.no_retry())


def raises(error):
    def fail(_):
        raise error

    return fail


def test_a_wait_suspends_until_its_time_is_over(world):
    def handler(ctx):
        ctx.wait(Duration.from_minutes(1), name="w")
        return "after"

    for _ in range(2):
        with pytest.raises(SuspendExecution) as caught:
            world.invoke(handler)
        assert caught.value.waiting_on == {child_id(None, 1)}
    assert world.run(handler) == "after"
    assert world.log.now == 1060
    assert world.log.lines() == ["START w", "SUCCEED w"]


@pytest.mark.parametrize("duration", [Duration(), 5, None])
def test_a_wait_of_no_time_is_refused(world, duration):
    with pytest.raises(ValidationError):
        world.invoke(lambda ctx: ctx.wait(duration))
    assert not world.log.updates


def test_a_finished_child_context_is_not_run_again(world):
    runs = []

    def child(ctx):
        runs.append(1)
        return ctx.step(lambda _: "x", name="s")

    for _ in range(2):
        assert world.invoke(lambda ctx: ctx.run_in_child_context(child, name="c")) == "x"
    assert runs == [1]
    assert world.log.lines() == ["START c", "START s", "SUCCEED s", "SUCCEED c"]
    assert world.log.named("s").parent_id == world.log.named("c").id


def test_a_child_context_goes_on_where_it_was_killed(world):
    runs = []

    def child(ctx):
        ctx.step(lambda _: runs.append("first"), name="first")
        ctx.step(lambda _: runs.append("second"), name="second")

    world.log.kill_before = (Action.START, "second")
    with pytest.raises(Killed):
        world.invoke(lambda ctx: ctx.run_in_child_context(child, name="c"))
    world.invoke(lambda ctx: ctx.run_in_child_context(child, name="c"))
    assert runs == ["first", "second"]
    assert world.log.lines().count("START c") == 1


def test_a_suspension_leaves_a_child_context_open(world):
    def handler(ctx):
        return ctx.run_in_child_context(lambda child: child.wait(Duration.from_seconds(1), name="w"), name="c")

    with pytest.raises(SuspendExecution):
        world.invoke(handler)
    assert world.log.named("c").status is OperationStatus.STARTED
    assert world.run(handler) is None


def test_a_failed_child_context_raises_with_its_cause_the_second_time_too(world):
    def child(ctx):
        ctx.step(raises(KeyError("k")), name="s", config=NO_RETRY)

    for _ in range(2):
        with pytest.raises(ChildContextError) as caught:
            world.invoke(lambda ctx: ctx.run_in_child_context(child, name="c"))
        assert isinstance(caught.value.__cause__, StepError)
        assert isinstance(caught.value.__cause__.__cause__, KeyError)
    assert world.log.lines() == ["START c", "START s", "FAIL s", "FAIL c"]


def test_a_virtual_context_records_nothing_of_itself(world):
    runs = []

    def child(ctx):
        runs.append(1)
        return ctx.run_in_child_context(lambda inner: inner.step(lambda _: (1, 2), name="s"), name="inner")

    for _ in range(2):
        assert world.invoke(lambda ctx: ctx.run_in_child_context(child, "v", ChildConfig(is_virtual=True))) == (1, 2)
    assert runs == [1, 1]
    assert world.log.lines() == ["START inner", "START s", "SUCCEED s", "SUCCEED inner"]
    assert world.log.named("inner").parent_id is None
    assert world.log.named("inner").id == child_id(child_id(None, 1), 1)


def test_a_virtual_context_that_fails_raises_and_records_nothing(world):
    with pytest.raises(ChildContextError, match="broken") as caught:
        world.invoke(lambda ctx: ctx.run_in_child_context(raises(OSError("broken")), "v", ChildConfig(is_virtual=True)))
    assert isinstance(caught.value.__cause__, OSError)
    assert not world.log.updates


def test_a_context_that_has_become_virtual_is_not_deterministic(world):
    world.invoke(lambda ctx: ctx.run_in_child_context(lambda _: 1, "c"))
    with pytest.raises(NonDeterministicExecutionError, match="virtual"):
        world.invoke(lambda ctx: ctx.run_in_child_context(lambda _: 1, "c", ChildConfig(is_virtual=True)))


def test_a_replay_error_inside_a_child_context_is_not_recorded_as_its_failure(world):
    world.log.kill_before = (Action.SUCCEED, "c")
    with pytest.raises(Killed):
        world.invoke(lambda ctx: ctx.run_in_child_context(lambda child: child.step(lambda _: 1, name="a"), "c"))
    with pytest.raises(NonDeterministicExecutionError):
        world.invoke(lambda ctx: ctx.run_in_child_context(lambda child: child.step(lambda _: 1, name="b"), "c"))
    assert world.log.named("c").status is OperationStatus.STARTED


def test_a_result_above_the_limit_is_summarised_and_rebuilt_over_recorded_steps():
    world = World(payload_limit=100)
    calls, steps = [], []

    def child(ctx):
        calls.append(1)
        return [ctx.step(lambda _: steps.append(1) or "x" * 60) for _ in range(3)]

    config = ChildConfig(summary_generator=lambda result: f"{len(result)} texts")
    for _ in range(2):
        assert world.invoke(lambda ctx: ctx.run_in_child_context(child, "c", config)) == ["x" * 60] * 3
    assert world.log.named("c").payload == "3 texts"
    assert world.log.named("c").replay_children
    assert (len(calls), len(steps)) == (2, 3)


def test_without_a_generator_there_is_a_default_summary():
    world = World(payload_limit=100)
    world.invoke(lambda ctx: ctx.run_in_child_context(lambda _: "x" * 200, "c"))
    assert '"bytes": 202' in str(world.log.named("c").payload)


def test_a_sub_type_of_the_users_own_is_recorded(world):
    for _ in range(2):
        world.invoke(lambda ctx: ctx.run_in_child_context(lambda _: 1, "c", ChildConfig(sub_type="Saga")))
    assert world.log.named("c").sub_type == "Saga"
    with pytest.raises(NonDeterministicExecutionError, match="Saga 'c'"):
        world.invoke(lambda ctx: ctx.run_in_child_context(lambda _: 1, "c"))


def test_a_durable_child_context_has_its_functions_name(world):
    @durable_with_child_context
    def load(ctx, folder):
        return folder

    assert world.invoke(lambda ctx: ctx.run_in_child_context(load("data"))) == "data"
    assert world.log.lines() == ["START load", "SUCCEED load"]
