"""Configuration is checked when it is made."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from durapool import executors
from durapool.config import (
    CallbackConfig,
    ChildConfig,
    CompletionConfig,
    Duration,
    InvokeConfig,
    JitterStrategy,
    MapConfig,
    NestingType,
    ParallelBranch,
    ParallelConfig,
    StepConfig,
    StepSemantics,
    WaitForCallbackConfig,
)
from durapool.exceptions import ValidationError
from durapool.executors import DaskExecutor, ProcessExecutor, RayExecutor, ThreadExecutor, parse_executor, parse_size
from durapool.retries import RetryPresets


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        (Duration(), 0),
        (Duration.from_seconds(7), 7),
        (Duration.from_seconds(7.0), 7),
        (Duration.from_minutes(1.5), 90),
        (Duration.from_hours(2), 7200),
        (Duration.from_days(1), 86400),
    ],
)
def test_a_duration_is_whole_seconds(duration: Duration, seconds: int) -> None:
    assert duration.to_seconds() == seconds
    assert type(duration.to_seconds()) is int


@pytest.mark.parametrize("value", [-1, 0.5, True, float("nan"), float("inf"), "5", None])
def test_negative_and_partial_seconds_are_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        Duration.from_seconds(value)
    with pytest.raises(ValidationError):
        Duration(value)


def test_any_whole_number_of_seconds_is_a_duration() -> None:
    assert Duration.from_days(10**400).to_seconds() == 86400 * 10**400


def test_durations_compare() -> None:
    assert Duration.from_minutes(1) == Duration(60) < Duration(61)
    assert len({Duration(60), Duration.from_minutes(1)}) == 1


@pytest.mark.parametrize(
    ("strategy", "low", "high"),
    [(JitterStrategy.NONE, 40, 40), (JitterStrategy.FULL, 1, 40), (JitterStrategy.HALF, 20, 40)],
)
def test_jitter_spreads_within_its_bounds(strategy: JitterStrategy, low: int, high: int) -> None:
    assert all(low <= strategy.apply(40) <= high for _ in range(200))
    assert strategy.apply(0) == 1


def test_completion_presets() -> None:
    assert CompletionConfig.all_successful() == CompletionConfig(None, 0, 0)
    assert CompletionConfig.first_successful() == CompletionConfig(min_successful=1)
    assert CompletionConfig.all_completed() == CompletionConfig(tolerated_failure_percentage=100)


@pytest.mark.parametrize(
    "changes",
    [
        {"min_successful": 0},
        {"min_successful": True},
        {"min_successful": 1.5},
        {"tolerated_failure_count": -1},
        {"tolerated_failure_percentage": -1},
        {"tolerated_failure_percentage": 100.5},
        {"tolerated_failure_percentage": float("nan")},
        {"tolerated_failure_percentage": "5"},
    ],
)
def test_a_criterion_out_of_range_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        CompletionConfig(**changes)


def test_batch_configs_without_arguments() -> None:
    assert ParallelConfig().completion_config == CompletionConfig.all_successful()
    assert MapConfig[int]().completion_config == CompletionConfig()
    assert ParallelConfig().max_concurrency is None
    assert ParallelConfig().nesting_type is NestingType.NESTED


@pytest.mark.parametrize("kind", [ParallelConfig, MapConfig])
@pytest.mark.parametrize(
    "changes",
    [
        {"max_concurrency": 0},
        {"max_concurrency": 2.0},
        {"completion_config": None},
        {"completion_config": {"min_successful": 1}},
        {"nesting_type": "FLAT"},
    ],
)
def test_a_wrong_batch_config_is_refused(kind: type[Any], changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        kind(**changes)


def test_a_named_branch_calls_its_function() -> None:
    branch = ParallelBranch(func=lambda ctx: ctx + 1, name="one")
    assert (branch(1), branch.name) == (2, "one")


def test_a_step_config_takes_the_strategy_first() -> None:
    config = StepConfig(RetryPresets.none())
    assert config.retry_strategy == RetryPresets.none()
    assert config.step_semantics is StepSemantics.AT_LEAST_ONCE_PER_RETRY
    with pytest.raises(ValidationError, match="retry_strategy"):
        StepConfig(retry_strategy=3)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="step_semantics"):
        StepConfig(step_semantics="AT_MOST_ONCE_PER_RETRY")  # type: ignore[arg-type]


def test_a_callback_config_takes_durations() -> None:
    assert CallbackConfig().timeout == Duration()
    assert WaitForCallbackConfig(timeout=Duration(5), retry_strategy=RetryPresets.none()).timeout == Duration(5)
    for name in ("timeout", "heartbeat_timeout"):
        with pytest.raises(ValidationError, match=name):
            CallbackConfig(**{name: 5})  # type: ignore[arg-type]


def test_the_other_configs_have_defaults() -> None:
    assert ChildConfig[int]().is_virtual is False
    assert InvokeConfig[int, int]().tenant_id is None


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("thread", ThreadExecutor()),
        ("process", ProcessExecutor()),
        ("process:8", ProcessExecutor(workers=8)),
        (ThreadExecutor(5), ThreadExecutor(5)),
        ("dask", DaskExecutor()),
        ("dask:tcp://10.0.0.1:8786", DaskExecutor("tcp://10.0.0.1:8786")),
        ("ray", RayExecutor()),
        ("ray:auto", RayExecutor("auto")),
        (ProcessExecutor(timeout=1.5), ProcessExecutor(timeout=1.5)),
    ],
)
def test_an_executor_is_named_or_given(spec: Any, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "find_spec", lambda module: module)  # as where the extras are installed
    assert parse_executor(spec) == expected


@pytest.mark.parametrize("name", ["dask", "ray"])
def test_a_missing_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "find_spec", lambda module: None)
    with pytest.raises(ValidationError, match=rf"pip install \"durapool\[{name}\]\""):
        parse_executor(name)


@pytest.mark.parametrize(
    "changes",
    [
        {"address": " "},
        {"workers": 0},
        {"resources": ["GPU"]},
        {"resources": {"GPU": -1}},
        {"resources": {"GPU": "1"}},
        {"resources": {1: 1}},
        {"resources": {"resources": {"GPU": True}}},
        {"retry_lost": -1},
        {"timeout": 0},
    ],
)
@pytest.mark.parametrize("kind", [DaskExecutor, RayExecutor])
def test_a_wrong_executor_on_a_cluster_is_refused(kind: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kind(**changes)


def test_an_executor_on_a_cluster_goes_to_workers_without_its_connection() -> None:
    class Connection:
        def __str__(self) -> str:
            return "tcp://somewhere"

    executor = DaskExecutor(Connection(), resources={"GPU": 1}, memory_limit="1KiB")
    there = pickle.loads(pickle.dumps(executor))
    assert there == DaskExecutor("tcp://somewhere", resources={"GPU": 1}, memory_limit=1024)
    assert hash(there) == hash(executor)


@pytest.mark.parametrize(
    "spec", ["", "threads", "dask:", "ray: ", "process:", "process:x", "process:-1", "process:0", None, 8]
)
def test_another_executor_is_refused(spec: Any) -> None:
    with pytest.raises(ValidationError):
        parse_executor(spec)


@pytest.mark.parametrize(
    "changes",
    [
        {"workers": 0},
        {"workers": True},
        {"max_branches_per_worker": 0},
        {"start_method": "thread"},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"timeout": "5"},
        {"preload": "json"},
        {"preload": [json]},
        {"retry_lost": -1},
        {"initializer": "init"},
        {"memory_limit": 0},
        {"memory_limit": "much"},
    ],
)
def test_a_wrong_process_executor_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ProcessExecutor(**changes)


@pytest.mark.parametrize("threads", [0, True, 1.0])
def test_a_wrong_thread_executor_is_refused(threads: Any) -> None:
    with pytest.raises(ValidationError, match="max_threads"):
        ThreadExecutor(threads)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (None, None),
        (512, 512),
        ("512", 512),
        ("512B", 512),
        ("1 KB", 1000),
        ("1.5MB", 1_500_000),
        ("2GiB", 2 * 1024**3),
        ("2gib", 2 * 1024**3),
        ("1T", 10**12),
    ],
)
def test_sizes_are_bytes_or_text(text: Any, size: int | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", [0, -5, True, 1.5, "", "MB", "-1MB", "0", "1 XB"])
def test_other_sizes_are_refused(text: Any) -> None:
    with pytest.raises(ValidationError):
        parse_size(text)


def test_a_process_executor_keeps_plain_values() -> None:
    executor = ProcessExecutor(memory_limit="1KiB", preload=["json"])  # type: ignore[arg-type]
    assert executor.memory_limit == 1024
    assert executor.preload == ("json",)
    assert hash(executor) == hash(ProcessExecutor(memory_limit=1024, preload=("json",)))
