"""Handlers that run under durapool and, with the import root changed and nothing else, under AWS's own SDK.

`durapool.NAME` and `sdk.NAME` are the same source. `event["folder"]` is where they leave notes.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterable
from importlib import import_module
from multiprocessing import shared_memory
from types import SimpleNamespace
from typing import Any

import boto3

MEGABYTE = 1 << 20


def note(event: dict[str, Any], line: str) -> int:
    """Add a line to the notes of a test, and say how many there are that are the same: one write, lines never mix."""
    path = os.path.join(event["folder"], "notes")
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, f"{line}\n".encode())
    finally:
        os.close(handle)
    with open(path, encoding="utf-8") as notes:
        return notes.read().splitlines().count(line)


def until_called_again(event: dict[str, Any]) -> int:
    """Go on until another call of this has begun; that one returns at once."""
    calls = note(event, "long")
    while calls < 2:
        time.sleep(0.01)
        with open(os.path.join(event["folder"], "notes"), encoding="utf-8") as notes:
            calls = notes.read().splitlines().count("long")
    return calls


def missing() -> list[str]:
    """What a process does not find here."""
    found = []
    try:
        multiprocessing.get_context("spawn").Lock()
    except OSError as error:
        found.append(f"semaphores: errno {error.errno}")
    try:
        shared_memory.SharedMemory(create=True, size=1 << 20)
    except OSError:
        found.append("shared memory")
    return found


def messages(errors: Iterable[Any]) -> list[str]:
    """What errors say. Of which type a step's error is in a branch's, the two packages see differently."""
    return [str(error.message) for error in errors]


def define(root: str) -> SimpleNamespace:  # a list of handlers
    """All handlers, made with the package `root`."""
    package, config = import_module(root), import_module(f"{root}.config")
    exceptions, retries, waits = (import_module(f"{root}.{name}") for name in ("exceptions", "retries", "waits"))
    durable_execution, seconds = package.durable_execution, config.Duration.from_seconds
    tolerant = config.ParallelConfig(completion_config=config.CompletionConfig.all_completed())
    once = config.StepConfig(retry_strategy=retries.RetryPresets.none())

    def thrice(error: Exception, attempts: int) -> Any:
        return retries.RetryDecision.retry(seconds(7)) if attempts < 3 else retries.RetryDecision.no_retry()

    @durable_execution
    def squares(event, context):
        def square(ctx, item, index, inputs):
            root = ctx.step(lambda _: item, name="root")
            return ctx.step(lambda _: root * item, name="square")

        result = context.map(range(event["count"]), square, name="squares")
        result.throw_if_error()
        return sum(result.get_results())

    @durable_execution
    def waiting(event, context):
        first = context.step(lambda _: note(event, "before"), name="before")
        context.wait(seconds(300), name="pause")
        return first + context.step(lambda _: note(event, "after"), name="after")

    @durable_execution
    def waiting_branches(event, context):
        def branch(ctx, item, index, inputs):
            ctx.step(lambda _: note(event, f"before {item}"), name="before")
            if item % 2:
                ctx.wait(seconds(item), name="pause")
            return ctx.step(lambda _: note(event, f"after {item}"), name="after")

        return context.map(range(4), branch, name="all").get_results()

    @durable_execution
    def deep_waits(event, context):
        def inner(ctx, item, index, inputs):
            ctx.step(lambda _: note(event, f"step {item}"), name="step")
            ctx.wait(seconds(5), name="pause")
            return item

        def outer(ctx, item, index, inputs):
            return ctx.map([item, item + 1], inner, name="inner").get_results()

        return context.map([10, 20], outer, name="outer").get_results()

    @durable_execution
    def callback(event, context):
        created = context.create_callback(name="approval")
        context.step(lambda _: note(event, created.callback_id), name="publish")
        try:
            return ["answered", created.result()]
        except exceptions.CallbackError as error:
            return ["refused", type(error).__name__, str(error)]

    @durable_execution
    def callback_branches(event, context):
        def approval(ctx, item, index, inputs):
            return ctx.wait_for_callback(lambda callback_id, _: note(event, f"{item} {callback_id}"), name="approval")

        result = context.map(["a", "b"], approval, name="all")
        return [result.success_count, result.failure_count, sorted(result.get_results())]

    @durable_execution
    def flaky(event, context):
        def attempt(step):
            if note(event, "attempt") < 3:
                raise OSError("not yet")
            return "third time"

        return context.step(attempt, name="flaky", config=config.StepConfig(retry_strategy=thrice))

    @durable_execution
    def flaky_branches(event, context):
        def branch(ctx, item, index, inputs):
            def attempt(step):
                if note(event, f"attempt {item}") < item:
                    raise OSError("not yet")
                return item

            ctx.step(lambda _: note(event, f"before {item}"), name="before")
            return ctx.step(attempt, name="flaky", config=config.StepConfig(retry_strategy=thrice))

        result = context.map([1, 2, 3, 4], branch, name="all", config=config.MapConfig(
            completion_config=config.CompletionConfig.all_completed()
        ))  # fmt: skip
        return [result.get_results(), messages(result.get_errors())]

    @durable_execution
    def failures(event, context):
        def good(ctx):
            return ctx.step(lambda _: "good", name="good")

        def bad(ctx):
            return ctx.step(lambda _: int("none"), name="bad", config=once)

        def raises(ctx):
            raise KeyError("in a branch")

        result = context.parallel([good, bad, raises], name="all", config=tolerant)
        status, reason = result.status.value, result.completion_reason.value
        return [status, reason, result.get_results(), messages(result.get_errors())]

    @durable_execution
    def fails(event, context):
        context.step(lambda _: "done", name="first")
        raise ValueError("the handler failed")

    @durable_execution
    def first_of(event, context):
        def quick(ctx):
            return ctx.step(lambda _: "quick", name="quick")

        def never(ctx):
            return ctx.create_callback(name="nobody answers").result()

        first = config.ParallelConfig(completion_config=config.CompletionConfig.first_successful())
        result = context.parallel([quick, never], name="race", config=first)
        return [result.completion_reason.value, result.get_results(), result.started_count <= 1]

    @durable_execution
    def children(event, context):
        def child(ctx):
            return ctx.step(lambda _: 20, name="inner") + ctx.run_in_child_context(grandchild, name="grandchild")

        def grandchild(ctx):
            ctx.wait(seconds(3), name="pause")
            return ctx.step(lambda _: 22, name="innermost")

        return context.run_in_child_context(child, name="child")

    @durable_execution
    def flat(event, context):
        def branch(ctx, item, index, inputs):
            ctx.step(lambda _: note(event, f"step {item}"), name="step")
            ctx.wait(seconds(3), name="pause")
            return item

        return context.map(
            range(3), branch, name="all", config=config.MapConfig(nesting_type=config.NestingType.FLAT)
        ).get_results()

    @durable_execution
    def condition(event, context):
        def check(state, ctx):
            return state + 1

        def strategy(state, attempt):
            decision = waits.WaitForConditionDecision
            return decision.stop_polling() if state >= 3 else decision.continue_waiting(seconds(30))

        polled = waits.WaitForConditionConfig(wait_strategy=strategy, initial_state=0)
        return context.wait_for_condition(check, polled, name="poll")

    @durable_execution
    def invoking(event, context):
        found = context.invoke(event["target"], event.get("payload"), name="call")
        return {"found": found, "after": context.step(lambda _: note(event, "after"), name="after")}

    @durable_execution
    def invoking_branches(event, context):
        def branch(ctx, item, index, inputs):
            ctx.step(lambda _: note(event, f"before {item}"), name="before")
            return ctx.invoke(event["target"], item, name="call")

        return context.map([1, 2, 3], branch, name="all").get_results()

    @durable_execution
    def double(event, context):
        context.wait(seconds(2), name="pause")
        return context.step(lambda _: 2 * event, name="double")

    @durable_execution
    def large_step(event, context):
        size = len(context.step(lambda _: "s" * (MEGABYTE // 2), name="large"))
        context.wait(seconds(1), name="pause")
        return size

    @durable_execution
    def large_branches(event, context):
        def branch(ctx, item, index, inputs):
            note(event, f"branch {item}")
            part = ctx.step(lambda _: [note(event, f"step {item}"), "x" * 100_000], name="part")[1]
            return part * 4

        result = context.map(range(3), branch, name="large")
        context.wait(seconds(1), name="pause")
        return [len(value) for value in result.get_results()]

    @durable_execution
    def large_result(event, context):
        return "r" * (7 * MEGABYTE)

    @durable_execution
    def many(event, context):
        def branch(ctx, item, index, inputs):
            for number in range(event["steps"]):
                name = f"{item}.{number}"
                ctx.step(lambda _, name=name: note(event, name), name=name)
            return item

        context.step(lambda _: note(event, "first"), name="first")
        result = context.map(range(event["branches"]), branch, name="all")
        result.throw_if_error()
        context.wait(seconds(1), name="pause")
        context.step(lambda _: note(event, "last"), name="last")
        return sum(result.get_results())

    @durable_execution
    def long_history(event, context):
        steps = [context.step(lambda _, n=n: note(event, f"{n}"), name=f"{n}") for n in range(event["steps"])]
        context.wait(seconds(1), name="pause")
        batch = context.map(range(3), lambda ctx, item, index, inputs: ctx.step(lambda _: note(event, f"of {item}")))
        return [sum(steps), sum(batch.get_results())]

    @durable_execution
    def overtime(event, context):
        def branch(ctx, item, index, inputs):
            ctx.step(lambda _: note(event, f"short {item}"), name=f"short {item}")
            if item == 1:
                ctx.step(lambda _: until_called_again(event), name="long")
            return item

        return context.map(range(3), branch, name="all").get_results()

    @durable_execution
    def foreign_type(event, context):
        return len(context.step(lambda _: {1, 2}, name="a set", config=once))

    @durable_execution
    def container(event, context):
        def branch(ctx, item, index, inputs):
            large = ctx.step(lambda _: "x" * 200_000, name="large")
            return [missing(), len(large), ctx.map(range(3), lambda ctx, item, index, inputs: item).get_results()]

        return [missing(), context.map(range(3), branch).get_results()]

    client, calls = boto3.client("lambda"), list[str]()
    client.meta.events.register("before-call.lambda", lambda model, **_: calls.append(model.name))

    @durable_execution(boto3_client=client)
    def own_client(event, context):
        context.step(lambda _: 1, name="step")
        return sorted(set(calls))

    return SimpleNamespace(**{name: value for name, value in locals().items() if callable(value)})


def __getattr__(name: str) -> SimpleNamespace:
    """`durapool` and `sdk`, made when they are asked for: the other package need not be there."""
    roots = {"durapool": "durapool", "sdk": "aws_durable_execution_sdk_python"}
    if name not in roots:
        raise AttributeError(name)
    globals()[name] = define(roots[name])
    return globals()[name]
