"""Wrong input: one clear error of the project's own tree, and nothing recorded is lost or overwritten."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Sequence

import pytest

import durapool
from durapool import (
    CompletionConfig,
    DurableExecutionsError,
    ExecutionConflictError,
    ExecutionFailedError,
    ParallelConfig,
    StoreError,
    StoreVersionError,
    ValidationError,
    durable_execution,
)
from durapool.stores import MemoryStore

both = pytest.mark.parametrize("executor", ["thread", "process:2"])


def errors_of(branches, executor):
    @durable_execution
    def handler(event, context):
        config = ParallelConfig(completion_config=CompletionConfig.all_completed())
        return context.parallel(branches, config=config).get_errors()

    return durapool.run(handler, store=MemoryStore(), executor=executor)


@both
def test_a_result_that_cannot_be_serialised_fails_its_branch_and_names_the_type(executor):
    good, bad = (lambda ctx: 1), (lambda ctx: threading.Lock())
    [error] = errors_of([good, bad, good], executor)
    assert error.type == "SerDesError"
    assert "lock" in error.message


@both
def test_a_step_result_that_cannot_be_serialised_names_the_step(executor):
    [error] = errors_of([lambda ctx: ctx.step(lambda _: threading.Lock(), name="locked")], executor)
    assert "locked" in error.message
    assert "lock" in error.message


@both
def test_a_name_that_is_no_text_is_refused_and_leaves_no_event(executor):
    def branch(ctx):
        with pytest.raises(ValidationError, match="name of a Step must be text, not 7"):
            ctx.step(lambda _: 1, name=7)
        return ctx.step(lambda _: "named well", name="seven")

    @durable_execution(executor=executor)
    def handler(event, context):
        with pytest.raises(ValidationError, match="name of a Wait must be text"):
            context.wait(durapool.Duration(1), name=b"bytes")
        return context.parallel([branch]).get_results()

    store = MemoryStore()
    assert durapool.run(handler, id="x", store=store) == ["named well"]
    assert {record.update.name for record in store.read("x")} == {None, "parallel-branch-0", "seven"}
    with pytest.raises(ValidationError, match="name of a branch must be text"):
        durapool.ParallelBranch(branch, name=7)


class Refusing(Sequence):
    """Two items, and neither can be had."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise RuntimeError("no item today")


@both
def test_inputs_that_raise_fail_their_branches(executor):
    @durable_execution(executor=executor)
    def handler(event, context):
        config = durapool.MapConfig(completion_config=CompletionConfig.all_completed())
        return context.map(Refusing(), lambda ctx, item, index, inputs: item, config=config).get_errors()

    errors = durapool.run(handler, store=MemoryStore())
    assert len(errors) == 2
    assert all("no item today" in error.message for error in errors)


@pytest.mark.parametrize(
    "call",
    [
        lambda context: context.step(lambda _: 1, config=5),
        lambda context: context.parallel([lambda ctx: 1], config=5),
        lambda context: context.map([1], lambda ctx, item, index, inputs: 1, config={"max_concurrency": 1}),
        lambda context: context.run_in_child_context(lambda child: 1, config=durapool.StepConfig()),
        lambda context: context.create_callback(config="soon"),
        lambda context: context.wait_for_callback(lambda callback_id, _: 1, config=durapool.StepConfig()),
        lambda context: context.wait_for_condition(lambda state, _: state, config=5),
        lambda context: durapool.with_retry(context, lambda ctx, attempt: 1, 5),
    ],
)
def test_a_config_of_another_kind_is_refused_and_leaves_no_event(call):
    @durable_execution
    def handler(event, context):
        with pytest.raises(ValidationError, match="onfig"):
            call(context)

    store = MemoryStore()
    durapool.run(handler, id="x", store=store)
    assert {record.update.type.value for record in store.read("x")} == {"EXECUTION"}


def test_what_is_no_store_is_refused():
    with pytest.raises(ValidationError, match="store must be a path"):
        durapool.run(durable_execution(lambda event, context: 1), store=5)


def test_a_branch_that_cannot_be_pickled_names_what_is_to_blame():
    guard = threading.Lock()

    def outer(ctx):
        def inner():
            return guard

        return inner()

    [error] = errors_of([lambda ctx: 1, outer], "process:2")
    assert error.type == "SerDesError"
    assert "'guard'" in error.message
    assert "outer" in error.message
    assert "lock" in error.message
    assert "branch 1" in error.message


