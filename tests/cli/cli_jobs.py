"""The handlers that the tests of the command line run, copied into their working directory as jobs.py."""

import logging
import os
import time
from datetime import date
from pathlib import Path

from durapool import durable_execution
from durapool.config import CallbackConfig, CompletionConfig, Duration, ParallelConfig, StepConfig
from durapool.retries import RetryPresets

NO_RETRY = StepConfig(retry_strategy=RetryPresets.none())


@durable_execution
def echo(event, context):
    return context.step(lambda step: event, name="echo")


@durable_execution
def not_json(event, context):
    return {"day": context.step(lambda step: date(2024, 2, 29), name="day"), (1, 2): float("nan"), "set": {7}}


def explode(step):
    if not Path("fixed").exists():
        raise ValueError("boom [red]not markup[/red]")
    return "mended"


@durable_execution
def fails(event, context):
    with open("first.log", "a") as log:
        context.step(lambda step: log.write("x"), name="first")
    return context.step(explode, name="explode", config=NO_RETRY)


@durable_execution
def retries(event, context):
    return context.step(always_down, name="down")


def always_down(step):
    raise OSError("still down")


@durable_execution
def batch(event, context):
    def branch(index):
        def work(ctx):
            if index == 7:
                ctx.step(explode, name="explode", config=NO_RETRY)
            return ctx.step(lambda step: index, name=f"step-{index}")

        return work

    config = ParallelConfig(completion_config=CompletionConfig.all_completed())
    context.parallel([branch(index) for index in range(event)], name="many", config=config)
    return "done"


@durable_execution
def waits_for_approval(event, context):
    callback = context.create_callback(name="approval", config=CallbackConfig())
    return callback.result()


@durable_execution
def slow(event, context):
    context.step(lambda step: "kept", name="kept")
    context.step(linger, name="linger")
    return "woken"


def linger(step):
    Path("lingering").touch()
    while not Path("go").exists():
        time.sleep(0.01)


@durable_execution
def sleeps(event, context):
    def branch(ctx, item, index, inputs):
        ctx.step(lambda step: note(f"before {item}"), name="before")
        ctx.wait(Duration.from_seconds(event), name="sleep")
        return ctx.step(lambda step: note(f"after {item}") and item, name="after")

    return context.map([1, 2], branch).get_results()


def note(line):
    with open("sleeps.log", "a") as log:
        return log.write(f"{line}\n")


@durable_execution
def waits_on_workers(event, context):
    def branch(ctx):
        Path(f"worker-{os.getpid()}").touch()
        while not Path("go").exists():
            time.sleep(0.01)

    context.parallel([branch, branch])


@durable_execution
def waits_in_branches(event, context):
    def branch(ctx, item, index, inputs):
        Path(f"branch-{index}").touch()
        while not Path("go").exists():
            time.sleep(0.01)
        return ctx.step(lambda step: 1, name="one")

    result = context.map([0, 1], branch, name="waiting")
    return sum(result.get_results())


@durable_execution
def talks_in_branches(event, context):
    def branch(ctx, item, index, inputs):
        print(f"print of branch {index}", flush=True)
        logging.getLogger("talks").warning("log of branch %d", index)
        Path(f"talking-{index}").touch()
        while not Path("go").exists():
            time.sleep(0.01)
        return ctx.step(lambda step: 1, name="one")

    return sum(context.map([0, 1], branch, name="talking").get_results())


not_a_handler = 3


def plain(event, context):
    return event
