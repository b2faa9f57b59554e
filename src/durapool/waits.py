"""How `wait_for_condition` polls: whether to go on, and how long to wait before the next check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from durapool.backoff import backoff, check_backoff
from durapool.config import Duration, JitterStrategy
from durapool.exceptions import ValidationError, WaitForConditionError

if TYPE_CHECKING:
    from durapool.serdes import SerDes

T = TypeVar("T")


@dataclass(frozen=True)
class WaitForConditionDecision:
    """What a wait strategy decides; made by :meth:`stop_polling` or :meth:`continue_waiting`.

    Args:
        should_continue: whether there is another check.
        delay: how long to wait before it.

    Raises:
        ValidationError: the delay is not a Duration.

    Example:
        >>> WaitForConditionDecision.continue_waiting(Duration.from_minutes(1)).delay_seconds
        60
    """

    should_continue: bool
    delay: Duration = field(default_factory=Duration)

    def __post_init__(self) -> None:
        if not isinstance(self.delay, Duration):
            raise ValidationError(f"the delay before the next check must be a Duration, not {self.delay!r}")

    @property
    def delay_seconds(self) -> int:
        """The delay in seconds."""
        return self.delay.to_seconds()

    @classmethod
    def stop_polling(cls) -> WaitForConditionDecision:
        """The condition is met: the state is the result."""
        return cls(False)

    @classmethod
    def continue_waiting(cls, delay: Duration) -> WaitForConditionDecision:
        """Check again after `delay`."""
        return cls(True, delay)


WaitStrategy = Callable[[T, int], WaitForConditionDecision]
"""Called with the state after a check and the number of checks made so far (from 1)."""


@dataclass(frozen=True)
class WaitStrategyConfig(Generic[T]):
    """Delays that grow by a factor between checks: initial_delay * backoff_rate ** (checks - 1), at most max_delay.

    Args:
        should_continue_polling: whether the condition is not met yet, given the state.
        max_attempts: give up after so many checks.
        initial_delay: between the first two checks.
        max_delay: no delay is longer.
        backoff_rate: the factor from one delay to the next.
        jitter_strategy: how delays are spread.

    Raises:
        ValidationError: a value out of range.

    Example:
        >>> strategy = WaitStrategyConfig(lambda state: state != "done", jitter_strategy=JitterStrategy.NONE)
        >>> [strategy("running", checks).delay_seconds for checks in (1, 2, 3)]
        [5, 8, 11]
    """

    should_continue_polling: Callable[[T], bool]
    max_attempts: int = 60
    initial_delay: Duration = field(default=Duration(5))
    max_delay: Duration = field(default=Duration(300))
    backoff_rate: float = 1.5
    jitter_strategy: JitterStrategy = JitterStrategy.FULL

    def __post_init__(self) -> None:
        if not callable(self.should_continue_polling):
            raise ValidationError(f"should_continue_polling must be callable, not {self.should_continue_polling!r}")
        check_backoff(self)

    def __call__(self, state: T, attempts_made: int) -> WaitForConditionDecision:
        """The decision: the config is its own strategy.

        Raises:
            WaitForConditionError: max_attempts checks were made and the condition is not met.
        """
        if not self.should_continue_polling(state):
            return WaitForConditionDecision.stop_polling()
        if attempts_made >= self.max_attempts:
            raise WaitForConditionError(f"the condition was not met after {attempts_made} checks (max_attempts)")
        delay = backoff(self.initial_delay, self.backoff_rate, self.max_delay, attempts_made)
        return WaitForConditionDecision.continue_waiting(Duration(self.jitter_strategy.apply(delay)))


def create_wait_strategy(config: WaitStrategyConfig[T]) -> WaitStrategy[T]:
    """The strategy of a config.

    Args:
        config: when to stop, and how far apart the checks are.

    Raises:
        ValidationError: not a WaitStrategyConfig.

    Example:
        >>> strategy = create_wait_strategy(WaitStrategyConfig(should_continue_polling=lambda state: state != "done"))
        >>> strategy("done", 1).should_continue
        False
    """
    if not isinstance(config, WaitStrategyConfig):
        raise ValidationError(f"config must be a WaitStrategyConfig, not {config!r}")
    return config


@dataclass(frozen=True)
class WaitForConditionConfig(Generic[T]):
    """How a `wait_for_condition` polls.

    Args:
        wait_strategy: decides after each check.
        initial_state: what the first check is given, as the serdes gives it back.
        serdes: for the state.

    Raises:
        ValidationError: wait_strategy is not callable.

    Example:
        >>> strategy = WaitStrategyConfig(should_continue_polling=lambda count: count < 3)
        >>> context.wait_for_condition(lambda count, _: count + 1, WaitForConditionConfig(strategy, initial_state=0))
        3
    """

    wait_strategy: WaitStrategy[T]
    initial_state: T
    serdes: SerDes[Any] | None = None

    def __post_init__(self) -> None:
        if not callable(self.wait_strategy):
            raise ValidationError(f"wait_strategy must be callable, not {self.wait_strategy!r}")
