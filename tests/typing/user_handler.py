"""A user's module with types everywhere: mypy --strict accepts it, and knows the types of what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type

from durapool import (
    BatchItem,
    BatchResult,
    CompletionConfig,
    DurableContext,
    DurableHandler,
    Duration,
    ErrorObject,
    MapConfig,
    ParallelBranch,
    ParallelConfig,
    ProcessExecutor,
    RetryPresets,
    StepConfig,
    StepContext,
    durable_execution,
    durable_step,
    durable_with_child_context,
)


@durable_step
def measure(step: StepContext, path: str) -> int:
    step.logger.info("attempt %d at %s", step.attempt, path)
    return len(path)


@durable_with_child_context
def describe(context: DurableContext, path: str) -> tuple[str, int]:
    return path, context.step(measure(path), config=StepConfig(RetryPresets.transient()))


def one(ctx: DurableContext) -> int:
    return ctx.step(lambda _: 1, name="one")


@durable_execution(executor="process")
def handler(event: dict[str, list[str]], context: DurableContext) -> dict[str, int]:
    def size(ctx: DurableContext, path: str, index: int, inputs: Sequence[str]) -> int:
        return ctx.step(measure(path), name=f"measure-{index}")

    config = MapConfig[str](
        completion_config=CompletionConfig(tolerated_failure_percentage=5),
        item_namer=lambda path, index: f"{index}-{path}",
        executor=ProcessExecutor(workers=2, timeout=60, memory_limit="2GiB"),
    )
    sizes = context.map(event["paths"], size, name="sizes", config=config)
    assert_type(sizes, BatchResult[int])
    assert_type(sizes.get_results(), list[int])
    assert_type(sizes.failed(), list[BatchItem[int]])
    assert_type(sizes.get_errors(), list[ErrorObject])

    both = context.parallel([ParallelBranch(describe(path), name=path) for path in event["paths"]])
    assert_type(both.successful_results, list[tuple[str, int]])
    first = context.parallel([one, one], config=ParallelConfig(max_concurrency=1))
    assert_type(first.all[0].result, int | None)
    context.wait(Duration.from_seconds(1))
    return dict(both.get_results())


assert_type(handler, DurableHandler)
