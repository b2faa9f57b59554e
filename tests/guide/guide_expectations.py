"""What the guide says that each of its code blocks does.

Every block needs an entry in EXPECTATIONS: a block without one fails `test_every_block_has_an_expectation`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PRELUDE = """
from durapool import BatchResult, DurableContext, ParallelBranch, durable_execution
from durapool.config import CompletionConfig, ParallelConfig

def raise_error(message="it failed"):
    raise ValueError(message)

def process(ctx, value):
    return ctx.step(lambda _: f"processed {value}", name=f"process_{value}")

def good(text):
    return lambda ctx: ctx.step(lambda _: text)

def bad(message):
    return lambda ctx: ctx.step(lambda _: raise_error(message))

values = ["x", "y", "z"]
"""
"""What blocks use and the guide does not define."""


@dataclass(frozen=True)
class Case:
    """One run: the handler is called with `event` and returns `expected`, or a value that `check` accepts."""

    event: Any
    expected: Any = None
    check: Callable[[Any], bool] | None = None

    def accepts(self, result: Any) -> bool:
        """Whether the handler returned what the guide says."""
        return self.check(result) if self.check is not None else bool(result == self.expected)


@dataclass(frozen=True)
class Handler:
    """The block defines a whole `handler`."""

    cases: tuple[Case, ...]

    def source_of(self, block: str) -> str:
        """The module to run."""
        return block


@dataclass(frozen=True)
class Fragment:
    """The block is a part of a handler: `before` sets the scene, `after` says what came of it."""

    cases: tuple[Case, ...]
    before: str = "functions = [good('a'), good('b'), good('c')]"
    after: str = ""

    def source_of(self, block: str) -> str:
        """The module to run: the block in the middle of a handler."""
        body = "\n".join([textwrap.dedent(self.before), block, textwrap.dedent(self.after)])
        return "@durable_execution\ndef handler(event, context):\n" + textwrap.indent(body, "    ")


@dataclass(frozen=True)
class Signature:
    """The block is the signature of a method of DurableContext."""

    method: str


@dataclass(frozen=True)
class PytestBlock:
    """The block is a part of a test module: all of these are run together by `test_testing_part`."""

    tests: int


Expectation = Handler | Fragment | Signature | PytestBlock


def _one(expected: Any, event: Any = None) -> tuple[Case, ...]:
    return (Case({} if event is None else event, expected),)


def _outcome_of(config: str = "config") -> str:
    return f"""
        result = context.parallel(functions, config={config})
        return [result.status.value, result.completion_reason.value, result.successful_results]
    """


EXPECTATIONS: dict[str, Expectation] = {
    "Getting started #1": Handler(_one(["Task 1 complete", "Task 2 complete", "Task 3 complete"])),
    "context.parallel() #1": Signature("parallel"),
    "Simple parallel execution #1": Handler(
        _one(
            {
                "total": 3,
                "successful": 3,
                "results": [
                    {"service": "inventory", "status": "ok"},
                    {"service": "payment", "status": "ok"},
                    {"service": "shipping", "status": "ok"},
                ],
            }
        )
    ),
    # The lambdas close over the comprehension's one variable, which is 4 when they run or are pickled.
    "Collecting results #1": Handler(
        _one(
            {
                "successful": ["Result 4"] * 5,
                "failed": [],
                "total_count": 5,
                "success_count": 5,
                "failure_count": 0,
                "status": "SUCCEEDED",
                "completion_reason": "ALL_COMPLETED",
            }
        )
    ),
    "Accessing individual results #1": Handler(
        _one(
            {
                "first": "Result A",
                "second": "Result B",
                "third": "Result C",
                "all": ["Result A", "Result B", "Result C"],
            }
        )
    ),
    "Configuration #1": Handler(
        (Case({}, check=lambda text: text in {f"First successful result: Task {i}" for i in (1, 2, 3)}),)
    ),
    "ParallelConfig parameters #1": Fragment(
        _one([5, "SUCCEEDED", 3]),
        after="""
            result = context.parallel(functions, config=config)
            return [config.max_concurrency, result.status.value, result.success_count]
        """,
    ),
    "ParallelConfig parameters #2": Fragment(
        (
            Case(["a", "b", "c"], ["SUCCEEDED", "ALL_COMPLETED", ["a", "b", "c"]]),
            Case([None, None, None], ["FAILED", "FAILURE_TOLERANCE_EXCEEDED", []]),
            # A failing step is tried again later, so the third success mostly comes before the second failure.
            Case([None, "b", None, "d", "e"], check=lambda found: found[2] == ["b", "d", "e"]),
        ),
        before="functions = [good(text) if text else bad('no') for text in event]",
        after=_outcome_of(),
    ),
    "First successful pattern #1": Handler(
        (Case({}, check=lambda r: r["source"] in {"primary", "secondary", "cache"} and r["data"] == "..."),)
    ),
    "Controlled concurrency #1": Handler(
        (
            *_one({"processed": 0, "failed": 0, "results": []}),
            *_one(
                {"processed": 20, "failed": 0, "results": [f"Processed {i}" for i in range(20)]},
                {"items": list(range(20))},
            ),
        )
    ),
    "Partial success handling #1": Handler(
        (
            Case(
                {},
                check=lambda r: (
                    r["status"] == "partial_success"
                    and r["successful"] == ["Success 1", "Success 2"]
                    and r["failed_count"] in (0, 1)
                ),  # the batch is complete at the second success
            ),
        )
    ),
    "Nested parallel operations #1": Handler(
        _one(
            {
                "groups_processed": 2,
                "results": [
                    ["group-a-item-1", "group-a-item-2", "group-a-item-3"],
                    ["group-b-item-1", "group-b-item-2", "group-b-item-3"],
                ],
            }
        )
    ),
    "Individual branch failures #1": Handler(
        _one({"successful": ["Success", "Success"], "failed_count": 1, "status": "FAILED"})
    ),
    "Checking for failures #1": Fragment(
        (
            Case(["a", "b"], {"status": "success", "results": ["a", "b"]}),
            Case([None], {"status": "partial_failure", "successful": [], "failed_count": 1}),
        ),
        before="functions = [good(text) if text else bad('no') for text in event]",
    ),
    "Completion strategies and errors #1": Fragment(
        (
            Case({}, ["SUCCEEDED", "ALL_COMPLETED", ["a", "b"], 0]),
            Case({"fail": "first"}, ["FAILED", "FAILURE_TOLERANCE_EXCEEDED", [], 1]),
        ),
        before="functions = [bad('no')] if event else [good('a'), good('b')]",
        after="""
            result = context.parallel(functions, config=config)
            reason = result.completion_reason.value
            return [result.status.value, reason, result.successful_results, result.failure_count]
        """,
    ),
    "Completion strategies and errors #2": Fragment(
        _one(["FAILED", "b"]),
        before="functions = [bad('first'), bad('second')]",
        after="""
            from dataclasses import replace
            one_by_one = replace(config, max_concurrency=1)
            result = context.parallel([*functions, good('b'), good('never')], config=one_by_one)
            return [result.status.value, *result.successful_results]
        """,
    ),
    "Completion strategies and errors #3": Fragment(
        _one(["FAILED", "ALL_COMPLETED", ["a", "c"]]),
        before="functions = [good('a'), bad('b'), good('c'), bad('d')]",
        after=_outcome_of(),
    ),
    "Result ordering #1": Handler(_one(["First", "Second", "Third"])),
    "Handling partial results #1": Fragment(
        _one(["result0", "result2"]),
        before="""
            func0, func1, func2 = good("result0"), bad("no result1"), good("result2")
            config = ParallelConfig(completion_config=CompletionConfig.all_completed())
        """,
        after="return context.parallel([func0, func1, func2], config=config).successful_results",
    ),
    "Concurrency limits #1": Fragment(
        _one([10, [f"processed {i}" for i in range(100)]]),
        before="functions = [lambda ctx, i=i: process(ctx, i) for i in range(100)]",
        after="return [config.max_concurrency, result.successful_results]",
    ),
    "FAQ #1": Fragment(
        _one(["processed x", "processed y", "processed z"]),
        before="",
        after="return context.parallel(functions).successful_results",
    ),
    "Basic parallel testing #1": PytestBlock(tests=1),
    "Inspecting branch operations #1": PytestBlock(tests=1),
    "Testing completion strategies #1": PytestBlock(tests=1),
    "Testing error handling #1": PytestBlock(tests=1),
    "Testing concurrency limits #1": PytestBlock(tests=1),
}
