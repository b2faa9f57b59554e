"""Wait strategies, and what user functions are called with."""

from __future__ import annotations

import dataclasses
import logging
import operator
import pickle
from functools import partial
from typing import Any

import pytest

from durapool.config import Duration, JitterStrategy
from durapool.exceptions import ValidationError, WaitForConditionError
from durapool.types import LoggerInterface, StepContext, WaitForCallbackContext, WaitForConditionCheckContext
from durapool.waits import (
    WaitForConditionConfig,
    WaitForConditionDecision,
    WaitStrategyConfig,
    create_wait_strategy,
)

not_done = partial(operator.ne, "done")


def polling(**changes: Any) -> WaitStrategyConfig[str]:
    return WaitStrategyConfig(should_continue_polling=not_done, jitter_strategy=JitterStrategy.NONE, **changes)


def test_decisions() -> None:
    on = WaitForConditionDecision.continue_waiting(Duration(4))
    assert (on.should_continue, on.delay, on.delay_seconds) == (True, Duration(4), 4)
    assert WaitForConditionDecision.stop_polling() == WaitForConditionDecision(False, Duration())
    with pytest.raises(ValidationError, match="must be a Duration"):
        WaitForConditionDecision.continue_waiting(4)  # type: ignore[arg-type]


def test_delays_grow_by_the_factor_up_to_the_longest() -> None:
    strategy = create_wait_strategy(polling(backoff_rate=2, initial_delay=Duration(3), max_delay=Duration(10)))
    assert [strategy("busy", checks).delay_seconds for checks in (1, 2, 3, 4)] == [3, 6, 10, 10]


def test_jitter_is_full_by_default() -> None:
    strategy = create_wait_strategy(WaitStrategyConfig(not_done, initial_delay=Duration(100)))
    drawn = [strategy("busy", 1).delay_seconds for _ in range(300)]
    assert 1 <= min(drawn) < 50 < max(drawn) <= 100


def test_polling_stops_when_the_condition_is_met_at_the_last_check_too() -> None:
    strategy = create_wait_strategy(polling(max_attempts=2))
    assert strategy("done", 1) == WaitForConditionDecision.stop_polling()
    assert strategy("done", 2) == WaitForConditionDecision.stop_polling()


def test_polling_fails_after_the_last_check() -> None:
    strategy = create_wait_strategy(polling(max_attempts=2))
    assert strategy("busy", 1).should_continue
    with pytest.raises(WaitForConditionError, match="after 2 checks"):
        strategy("busy", 2)


def test_strategies_travel_by_plain_pickle() -> None:
    strategy = pickle.loads(pickle.dumps(create_wait_strategy(polling())))
    assert strategy("busy", 1).delay == Duration(5)


@pytest.mark.parametrize(
    "changes", [{"max_attempts": 0}, {"initial_delay": 1}, {"backoff_rate": -1}, {"should_continue_polling": True}]
)
def test_a_wrong_config_is_refused_when_it_is_made(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        WaitStrategyConfig(**{"should_continue_polling": not_done, **changes})
    with pytest.raises(ValidationError, match="must be a WaitStrategyConfig"):
        create_wait_strategy(changes)  # type: ignore[arg-type]


def test_a_condition_config_is_subscriptable_and_checked() -> None:
    config = WaitForConditionConfig[str](wait_strategy=create_wait_strategy(polling()), initial_state="new")
    assert (config.initial_state, config.serdes) == ("new", None)
    with pytest.raises(ValidationError, match="wait_strategy must be callable"):
        WaitForConditionConfig(wait_strategy=5, initial_state=None)  # type: ignore[arg-type]


def test_contexts_of_user_functions_are_frozen() -> None:
    logger: LoggerInterface = logging.getLogger("durapool.test")
    for context in (
        StepContext(attempt=2, logger=logger),
        WaitForConditionCheckContext(attempt=2, logger=logger),
        WaitForCallbackContext(logger=logger),
    ):
        assert context.logger is logger
        assert getattr(context, "attempt", 2) == 2
        with pytest.raises(dataclasses.FrozenInstanceError):
            context.logger = logger  # type: ignore[misc]
