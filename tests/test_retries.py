"""Retry strategies, and blocks that are tried again as a whole."""

from __future__ import annotations

import dataclasses
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest

from durapool.config import ChildConfig, Duration, JitterStrategy, RetryStrategy
from durapool.errors import error_of, exception_of
from durapool.exceptions import ChildContextError, StepError, SuspendExecution, ValidationError
from durapool.retries import (
    LinearRetryStrategyConfig,
    RetryDecision,
    RetryPresets,
    RetryStrategyConfig,
    WithRetryConfig,
    create_linear_retry_strategy,
    create_retry_strategy,
    default_strategy_local,
    with_retry,
)
from durapool.scope import Scope, Settings, run_in
from durapool.serdes import JsonSerDes
from durapool.strategies import decide

ERROR = ValueError("connection reset by peer")


def delays(strategy: RetryStrategy, error: Exception = ERROR, limit: int = 30) -> list[int]:
    """The delays before each further attempt, until the strategy gives up."""
    found: list[int] = []
    for attempt in range(1, limit):
        decision = strategy(error, attempt)
        if not decision.should_retry:
            return found
        found.append(decision.delay.to_seconds())
    pytest.fail("the strategy never gives up")


def exactly(**changes: Any) -> RetryStrategyConfig:
    return RetryStrategyConfig(jitter_strategy=JitterStrategy.NONE, **changes)


def test_decisions() -> None:
    again = RetryDecision.retry(Duration.from_seconds(7))
    assert (again.should_retry, again.delay, again.delay_seconds) == (True, Duration(7), 7)
    assert RetryDecision.no_retry() == RetryDecision(False, Duration())
    with pytest.raises(ValidationError, match="must be a Duration, not 5"):
        RetryDecision.retry(5)  # type: ignore[arg-type]


def test_delays_grow_by_the_factor_up_to_the_longest() -> None:
    strategy = create_retry_strategy(exactly(max_attempts=6, initial_delay=Duration(2), max_delay=Duration(10)))
    assert delays(strategy) == [2, 4, 8, 10, 10]


def test_delays_grow_by_the_increment_up_to_the_longest() -> None:
    config = LinearRetryStrategyConfig(
        max_attempts=5,
        initial_delay=Duration(3),
        increment=Duration(4),
        max_delay=Duration(12),
        jitter_strategy=JitterStrategy.NONE,
    )
    assert delays(create_linear_retry_strategy(config)) == [3, 7, 11, 12]


def test_huge_numbers_of_attempts_do_not_overflow() -> None:
    strategy = create_retry_strategy(exactly(max_attempts=10**9, backoff_rate=10))
    assert strategy(ERROR, 10**8).delay == Duration(300)


def test_configs_without_arguments() -> None:
    assert len(delays(create_retry_strategy())) == 2
    assert len(delays(create_linear_retry_strategy())) == 5


def test_jitter_stays_within_its_bounds() -> None:
    full = create_retry_strategy(RetryStrategyConfig(initial_delay=Duration(100)))
    half = create_retry_strategy(RetryStrategyConfig(initial_delay=Duration(100), jitter_strategy=JitterStrategy.HALF))
    drawn = [full(ERROR, 1).delay_seconds for _ in range(300)]
    assert 1 <= min(drawn) < 50 < max(drawn) <= 100
    assert all(50 <= half(ERROR, 1).delay_seconds <= 100 for _ in range(300))


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        (RetryPresets.none(), []),
        (RetryPresets.critical(), [1, 2, 2, 3, 5, 8, 11, 17, 26]),
        (RetryPresets.linear(), [1, 2, 3, 4, 5]),
        (RetryPresets.fixed(), [5, 5, 5, 5]),
        (RetryPresets.fixed(Duration(600)), [600] * 4),
    ],
)
def test_presets_without_jitter(preset: RetryStrategy, expected: list[int]) -> None:
    assert delays(preset) == expected


@pytest.mark.parametrize(
    ("preset", "longest"),
    [
        (RetryPresets.default(), [5, 10, 20, 40, 60]),
        (RetryPresets.transient(), [5, 10]),
        (RetryPresets.resource_availability(), [5, 10, 20, 40]),
    ],
)
def test_presets_with_jitter(preset: RetryStrategy, longest: list[int]) -> None:
    found = delays(preset)
    assert len(found) == len(longest)
    assert all(1 <= delay <= most for delay, most in zip(found, longest, strict=True))


