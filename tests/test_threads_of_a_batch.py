"""How many threads a batch has, and what becomes of branches that none of them has begun."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import durapool
from durapool import BatchResult, CompletionConfig, DurableContext, MemoryStore, ParallelConfig, ThreadExecutor
from durapool.executors.thread import AHEAD, FIRST


def run(branches: list[Callable[[DurableContext], Any]], config: ParallelConfig | None = None) -> BatchResult[Any]:
    results: list[BatchResult[Any]] = []

    @durapool.durable_execution
    def handler(_event: Any, context: DurableContext) -> None:
        results.append(context.parallel(branches, config=config))

    durapool.run(handler, id="batch", store=MemoryStore())
    return results[0]


def test_branches_that_wait_for_each_other_get_as_many_threads_as_they_are() -> None:
    together = threading.Barrier(3 * FIRST, timeout=30)
    result = run([lambda _: together.wait() >= 0 for _ in range(3 * FIRST)])
    assert result.get_results() == [True] * (3 * FIRST)


def test_never_more_threads_than_the_executor_allows() -> None:
    names: set[str] = set()

    def branch(_: DurableContext) -> None:
        names.add(threading.current_thread().name)

    run([branch] * 500, ParallelConfig(executor=ThreadExecutor(max_threads=3)))
    assert len(names) <= 3


def test_branches_that_no_thread_has_begun_are_not_in_the_result() -> None:
    total = FIRST + 2 * AHEAD
    begun: list[int] = []
    decided = threading.Event()

    def branch(index: int) -> Callable[[DurableContext], int]:
        def function(ctx: DurableContext) -> int:
            begun.append(index)
            if index:
                decided.wait(30)
            return ctx.step(lambda _: index)

        return function

    config = ParallelConfig(
        completion_config=CompletionConfig.first_successful(), executor=ThreadExecutor(max_threads=2)
    )
    try:
        result = run([branch(index) for index in range(total)], config)
    finally:
        decided.set()
    reported = [item.index for item in result.all]
    assert set(begun) <= set(reported)  # a thread may have taken a branch, and not yet called its function
    assert len(reported) <= 3  # two threads, of which one has ended a branch and taken another one
    assert result.success_count == 1
