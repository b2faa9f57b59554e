"""`context.step`: recorded once, retried as its strategy says, interrupted as its semantics say."""

from __future__ import annotations

import logging

import pytest
from operation_tools import Killed, World

from durapool.config import Duration, StepConfig, StepSemantics
from durapool.context import durable_step
from durapool.exceptions import (
    NonDeterministicExecutionError,
    StepError,
    StepInterruptedError,
    SuspendExecution,
    ValidationError,
)
from durapool.operations import step as step_module
from durapool.records import Action
from durapool.retries import RetryDecision
from durapool.serdes import JsonSerDes

AT_MOST_ONCE = StepSemantics.AT_MOST_ONCE_PER_RETRY


def retry_until(attempts: int):
    def strategy(error: Exception, attempt: int) -> RetryDecision:
        if attempt < attempts:
            return RetryDecision.retry(Duration.from_seconds(7))
        return RetryDecision.no_retry()

    return StepConfig(strategy)


NO_RETRY = retry_until(1)


def fails_with(error: BaseException):
    def fail(_):
        raise error

    return fail


def test_a_recorded_step_is_not_run_again(world):
    runs = []

    def handler(ctx):
        return ctx.step(lambda _: runs.append(1) or "done", name="s")

    assert [world.invoke(handler), world.invoke(handler)] == ["done", "done"]
    assert runs == [1]
    assert world.log.lines() == ["START s", "SUCCEED s"]


def test_a_result_is_what_the_serdes_gives_back_the_first_time_too(world):
    config = StepConfig(serdes=JsonSerDes())
    assert world.invoke(lambda ctx: ctx.step(lambda _: (1, 2), config=config)) == [1, 2]
    assert world.invoke(lambda ctx: ctx.step(lambda _: (1, 2), config=config)) == [1, 2]


def test_none_is_a_result(world):
    assert world.invoke(lambda ctx: ctx.step(lambda _: None)) is None
    assert world.invoke(lambda ctx: ctx.step(fails_with(KeyError()))) is None


def test_a_success_is_committed_before_the_next_operation(world):
    world.invoke(lambda ctx: ctx.step(lambda _: 1))
    assert (world.log.flushes, world.log.barriers) == (1, 0)


def test_a_failed_step_raises_step_error_with_the_original_as_cause_and_does_so_again(world):
    for _ in range(2):
        with pytest.raises(StepError, match="broken") as caught:
            world.invoke(lambda ctx: ctx.step(fails_with(ValueError("broken")), name="s", config=NO_RETRY))
        assert isinstance(caught.value.__cause__, ValueError)
        assert caught.value.error_type == "ValueError"
    assert world.log.lines() == ["START s", "FAIL s"]


def test_a_retry_suspends_until_it_is_due_and_counts_attempts(world):
    attempts = []

    def flaky(step_context):
        attempts.append(step_context.attempt)
        if step_context.attempt < 3:
            raise OSError("not yet")
        return "ok"

    def handler(ctx):
        return ctx.step(flaky, name="s", config=retry_until(5))

    with pytest.raises(SuspendExecution):
        world.invoke(handler)
    with pytest.raises(SuspendExecution):
        world.invoke(handler)
    assert attempts == [1]
    assert world.run(handler) == "ok"
    assert attempts == [1, 2, 3]
    retries = [update for update in world.log.updates if update.action is Action.RETRY]
    assert [(update.attempt, update.delay, update.error.type) for update in retries] == [
        (1, 7, "OSError"),
        (2, 7, "OSError"),
    ]
    assert world.log.lines() == ["START s", "RETRY s", "READY s"] * 2 + ["START s", "SUCCEED s"]


def test_an_interrupted_step_runs_the_same_attempt_again_without_a_second_start(world):
    attempts = []

    def handler(ctx):
        return ctx.step(lambda step_context: attempts.append(step_context.attempt), name="s")

    world.log.kill_before = (Action.SUCCEED, "s")
    with pytest.raises(Killed):
        world.invoke(handler)
    world.invoke(handler)
    assert attempts == [1, 1]
    assert world.log.lines() == ["START s", "SUCCEED s"]


def test_an_at_most_once_step_commits_its_start_and_is_not_run_twice(world):
    runs, seen = [], []

    def strategy(error, attempt):
        seen.append((type(error), attempt))
        return RetryDecision.no_retry()

    def handler(ctx):
        return ctx.step(lambda _: runs.append(world.log.barriers), name="s", config=StepConfig(strategy, AT_MOST_ONCE))

    world.log.kill_before = (Action.SUCCEED, "s")
    with pytest.raises(Killed):
        world.invoke(handler)
    for _ in range(2):
        with pytest.raises(StepError) as caught:
            world.invoke(handler)
        assert isinstance(caught.value.__cause__, StepInterruptedError)
    assert runs == [1]
    assert seen == [(StepInterruptedError, 1)]


