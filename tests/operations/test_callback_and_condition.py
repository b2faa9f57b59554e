"""Callbacks, and conditions that are polled."""

from __future__ import annotations

import pytest
from operation_tools import Killed, World

from durapool.config import CallbackConfig, Duration, WaitForCallbackConfig
from durapool.context import durable_wait_for_callback
from durapool.exceptions import (
    CallbackExternalError,
    CallbackSubmitterError,
    CallbackTimeoutError,
    StepError,
    SuspendExecution,
    ValidationError,
    WaitForConditionError,
)
from durapool.records import Action, ErrorObject, OperationSubType
from durapool.retries import RetryDecision
from durapool.serdes import JsonSerDes
from durapool.waits import WaitForConditionConfig, WaitForConditionDecision

NO_RETRY = WaitForCallbackConfig(retry_strategy=lambda error, attempt: RetryDecision.no_retry())


def test_a_callback_has_one_id_for_ever_and_it_is_committed_at_once(world):
    def handler(ctx):
        return ctx.create_callback(name="c").callback_id

    first, second = world.invoke(handler), world.invoke(handler)
    assert first == second
    assert len(first) == 32
    assert world.log.barriers == 1
    assert World().invoke(handler) != first


def test_a_callback_suspends_until_its_text_is_there(world):
    def handler(ctx):
        return ctx.create_callback(name="c").result()

    with pytest.raises(SuspendExecution):
        world.invoke(handler)
    world.log.end("c", Action.SUCCEED, payload='{"plain": "text"}')
    assert world.invoke(handler) == '{"plain": "text"}'


def test_a_callbacks_serdes_reads_what_was_sent(world):
    def handler(ctx):
        return ctx.create_callback(name="c", config=CallbackConfig(serdes=JsonSerDes())).result()

    with pytest.raises(SuspendExecution):
        world.invoke(handler)
    world.log.end("c", Action.SUCCEED, payload='{"a": 1}')
    assert world.invoke(handler) == {"a": 1}


def test_a_reported_failure_is_raised_by_result_and_not_before(world):
    def handler(ctx):
        callback = ctx.create_callback(name="c")
        ctx.step(lambda _: 1, name="between")
        return callback.result()

    with pytest.raises(SuspendExecution):
        world.invoke(handler)
    world.log.end("c", Action.FAIL, error=ErrorObject("refused", "Refusal", "why"))
    with pytest.raises(CallbackExternalError, match="refused") as caught:
        world.invoke(handler)
    assert caught.value.data == "why"


def test_timeouts_are_recorded_and_end_in_their_own_error(world):
    config = CallbackConfig(timeout=Duration.from_minutes(1), heartbeat_timeout=Duration.from_seconds(9))
    with pytest.raises(CallbackTimeoutError):
        world.run(lambda ctx: ctx.create_callback(name="c", config=config).result())
    start = world.log.updates[0]
    assert (start.delay, start.details["heartbeat"]) == (60, 9)


def test_a_callback_of_another_branch_gives_its_id_and_refuses_its_result(world):
    def handler(ctx):
        callback = ctx.create_callback()
        return ctx.parallel([lambda c: callback.callback_id, lambda c: callback.result()])

    result = world.invoke(handler)
    assert result.get_errors()[0].type == "InvalidStateError"
    assert len(result.get_results()) == 1


def test_wait_for_callback_hands_the_id_to_the_submitter_once(world):
    sent = []

    @durable_wait_for_callback
    def ask(callback_id, context, address):
        sent.append((callback_id, address))

    def handler(ctx):
        return ctx.wait_for_callback(ask("boss"))

    for _ in range(2):
        with pytest.raises(SuspendExecution):
            world.invoke(handler)
    world.log.end("ask create callback id", Action.SUCCEED, payload="yes")
    assert [world.invoke(handler), world.invoke(handler)] == ["yes", "yes"]
    ((callback_id, address),) = sent
    assert (callback_id, address) == (world.log.named("ask create callback id").details["callback_id"], "boss")
    assert world.log.named("ask").sub_type is OperationSubType.WAIT_FOR_CALLBACK
    assert world.log.named("ask submitter").parent_id == world.log.named("ask").id


