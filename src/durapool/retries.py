"""Whether and when a failed step is tried again.

A strategy is any callable of (error, attempts made so far, from 1) that returns a RetryDecision. Those made here are
frozen dataclasses instead of closures, so that they travel to workers by plain pickle.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from durapool.backoff import backoff, check_backoff
from durapool.config import ChildConfig, Duration, JitterStrategy, RetryStrategy
from durapool.exceptions import ChildContextError, DurableOperationError, ValidationError
from durapool.scope import running_scope

if TYPE_CHECKING:
    from durapool.context import DurableContext

T = TypeVar("T")


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


def create_retry_strategy(config: RetryStrategyConfig | None = None) -> RetryStrategy:
    """The strategy of a config; of the default one (3 attempts, 5 s, factor 2, full jitter) without.

    Args:
        config: how many attempts and how far apart.

    Raises:
        ValidationError: not a RetryStrategyConfig.

    Example:
        >>> strategy = create_retry_strategy(RetryStrategyConfig(max_attempts=1))
        >>> strategy(OSError(), 1).should_retry
        False
    """
    return _strategy(config, RetryStrategyConfig)


def create_linear_retry_strategy(config: LinearRetryStrategyConfig | None = None) -> RetryStrategy:
    """The strategy of a config; of the default one (6 attempts, 1 s, 2 s, 3 s, ..., full jitter) without.

    Args:
        config: how many attempts and how far apart.

    Raises:
        ValidationError: not a LinearRetryStrategyConfig.

    Example:
        >>> create_linear_retry_strategy()(OSError(), 1).should_retry
        True
    """
    return _strategy(config, LinearRetryStrategyConfig)


def _strategy(config: Any, kind: type[RetryStrategyConfig] | type[LinearRetryStrategyConfig]) -> RetryStrategy:
    if config is None:
        return kind()
    if not isinstance(config, kind):
        raise ValidationError(f"config must be a {kind.__name__}, not {config!r}")
    return config


class RetryPresets:
    """Strategies for common cases.

    Example:
        >>> context.step(lambda _: pay(), config=StepConfig(RetryPresets.transient()))
        'paid'
    """

    @staticmethod
    def none() -> RetryStrategy:
        """Never again."""
        return RetryStrategyConfig(max_attempts=1)

    @staticmethod
    def default() -> RetryStrategy:
        """6 attempts; 5 s, factor 2, at most 60 s, full jitter."""
        return _DEFAULT

    @staticmethod
    def transient() -> RetryStrategy:
        """3 attempts; 5 s, factor 2, half jitter: for what is over in a moment."""
        return RetryStrategyConfig(max_attempts=3, jitter_strategy=JitterStrategy.HALF)

    @staticmethod
    def resource_availability() -> RetryStrategy:
        """5 attempts; 5 s, factor 2, at most 5 minutes, full jitter: for what has to become free first."""
        return RetryStrategyConfig(max_attempts=5)

    @staticmethod
    def critical() -> RetryStrategy:
        """10 attempts; 1 s, factor 1.5, at most 60 s, no jitter."""
        return RetryStrategyConfig(
            max_attempts=10,
            initial_delay=Duration(1),
            max_delay=Duration(60),
            backoff_rate=1.5,
            jitter_strategy=JitterStrategy.NONE,
        )

    @staticmethod
    def linear() -> RetryStrategy:
        """6 attempts after 1, 2, 3, 4 and 5 s."""
        return LinearRetryStrategyConfig(jitter_strategy=JitterStrategy.NONE)

    @staticmethod
    def fixed(interval: Duration | None = None) -> RetryStrategy:
        """5 attempts, `interval` apart (5 s)."""
        delay = Duration(5) if interval is None else interval
        return RetryStrategyConfig(
            max_attempts=5,
            initial_delay=delay,
            max_delay=delay,
            backoff_rate=1,
            jitter_strategy=JitterStrategy.NONE,
        )


_DEFAULT = RetryStrategyConfig(max_attempts=6, max_delay=Duration(60))

_MISTAKES = (TypeError, NameError, AttributeError, ImportError, SyntaxError, AssertionError, MemoryError)
_MISTAKE_NAMES = frozenset(kind.__name__ for kind in _MISTAKES)


@dataclass(frozen=True)
class _UnlessMistaken:
    """As `strategy`, but mistakes in the program are not tried again: nobody wants to wait minutes for a typo."""

    strategy: RetryStrategyConfig

    def __call__(self, error: BaseException, attempts_made: int) -> RetryDecision:
        if _is_mistake(error):
            return RetryDecision.no_retry()
        return self.strategy(error, attempts_made)


def _is_mistake(error: BaseException) -> bool:
    if isinstance(error, DurableOperationError):
        return error.error_type in _MISTAKE_NAMES or isinstance(error.__cause__, _MISTAKES)
    return isinstance(error, _MISTAKES)


default_strategy_local: RetryStrategy = _UnlessMistaken(_DEFAULT)
"""The default under `durapool.run`: `RetryPresets.default()`, but TypeError, NameError, AttributeError, ImportError,
SyntaxError, AssertionError and MemoryError are not tried again."""


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


@dataclass(frozen=True)
class WithRetryConfig(Generic[T]):
    """How :func:`with_retry` runs.

    Args:
        retry_strategy: decides after each failed attempt; None for the default of steps.
        wrap_with_run_in_child_context: put all attempts into one child context; the last failure then arrives as
            ChildContextError with the original as `__cause__`. Without it the original itself is raised.
        child_context_config: of that child context; its serdes and summary_generator are those of each attempt too.

    Raises:
        ValidationError: a strategy that cannot be called.

    Example:
        >>> config = WithRetryConfig(retry_strategy=RetryPresets.fixed(Duration.from_minutes(1)))
        >>> with_retry(context, lambda ctx, attempt: ctx.step(lambda _: pay()), config)
        'paid'
    """

    retry_strategy: RetryStrategy | None = None
    wrap_with_run_in_child_context: bool = True
    child_context_config: ChildConfig[T] | None = None

    def __post_init__(self) -> None:
        if self.retry_strategy is not None and not callable(self.retry_strategy):
            raise ValidationError(f"retry_strategy must be callable, not {self.retry_strategy!r}")


def with_retry(
    context: DurableContext,
    func: Callable[[DurableContext, int], T],
    config: WithRetryConfig[T] | None = None,
    name: str | None = None,
) -> T:
    """Run a block of operations, and the whole block again if it fails.

    Each attempt is a child context of its own ("name-attempt-1"), with a wait after one that failed
    ("name-backoff-1"), so a replay repeats no attempt that has ended. Waits are whole seconds, at least 1.

    Args:
        context: the context that the block belongs to.
        func: called with the attempt's context and its number, from 1.
        config: strategy and child context.
        name: of the child context, and the beginning of the names inside.

    Raises:
        ChildContextError: the last attempt failed; `__cause__` is the original exception where it could be kept.
        Exception: the original itself, without a wrapping child context.
        ValidationError: the strategy raised or returned something else than a RetryDecision.

    Example:
        >>> def order(ctx, attempt):
        ...     ctx.step(lambda step: reserve())
        ...     return ctx.step(lambda step: pay())
        >>> with_retry(context, order, WithRetryConfig(retry_strategy=RetryPresets.fixed()), name="order")
        'paid'
    """
    chosen: WithRetryConfig[T] = config or WithRetryConfig()
    attempts = _Attempts(func, chosen, name)
    if not chosen.wrap_with_run_in_child_context:
        return attempts(context)
    return context.run_in_child_context(attempts, name=name, config=chosen.child_context_config)


@dataclass(frozen=True)
class _Attempts(Generic[T]):
    """All attempts of one block, one after the other."""

    func: Callable[[DurableContext, int], T]
    config: WithRetryConfig[T]
    name: str | None

    def __call__(self, context: DurableContext) -> T:
        strategy = self.config.retry_strategy or _default_strategy()
        given = self.config.child_context_config or ChildConfig()
        child = ChildConfig[T](serdes=given.serdes, summary_generator=given.summary_generator)
        attempt = 1
        while True:
            failure = self._try(context, attempt, child)
            if isinstance(failure, _Done):
                return failure.result
            decision = decide(strategy, failure, attempt)
            if not decision.should_retry:
                raise failure
            context.wait(max(decision.delay, Duration(1)), name=self._named("backoff", attempt))
            attempt += 1

    def _try(self, context: DurableContext, attempt: int, child: ChildConfig[T]) -> _Done[T] | Exception:
        try:
            result = context.run_in_child_context(
                lambda ctx: self.func(ctx, attempt), name=self._named("attempt", attempt), config=child
            )
        except ChildContextError as error:
            return error.__cause__ if isinstance(error.__cause__, Exception) else error
        return _Done(result)

    def _named(self, word: str, attempt: int) -> str | None:
        return None if self.name is None else f"{self.name}-{word}-{attempt}"


@dataclass(frozen=True)
class _Done(Generic[T]):
    """An attempt returned."""

    result: T


def _default_strategy() -> RetryStrategy:
    scope = running_scope.get()
    default = None if scope is None else scope.settings.default_retry
    return default_strategy_local if default is None else default
