"""Runs that are cut off and run again under the same id: nothing recorded runs twice, and changes are noticed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from semantic_tools import Crash, compare_executors, note, notes

import durapool
from durapool import durable_execution
from durapool.config import CompletionConfig, MapConfig, ParallelConfig, StepConfig
from durapool.exceptions import (
    ExecutionConflictError,
    ExecutionFailedError,
    NonDeterministicExecutionError,
    StepInterruptedError,
)
from durapool.history import history
from durapool.retries import RetryPresets
from durapool.stores.memory import MemoryStore
from durapool.stores.sqlite import SQLiteStore

ONCE = StepConfig(retry_strategy=RetryPresets.none())


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Each local store in turn."""
    opened = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "journal.db")
    yield opened
    opened.close()


def run(handler: Callable[..., Any], store: Any, executor: str, event: Any = None, **options: Any) -> Any:
    """Run under one id."""
    durable = durable_execution(default_retry=RetryPresets.none())(handler)
    result = durapool.run(durable, event, id="x", store=store, executor=executor, **options)
    compare_executors(executor, history(store.read("x")))
    return result


def crash(*args: Any) -> Any:
    """The program dies here."""
    raise Crash


def test_a_finished_execution_returns_what_was_recorded(store: Any, executor: str, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def handler(event, context):
        note(log, "handler")
        return context.parallel([lambda ctx: ctx.step(lambda _: (1, 2))]).get_results()

    assert run(handler, store, executor) == run(handler, store, executor) == [(1, 2)]
    assert notes(log) == ["handler"]


def test_a_finished_batch_gives_the_same_result_without_running(store: Any, executor: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    seen: list[dict[str, Any]] = []

    def handler(event, context):
        def branch(ctx, item, index, inputs):
            note(log, f"branch {index}")
            if index == 1:
                raise ValueError("no")
            return (item, ctx.step(lambda _: note(log, f"step {index}") or item))

        config = MapConfig(completion_config=CompletionConfig.all_completed(), max_concurrency=1)
        result = context.map(["a", "b", "c"], branch, config=config)
        seen.append(result.to_dict())
        if len(seen) == 1:
            crash()
        return [result.successful_results, result.failed_results[0].message]

    with pytest.raises(Crash):
        run(handler, store, executor)
    assert run(handler, store, executor) == [[("a", "a"), ("c", "c")], "no"]
    assert seen[0] == seen[1]
    assert notes(log) == ["branch 0", "step 0", "branch 1", "branch 2", "step 2"]


def test_resumed_after_a_crash_nothing_recorded_runs_again(store: Any, executor: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    fuse = tmp_path / "fuse"

    def handler(event, context):
        def branch(ctx, item, index, inputs):
            ctx.step(lambda _: note(log, f"first {index}"))
            if index == 3 and not fuse.exists():
                fuse.touch()
                crash()
            return ctx.step(lambda _: note(log, f"second {index}") or index)

        return context.map(list(range(6)), branch, config=MapConfig(max_concurrency=1)).get_results()

    with pytest.raises(Crash):
        run(handler, store, executor)
    before = notes(log)
    assert before[-1] == "first 3"
    assert run(handler, store, executor) == list(range(6))
    assert sorted(notes(log)) == sorted(f"{word} {i}" for word in ("first", "second") for i in range(6))


def test_a_resume_may_use_another_executor(store: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    fuse = tmp_path / "fuse"

    def handler(event, context):
        def branch(ctx, item, index, inputs):
            ctx.step(lambda _: note(log, f"{index}"))
            if index == 2 and not fuse.exists():
                fuse.touch()
                crash()
            return [index, ctx.seed]

        return context.map([0, 1, 2, 3], branch, config=MapConfig(max_concurrency=1)).get_results()

    with pytest.raises(Crash):
        run(handler, store, "thread")
    result = run(handler, store, "process:2")
    assert [index for index, _ in result] == [0, 1, 2, 3]
    assert sorted(notes(log)) == ["0", "1", "2", "3"]


def test_an_early_decision_is_kept(store: Any, executor: str) -> None:
    runs: list[Any] = []

    def handler(event, context):
        config = ParallelConfig(completion_config=CompletionConfig(min_successful=2), max_concurrency=1)
        result = context.parallel([lambda ctx, i=i: i for i in range(5)], config=config)
        runs.append(result.to_dict())
        if len(runs) == 1:
            crash()
        return result.get_results()

    with pytest.raises(Crash):
        run(handler, store, executor)
    assert run(handler, store, executor) == [0, 1]
    assert runs[0] == runs[1]


def first_and_second(store: Any, executor: str, first: Callable[..., Any], second: Callable[..., Any]) -> None:
    """Run one handler, cut off at its end, and then another under the same id."""

    def cut_off(event, context):
        first(context)
        crash()

    with pytest.raises(Crash):
        run(cut_off, store, executor)
    run(lambda event, context: second(context), store, executor)


def batch_of(*names: str | None) -> Callable[..., Any]:
    """A handler with one parallel of steps with these names."""

    def handler(context):
        context.parallel([lambda ctx, name=name: ctx.step(lambda _: 1, name=name) for name in names], name="batch")

    return handler


CHANGES: dict[str, tuple[Callable[..., Any], Callable[..., Any], str]] = {
    "name-of-a-step": (lambda c: c.step(lambda _: 1, name="old"), lambda c: c.step(lambda _: 1, name="new"), "old"),
    "step-to-child": (
        lambda c: c.step(lambda _: 1, name="s"),
        lambda c: c.run_in_child_context(lambda _: 1, name="s"),
        "step",
    ),
    "name-of-a-batch": (
        lambda c: c.parallel([lambda _: 1], name="old"),
        lambda c: c.parallel([lambda _: 1], name="new"),
        "old",
    ),
    "parallel-to-map": (
        lambda c: c.parallel([lambda _: 1], name="b"),
        lambda c: c.map([1], lambda ctx, item, i, all_: 1, name="b"),
        "parallel",
    ),
    "fewer-branches": (batch_of("a", "b", "c"), batch_of("a", "b"), "3"),
    "more-branches": (batch_of("a", "b"), batch_of("a", "b", "c"), "2"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_handler_is_noticed(executor: str, change: str) -> None:
    first, second, recorded = CHANGES[change]
    with pytest.raises(ExecutionFailedError) as caught:
        first_and_second(MemoryStore(), executor, first, second)
    assert caught.value.error_type == NonDeterministicExecutionError.__name__
    assert recorded in str(caught.value)


def test_a_change_inside_an_unfinished_branch_is_noticed(executor: str, tmp_path: Path) -> None:
    def of(name: str, last: Callable[..., Any]) -> Callable[..., Any]:
        def handler(event, context):
            def branch(ctx):
                ctx.step(lambda _: 1, name=name)
                return last()

            context.parallel([branch]).throw_if_error()

        return handler

    store = MemoryStore()
    with pytest.raises(Crash):
        run(of("old", crash), store, executor)
    with pytest.raises(ExecutionFailedError) as caught:
        run(of("new", int), store, executor)
    assert "old" in str(caught.value)
    assert "new" in str(caught.value)


def test_another_event_for_a_known_id_shows_both(store: Any, executor: str) -> None:
    def handler(event, context):
        return event

    run(handler, store, executor, {"day": 1})
    with pytest.raises(ExecutionConflictError) as caught:
        run(handler, store, executor, {"day": 2})
    assert '"day": 1' in str(caught.value).replace("'", '"')
    assert '"day": 2' in str(caught.value).replace("'", '"')
    assert run(handler, store, executor, {"day": 1}) == {"day": 1}


def test_retry_failed_runs_only_what_failed(store: Any, executor: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    fixed = tmp_path / "fixed"

    def handler(event, context):
        def branch(ctx, item, index, inputs):
            ctx.step(lambda _: note(log, f"before {index}"), name="before")

            def work(step):
                note(log, f"work {index}")
                if index == 1 and not fixed.exists():
                    raise ValueError("the bug")
                return index

            return ctx.step(work, name="work", config=ONCE)

        config = MapConfig(completion_config=CompletionConfig.all_completed(), max_concurrency=1)
        result = context.map([0, 1, 2], branch, config=config)
        result.throw_if_error()
        return result.get_results()

    for _ in range(2):
        with pytest.raises(ExecutionFailedError, match="the bug"):
            run(handler, store, executor)
    once = [f"{word} {i}" for i in range(3) for word in ("before", "work")]
    assert notes(log) == once
    fixed.touch()
    assert run(handler, store, executor, retry_failed=True) == [0, 1, 2]
    assert notes(log) == [*once, "work 1"]
    assert run(handler, store, executor, retry_failed=True) == [0, 1, 2]
    assert notes(log) == [*once, "work 1"]


def test_an_interrupted_at_most_once_step_is_not_run_again(store: Any, executor: str, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def handler(event, context):
        def branch(ctx):
            def charge(step):
                note(log, "charged")
                crash()

            config = StepConfig(RetryPresets.none(), durapool.config.StepSemantics.AT_MOST_ONCE_PER_RETRY)
            return ctx.step(charge, name="charge", config=config)

        return context.parallel([branch]).failed_results[0].type

    with pytest.raises(Crash):
        run(handler, store, executor)
    assert run(handler, store, executor) == StepInterruptedError.__name__
    assert notes(log) == ["charged"]


def test_seeds_differ_between_branches_and_are_the_same_in_every_run(executor: str) -> None:
    def handler(event, context):
        def branch(ctx, item, index, inputs):
            return [ctx.seed, random.Random(ctx.seed).random()]

        return context.map([0, 1, 2], branch).get_results()

    first = run(handler, MemoryStore(), executor)
    again = run(handler, MemoryStore(), executor)
    assert first == again
    assert len({seed for seed, _ in first}) == 3
    assert first == run(handler, MemoryStore(), "thread")


def test_workers_seed_the_global_random_state_of_each_branch() -> None:
    numpy = pytest.importorskip("numpy")

    def handler(event, context):
        def branch(ctx, item, index, inputs):
            return [random.random(), float(numpy.random.random())]

        return context.map(list(range(4)), branch).get_results()

    first = run(handler, MemoryStore(), "process:2")
    assert first == run(handler, MemoryStore(), "process:2")
    assert len({tuple(pair) for pair in first}) == 4
