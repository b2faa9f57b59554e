"""Runs a program of the torture test as a durable handler.

The name of every operation is its place in the program, so that what the step bodies note, what is recorded and what
the program says can be told of one another. Workers import this module.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torture_nodes import Answer, Asked, Batch, Body, Callback, Child, Node, Poll, Raise, Retried, Step, Try, Wait

from durapool import BatchResult, DurableContext, Duration, MapConfig, NestingType, ParallelBranch, ParallelConfig
from durapool.config import (
    CallbackConfig,
    ChildConfig,
    JitterStrategy,
    StepConfig,
    StepSemantics,
    WaitForCallbackConfig,
)
from durapool.retries import RetryStrategyConfig, WithRetryConfig, with_retry
from durapool.types import StepContext, WaitForConditionCheckContext
from durapool.waits import WaitForConditionConfig, WaitStrategyConfig

MOST_KILLS = 6
CALLBACK_TIMEOUT = 3600  # seconds; the clock is set forward to it when nobody answers


class Effect(NamedTuple):
    """One run of a step's body: where in the program, and which attempt."""

    place: str
    attempt: int


class EffectLog(Protocol):
    """Where the bodies of steps note that they ran."""

    def note(self, effect: Effect) -> None: ...

    def read(self) -> list[Effect]: ...


class MemoryLog:
    """Effects of threads."""

    def __init__(self) -> None:
        self._effects: list[Effect] = []

    def note(self, effect: Effect) -> None:
        self._effects.append(effect)

    def read(self) -> list[Effect]:
        return list(self._effects)


