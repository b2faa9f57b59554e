"""CPU-bound branches as a Lambda function: durapool's processes against AWS's own SDK, whose branches are threads.

The same local service of AWS's, the same work, an environment of each kind that is warm. What counts is the wall time
from starting the execution to its recorded result. A bare fork and bare threads, in the same rounds, say what the
machine gives two processes at this moment. Then how many calls of the service a batch costs, for which the
service bills and which take a round trip each.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from durapool import DurableContext, durable_execution
from perf.benchmarks.cpu import burn, loops_of, raw_fork, raw_threads
from perf.durable_peers import AWS_SDK
from perf.harness import ROOT, Contender, measure, timed
from perf.local_lambda.endpoint import Function
from perf.local_lambda.local import MODULE, LocalLambda
from perf.peer import WORKERS
from perf.report import Figure, Report

TARGET = 0.6
ROUNDS = 5
PROCESS, THREAD, ASYNC = "durapool process", "durapool thread", "durapool process, async"
EXECUTOR, CHECKPOINT = "DURAPOOL_EXECUTOR", "DURAPOOL_CHECKPOINT"


@dataclass(frozen=True)
class Sizes:
    """How much is done in one run, and the batch whose calls are counted."""

    branches: int
    seconds: float  # a branch alone on an idle CPU
    counted: tuple[int, int]  # branches, and steps in each


FULL = Sizes(branches=16, seconds=0.25, counted=(100, 5))
QUICK = Sizes(branches=4, seconds=0.01, counted=(4, 2))


@durable_execution
def small_steps(event: dict[str, int], context: DurableContext) -> int:
    """Branches of steps that do nothing: what is counted is what is recorded."""
    return count_steps(event, context)


def count_steps(event: dict[str, int], context: Any) -> int:
    """The number of steps, each of which was run."""

    def branch(ctx: Any, _item: int, _index: int, _inputs: Sequence[int]) -> int:
        return sum(ctx.step(lambda _: 1, name="step") for _ in range(event["steps"]))

    result = context.map(range(event["branches"]), branch, name="batch")
    result.throw_if_error()
    return sum(result.get_results())


FUNCTIONS = {
    PROCESS: Function("perf.benchmarks.cpu:handler", ((EXECUTOR, f"process:{WORKERS}"),), timeout=600),
    AWS_SDK: Function("perf.lambda_handlers:sdk_parallel", timeout=600),
    THREAD: Function("perf.benchmarks.cpu:handler", ((EXECUTOR, "thread"),), timeout=600),
}
COUNTED = {
    PROCESS: Function("perf.benchmarks.lambda_service:small_steps", FUNCTIONS[PROCESS].variables, timeout=600),
    ASYNC: Function(
        "perf.benchmarks.lambda_service:small_steps",
        (*FUNCTIONS[PROCESS].variables, (CHECKPOINT, "async")),
        timeout=600,
    ),
    THREAD: Function("perf.benchmarks.lambda_service:small_steps", FUNCTIONS[THREAD].variables, timeout=600),
    AWS_SDK: Function("perf.lambda_handlers:sdk_small_steps", timeout=600),
}


def run(rounds: int, sizes: Sizes = FULL) -> Report:
    """Time the functions in turn, then count the calls of one execution each."""
    loops, branches = loops_of(sizes.seconds), sizes.branches
    report = Report("lambda_service", settings={**asdict(sizes), "workers": WORKERS, "loops": loops})
    if find_spec(MODULE) is None:
        report.skip([AWS_SDK])
        report.notes.append("without AWS's local service there is nothing to run functions on")
        return report
    variables = {"PYTHONPATH": os.fspath(ROOT)}
    with tempfile.TemporaryDirectory(prefix="durapool-perf-") as folder:
        with LocalLambda(Path(folder), direct=True, variables=variables) as local:
            for name, function in FUNCTIONS.items():
                local.add(_named(name), function)

            def execute(name: str) -> None:
                execution = local.run(_named(name), {"loops": loops, "branches": branches}, patience=600)
                assert execution.result == [burn(loops)] * branches, f"{execution.error}\n{local.log}"

            contenders = [Contender(name, timed(partial(execute, name)), branches) for name in FUNCTIONS]
            contenders += [
                Contender("raw fork", timed(partial(raw_fork, loops, branches)), branches),
                Contender("raw threads", timed(partial(raw_threads, loops, branches)), branches),
            ]
            table = measure("CPU-bound branches", contenders, rounds, baseline=AWS_SDK)
        with LocalLambda(Path(folder), variables=variables) as local:
            counts = {name: calls_of(local, name, sizes.counted) for name in COUNTED}
    report.tables = [table]
    report.figures = [
        Figure(f"{PROCESS} / {AWS_SDK}", table.ratio(PROCESS, AWS_SDK), TARGET),
        Figure(f"{THREAD} / {AWS_SDK}", table.ratio(THREAD, AWS_SDK)),
        Figure("raw fork / raw threads", table.ratio("raw fork", "raw threads")),
    ]
    batch = "{} branches of {} steps".format(*sizes.counted)
    for name, (calls, updates) in counts.items():
        report.figures.append(Figure(f"{batch}, {name}: calls of CheckpointDurableExecution", calls))
        report.figures.append(Figure(f"{batch}, {name}: updates in them", updates))
    return report


def calls_of(local: LocalLambda, name: str, counted: tuple[int, int]) -> tuple[int, int]:
    """How many checkpoints one execution makes, and how many updates they hold."""
    local.add(_named(name), COUNTED[name])
    branches, steps = counted
    execution = local.run(_named(name), {"branches": branches, "steps": steps}, patience=600)
    assert execution.result == branches * steps, f"{execution.error}\n{local.log}"
    calls = [call for call in local.proxy.of(execution.arn) if call.api == "checkpoint"]
    return len(calls), sum(len(call.updates) for call in calls)


def _named(contender: str) -> str:
    """A name that Lambda would take."""
    return "".join(character if character.isalnum() else "-" for character in contender)
