"""How errors of branches, steps and child contexts arrive in the handler. The same under every executor."""

from __future__ import annotations

import pytest
from semantic_tools import Crash, compare_executors, events, execute, returned

from durapool import ParallelBranch
from durapool.config import CompletionConfig, MapConfig, ParallelConfig, StepConfig
from durapool.exceptions import (
    ChildContextError,
    DurableOperationError,
    InvalidStateError,
    SerDesError,
    StepError,
)
from durapool.retries import RetryPresets
from durapool.testing import DurableFunctionTestRunner, InvocationStatus, OperationStatus

ALL = ParallelConfig(completion_config=CompletionConfig.all_completed(), max_concurrency=1)
ONCE = StepConfig(retry_strategy=RetryPresets.none())


class CardDeclinedError(Exception):
    """An error with a constructor that pickle cannot call by itself."""

    def __init__(self, card: str, cents: int) -> None:
        super().__init__(f"{card} declined for {cents}")
        self.card = card
        self.cents = cents

    def __reduce__(self):
        return type(self), (self.card, self.cents)


class StubbornError(Exception):
    """Cannot be pickled at all."""

    def __init__(self) -> None:
        super().__init__("stubborn")
        self.lock = (item for item in ())


def test_an_error_is_kept_as_plain_text(executor: str) -> None:
    def handler(event, context):
        def bad(ctx):
            raise CardDeclinedError("visa", 99)

        result = context.parallel([lambda ctx: 1, bad], config=ALL)
        error = result.failed_results[0]
        assert result.get_errors() == result.failed_results
        assert result.has_failure
        assert [item.index for item in result.failed()] == [1]
        assert any("CardDeclinedError" in line or "bad" in line for line in error.stack_trace or ())
        return [type(error).__name__, error.message, error.type]

    found = returned(handler, executor)
    assert found == ["ErrorObject", "visa declined for 99", "CardDeclinedError"]


class SecretiveError(Exception):
    """Raises at every question about itself."""

    def __getattribute__(self, name: str):
        raise RuntimeError(f"no {name} for you")


def test_an_error_that_answers_no_question_fails_its_branch_alone(executor: str) -> None:
    def handler(event, context):
        def bad(ctx):
            raise SecretiveError

        result = context.parallel([lambda ctx: 1, bad, lambda ctx: ctx.step(lambda _: 2)], config=ALL)
        return [result.successful_results, [error.type for error in result.failed_results]]

    assert returned(handler, executor) == [[1, 2], ["SecretiveError"]]


def test_throw_if_error_raises_the_first_with_type_and_cause(executor: str) -> None:
    def handler(event, context):
        def bad(ctx, message):
            raise CardDeclinedError(message, 1)

        result = context.parallel([lambda c: 0, lambda c: bad(c, "first"), lambda c: bad(c, "second")], config=ALL)
        with pytest.raises(ChildContextError) as caught:
            result.throw_if_error()
        error = caught.value
        cause = error.__cause__
        assert isinstance(cause, CardDeclinedError), repr(cause)
        return [error.error_type, error.message, cause.card, cause.cents]

    assert returned(handler, executor) == ["CardDeclinedError", "first declined for 1", "first", 1]


def test_an_error_that_cannot_be_pickled_still_arrives(executor: str) -> None:
    def handler(event, context):
        def bad(ctx):
            raise StubbornError

        result = context.parallel([bad])
        return [result.failed_results[0].type, result.failed_results[0].message]

    assert returned(handler, executor) == ["StubbornError", "stubborn"]


def test_throw_if_error_does_nothing_without_an_error(executor: str) -> None:
    def handler(event, context):
        return context.parallel([lambda ctx: 1]).throw_if_error()

    assert returned(handler, executor) is None


def test_the_error_of_a_step_keeps_the_original_type_in_its_branch(executor: str) -> None:
    def handler(event, context):
        def bad(ctx):
            try:
                ctx.step(lambda _: {}["missing"], name="look up", config=ONCE)
            except StepError as error:
                return [type(error).__name__, error.error_type, error.message]

        return context.parallel([bad]).get_results()[0]

    assert returned(handler, executor) == ["StepError", "KeyError", "'missing'"]


def test_an_error_of_a_nested_batch_stays_in_it(executor: str) -> None:
    def handler(event, context):
        def bad(ctx):
            raise ValueError("deep")

        def outer(ctx):
            return ctx.parallel([bad]).failed_results[0].message

        return context.parallel([outer]).get_results()

    assert returned(handler, executor) == ["deep"]


