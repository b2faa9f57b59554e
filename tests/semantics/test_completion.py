"""When a batch is complete, seen through the public API. The rules themselves are tested with the coordinator."""

from __future__ import annotations

from typing import Any

import pytest
from semantic_tools import execute, returned

from durapool.config import CompletionConfig, Duration, MapConfig, ParallelConfig
from durapool.exceptions import ValidationError


def good(ctx):
    return "ok"


def bad(ctx):
    raise ValueError("no")


def never(ctx):
    ctx.wait(Duration.from_days(300))
    raise AssertionError("the batch ends long before")


def late(ctx):
    """Succeeds when all others have ended or are suspended too: time is skipped only then."""
    ctx.wait(Duration.from_seconds(1))
    return "ok"


def outcome(executor: str, functions: list[Any], completion: CompletionConfig, limit: int | None = 1) -> list[Any]:
    """Status, reason and the status of each item."""

    def handler(event, context):
        config = ParallelConfig(completion_config=completion, max_concurrency=limit)
        result = context.parallel(functions, config=config)
        counts = [result.success_count, result.failure_count, result.started_count, result.total_count]
        states = [item.status.value for item in result.all]
        assert counts == [*(states.count(s) for s in ("SUCCEEDED", "FAILED", "STARTED")), len(states)]
        assert result.submitted_count == len(functions)
        assert [item.index for item in result.all] == sorted(item.index for item in result.all)
        return [result.status.value, result.completion_reason.value, states]

    found: list[Any] = returned(handler, executor)
    return found


def test_all_successful_stops_at_the_first_failure(executor: str) -> None:
    found = outcome(executor, [good, bad, good, good], CompletionConfig.all_successful())
    assert found == ["FAILED", "FAILURE_TOLERANCE_EXCEEDED", ["SUCCEEDED", "FAILED"]]


def test_all_completed_runs_everything(executor: str) -> None:
    found = outcome(executor, [bad, good, bad], CompletionConfig.all_completed())
    assert found == ["FAILED", "ALL_COMPLETED", ["FAILED", "SUCCEEDED", "FAILED"]]


def test_first_successful_ignores_failures_until_one_succeeds(executor: str) -> None:
    found = outcome(executor, [bad, bad, good, good], CompletionConfig.first_successful())
    assert found == ["FAILED", "MIN_SUCCESSFUL_REACHED", ["FAILED", "FAILED", "SUCCEEDED"]]


def test_first_successful_with_nothing_but_failures_is_all_completed(executor: str) -> None:
    found = outcome(executor, [bad, bad], CompletionConfig.first_successful())
    assert found == ["FAILED", "ALL_COMPLETED", ["FAILED", "FAILED"]]


def test_a_started_branch_is_in_the_result_and_one_that_never_started_is_not(executor: str) -> None:
    found = outcome(executor, [never, late, good], CompletionConfig.first_successful(), limit=2)
    assert found == ["SUCCEEDED", "MIN_SUCCESSFUL_REACHED", ["STARTED", "SUCCEEDED"]]


@pytest.mark.parametrize("limit", [1, None])
def test_min_successful_counts_successes(executor: str, limit: int | None) -> None:
    found = outcome(executor, [late, late, never], CompletionConfig(min_successful=2), limit=limit)
    assert found[:2] == ["SUCCEEDED", "MIN_SUCCESSFUL_REACHED"]
    assert found[2][:2] == ["SUCCEEDED", "SUCCEEDED"]


def test_the_tolerated_count_may_be_reached_but_not_exceeded(executor: str) -> None:
    tolerant = CompletionConfig(tolerated_failure_count=1)
    assert outcome(executor, [bad, good, good], tolerant)[1] == "ALL_COMPLETED"
    found = outcome(executor, [bad, bad, good], tolerant)
    assert found == ["FAILED", "FAILURE_TOLERANCE_EXCEEDED", ["FAILED", "FAILED"]]


def test_the_tolerated_percentage_is_of_all_branches(executor: str) -> None:
    tolerant = CompletionConfig(tolerated_failure_percentage=40)
    assert outcome(executor, [bad, bad, good, good, good], tolerant)[1] == "ALL_COMPLETED"
    assert outcome(executor, [bad, bad, bad, good, good], tolerant)[1:] == [
        "FAILURE_TOLERANCE_EXCEEDED",
        ["FAILED", "FAILED", "FAILED"],
    ]


def test_tolerance_is_checked_before_success(executor: str) -> None:
    both = CompletionConfig(min_successful=2, tolerated_failure_count=0)
    assert outcome(executor, [good, bad, good], both)[1] == "FAILURE_TOLERANCE_EXCEEDED"


def test_an_empty_config_stops_at_any_failure(executor: str) -> None:
    assert outcome(executor, [bad, good], CompletionConfig())[1:] == ["FAILURE_TOLERANCE_EXCEEDED", ["FAILED"]]


def test_a_map_stops_at_any_failure_by_default(executor: str) -> None:
    def handler(event, context):
        def fails(ctx, item, index, inputs):
            raise ValueError(item)

        return context.map([1, 2, 3], fails, config=MapConfig(max_concurrency=1)).completion_reason.value

    assert returned(handler, executor) == "FAILURE_TOLERANCE_EXCEEDED"


def test_more_successes_than_branches_are_refused_and_leave_no_event(executor: str) -> None:
    def handler(event, context):
        config = ParallelConfig(completion_config=CompletionConfig(min_successful=3))
        with pytest.raises(ValidationError):
            context.parallel([good, good], config=config)

    assert execute(handler, executor).operations == []


def test_a_batch_that_stopped_early_goes_on_after_it(executor: str) -> None:
    def handler(event, context):
        config = ParallelConfig(completion_config=CompletionConfig.first_successful())
        first = context.parallel([never, late], config=config)
        context.wait(Duration.from_seconds(1))  # the replay must see the same outcome
        return [first.completion_reason.value, [item.status.value for item in first.all]]

    assert returned(handler, executor) == ["MIN_SUCCESSFUL_REACHED", ["STARTED", "SUCCEEDED"]]


def test_the_context_of_a_batch_always_succeeds(executor: str) -> None:
    def handler(event, context):
        context.parallel([bad], name="batch")

    result = execute(handler, executor)
    kinds = [event["EventType"] for event in result.history if event.get("Name") == "batch"]
    assert kinds == ["ContextStarted", "ContextSucceeded"]