def test_the_function_of_a_map_that_cannot_be_pickled_fails_the_handler_clearly():
    guard = threading.Lock()

    @durable_execution(executor="process:2")
    def handler(event, context):
        return context.map([1, 2], lambda ctx, item, index, inputs: guard).get_errors()

    with pytest.raises(ExecutionFailedError, match=r"SerDesError.*'guard'"):
        durapool.run(handler, store=MemoryStore())


def test_an_item_of_a_map_that_cannot_be_pickled_fails_its_branch():
    @durable_execution(executor="process:2")
    def handler(event, context):
        result = context.map([1, threading.Lock()], lambda ctx, item, index, inputs: str(item))
        return result.get_errors()

    [error] = durapool.run(handler, store=MemoryStore())
    assert "item 1" in error.message


@both
@pytest.mark.parametrize(
    ("functions", "words"),
    [
        ([lambda: 1], "must take 1 positional argument"),
        ([42], "not callable"),
        ({print}, "must be a sequence"),
        ((f for f in [print]), "must be a sequence"),
    ],
)
def test_wrong_branches_are_refused_before_anything_is_recorded(functions, words, executor):
    @durable_execution
    def handler(event, context):
        with pytest.raises(ValidationError, match=words):
            context.parallel(functions)
        return [operation.name for operation in context.parallel([]).all]

    assert durapool.run(handler, store=MemoryStore(), executor=executor) == []


@both
def test_a_coroutine_function_is_refused(executor):
    async def branch(ctx):
        return 1

    @durable_execution
    def handler(event, context):
        context.parallel([branch])

    with pytest.raises(ExecutionFailedError, match=r"asyncio.run"):
        durapool.run(handler, store=MemoryStore(), executor=executor)


@both
def test_an_empty_list_is_an_empty_complete_result(executor):
    @durable_execution
    def handler(event, context):
        first, second = context.parallel([]), context.map([], lambda ctx, item, index, inputs: item)
        return [(r.total_count, r.completion_reason.value, r.status.value) for r in (first, second)]

    assert durapool.run(handler, store=MemoryStore(), executor=executor) == [(0, "ALL_COMPLETED", "SUCCEEDED")] * 2


@durable_execution
def answer(event, context):
    return context.step(lambda _: 42)


@pytest.mark.parametrize("odd", ["a/../../b", "..", "with space", "ünïcödé \N{SNOWMAN}", "x" * 200, "a:b*c?", "-"])
def test_odd_ids_are_kept_as_they_are(odd, tmp_path):
    store = tmp_path / "folder" / "journal.db"
    assert durapool.run(answer, id=odd, store=store) == 42
    assert durapool.run(answer, id=odd, store=store) == 42
    assert {path.name.split("-")[0] for path in (tmp_path / "folder").iterdir()} == {"journal.db"}
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


@pytest.mark.parametrize("bad", ["", "x" * 201, "a\nb", "a\0b", 7])
def test_ids_that_are_none_are_refused(bad, tmp_path):
    with pytest.raises(ValidationError):
        durapool.run(answer, id=bad, store=tmp_path / "journal.db")


def test_another_event_for_a_known_id_shows_both(tmp_path):
    durapool.run(answer, {"n": 1}, id="a", store=tmp_path / "journal.db")
    with pytest.raises(ExecutionConflictError, match=r"1.*2"):
        durapool.run(answer, {"n": 2}, id="a", store=tmp_path / "journal.db")
    assert durapool.run(answer, {"n": 1}, id="a", store=tmp_path / "journal.db") == 42


def test_a_damaged_store_is_left_as_it_is(tmp_path):
    store = tmp_path / "journal.db"
    store.write_bytes(b"no database at all" * 100)
    before = store.read_bytes()
    with pytest.raises(StoreError):
        durapool.run(answer, store=store)
    assert store.read_bytes() == before


def test_a_newer_store_is_left_as_it_is(tmp_path):
    store = tmp_path / "journal.db"
    durapool.run(answer, id="a", store=store)
    with sqlite3.connect(store) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    before = store.read_bytes()
    with pytest.raises(StoreVersionError):
        durapool.run(answer, id="a", store=store)
    assert store.read_bytes() == before


def test_an_unwritable_folder_is_a_store_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError):
        durapool.run(answer, store=tmp_path / "file" / "journal.db")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("wrong", ["processes", "process:x", "process:0", 7])
def test_a_wrong_executor_is_refused(wrong, tmp_path):
    with pytest.raises(DurableExecutionsError):
        durapool.run(answer, executor=wrong, store=tmp_path / "journal.db")