@pytest.mark.parametrize("local", [True, False])
def test_a_failed_submitter_is_told_apart(local):
    world = World(local_store=local)

    def submit(callback_id, context):
        raise OSError("no mail")

    for _ in range(2):
        with pytest.raises(CallbackSubmitterError, match="no mail") as caught:
            world.invoke(lambda ctx: ctx.wait_for_callback(submit, name="ask", config=NO_RETRY))
        assert isinstance(caught.value.__cause__, StepError) is local


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize(
    ("action", "error"), [(Action.FAIL, CallbackExternalError), (Action.TIME_OUT, CallbackTimeoutError)]
)
def test_wait_for_callback_raises_the_callbacks_own_error(local, action, error):
    world = World(local_store=local)

    def handler(ctx):
        return ctx.wait_for_callback(lambda callback_id, _: None, name="ask")

    with pytest.raises(SuspendExecution):
        world.invoke(handler)
    world.log.end("ask create callback id", action, error=ErrorObject("it went wrong"))
    for _ in range(2):
        with pytest.raises(error, match="it went wrong"):
            world.invoke(handler)


def polls(limit, seconds=3):
    def strategy(state, attempt):
        if state >= limit:
            return WaitForConditionDecision.stop_polling()
        return WaitForConditionDecision.continue_waiting(Duration.from_seconds(seconds))

    return WaitForConditionConfig(wait_strategy=strategy, initial_state=0)


def test_a_condition_is_polled_with_the_recorded_state_until_it_holds(world):
    seen = []

    def check(state, context):
        seen.append((state, context.attempt))
        return state + 1

    def handler(ctx):
        return ctx.wait_for_condition(check, polls(3), name="c")

    assert world.run(handler) == 3
    assert world.invoke(handler) == 3
    assert seen == [(0, 1), (1, 2), (2, 3)]
    assert world.log.now == 1006
    assert world.log.lines() == ["START c", "RETRY c", "READY c"] * 2 + ["START c", "SUCCEED c"]
    assert world.log.named("c").sub_type is OperationSubType.WAIT_FOR_CONDITION


def test_an_interrupted_poll_is_made_again_with_the_same_state_and_attempt(world):
    seen = []

    def check(state, context):
        seen.append((state, context.attempt))
        return state + 1

    def handler(ctx):
        return ctx.wait_for_condition(check, polls(2), name="c")

    world.log.kill_before = (Action.SUCCEED, "c")
    with pytest.raises(Killed):
        world.run(handler)
    assert world.run(handler) == 2
    assert seen == [(0, 1), (1, 2), (1, 2)]


def test_a_check_or_strategy_that_raises_fails_the_condition_the_same_way_again(world):
    def give_up(state, attempt):
        raise WaitForConditionError("given up")

    config = WaitForConditionConfig(wait_strategy=give_up, initial_state=None)
    for _ in range(2):
        with pytest.raises(WaitForConditionError, match="given up"):
            world.invoke(lambda ctx: ctx.wait_for_condition(lambda state, _: state, config))
        with pytest.raises(WaitForConditionError, match="broken") as caught:
            World().invoke(lambda ctx: ctx.wait_for_condition(lambda state, _: int("broken"), polls(1)))
        assert isinstance(caught.value.__cause__, ValueError)


def test_a_strategy_that_decides_nothing_fails_the_condition(world):
    config = WaitForConditionConfig(wait_strategy=lambda state, attempt: None, initial_state=0)
    with pytest.raises(WaitForConditionError, match="WaitForConditionDecision"):
        world.invoke(lambda ctx: ctx.wait_for_condition(lambda state, _: state, config))


def test_a_condition_needs_a_check_and_a_config(world):
    for check, config in [(None, polls(1)), (lambda state, _: state, None), (lambda: 1, polls(1))]:
        with pytest.raises(ValidationError):
            world.invoke(lambda ctx, check=check, config=config: ctx.wait_for_condition(check, config))
    assert not world.log.updates