@pytest.mark.parametrize(
    ("changes", "error", "retried"),
    [
        ({}, ValueError("x"), True),
        ({"retryable_errors": ["reset"]}, ERROR, True),
        ({"retryable_errors": ["refused"]}, ERROR, False),
        ({"retryable_errors": [re.compile(r"^conn.*peer$")]}, ERROR, True),
        ({"retryable_errors": [re.compile("^reset")]}, ERROR, False),
        ({"retryable_error_types": [OSError]}, ConnectionError("x"), True),
        ({"retryable_error_types": [OSError]}, ERROR, False),
        ({"retryable_errors": ["reset"], "retryable_error_types": [OSError]}, ERROR, True),
        ({"retryable_errors": ["refused"], "retryable_error_types": [ValueError]}, ERROR, True),
        ({"retryable_errors": ["refused"], "retryable_error_types": [OSError]}, ERROR, False),
        ({"retryable_errors": []}, ERROR, False),
        ({"retryable_error_types": []}, ERROR, False),
    ],
)
def test_only_matching_errors_are_retried(changes: dict[str, Any], error: Exception, retried: bool) -> None:
    assert create_retry_strategy(RetryStrategyConfig(**changes))(error, 1).should_retry is retried
    assert create_linear_retry_strategy(LinearRetryStrategyConfig(**changes))(error, 1).should_retry is retried


@pytest.mark.parametrize(
    "changes",
    [
        {"max_attempts": 0},
        {"max_attempts": True},
        {"max_attempts": 2.0},
        {"initial_delay": 5},
        {"max_delay": None},
        {"backoff_rate": 0},
        {"backoff_rate": float("nan")},
        {"backoff_rate": "2"},
        {"jitter_strategy": "SOME"},
        {"retryable_errors": "reset"},
        {"retryable_errors": [5]},
        {"retryable_error_types": ValueError},
        {"retryable_error_types": ["ValueError"]},
    ],
)
def test_a_wrong_config_is_refused_when_it_is_made(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        RetryStrategyConfig(**changes)


def test_a_config_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match="must be a RetryStrategyConfig"):
        create_retry_strategy(5)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="must be a LinearRetryStrategyConfig"):
        create_linear_retry_strategy(RetryStrategyConfig())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "strategy",
    [
        RetryPresets.default(),
        RetryPresets.linear(),
        create_retry_strategy(RetryStrategyConfig(retryable_errors=[re.compile("x")], retryable_error_types=[OSError])),
        default_strategy_local,
    ],
)
def test_strategies_travel_by_plain_pickle(strategy: RetryStrategy) -> None:
    assert pickle.loads(pickle.dumps(strategy)) == strategy
    assert hash(strategy) == hash(pickle.loads(pickle.dumps(strategy)))


@pytest.mark.parametrize(
    "mistake", [TypeError, NameError, AttributeError, ImportError, SyntaxError, AssertionError, MemoryError]
)
def test_mistakes_are_not_retried_by_the_local_default(mistake: type[Exception]) -> None:
    assert not default_strategy_local(mistake("x"), 1).should_retry
    assert not default_strategy_local(StepError("x", mistake.__name__), 1).should_retry
    assert RetryPresets.default()(mistake("x"), 1).should_retry


def test_the_local_default_sees_a_mistake_behind_a_step_error() -> None:
    error = StepError("x", "ModuleNotFoundError")
    error.__cause__ = ModuleNotFoundError("x")
    assert not default_strategy_local(error, 1).should_retry


def test_other_errors_are_retried_by_the_local_default() -> None:
    assert len(delays(default_strategy_local)) == 5
    assert len(delays(default_strategy_local, StepError("x", "ValueError"))) == 5


def broken(error: Exception, attempt: int) -> RetryDecision:
    raise KeyError("oops")


def test_a_strategy_that_raises_is_named() -> None:
    with pytest.raises(
        ValidationError, match=r"retry strategy broken raised KeyError.*attempt 2 about ValueError"
    ) as e:
        decide(broken, ERROR, 2)
    assert isinstance(e.value.__cause__, KeyError)


@pytest.mark.parametrize("returned", [None, True, 5, Duration(3)])
def test_a_strategy_that_returns_something_else_is_named(returned: Any) -> None:
    def odd(error: Exception, attempt: int) -> Any:
        return returned

    with pytest.raises(ValidationError, match=r"odd must return a RetryDecision"):
        decide(odd, ERROR, 1)


def test_decide_asks_the_strategy() -> None:
    assert decide(RetryPresets.fixed(), ERROR, 1) == RetryDecision.retry(Duration(5))


