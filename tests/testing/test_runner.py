"""The testing kit: what the runner does, what the result shows, and what goes wrong clearly."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC
from typing import Any

import pytest

from durapool import durable_execution
from durapool.config import CallbackConfig, CompletionConfig, Duration, ParallelConfig
from durapool.exceptions import DurableExecutionsError, InvalidStateError, ValidationError
from durapool.execution import InvocationStatus as ExecutionInvocationStatus
from durapool.stores.memory import MemoryStore
from durapool.stores.sqlite import SQLiteStore
from durapool.testing import (
    CallbackOperation,
    ContextOperation,
    DurableFunctionTestResult,
    DurableFunctionTestRunner,
    InvocationStatus,
    OperationStatus,
    OperationType,
    StepOperation,
    WaitOperation,
)

SECONDS = 30


@durable_execution
def echo(event: Any, context: Any) -> Any:
    """Returns its event."""
    return event


@durable_execution
def varied(event: Any, context: Any) -> Any:
    """One operation of each kind."""

    def branch(ctx: Any) -> int:
        ctx.wait(Duration.from_hours(1), name="pause")
        return ctx.step(lambda _: 2, name="inner")

    context.step(lambda _: {"n": 1}, name="first")
    return context.parallel([branch], name="batch").get_results()


@durable_execution
def asks(event: Any, context: Any) -> Any:
    """Waits for one callback."""
    config = CallbackConfig(timeout=Duration.from_hours(5))
    return context.create_callback(name="approval", config=config).result()


def run(handler: Any, event: Any = None, **options: Any) -> DurableFunctionTestResult:
    with DurableFunctionTestRunner(handler=handler, **options) as runner:
        return runner.run(input=event, timeout=SECONDS)


def test_a_status_is_that_of_the_execution_module() -> None:
    assert InvocationStatus is ExecutionInvocationStatus


@pytest.mark.parametrize(
    ("given", "event"),
    [
        (None, None),
        ({"a": [1]}, {"a": [1]}),
        ([1, 2], [1, 2]),
        (5, 5),
        ('{"a": 1}', {"a": 1}),
        ("[1]", [1]),
        ("plain text", "plain text"),
        ("", ""),
        ("7", 7),
    ],
)
def test_input_is_any_json_value_and_text_is_read_as_json_where_it_parses(given: Any, event: Any) -> None:
    result = run(echo, given)
    assert result.status is InvocationStatus.SUCCEEDED
    assert result.result == event
    assert json.loads(result.execution.input_payload) == event


def test_operations_are_all_of_them_in_order_of_start() -> None:
    result = run(varied)
    assert [(type(op), op.name) for op in result.operations] == [
        (StepOperation, "first"),
        (ContextOperation, "batch"),
        (ContextOperation, "parallel-branch-0"),
        (WaitOperation, "pause"),
        (StepOperation, "inner"),
    ]
    assert result.get_all_operations() == result.operations
    assert [op.operation_type for op in result.operations[:2]] == [OperationType.STEP, OperationType.CONTEXT]


def test_an_operation_shows_where_it_stands_and_what_came_of_it() -> None:
    result = run(varied)
    step = result.get_step("first")
    assert (step.status, step.sub_type, step.parent_id, step.attempt) == (OperationStatus.SUCCEEDED, "Step", None, 1)
    assert json.loads(step.result) == {"n": 1}
    assert step.error is None
    assert step.start_timestamp.tzinfo is UTC
    assert step.start_timestamp <= step.end_timestamp
    batch = result.get_context("batch")
    branch = batch.child_operations[0]
    assert branch.parent_id == batch.operation_id
    assert [child.name for child in branch.child_operations] == ["pause", "inner"]
    assert result.get_operation_by_name("batch") is batch
    assert batch.get_step("inner") is result.get_step("inner")


def test_an_hour_is_skipped_and_shown() -> None:
    before = time.monotonic()
    wait = run(varied).get_wait("pause")
    assert time.monotonic() - before < SECONDS
    assert (wait.end_timestamp - wait.start_timestamp).total_seconds() >= 3600
    assert (wait.scheduled_end_timestamp - wait.start_timestamp).total_seconds() == 3600


def test_without_skip_time_a_wait_takes_its_time() -> None:
    @durable_execution
    def handler(event: Any, context: Any) -> None:
        context.wait(Duration.from_seconds(1))

    before = time.monotonic()
    run(handler, skip_time=False)
    assert time.monotonic() - before >= 1


def test_a_name_that_was_not_recorded_is_an_error_that_lists_those_that_were() -> None:
    result = run(varied)
    for find in (result.get_step, result.get_wait, result.get_context, result.get_operation_by_name):
        with pytest.raises(DurableExecutionsError, match=r"'nothing'.*'first'"):
            find("nothing")
    with pytest.raises(DurableExecutionsError, match="WaitOperation named 'first'"):
        result.get_wait("first")


def test_history_has_gap_free_event_ids_and_both_ends() -> None:
    history = run(varied).history
    assert [event["EventId"] for event in history] == list(range(1, len(history) + 1))
    assert history[0]["EventType"] == "ExecutionStarted"
    assert [event["EventType"] for event in history[-2:]] == ["InvocationCompleted", "ExecutionSucceeded"]


def test_a_failed_handler_shows_its_error() -> None:
    @durable_execution
    def handler(event: Any, context: Any) -> None:
        raise ValueError("no")

    result = run(handler)
    assert result.status is InvocationStatus.FAILED
    assert result.result is None
    assert (result.error.type, result.error.message) == ("ValueError", "no")


def test_a_crash_is_recorded_and_the_handler_invoked_again() -> None:
    crashes = [KeyboardInterrupt("one"), GeneratorExit("two")]

    @durable_execution
    def handler(event: Any, context: Any) -> int:
        context.step(lambda _: 1, name="kept")
        if crashes:
            raise crashes.pop()
        return 5

    result = run(handler)
    assert result.result == 5
    ends = [event for event in result.history if event["EventType"] == "InvocationCompleted"]
    assert ["Error" in event["InvocationCompletedDetails"] for event in ends] == [True, True, False]
    assert [op.name for op in result.operations] == ["kept"]


def test_a_handler_that_always_crashes_is_given_up() -> None:
    class DeadError(BaseException):
        pass

    @durable_execution
    def handler(event: Any, context: Any) -> None:
        raise DeadError("again")

    result = run(handler)
    assert result.status is InvocationStatus.FAILED
    assert result.error.type == "DeadError"
    assert sum(event["EventType"] == "InvocationCompleted" for event in result.history) == 10


def test_a_timeout_names_what_is_still_running() -> None:
    release = threading.Event()

    @durable_execution
    def handler(event: Any, context: Any) -> None:
        context.parallel([lambda ctx: ctx.step(lambda _: release.wait(SECONDS), name="endless")], name="batch")

    with DurableFunctionTestRunner(handler=handler, executor="thread") as runner:
        try:
            with pytest.raises(TimeoutError, match=r"0\.2 s.*'endless'"):
                runner.run(timeout=0.2)
        finally:
            release.set()


def test_a_runner_that_is_closed_is_an_invalid_state() -> None:
    with DurableFunctionTestRunner(handler=echo) as runner:
        arn = runner.run_async()
        assert runner.wait_for_result(arn, timeout=SECONDS).status is InvocationStatus.SUCCEEDED
    runner.close()
    for call in (
        runner.run,
        runner.run_async,
        runner.__enter__,
        lambda: runner.wait_for_result(arn),
        lambda: runner.wait_for_callback(arn),
        lambda: runner.send_callback_success("id"),
        lambda: runner.send_callback_failure("id"),
        lambda: runner.send_callback_heartbeat("id"),
    ):
        with pytest.raises(InvalidStateError, match="closed"):
            call()


def test_a_runner_runs_many_executions() -> None:
    with DurableFunctionTestRunner(handler=echo) as runner:
        arns = [runner.run_async(input=number) for number in range(5)]
        assert len(set(arns)) == 5
        assert [runner.wait_for_result(arn, timeout=SECONDS).result for arn in arns] == list(range(5))


def test_an_unknown_execution_is_an_error() -> None:
    with DurableFunctionTestRunner(handler=echo) as runner:
        for call in (runner.wait_for_result, runner.wait_for_callback):
            with pytest.raises(DurableExecutionsError, match="nowhere"):
                call("nowhere")


@pytest.mark.parametrize("timeout", [0, -1, "soon", True])
def test_a_timeout_is_a_number_above_zero(timeout: Any) -> None:
    with DurableFunctionTestRunner(handler=echo) as runner, pytest.raises(ValidationError, match="timeout"):
        runner.run(timeout=timeout)


def test_what_is_not_a_durable_handler_is_refused() -> None:
    with pytest.raises(ValidationError, match="durable_execution"):
        DurableFunctionTestRunner(handler=lambda event, context: None)


def test_a_callback_succeeds() -> None:
    with DurableFunctionTestRunner(handler=asks) as runner:
        arn = runner.run_async()
        callback_id = runner.wait_for_callback(arn, name="approval", timeout=SECONDS)
        runner.send_callback_heartbeat(callback_id)
        runner.send_callback_success(callback_id, result=b"yes")
        result = runner.wait_for_result(arn, timeout=SECONDS)
    assert result.result == "yes"
    callback = result.get_callback("approval")
    assert isinstance(callback, CallbackOperation)
    assert (callback.callback_id, callback.status) == (callback_id, OperationStatus.SUCCEEDED)


def test_a_handler_may_answer_its_own_callback() -> None:
    """As tests do whose outside world is a function that answers at once."""

    @durable_execution
    def handler(event: Any, context: Any) -> Any:
        return context.wait_for_callback(lambda callback_id, _: runner.send_callback_success(callback_id, "at once"))

    with DurableFunctionTestRunner(handler=handler) as runner:
        assert runner.run(timeout=SECONDS).result == "at once"


def test_a_callback_fails() -> None:
    with DurableFunctionTestRunner(handler=asks) as runner:
        arn = runner.run_async()
        runner.send_callback_failure(runner.wait_for_callback(arn, timeout=SECONDS))
        result = runner.wait_for_result(arn, timeout=SECONDS)
    assert result.status is InvocationStatus.FAILED
    assert result.get_callback("approval").status is OperationStatus.FAILED


def test_a_callback_that_nobody_answers_times_out_without_waiting_for_hours() -> None:
    result = run(asks)
    assert result.status is InvocationStatus.FAILED
    assert result.error.type == "CallbackTimeoutError"
    assert result.get_callback("approval").status is OperationStatus.TIMED_OUT


def test_a_callback_is_completed_once() -> None:
    with DurableFunctionTestRunner(handler=asks) as runner:
        arn = runner.run_async()
        callback_id = runner.wait_for_callback(arn, timeout=SECONDS)
        runner.send_callback_success(callback_id, result="one")
        assert runner.wait_for_result(arn, timeout=SECONDS).result == "one"
        for send in (runner.send_callback_success, runner.send_callback_failure, runner.send_callback_heartbeat):
            with pytest.raises(InvalidStateError, match="approval"):
                send(callback_id)


def test_an_unknown_callback_is_an_error() -> None:
    with DurableFunctionTestRunner(handler=asks) as runner:
        arn = runner.run_async()
        callback_id = runner.wait_for_callback(arn, timeout=SECONDS)
        with pytest.raises(DurableExecutionsError, match="nobody"):
            runner.send_callback_success("nobody")
        runner.send_callback_success(callback_id)
        assert runner.wait_for_result(arn, timeout=SECONDS).status is InvocationStatus.SUCCEEDED


def test_waiting_for_a_callback_of_an_execution_that_makes_none_ends_with_it() -> None:
    with DurableFunctionTestRunner(handler=echo) as runner:
        arn = runner.run_async()
        with pytest.raises(InvalidStateError, match="without"):
            runner.wait_for_callback(arn, timeout=SECONDS)


def test_waiting_for_a_callback_of_another_name_is_a_timeout() -> None:
    with DurableFunctionTestRunner(handler=asks) as runner:
        arn = runner.run_async()
        with pytest.raises(TimeoutError, match=r"'other'.*'approval'"):
            runner.wait_for_callback(arn, name="other", timeout=0.2)
        runner.send_callback_success(runner.wait_for_callback(arn, timeout=SECONDS))
        runner.wait_for_result(arn, timeout=SECONDS)


def test_closing_a_runner_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    with DurableFunctionTestRunner(handler=asks) as runner:
        runner.wait_for_callback(runner.run_async(), timeout=SECONDS)
    assert set(threading.enumerate()) <= before


def test_the_default_store_has_the_payload_limit_of_the_service() -> None:
    @durable_execution
    def handler(event: Any, context: Any) -> int:
        def child(ctx: Any) -> str:
            return ctx.step(lambda _: "x" * 1000) * 300

        return len(context.run_in_child_context(child, name="large"))

    assert len(run(handler).get_context("large").result) < 1000
    assert len(run(handler, store=MemoryStore()).get_context("large").result) > 300_000


def test_a_store_of_the_users_own(tmp_path: Any) -> None:
    store = SQLiteStore(tmp_path / "journal.db")
    with DurableFunctionTestRunner(handler=varied, store=store) as runner:
        result = runner.run(timeout=SECONDS)
    assert result.result == [2]
    assert len(store.executions()) == 1
    store.close()


def test_a_branch_that_is_not_finished_is_shown_as_started() -> None:
    @durable_execution
    def handler(event: Any, context: Any) -> int:
        def never(ctx: Any) -> None:
            ctx.wait(Duration.from_days(300), name="never")

        def late(ctx: Any) -> None:
            ctx.wait(Duration.from_seconds(1))  # until the other one is suspended too

        config = ParallelConfig(completion_config=CompletionConfig.first_successful())
        return context.parallel([never, late], name="race", config=config).started_count

    result = run(handler)
    assert result.result == 1
    assert result.get_wait("never").status is OperationStatus.STARTED
    assert result.get_wait("never").end_timestamp is None
