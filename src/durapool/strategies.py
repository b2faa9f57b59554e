"""Strategies of retries: what decides after a failed attempt, and how it is asked.

A strategy is any callable of (error, attempts made so far, from 1) that returns a RetryDecision. Those made here are
frozen dataclasses instead of closures, so that they travel to workers by plain pickle.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from durapool.backoff import backoff, check_backoff
from durapool.config import Duration, JitterStrategy, RetryStrategy
from durapool.exceptions import ValidationError


@dataclass(frozen=True)
class RetryDecision:
    """What a strategy decides; made by :meth:`retry` or :meth:`no_retry`.

    Args:
        should_retry: whether there is another attempt.
        delay: how long to wait before it.

    Raises:
        ValidationError: the delay is not a Duration.

    Example:
        >>> RetryDecision.retry(Duration.from_seconds(30)).delay.to_seconds()
        30
    """

    should_retry: bool
    delay: Duration = field(default_factory=Duration)

    def __post_init__(self) -> None:
        if not isinstance(self.delay, Duration):
            raise ValidationError(f"the delay of a retry must be a Duration, not {self.delay!r}")

    @property
    def delay_seconds(self) -> int:
        """The delay in seconds."""
        return self.delay.to_seconds()

    @classmethod
    def retry(cls, delay: Duration) -> RetryDecision:
        """Try again after `delay`."""
        return cls(True, delay)

    @classmethod
    def no_retry(cls) -> RetryDecision:
        """Give up."""
        return cls(False)


@dataclass(frozen=True)
class _Filter:
    """Which errors are worth another attempt. With neither field set, all; else those that match either.

    `retryable_errors`: text that the message contains, or compiled patterns that are searched in it.
    """

    retryable_errors: Sequence[str | re.Pattern[str]] | None = field(default=None, kw_only=True)
    retryable_error_types: Sequence[type[BaseException]] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for name, kinds, say in (
            ("retryable_errors", (str, re.Pattern), "text or compiled patterns"),
            ("retryable_error_types", (type,), "exception types"),
        ):
            values = getattr(self, name)
            if values is None:
                continue
            if isinstance(values, (*kinds, bytes)) or not all(isinstance(value, kinds) for value in values):
                raise ValidationError(f"{name} must be a list of {say}, not {values!r}")
            object.__setattr__(self, name, tuple(values))

    def takes(self, error: BaseException) -> bool:
        """Whether the error is worth another attempt."""
        if self.retryable_errors is None and self.retryable_error_types is None:
            return True
        if isinstance(error, tuple(self.retryable_error_types or ())):
            return True
        message = str(error)
        return any(
            entry in message if isinstance(entry, str) else entry.search(message) is not None
            for entry in self.retryable_errors or ()
        )


@dataclass(frozen=True)
class RetryStrategyConfig(_Filter):
    """Delays that grow by a factor: initial_delay * backoff_rate ** (attempts - 1), at most max_delay.

    Args:
        max_attempts: how often it is tried in all, the first time included.
        initial_delay: before the second attempt.
        max_delay: no delay is longer.
        backoff_rate: the factor from one delay to the next.
        jitter_strategy: how delays are spread.
        retryable_errors: text that the message contains, or compiled patterns that are searched in it.
        retryable_error_types: exception types. With both given, either is enough; with neither, all are retried.

    Raises:
        ValidationError: a value out of range.

    Example:
        >>> strategy = RetryStrategyConfig(max_attempts=2, retryable_error_types=[OSError])
        >>> [strategy(error, 1).should_retry for error in (OSError(), KeyError())]
        [True, False]
    """

    max_attempts: int = 3
    initial_delay: Duration = field(default=Duration(5))
    max_delay: Duration = field(default=Duration(300))
    backoff_rate: float = 2.0
    jitter_strategy: JitterStrategy = JitterStrategy.FULL

    def __post_init__(self) -> None:
        super().__post_init__()
        check_backoff(self)

    def __call__(self, error: BaseException, attempts_made: int) -> RetryDecision:
        """The decision: the config is its own strategy."""
        if attempts_made >= self.max_attempts or not self.takes(error):
            return RetryDecision.no_retry()
        delay = backoff(self.initial_delay, self.backoff_rate, self.max_delay, attempts_made)
        return RetryDecision.retry(Duration(self.jitter_strategy.apply(delay)))


@dataclass(frozen=True)
class LinearRetryStrategyConfig(_Filter):
    """Delays that grow by a fixed amount: initial_delay + increment * (attempts - 1), at most max_delay.

    Args:
        max_attempts: how often it is tried in all, the first time included.
        initial_delay: before the second attempt.
        increment: by how much each delay is longer than the one before.
        max_delay: no delay is longer.
        jitter_strategy: how delays are spread.
        retryable_errors: text that the message contains, or compiled patterns that are searched in it.
        retryable_error_types: exception types. With both given, either is enough; with neither, all are retried.

    Raises:
        ValidationError: a value out of range.

    Example:
        >>> strategy = LinearRetryStrategyConfig(increment=Duration(10), jitter_strategy=JitterStrategy.NONE)
        >>> [strategy(OSError(), attempts).delay_seconds for attempts in (1, 2, 3)]
        [1, 11, 21]
    """

    max_attempts: int = 6
    initial_delay: Duration = field(default=Duration(1))
    increment: Duration = field(default=Duration(1))
    max_delay: Duration = field(default=Duration(300))
    jitter_strategy: JitterStrategy = JitterStrategy.FULL

    def __post_init__(self) -> None:
        super().__post_init__()
        check_backoff(self)

    def __call__(self, error: BaseException, attempts_made: int) -> RetryDecision:
        """The decision: the config is its own strategy."""
        if attempts_made >= self.max_attempts or not self.takes(error):
            return RetryDecision.no_retry()
        delay = self.initial_delay.to_seconds() + self.increment.to_seconds() * (attempts_made - 1)
        return RetryDecision.retry(Duration(self.jitter_strategy.apply(min(delay, self.max_delay.to_seconds()))))


def decide(strategy: RetryStrategy, error: Exception, attempt: int) -> RetryDecision:
    """Ask a strategy, which may be the user's own.

    Args:
        attempt: how many attempts were made, from 1.

    Raises:
        ValidationError: the strategy raised, or returned something else than a RetryDecision.
    """
    name = getattr(strategy, "__qualname__", None) or type(strategy).__qualname__
    try:
        decision: object = strategy(error, attempt)
    except Exception as problem:
        raise ValidationError(
            f"the retry strategy {name} raised {type(problem).__name__}: {problem} "
            f"(asked after attempt {attempt} about {type(error).__name__}: {error})"
        ) from problem
    if not isinstance(decision, RetryDecision):
        raise ValidationError(
            f"the retry strategy {name} must return a RetryDecision "
            f"(RetryDecision.retry(delay) or RetryDecision.no_retry()), not {decision!r}"
        )
    return decision
