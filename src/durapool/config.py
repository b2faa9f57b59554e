"""What users configure: frozen, checked when made, shared freely between threads."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from durapool.duration import Duration as Duration  # users find it here
from durapool.exceptions import ValidationError
from durapool.values import dataclass, field

if TYPE_CHECKING:
    from durapool.executors import ExecutorSpec
    from durapool.retries import RetryDecision
    from durapool.serdes import SerDes
    from durapool.types import SummaryGenerator

T = TypeVar("T")
P = TypeVar("P")
R = TypeVar("R")

RetryStrategy = Callable[[Exception, int], "RetryDecision"]
"""Called with the error and the number of attempts made so far (from 1)."""


class JitterStrategy(StrEnum):
    """How a delay is spread, so that many retries do not fall on the same moment.

    NONE keeps the delay, FULL draws from 0 to it, HALF from half of it to it.

    Example:
        >>> JitterStrategy.NONE.apply(12.3)
        12
    """

    NONE = "NONE"
    FULL = "FULL"
    HALF = "HALF"

    def apply(self, delay: float) -> int:
        """The delay (seconds) with jitter, in whole seconds, at least 1."""
        import random  # only here: handlers that meet no failure need no jitter

        match self:
            case JitterStrategy.NONE:
                spread = delay
            case JitterStrategy.FULL:
                spread = random.uniform(0, delay)
            case JitterStrategy.HALF:
                spread = random.uniform(delay / 2, delay)
        return max(1, round(spread))


class NestingType(Enum):
    """Whether each branch of a batch gets a context operation of its own (NESTED) or none (FLAT)."""

    NESTED = "NESTED"
    FLAT = "FLAT"


class StepSemantics(Enum):
    """What happens to a step that had started when the program died.

    AT_LEAST_ONCE_PER_RETRY runs it again. AT_MOST_ONCE_PER_RETRY never runs one attempt twice: the attempt counts as
    failed with StepInterruptedError, and the retry strategy decides.
    """

    AT_LEAST_ONCE_PER_RETRY = "AT_LEAST_ONCE_PER_RETRY"
    AT_MOST_ONCE_PER_RETRY = "AT_MOST_ONCE_PER_RETRY"


@dataclass(frozen=True)
class CompletionConfig:
    """When a batch is complete.

    With no criterion at all any failure completes it. Otherwise failures are tolerated up to the smaller of the
    count and the percentage, and `min_successful` successes complete it early.

    Args:
        min_successful: complete after so many successes (at least 1, not above the number of branches).
        tolerated_failure_count: complete as failed above so many failures.
        tolerated_failure_percentage: complete as failed above this share of all branches, 0 to 100.

    Raises:
        ValidationError: a value out of range.

    Example:
        >>> config = CompletionConfig(min_successful=2, tolerated_failure_count=1)
        >>> context.parallel([first, second, first], config=ParallelConfig(completion_config=config)).success_count
        2
    """

    min_successful: int | None = None
    tolerated_failure_count: int | None = None
    tolerated_failure_percentage: float | None = None

    def __post_init__(self) -> None:
        _check_whole("min_successful", self.min_successful, lowest=1)
        _check_whole("tolerated_failure_count", self.tolerated_failure_count, lowest=0)
        percentage = self.tolerated_failure_percentage
        if percentage is None:
            return
        if isinstance(percentage, bool) or not isinstance(percentage, (int, float)):
            raise ValidationError(f"tolerated_failure_percentage must be a number, not {percentage!r}")
        if not 0 <= percentage <= 100:
            raise ValidationError(f"tolerated_failure_percentage must be from 0 to 100, not {percentage}")

    @staticmethod
    def all_successful() -> CompletionConfig:
        """Every branch must succeed: the first failure completes the batch."""
        return CompletionConfig(tolerated_failure_count=0, tolerated_failure_percentage=0)

    @staticmethod
    def first_successful() -> CompletionConfig:
        """The first success completes the batch; failures are ignored until then."""
        return CompletionConfig(min_successful=1)

    @staticmethod
    def all_completed() -> CompletionConfig:
        """All branches run to their end, whatever happens."""
        return CompletionConfig(tolerated_failure_percentage=100)


def _check_whole(name: str, value: int | None, lowest: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValidationError(f"{name} must be a whole number, not {value!r}")
    if value < lowest:
        raise ValidationError(f"{name} must be at least {lowest}, not {value}")


@dataclass(frozen=True, init=False, repr=False, eq=False)
class _BatchConfig:
    """The fields that parallel and map share."""

    max_concurrency: int | None = None
    completion_config: CompletionConfig = field(default_factory=CompletionConfig)
    serdes: SerDes[Any] | None = None
    item_serdes: SerDes[Any] | None = None
    summary_generator: SummaryGenerator[Any] | None = None
    nesting_type: NestingType = NestingType.NESTED

    def __post_init__(self) -> None:
        _check_whole("max_concurrency", self.max_concurrency, lowest=1)
        if not isinstance(self.completion_config, CompletionConfig):
            raise ValidationError(f"completion_config must be a CompletionConfig, not {self.completion_config!r}")
        if not isinstance(self.nesting_type, NestingType):
            raise ValidationError(f"nesting_type must be a NestingType, not {self.nesting_type!r}")


@dataclass(frozen=True)
class ParallelConfig(_BatchConfig):
    """How a `parallel` runs.

    Args:
        max_concurrency: at most so many branches in flight; None for no limit of the batch's own.
        completion_config: when the batch is complete; by default any failure completes it.
        serdes: for the whole BatchResult.
        item_serdes: for the result of each branch.
        summary_generator: makes the text recorded in place of a result that is too large for the store.
        nesting_type: FLAT leaves out the context operation of each branch.
        executor: where branches run: "thread", "process", "process:8", or an executor object.

    Raises:
        ValidationError: a value out of range.

    Example:
        >>> context.parallel([first, second], config=ParallelConfig(max_concurrency=1)).get_results()
        ['first', 'second']
    """

    completion_config: CompletionConfig = field(default_factory=CompletionConfig.all_successful)
    executor: ExecutorSpec | None = None


@dataclass(frozen=True)
class MapConfig(_BatchConfig, Generic[T]):
    """How a `map` runs.

    Args:
        max_concurrency: at most so many branches in flight; None for no limit of the batch's own.
        completion_config: when the batch is complete; by default any failure completes it.
        serdes: for the whole BatchResult.
        item_serdes: for the result of each branch.
        summary_generator: makes the text recorded in place of a result that is too large for the store.
        nesting_type: FLAT leaves out the context operation of each branch.
        item_namer: called with each item and its index, names its branch; ``map-item-{i}`` when None.
        executor: where branches run: "thread", "process", "process:8", or an executor object.

    Raises:
        ValidationError: a value out of range.

    Example:
        >>> config = MapConfig(item_namer=lambda file, index: f"parse-{file}")
        >>> context.map(["a", "b"], lambda ctx, file, index, inputs: file.upper(), config=config).get_results()
        ['A', 'B']
    """

    item_namer: Callable[[T, int], str] | None = None
    executor: ExecutorSpec | None = None


@dataclass(frozen=True)
class ParallelBranch(Generic[T]):
    """A branch of a `parallel` with a name.

    Args:
        func: called with the branch's DurableContext.
        name: shown in history and errors; ``parallel-branch-{i}`` when None.

    Raises:
        ValidationError: a name that is no text.

    Example:
        >>> context.parallel([ParallelBranch(first, name="one"), ParallelBranch(second, name="two")]).success_count
        2
    """

    func: Callable[..., T]
    name: str | None = None

    def __post_init__(self) -> None:
        if self.name is not None and not isinstance(self.name, str):
            raise ValidationError(f"the name of a branch must be text, not {self.name!r:.100}")

    def __call__(self, *args: Any, **kwargs: Any) -> T:
        return self.func(*args, **kwargs)


@dataclass(frozen=True)
class StepConfig:
    """How a step runs.

    Args:
        retry_strategy: decides after each failed attempt; None for the handler's default.
        step_semantics: what happens to an attempt that was interrupted.
        serdes: for the result.

    Raises:
        ValidationError: not a strategy, or not one of the semantics.

    Example:
        >>> context.step(lambda _: pay(), config=StepConfig(step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY))
        'paid'
    """

    retry_strategy: RetryStrategy | None = None
    step_semantics: StepSemantics = StepSemantics.AT_LEAST_ONCE_PER_RETRY
    serdes: SerDes[Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.step_semantics, StepSemantics):
            raise ValidationError(f"step_semantics must be a StepSemantics, not {self.step_semantics!r}")
        if self.retry_strategy is not None and not callable(self.retry_strategy):
            raise ValidationError(f"retry_strategy must be callable, not {self.retry_strategy!r}")


@dataclass(frozen=True)
class ChildConfig(Generic[T]):
    """How a child context runs.

    Args:
        serdes: for the result.
        sub_type: the sub-type recorded; RunInChildContext when None.
        summary_generator: makes the text recorded in place of a result that is too large for the store.
        is_virtual: record no operation for the context itself; its operations hang under the parent.

    Example:
        >>> context.run_in_child_context(first, config=ChildConfig(is_virtual=True))
        'first'
    """

    serdes: SerDes[Any] | None = None
    sub_type: str | None = None
    summary_generator: SummaryGenerator[T] | None = None
    is_virtual: bool = False


@dataclass(frozen=True)
class CallbackConfig:
    """How long a callback may take. A Duration of 0 means no limit.

    Args:
        timeout: from its creation.
        heartbeat_timeout: between two heartbeats.
        serdes: reads the result that the outside world sent; text is handed over as it is by default.

    Raises:
        ValidationError: a limit that is not a Duration.

    Example:
        >>> config = CallbackConfig(timeout=Duration.from_days(2), heartbeat_timeout=Duration.from_hours(1))
        >>> callback = context.create_callback("approval", config)
    """

    timeout: Duration = field(default_factory=Duration)
    heartbeat_timeout: Duration = field(default_factory=Duration)
    serdes: SerDes[Any] | None = None

    def __post_init__(self) -> None:
        for name in ("timeout", "heartbeat_timeout"):
            if not isinstance(getattr(self, name), Duration):
                raise ValidationError(f"{name} must be a Duration, not {getattr(self, name)!r}")


@dataclass(frozen=True)
class WaitForCallbackConfig(CallbackConfig):
    """How long the callback of a `wait_for_callback` may take, and how its submitter is tried again.

    Args:
        timeout: from its creation.
        heartbeat_timeout: between two heartbeats.
        serdes: reads the result that the outside world sent; text is handed over as it is by default.
        retry_strategy: of the submitter; None for the handler's default.

    Raises:
        ValidationError: a limit that is not a Duration.

    Example:
        >>> config = WaitForCallbackConfig(timeout=Duration.from_hours(1))
        >>> context.wait_for_callback(lambda callback_id, _: send_mail(callback_id), config=config)
        'approved'
    """

    retry_strategy: RetryStrategy | None = None


@dataclass(frozen=True)
class InvokeConfig(Generic[P, R]):
    """How another function is invoked.

    Args:
        serdes_payload: for what goes out.
        serdes_result: for what comes back.
        tenant_id: whose function it is.

    Example:
        >>> InvokeConfig(serdes_payload=JsonSerDes()).tenant_id is None
        True
    """

    serdes_payload: SerDes[P] | None = None
    serdes_result: SerDes[R] | None = None
    tenant_id: str | None = None
