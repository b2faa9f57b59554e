"""A handler written for the thread-based SDK finds every module, name and call that it uses under this import root."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

from durapool import DurableContext, StepConfig, durable_execution
from durapool.concurrency import models
from durapool.config import (
    CallbackConfig,
    ChildConfig,
    CompletionConfig,
    Duration,
    JitterStrategy,
    MapConfig,
    NestingType,
    ParallelBranch,
    ParallelConfig,
    StepSemantics,
    WaitForCallbackConfig,
)
from durapool.exceptions import (
    CallbackError,
    DurableExecutionsError,
    DurableOperationError,
    SuspendExecution,
)
from durapool.retries import (
    LinearRetryStrategyConfig,
    RetryDecision,
    RetryPresets,
    RetryStrategyConfig,
    create_linear_retry_strategy,
    create_retry_strategy,
)
from durapool.serdes import EXTENDED_TYPES_SERDES, ExtendedTypeSerDes, SerDes, SerDesContext
from durapool.testing import DurableFunctionTestRunner
from durapool.waits import (
    WaitForConditionConfig,
    WaitForConditionDecision,
    WaitStrategyConfig,
    create_wait_strategy,
)

EXCEPTIONS = (
    "DurableExecutionsError ExecutionError InvocationError ValidationError InvalidStateError "
    "NonDeterministicExecutionError SerDesError DurableOperationError StepError ChildContextError "
    "WaitForConditionError InvokeError CallbackError CallbackExternalError CallbackTimeoutError "
    "CallbackSubmitterError StepInterruptedError SuspendExecution"
)

NAMES = {
    "durapool": (
        "BatchResult DurableContext ParallelBranch StepContext WithRetryConfig durable_execution "
        "durable_parallel_branch durable_step durable_wait_for_callback durable_with_child_context with_retry "
        f"{EXCEPTIONS}"
    ),
    "durapool.config": (
        "CompletionConfig ParallelConfig MapConfig ParallelBranch StepConfig StepSemantics ChildConfig CallbackConfig "
        "WaitForCallbackConfig InvokeConfig Duration JitterStrategy NestingType"
    ),
    "durapool.context": (
        "DurableContext StepContext durable_step durable_with_child_context durable_parallel_branch "
        "durable_wait_for_callback"
    ),
    "durapool.execution": "durable_execution InvocationStatus",
    "durapool.concurrency.models": "BatchItem BatchItemStatus BatchResult CompletionReason",
    "durapool.serdes": ("SerDes SerDesContext JsonSerDes ExtendedTypeSerDes EXTENDED_TYPES_SERDES PassThroughSerDes"),
    "durapool.retries": (
        "RetryDecision RetryStrategyConfig create_retry_strategy LinearRetryStrategyConfig "
        "create_linear_retry_strategy RetryPresets WithRetryConfig with_retry"
    ),
    "durapool.waits": ("WaitForConditionConfig WaitForConditionDecision WaitStrategyConfig create_wait_strategy"),
    "durapool.types": (
        "StepContext WaitForConditionCheckContext WaitForCallbackContext LoggerInterface SummaryGenerator"
    ),
    "durapool.lambda_service": "ErrorObject OperationStatus OperationSubType OperationType OperationPayload",
    "durapool.testing": (
        "DurableFunctionTestRunner DurableFunctionTestResult InvocationStatus OperationType OperationStatus "
        "Operation StepOperation WaitOperation ContextOperation CallbackOperation ExecutionOperation InvokeOperation"
    ),
    "durapool.testing.runner": (
        "DurableFunctionTestRunner DurableFunctionTestResult InvocationStatus OperationType OperationStatus "
        "Operation StepOperation WaitOperation ContextOperation CallbackOperation ExecutionOperation InvokeOperation"
    ),
    "durapool.exceptions": EXCEPTIONS,
}


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in NAMES.items() for name in names.split()]
)
def test_a_module_has_its_names(module, name):
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("module", ["durapool", "durapool.exceptions"])
def test_the_root_gives_the_same_objects_as_their_homes(module):
    for name in EXCEPTIONS.split():
        assert getattr(importlib.import_module(module), name) is getattr(importlib.import_module("durapool"), name)


@pytest.mark.parametrize("module", ["filesystem_serdes", "plugin", "preview"])
def test_what_is_not_supported_says_so_and_what_to_use(module):
    with pytest.raises(ImportError, match="durapool") as caught:
        importlib.import_module(f"durapool.{module}")
    assert isinstance(caught.value, DurableExecutionsError)
    assert len(str(caught.value)) > 40


def test_completion_configs():
    given = CompletionConfig(min_successful=1, tolerated_failure_count=2, tolerated_failure_percentage=3)
    assert (given.min_successful, given.tolerated_failure_count, given.tolerated_failure_percentage) == (1, 2, 3)
    for preset in (CompletionConfig.all_successful, CompletionConfig.all_completed, CompletionConfig.first_successful):
        assert isinstance(preset(), CompletionConfig)


def test_batch_configs_take_their_fields_by_name_and_by_position():
    def summarise(result: Any) -> str:
        return "short"

    serdes = ExtendedTypeSerDes[Any]()
    fields = {
        "max_concurrency": 2,
        "completion_config": CompletionConfig(),
        "serdes": serdes,
        "item_serdes": serdes,
        "summary_generator": summarise,
        "nesting_type": NestingType.FLAT,
    }
    for kind in (ParallelConfig, MapConfig):
        assert {name: getattr(kind(**fields), name) for name in fields} == fields
        assert kind().max_concurrency is None
    assert ParallelConfig(*fields.values()) == ParallelConfig(**fields)
    assert MapConfig(item_namer=lambda item, index: f"{item}-{index}").item_namer("a", 1) == "a-1"


def test_step_configs_take_the_strategy_first():
    strategy = RetryPresets.none()
    config = StepConfig(strategy, StepSemantics.AT_MOST_ONCE_PER_RETRY, EXTENDED_TYPES_SERDES)
    assert config.retry_strategy is strategy
    assert config == StepConfig(
        retry_strategy=strategy,
        step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY,
        serdes=EXTENDED_TYPES_SERDES,
    )


def test_the_other_configs():
    assert ParallelBranch(func=len, name="a").name == "a"
    child = ChildConfig(serdes=None, sub_type="Mine", summary_generator=None, is_virtual=True)
    assert (child.sub_type, child.is_virtual) == ("Mine", True)
    minute = Duration.from_minutes(1)
    for kind in (CallbackConfig, WaitForCallbackConfig):
        assert kind(timeout=minute, heartbeat_timeout=minute, serdes=None).timeout == minute
    assert WaitForCallbackConfig(retry_strategy=RetryPresets.none()).retry_strategy is not None


def test_durations():
    made = [Duration.from_seconds(1), Duration.from_minutes(1), Duration.from_hours(1), Duration.from_days(1)]
    assert [each.to_seconds() for each in made] == [1, 60, 3600, 86400]
    assert {each.name for each in JitterStrategy} == {"NONE", "FULL", "HALF"}
    assert {each.name for each in NestingType} == {"NESTED", "FLAT"}


@pytest.mark.parametrize(
    ("method", "positional", "named"),
    [
        ("step", ["func"], {"name": None, "config": None}),
        ("wait", ["duration"], {"name": None}),
        ("parallel", ["functions"], {"name": None, "config": None}),
        ("map", ["inputs", "func"], {"name": None, "config": None}),
        ("run_in_child_context", ["func"], {"name": None, "config": None}),
        ("wait_for_condition", [], {"check": None, "config": None, "name": None}),
        ("create_callback", [], {"name": None, "config": None}),
        ("wait_for_callback", ["submitter"], {"name": None, "config": None}),
        ("invoke", ["function_name", "payload"], {"name": None, "config": None}),
    ],
)
def test_a_context_takes_the_calls(method, positional, named):
    inspect.signature(getattr(DurableContext, method)).bind(None, *positional, **named)


def test_a_context_tells_of_itself():
    @durable_execution
    def handler(event, context):
        assert callable(context.logger.with_is_replaying(lambda: False).info)
        return context.execution_context.durable_execution_arn

    with DurableFunctionTestRunner(handler=handler) as runner:
        arn = runner.run(timeout=30).result
    assert arn.startswith("arn:")
    assert "test-function-1" in arn


def test_the_models_of_batches_are_built_by_users():
    item = models.BatchItem(index=0, status=models.BatchItemStatus.SUCCEEDED, result=1, error=None)
    result = models.BatchResult(all=[item], completion_reason=models.CompletionReason.ALL_COMPLETED)
    assert result.get_results() == [1]


def test_a_serdes_is_generic_and_subclassed():
    class Upper(SerDes[str]):
        def serialize(self, value: str, context: SerDesContext) -> str:
            return value.upper()

        def deserialize(self, data: str, context: SerDesContext) -> str:
            return data.lower()

    @durable_execution
    def handler(event, context):
        return context.step(lambda _: "text", config=StepConfig(serdes=Upper()))

    with DurableFunctionTestRunner(handler=handler) as runner:
        result = runner.run(timeout=30)
    assert result.result == "text"
    assert result.operations[0].result == "TEXT"


def test_retry_strategies():
    second = Duration.from_seconds(1)
    assert RetryDecision.retry(second).should_retry
    assert not RetryDecision.no_retry().should_retry
    config = RetryStrategyConfig(
        max_attempts=2,
        initial_delay=second,
        max_delay=second,
        backoff_rate=1.0,
        jitter_strategy=JitterStrategy.NONE,
        retryable_errors=["busy"],
        retryable_error_types=[OSError],
    )
    assert create_retry_strategy(config)(OSError(), 1) == RetryDecision.retry(second)
    assert create_linear_retry_strategy(LinearRetryStrategyConfig())(OSError(), 1).should_retry
    for preset in ["none", "default", "transient", "resource_availability", "critical", "linear", "fixed"]:
        assert callable(getattr(RetryPresets, preset)())


def test_wait_strategies():
    config = WaitStrategyConfig(
        should_continue_polling=lambda state: state < 3,
        max_attempts=5,
        initial_delay=Duration(1),
        max_delay=Duration(1),
        backoff_rate=1.0,
        jitter_strategy=JitterStrategy.NONE,
    )
    strategy = create_wait_strategy(config)
    assert strategy(1, 1) == WaitForConditionDecision.continue_waiting(Duration(1))
    assert strategy(3, 1) == WaitForConditionDecision.stop_polling()
    made: WaitForConditionConfig[int] = WaitForConditionConfig[int](
        wait_strategy=strategy, initial_state=0, serdes=None
    )
    assert made.initial_state == 0


def test_the_tree_of_exceptions():
    assert issubclass(SuspendExecution, BaseException)
    assert not issubclass(SuspendExecution, Exception)
    for name in EXCEPTIONS.split():
        kind = getattr(importlib.import_module("durapool.exceptions"), name)
        assert kind is SuspendExecution or issubclass(kind, DurableExecutionsError)
    error = DurableOperationError("what", "KeyError", "data", ["line"])
    assert (error.message, error.error_type, error.data, error.stack_trace) == ("what", "KeyError", "data", ["line"])
    for name in ["StepError", "ChildContextError", "WaitForConditionError", "InvokeError", "CallbackError"]:
        assert issubclass(getattr(importlib.import_module("durapool.exceptions"), name), DurableOperationError)
    for name in ["CallbackExternalError", "CallbackTimeoutError", "CallbackSubmitterError"]:
        assert issubclass(getattr(importlib.import_module("durapool.exceptions"), name), CallbackError)