def test_an_interrupted_at_most_once_step_may_be_retried_as_a_new_attempt(world):
    attempts = []
    config = StepConfig(retry_until(3).retry_strategy, AT_MOST_ONCE)

    def handler(ctx):
        return ctx.step(lambda step_context: attempts.append(step_context.attempt), name="s", config=config)

    world.log.kill_before = (Action.SUCCEED, "s")
    with pytest.raises(Killed):
        world.invoke(handler)
    world.run(handler)
    assert attempts == [1, 2]
    assert world.log.lines() == ["START s", "RETRY s", "READY s", "START s", "SUCCEED s"]


def test_a_retry_strategy_that_raises_fails_the_step(world):
    def strategy(error, attempt):
        raise ZeroDivisionError("in the strategy")

    for _ in range(2):
        with pytest.raises(StepError, match="in the strategy"):
            world.invoke(lambda ctx: ctx.step(fails_with(OSError()), name="s", config=StepConfig(strategy)))
    assert world.log.lines() == ["START s", "FAIL s"]


def test_a_retry_strategy_that_returns_something_else_fails_the_step(world):
    with pytest.raises(StepError, match="RetryDecision"):
        world.invoke(lambda ctx: ctx.step(fails_with(OSError()), config=StepConfig(lambda error, attempt: True)))


def test_a_result_that_cannot_be_serialised_fails_the_step_without_a_retry(world):
    for _ in range(2):
        with pytest.raises(StepError) as caught:
            world.invoke(lambda ctx: ctx.step(lambda _: (n for n in []), name="s", config=retry_until(9)))
        assert caught.value.error_type == "SerDesError"
    assert world.log.lines() == ["START s", "FAIL s"]


@pytest.mark.parametrize("signal", [KeyboardInterrupt(), SystemExit(3), Killed()])
def test_what_is_no_exception_passes_through_unrecorded(world, signal):
    with pytest.raises(type(signal)):
        world.invoke(lambda ctx: ctx.step(fails_with(signal), name="s"))
    assert world.log.lines() == ["START s"]


def test_the_default_retry_is_announced_once_and_says_how_to_switch_it_off(world, caplog):
    step_module._told.clear()

    def handler(ctx):
        ctx.step(lambda c: 1 / (c.attempt - 1) if c.attempt == 1 else 1, name="first")
        ctx.step(lambda c: 1 / (c.attempt - 1) if c.attempt == 1 else 1, name="second")

    with caplog.at_level(logging.WARNING, "durapool"):
        world.run(handler)
    (record,) = [record for record in caplog.records if "--no-retry" in record.getMessage()]
    assert "first" in record.getMessage()


def test_the_handlers_default_strategy_is_not_announced(caplog):
    step_module._told.clear()
    world = World(default_retry=retry_until(2).retry_strategy)
    with caplog.at_level(logging.WARNING, "durapool"):
        assert world.run(lambda ctx: ctx.step(lambda c: 1 if c.attempt == 2 else 1 / 0)) == 1
    assert not caplog.records


@pytest.mark.parametrize("broken", ["name", "kind"])
def test_a_changed_step_is_named_with_what_was_recorded(world, broken):
    world.invoke(lambda ctx: ctx.step(lambda _: 1, name="load"))

    def changed(ctx):
        return ctx.step(lambda _: 1, name="fetch") if broken == "name" else ctx.wait(Duration.from_seconds(1))

    with pytest.raises(NonDeterministicExecutionError, match=r"step 'load'.*now came a (step 'fetch'|wait)"):
        world.invoke(changed)
    assert world.log.lines() == ["START load", "SUCCEED load"]


def test_a_step_that_is_no_function_of_one_argument_is_refused_before_anything_is_recorded(world):
    async def coroutine(_):
        pass

    for function, reason in [(lambda: 1, "must take 1"), (7, "not callable"), (coroutine, "coroutine")]:
        with pytest.raises(ValidationError, match=reason):
            world.invoke(lambda ctx, function=function: ctx.step(function))
    assert not world.log.updates


def test_a_durable_step_names_the_step_and_binds_its_arguments(world):
    @durable_step
    def add(step_context, a, b=0):
        return a + b, step_context.attempt

    assert world.invoke(lambda ctx: ctx.step(add(1, b=2))) == (3, 1)
    assert world.log.lines() == ["START add", "SUCCEED add"]


def test_a_durable_step_that_was_not_called_is_pointed_out(world):
    @durable_step
    def add(step_context, a=0):
        return a

    with pytest.raises(StepError, match=r"call it first"):
        world.invoke(lambda ctx: ctx.step(add, config=NO_RETRY))