class FileLog:
    """Effects of processes: one write for each, so that lines never mix."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, effect: Effect) -> None:
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, f"{effect.place} {effect.attempt}\n".encode())
        finally:
            os.close(handle)

    def read(self) -> list[Effect]:
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return [Effect(place, int(attempt)) for place, _, attempt in (line.rpartition(" ") for line in lines)]


def run_body(context: DurableContext, body: Body, place: str, log: EffectLog) -> list[Any]:
    """The results of the nodes."""
    return [run_node(context, node, f"{place}.{position}", log) for position, node in enumerate(body)]


def run_node(context: DurableContext, node: Node, place: str, log: EffectLog) -> Any:
    """The result of one node; raises what it fails with."""
    match node:
        case Step():
            return _step(context, node, place, log)
        case Wait(seconds):
            return context.wait(Duration(seconds), name=place)
        case Poll():
            return _poll(context, node, place, log)
        case Raise():
            raise LookupError(f"raised at {place}")
        case Try(body):
            try:
                return run_body(context, body, place, log)
            except Exception as error:
                return ["handled", *_described(error)]
        case Child(body, virtual):
            return context.run_in_child_context(
                lambda child: [child.seed, run_body(child, body, place, log)],
                name=place,
                config=ChildConfig(is_virtual=virtual),
            )
        case Retried():
            return _retried(context, node, place, log)
        case Callback():
            return _callback(context, node, place, log)
        case Asked(answer):
            name = _name_of(place, answer)
            return context.wait_for_callback(
                lambda callback_id, _: log.note(Effect(f"{name} submitter", 1)),
                name=name,
                config=WaitForCallbackConfig(timeout=_timeout_of(answer)),
            )
        case Batch():
            return _outcomes(_batch(context, node, place, log), node.throws)


def answer_to(name: str) -> Answer:
    """What the outside world says to the callback of this name."""
    return Answer(name.split()[0].rpartition("-")[2])


def _name_of(place: str, answer: Answer) -> str:
    return f"{place}-{answer.value}"


def _timeout_of(answer: Answer) -> Duration:
    return Duration(CALLBACK_TIMEOUT if answer is Answer.NEVER else 0)


def _described(error: BaseException) -> list[str]:
    """An error and its chain of causes: the same for who sees it first and for every replay."""
    found = []
    cause: BaseException | None = error
    while cause is not None:
        found.append(f"{type(cause).__name__}: {cause}")
        cause = cause.__cause__
    return found


def _step(context: DurableContext, node: Step, place: str, log: EffectLog) -> Any:
    def body(step: StepContext) -> Any:
        log.note(Effect(place, step.attempt))
        if node.gives_up or step.attempt <= node.failures:
            raise ValueError(f"attempt {step.attempt} at {place}")
        return [place, None if node.at_most_once else step.attempt, node.value]

    attempts = node.failures if node.gives_up else node.failures + 1
    semantics = StepSemantics.AT_LEAST_ONCE_PER_RETRY
    if node.at_most_once:
        semantics = StepSemantics.AT_MOST_ONCE_PER_RETRY
        attempts += MOST_KILLS
    return context.step(body, name=place, config=StepConfig(_strategy(attempts), semantics))


def _strategy(attempts: int) -> RetryStrategyConfig:
    return RetryStrategyConfig(max_attempts=attempts, initial_delay=Duration(2), jitter_strategy=JitterStrategy.NONE)


def _poll(context: DurableContext, node: Poll, place: str, log: EffectLog) -> Any:
    def check(state: list[int], condition: WaitForConditionCheckContext) -> list[int]:
        log.note(Effect(place, condition.attempt))
        return [*state, condition.attempt]

    strategy = WaitStrategyConfig(
        should_continue_polling=lambda state: node.gives_up or len(state) < node.checks,
        max_attempts=node.checks,
        jitter_strategy=JitterStrategy.NONE,
    )
    return context.wait_for_condition(check, WaitForConditionConfig(strategy, []), name=place)


def _retried(context: DurableContext, node: Retried, place: str, log: EffectLog) -> Any:
    def block(inner: DurableContext, attempt: int) -> Any:
        result = run_body(inner, node.body, f"{place}.attempt{attempt}", log)
        if attempt <= node.failures:
            raise LookupError(f"attempt {attempt} at {place}")
        return [attempt, result]

    config = WithRetryConfig(_strategy(node.failures + 1), wrap_with_run_in_child_context=node.wrapped)
    return with_retry(context, block, config, name=place)


def _callback(context: DurableContext, node: Callback, place: str, log: EffectLog) -> Any:
    name = _name_of(place, node.answer)
    callback = context.create_callback(name=name, config=CallbackConfig(timeout=_timeout_of(node.answer)))
    meanwhile = run_node(context, Try(node.meanwhile), f"{place}.meanwhile", log)
    return [meanwhile, callback.result()]


def _batch(context: DurableContext, node: Batch, place: str, log: EffectLog) -> BatchResult[Any]:
    nesting = NestingType.FLAT if node.flat else NestingType.NESTED
    common = (node.max_concurrency, node.completion.value)
    if node.is_map:

        def each(child: DurableContext, item: Body, index: int, inputs: Sequence[Body]) -> Any:
            return [len(inputs), run_body(child, item, f"{place}[{index}]", log)]

        namer = lambda _, index: f"{place}[{index}]"  # noqa: E731
        map_config = MapConfig[Body](*common, nesting_type=nesting, item_namer=namer)
        return context.map(node.branches, each, name=place, config=map_config)

    def branch(index: int, body: Body) -> ParallelBranch[Any]:
        inner = f"{place}[{index}]"
        return ParallelBranch(lambda child: [child.seed, run_body(child, body, inner, log)], inner)

    branches = [branch(index, body) for index, body in enumerate(node.branches)]
    return context.parallel(branches, name=place, config=ParallelConfig(*common, nesting_type=nesting))


def _outcomes(result: BatchResult[Any], throws: bool) -> Any:
    if throws:
        result.throw_if_error()
    items = [
        [item.index, item.status.value, item.result, item.error and [item.error.type, item.error.message]]
        for item in result.all
    ]
    return [result.completion_reason.value, result.submitted_count, items]
