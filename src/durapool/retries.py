"""Whether and when what has failed is tried again: presets, the default, and `with_retry` for a block of operations.

The strategies themselves are in strategies.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from durapool.config import ChildConfig, Duration, JitterStrategy, RetryStrategy
from durapool.exceptions import ChildContextError, DurableOperationError, ValidationError
from durapool.scope import running_scope
from durapool.strategies import LinearRetryStrategyConfig, RetryDecision, RetryStrategyConfig, decide

if TYPE_CHECKING:
    from durapool.context import DurableContext

__all__ = [
    "LinearRetryStrategyConfig",
    "RetryDecision",
    "RetryPresets",
    "RetryStrategyConfig",
    "WithRetryConfig",
    "create_linear_retry_strategy",
    "create_retry_strategy",
    "default_strategy_local",
    "with_retry",
]

T = TypeVar("T")


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
    chosen: WithRetryConfig[T] = WithRetryConfig() if config is None else config
    if not isinstance(chosen, WithRetryConfig):
        raise ValidationError(f"the config of with_retry must be a WithRetryConfig, not {chosen!r:.100}")
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