class Recorder:
    """Stands for a context: child contexts and waits as they come, errors by way of the record as in the real one."""

    def __init__(self, log: list[Any] | None = None, depth: int = 0) -> None:
        self.log: list[Any] = [] if log is None else log
        self.depth = depth

    def run_in_child_context(
        self, func: Callable[[Any], Any], name: str | None = None, config: ChildConfig[Any] | None = None
    ) -> Any:
        self.log.append((self.depth, "child", name, config))
        try:
            return func(Recorder(self.log, self.depth + 1))
        except Exception as error:  # as the real one
            failure = error_of(error, local=True)
        raise ChildContextError(failure.message, failure.type) from exception_of(failure)

    def wait(self, duration: Duration, name: str | None = None) -> None:
        self.log.append((self.depth, "wait", name, duration.to_seconds()))

    def names(self) -> list[Any]:
        return [(depth, kind, name) for depth, kind, name, _ in self.log]


def flaky(failures: int, error: Exception = ERROR) -> Callable[[Any, int], str]:
    def block(ctx: Any, attempt: int) -> str:
        if attempt <= failures:
            raise error
        return f"attempt {attempt}"

    return block


def test_a_block_is_tried_again_in_child_contexts_with_waits_between() -> None:
    context: Any = Recorder()
    config = WithRetryConfig[str](retry_strategy=RetryPresets.linear())
    assert with_retry(context, flaky(2), config, name="order") == "attempt 3"
    assert context.names() == [
        (0, "child", "order"),
        (1, "child", "order-attempt-1"),
        (1, "wait", "order-backoff-1"),
        (1, "child", "order-attempt-2"),
        (1, "wait", "order-backoff-2"),
        (1, "child", "order-attempt-3"),
    ]
    assert [entry[3] for entry in context.log if entry[1] == "wait"] == [1, 2]


def test_a_block_needs_neither_name_nor_wrapping() -> None:
    context: Any = Recorder()
    config = WithRetryConfig[str](RetryPresets.linear(), wrap_with_run_in_child_context=False)
    assert with_retry(context, flaky(1), config) == "attempt 2"
    assert context.names() == [(0, "child", None), (0, "wait", None), (0, "child", None)]


def test_the_last_failure_arrives_as_a_child_context_error() -> None:
    context: Any = Recorder()
    with pytest.raises(ChildContextError) as caught:
        with_retry(context, flaky(9), WithRetryConfig(RetryPresets.fixed()))
    assert caught.value.error_type == "ValueError"
    assert type(caught.value.__cause__) is ValueError


def test_without_wrapping_the_original_is_raised() -> None:
    context: Any = Recorder()
    config = WithRetryConfig[str](RetryPresets.none(), wrap_with_run_in_child_context=False)
    with pytest.raises(ValueError, match="connection reset"):
        with_retry(context, flaky(1), config)


def test_the_strategy_is_asked_about_the_original_error() -> None:
    asked = []

    def strategy(error: Exception, attempt: int) -> RetryDecision:
        asked.append((type(error), str(error), attempt))
        return RetryDecision.retry(Duration(0)) if attempt < 2 else RetryDecision.no_retry()

    context: Any = Recorder()
    with pytest.raises(ChildContextError):
        with_retry(context, flaky(5), WithRetryConfig(strategy))
    assert asked == [(ValueError, str(ERROR), 1), (ValueError, str(ERROR), 2)]
    assert [entry[3] for entry in context.log if entry[1] == "wait"] == [1]


def test_the_serdes_is_that_of_the_attempts_too() -> None:
    context: Any = Recorder()
    given = ChildConfig[str](serdes=JsonSerDes(), sub_type="Mine")
    with_retry(context, flaky(0), WithRetryConfig(child_context_config=given))
    outer, inner = (entry[3] for entry in context.log)
    assert outer is given
    assert inner == dataclasses.replace(given, sub_type=None)


def test_a_suspension_is_no_failure() -> None:
    def suspend(ctx: Any, attempt: int) -> None:
        raise SuspendExecution(frozenset({"op"}))

    context: Any = Recorder()
    with pytest.raises(SuspendExecution):
        with_retry(context, suspend)
    assert context.names() == [(0, "child", None), (1, "child", None)]


def test_without_a_strategy_the_default_of_steps_is_used() -> None:
    context: Any = Recorder()
    with pytest.raises(ChildContextError):
        with_retry(context, flaky(9, TypeError("typo")))
    assert len(context.log) == 2
    settings = Settings("job", "arn", default_retry=RetryPresets.fixed())
    scope = Scope(settings, None, None)  # type: ignore[arg-type]
    context = Recorder()
    assert run_in(scope, with_retry, context, flaky(3, TypeError("typo"))) == "attempt 4"


def test_a_broken_strategy_of_a_block_is_named() -> None:
    context: Any = Recorder()
    config = WithRetryConfig[str](broken, wrap_with_run_in_child_context=False)
    with pytest.raises(ValidationError, match="broken raised KeyError"):
        with_retry(context, flaky(1), config)
    with pytest.raises(ValidationError, match="retry_strategy must be callable"):
        WithRetryConfig(5)  # type: ignore[arg-type]
