"""Mistakes that mypy --strict must find in a user's module: each line that is wrong says so."""

from __future__ import annotations

from collections.abc import Sequence

from durapool import DurableContext, MapConfig, ProcessExecutor, StepContext, durable_execution, durable_step


@durable_step
def measure(step: StepContext, path: str) -> int:
    return len(path)


def wrong_item(ctx: DurableContext, path: str, index: int, inputs: Sequence[str]) -> int:
    return len(path)


@durable_execution
def handler(event: None, context: DurableContext) -> None:
    text: str = context.step(lambda _: 1)  # wrong
    context.step(measure(1))  # wrong
    context.map([1, 2], wrong_item)  # wrong
    context.wait(5)  # wrong
    MapConfig(executor=8)  # wrong
    ProcessExecutor(workers="8")  # wrong
    print(text)
