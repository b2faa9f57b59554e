"""Waits, retries, conditions and callbacks inside branches: suspended, and run again when due."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from semantic_tools import LONGEST, compare_executors, events, execute, note, notes, returned

from durapool import durable_execution
from durapool.config import CallbackConfig, Duration, MapConfig, NestingType, ParallelConfig, StepConfig
from durapool.exceptions import CallbackError, CallbackTimeoutError, StepError
from durapool.records import ErrorObject
from durapool.retries import RetryDecision, RetryPresets
from durapool.testing import DurableFunctionTestRunner, InvocationStatus, OperationStatus, OperationType
from durapool.waits import WaitForConditionConfig, WaitForConditionDecision

HOUR = 3600


def seconds_of(operation: Any) -> float:
    """How long it took, by the (skipped) clock."""
    return (operation.end_timestamp - operation.start_timestamp).total_seconds()


def test_an_hour_of_waiting_is_skipped_and_shown(executor: str) -> None:
    def handler(event, context):
        def waits(ctx):
            ctx.wait(Duration.from_hours(1), name="an hour")
            return "woke up"

        return context.parallel([waits]).get_results()

    result = execute(handler, executor)
    assert result.result == ["woke up"]
    assert seconds_of(result.get_wait("an hour")) >= HOUR
    assert events(result, "an hour") == ["WaitStarted", "WaitSucceeded"]


def test_a_wait_with_nothing_else_to_do_ends_the_invocation(executor: str) -> None:
    def handler(event, context):
        def waits(ctx):
            ctx.wait(Duration.from_seconds(10), name="w")

        context.parallel([waits], name="p")

    result = execute(handler, executor)
    assert [event["EventType"] for event in result.history] == [
        "ExecutionStarted",
        "ContextStarted",
        "ContextStarted",
        "WaitStarted",
        "InvocationCompleted",
        "WaitSucceeded",
        "ContextSucceeded",
        "ContextSucceeded",
        "InvocationCompleted",
        "ExecutionSucceeded",
    ]
    assert [event["EventId"] for event in result.history] == list(range(1, 11))


def test_finished_work_is_not_run_again_after_a_wait(executor: str, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def handler(event, context):
        def branch(ctx, item, index, inputs):
            ctx.step(lambda _: note(log, f"before {index}"))
            if index == 1:
                ctx.wait(Duration.from_minutes(5))
            ctx.step(lambda _: note(log, f"after {index}"))
            return index

        context.step(lambda _: note(log, "handler"))
        return context.map([0, 1, 2], branch).get_results()

    assert returned(handler, executor) == [0, 1, 2]
    assert sorted(notes(log)) == ["after 0", "after 1", "after 2", "before 0", "before 1", "before 2", "handler"]


def test_waits_of_branches_run_side_by_side(executor: str) -> None:
    def handler(event, context):
        def branch(ctx, item, index, inputs):
            ctx.wait(Duration.from_hours(item))

        context.map([1, 2, 3], branch, name="all")

    assert seconds_of(execute(handler, executor).get_context("all")) == pytest.approx(3 * HOUR, abs=60)


def test_a_failed_step_in_a_branch_is_tried_again(executor: str, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def retry_twice(error, attempts):
        return RetryDecision.retry(Duration.from_minutes(10)) if attempts < 3 else RetryDecision.no_retry()

    def handler(event, context):
        def branch(ctx):
            def flaky(step):
                note(log, str(step.attempt))
                if len(notes(log)) < 3:
                    raise OSError("not yet")
                return "third time"

            return ctx.step(flaky, name="flaky", config=StepConfig(retry_twice))

        return context.parallel([branch]).get_results()

    result = execute(handler, executor)
    assert result.result == ["third time"]
    assert notes(log) == ["1", "2", "3"]
    step = result.get_step("flaky")
    assert (step.attempt, step.status) == (3, OperationStatus.SUCCEEDED)
    assert seconds_of(step) >= 20 * 60
    kinds = events(result, "flaky")
    assert kinds[0] == "StepStarted"
    assert kinds[-1] == "StepSucceeded"
    assert kinds.count("StepFailed") == 2


def test_a_step_that_is_never_good_fails_its_branch_with_the_last_error(executor: str) -> None:
    def handler(event, context):
        def branch(ctx):
            def bad(step):
                raise OSError(f"attempt {step.attempt}")

            ctx.step(bad, name="bad", config=StepConfig(RetryPresets.fixed()))

        error = context.parallel([branch]).failed_results[0]
        return [error.type, error.message]

    kind, message = returned(handler, executor)
    assert kind in {"OSError", StepError.__name__}
    assert message.startswith("attempt ")
    assert message != "attempt 1"


def test_the_default_retry_strategy_makes_six_attempts(executor: str, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def handler(event, context):
        def branch(ctx):
            def bad(step):
                note(log, str(step.attempt))
                raise OSError("no")

            ctx.step(bad)

        return context.parallel([branch]).failure_count

    with DurableFunctionTestRunner(handler=durable_execution(handler), executor=executor) as runner:
        result = runner.run(timeout=LONGEST)
    compare_executors(executor, result.history)
    assert result.result == 1
    assert notes(log) == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize("nesting", list(NestingType))
def test_a_wait_in_the_branch_of_each_nesting(executor: str, nesting: NestingType) -> None:
    def handler(event, context):
        def branch(ctx):
            first = ctx.step(lambda _: 1, name="first")
            ctx.wait(Duration.from_seconds(7), name="w")
            return first + ctx.step(lambda _: 2, name="second")

        return context.parallel([branch, branch], config=ParallelConfig(nesting_type=nesting)).get_results()

    assert returned(handler, executor) == [3, 3]


def test_a_wait_deep_in_nested_batches(executor: str, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def handler(event, context):
        def inner(ctx, item, index, inputs):
            ctx.step(lambda _: note(log, f"step {item}"))
            ctx.wait(Duration.from_seconds(5))
            return item

        def outer(ctx, item, index, inputs):
            return ctx.map([item, item + 1], inner).get_results()

        return context.map([10, 20], outer).get_results()

    assert returned(handler, executor) == [[10, 11], [20, 21]]
    assert sorted(notes(log)) == ["step 10", "step 11", "step 20", "step 21"]


def test_wait_for_condition_in_a_branch(executor: str) -> None:
    def strategy(state, attempt):
        return (
            WaitForConditionDecision.stop_polling()
            if state >= 3
            else WaitForConditionDecision.continue_waiting(Duration.from_minutes(30))
        )

    def handler(event, context):
        def branch(ctx):
            config = WaitForConditionConfig(wait_strategy=strategy, initial_state=0)
            return ctx.wait_for_condition(check=lambda state, check: state + 1, config=config, name="poll")

        return context.parallel([branch]).get_results()

    result = execute(handler, executor)
    assert result.result == [3]
    polled = result.get_step("poll")
    assert polled.sub_type == "WaitForCondition"
    assert seconds_of(polled) >= HOUR


def answered(handler: Callable[..., Any], executor: str, answer: Callable[[Any, str], None]) -> Any:
    """Run a handler that makes one callback, and answer it."""
    with DurableFunctionTestRunner(handler=durable_execution(handler), executor=executor) as runner:
        arn = runner.run_async()
        answer(runner, runner.wait_for_callback(arn, timeout=LONGEST))
        result = runner.wait_for_result(arn, timeout=LONGEST)
    compare_executors(executor, result.history)
    return result


def test_a_callback_in_a_branch(executor: str) -> None:
    def handler(event, context):
        def branch(ctx):
            callback = ctx.create_callback(name="approval")
            return callback.result()

        return context.parallel([branch, lambda ctx: "other"]).get_results()

    result = answered(handler, executor, lambda runner, id_: runner.send_callback_success(id_, result="yes"))
    assert result.status is InvocationStatus.SUCCEEDED
    assert result.result == ["yes", "other"]
    assert result.get_callback("approval").status is OperationStatus.SUCCEEDED


def test_wait_for_callback_in_a_branch(executor: str, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def handler(event, context):
        def branch(ctx):
            return ctx.wait_for_callback(lambda callback_id, submit: note(log, callback_id), name="approval")

        return context.parallel([branch]).get_results()

    asked: list[str] = []

    def answer(runner: Any, callback_id: str) -> None:
        asked.append(callback_id)
        runner.send_callback_heartbeat(callback_id)
        runner.send_callback_success(callback_id, result='"approved"')

    result = answered(handler, executor, answer)
    assert result.status is InvocationStatus.SUCCEEDED
    assert "approved" in result.result[0]
    assert notes(log) == asked


def test_a_callback_that_is_reported_as_failed(executor: str) -> None:
    def handler(event, context):
        def branch(ctx):
            try:
                ctx.create_callback(name="approval").result()
            except CallbackError as error:
                return [error.error_type, error.message]

        return context.parallel([branch]).get_results()[0]

    error = ErrorObject(message="rejected", type="Rejected")
    result = answered(handler, executor, lambda runner, id_: runner.send_callback_failure(id_, error))
    assert result.result == ["Rejected", "rejected"]


def test_a_callback_that_nobody_answers_times_out(executor: str) -> None:
    def handler(event, context):
        def branch(ctx):
            config = CallbackConfig(timeout=Duration.from_hours(2))
            try:
                ctx.create_callback(name="approval", config=config).result()
            except CallbackTimeoutError:
                return "timed out"

        return context.parallel([branch]).get_results()

    result = execute(handler, executor)
    assert result.result == ["timed out"]
    assert result.get_callback("approval").status is OperationStatus.TIMED_OUT


def test_branches_go_on_while_another_one_waits(executor: str) -> None:
    def handler(event, context):
        def branch(ctx, item, index, inputs):
            if index == 0:
                ctx.wait(Duration.from_days(1))
            return ctx.step(lambda _: index)

        return context.map([0, 1, 2, 3], branch, config=MapConfig(max_concurrency=2)).get_results()

    result = execute(handler, executor)
    assert result.result == [0, 1, 2, 3]
    kinds = {operation.operation_type for operation in result.operations}
    assert kinds == {OperationType.CONTEXT, OperationType.STEP, OperationType.WAIT}