def test_an_error_that_leaves_nested_contexts_keeps_type_and_message(executor: str) -> None:
    def handler(event, context):
        def deepest(ctx):
            raise ValueError("deep")

        def child(ctx):
            return ctx.run_in_child_context(deepest, name="deepest")

        with pytest.raises(ChildContextError) as caught:
            context.run_in_child_context(child, name="child")
        result = context.parallel([child])
        assert isinstance(caught.value, DurableOperationError)
        return [str(caught.value), result.failed_results[0].message]

    assert returned(handler, executor) == ["deep", "deep"]


def test_system_exit_fails_its_branch_alone(executor: str) -> None:
    def handler(event, context):
        def leave(ctx):
            raise SystemExit(3)

        result = context.parallel([leave, lambda ctx: "stays"], config=ALL)
        return [result.failed_results[0].type, result.successful_results]

    assert returned(handler, executor) == ["SystemExit", ["stays"]]


def test_a_crash_in_a_branch_ends_the_invocation_and_it_is_made_again(executor: str, tmp_path) -> None:
    marker = tmp_path / "crashed"

    def handler(event, context):
        def crash(ctx):
            if not marker.exists():
                marker.touch()
                raise Crash("once")
            return "second time"

        return context.parallel([crash]).get_results()

    result = execute(handler, executor)
    assert result.result == ["second time"]
    ends = [event for event in result.history if event["EventType"] == "InvocationCompleted"]
    assert len(ends) == 2
    assert ends[0]["InvocationCompletedDetails"]["Error"]["Payload"]["ErrorType"] == "Crash"


def test_the_context_of_another_branch_is_refused(executor: str) -> None:
    def handler(event, context):
        def uses_parents(ctx):
            context.step(lambda _: 1)

        result = context.parallel([uses_parents])
        return [result.failed_results[0].type, "own ctx" in (result.failed_results[0].message or "")]

    assert returned(handler, executor) == [InvalidStateError.__name__, True]


def test_the_context_of_a_parent_can_still_be_asked_for_its_logger(executor: str) -> None:
    def handler(event, context):
        def branch(ctx):
            context.logger.info("through the parent's logger")
            return context.execution_context.durable_execution_arn == ctx.execution_context.durable_execution_arn

        return context.parallel([branch]).get_results()

    assert returned(handler, executor) == [True]


def test_a_branch_that_takes_no_argument_is_a_clear_error(executor: str) -> None:
    def handler(event, context):
        result = context.parallel([ParallelBranch(func=lambda: 1, name="no-argument")])
        return result.failed_results[0].message

    with DurableFunctionTestRunner(handler=_durable(handler), executor=executor) as runner:
        result = runner.run(timeout=60)
    compare_executors(executor, result.history)
    message = result.result if result.status is InvocationStatus.SUCCEEDED else result.error.message
    assert "argument" in message


def test_what_a_branch_captures_and_cannot_travel_is_named(tmp_path) -> None:
    def handler(event, context):
        with open(tmp_path / "log", "w") as opened:
            result = context.parallel([lambda ctx: opened.name])
        return [result.failed_results[0].type, result.failed_results[0].message]

    kind, message = returned(handler, "process:2")
    assert kind == SerDesError.__name__
    assert "opened" in message
    assert "TextIOWrapper" in message


def test_a_failed_handler_is_a_failed_execution(executor: str) -> None:
    def handler(event, context):
        context.parallel([lambda ctx: 1])
        raise ValueError("the end")

    result = execute(handler, executor, status=InvocationStatus.FAILED)
    assert result.result is None
    assert (result.error.type, result.error.message) == ("ValueError", "the end")
    assert result.history[-1]["EventType"] == "ExecutionFailed"


def test_a_failed_branch_is_failed_in_the_history(executor: str) -> None:
    def handler(event, context):
        def bad(ctx, item, index, inputs):
            raise ValueError("no")

        context.map([1], bad, config=MapConfig(item_namer=lambda item, index: "only"))

    result = execute(handler, executor)
    assert events(result, "only") == ["ContextStarted", "ContextFailed"]
    assert result.get_context("only").status is OperationStatus.FAILED
    assert result.get_context("only").error.message == "no"


def _durable(handler):
    from durapool import durable_execution

    return durable_execution(handler)
