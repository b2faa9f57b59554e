"""Steps that their branches do not wait for: which those are, and that none of them is lost with a worker."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pool_tools import wait_until

import durapool
from durapool import CompletionConfig, MapConfig, NestingType, ParallelConfig, durable_execution
from durapool.pool.answers import Answers
from durapool.pool.batches import MOST_AHEAD, PoolBatch
from durapool.pool.dispatch import MOST_AT_ONCE, Dispatcher
from durapool.pool.pool import Pool
from durapool.serdes import JsonSerDes
from durapool.stores import MemoryStore, SQLiteStore, Store

pytestmark = pytest.mark.usefixtures("fresh_pools")

BRANCHES = 60


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """All branches count as short from the first one on; else those are waited for that come before one has ended."""
    post_init = PoolBatch.__post_init__

    def be_brisk(self: PoolBatch) -> None:
        post_init(self)
        self.is_brisk, self.ahead = True, MOST_AHEAD

    monkeypatch.setattr(PoolBatch, "__post_init__", be_brisk)
    monkeypatch.setattr(PoolBatch, "measured", lambda self, seconds: None)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The branches that have waited for an answer."""
    names: list[str] = []
    owe = Answers.owe

    def note_and_owe(self: Answers, worker: Any, run: Any) -> None:
        names.append(run.batch.open.plan.branch_name(run.index))
        owe(self, worker, run)

    monkeypatch.setattr(Answers, "owe", note_and_owe)
    return names


class Mirrored(MemoryStore):
    """Could keep what it is given elsewhere, too."""


@pytest.fixture
def store_of(tmp_path: Path) -> Iterator[Callable[[str], Store]]:
    with ExitStack() as opened:

        def make(kind: str) -> Store:
            match kind:
                case "memory":
                    return MemoryStore()
                case "mirrored":
                    return Mirrored()
                case _:
                    store = SQLiteStore(tmp_path / "journal.db")
                    opened.callback(store.close)
                    return store

        yield make


def returned(ctx: Any, item: int, index: int, inputs: Any) -> int:
    return ctx.step(lambda _: item)


def gone_on_from(ctx: Any, item: int, index: int, inputs: Any) -> int:
    value = ctx.step(lambda _: item)
    return value + 0


def run_map(function: Any, store: Store, checkpoint: str = "sync", **config: Any) -> None:
    @durable_execution
    def handler(event: Any, context: Any) -> list[int]:
        result = context.map(range(BRANCHES), function, config=MapConfig(executor="process:2", **config))
        result.throw_if_error()
        return result.get_results()

    assert durapool.run(handler, id="job", store=store, checkpoint=checkpoint) == list(range(BRANCHES))
    assert Counter(record.update.sub_type for record in store.read("job"))["Step"] == 2 * BRANCHES


@pytest.mark.parametrize("nesting", list(NestingType))
@pytest.mark.parametrize(
    ("store", "checkpoint", "function", "waiting"),
    [
        ("memory", "sync", returned, 0),
        ("memory", "sync", gone_on_from, BRANCHES),
        ("mirrored", "sync", returned, BRANCHES),
        ("sqlite", "sync", returned, BRANCHES),
        ("sqlite", "async", returned, 0),
        ("sqlite", "async", gone_on_from, 0),
    ],
)
def test_a_branch_waits_for_a_step_unless_nobody_could_ask_for_it(
    store, checkpoint, function, waiting, nesting, store_of, waits
):
    run_map(function, store_of(store), checkpoint, nesting_type=nesting)
    assert len(waits) == waiting


def test_the_branches_of_a_parallel_are_no_different(waits):
    @durable_execution
    def handler(event, context):
        branches = [lambda ctx, i=i: ctx.step(lambda _: i) for i in range(BRANCHES)]
        return context.parallel(branches, config=ParallelConfig(executor="process:2")).get_results()

    assert durapool.run(handler, store=MemoryStore()) == list(range(BRANCHES))
    assert not waits


@pytest.mark.parametrize(("function", "at_once"), [(returned, True), (gone_on_from, False)])
def test_a_line_is_filled_at_once_where_nobody_waits_for_the_loop(function, at_once, monkeypatch):
    gifts: list[int] = []
    lengthen = Dispatcher._lengthen

    def lengthen_and_count(self: Dispatcher, worker: Any, batch: PoolBatch) -> None:
        before = len(worker.runs)
        lengthen(self, worker, batch)
        gifts.append(len(worker.runs) - before)

    monkeypatch.setattr(Dispatcher, "_lengthen", lengthen_and_count)
    run_map(function, MemoryStore())
    assert (max(gifts) > MOST_AT_ONCE) is at_once


def test_a_serdes_of_the_user_runs_after_the_step_so_it_is_waited_for(waits):
    run_map(returned, MemoryStore(), item_serdes=JsonSerDes())
    assert len(waits) == BRANCHES


def test_steps_of_nested_branches_are_committed_before_the_outer_branch_goes_on(waits):
    """What it waits for is the end of the nested batch, which comes after all of them."""

    def outer(ctx, item, index, inputs):
        inner = ctx.map(range(3), returned, name="inner", config=MapConfig(item_namer=lambda i, _: f"inner-{i}"))
        return sum(inner.get_results()) + item - 3

    run = durable_execution(
        lambda event, context: context.map(range(8), outer, config=MapConfig(executor="process:2")).get_results()
    )
    store = MemoryStore()
    assert durapool.run(run, id="job", store=store) == list(range(8))
    assert Counter(waits) == Counter(f"map-item-{i}" for i in range(8))
    ended = [(each.update.sub_type, each.update.name) for each in store.read("job") if each.update.action == "SUCCEED"]
    last_ends = [position for position, each in enumerate(ended) if each == ("Map", "inner")]
    assert len(last_ends) == 8
    for count, position in enumerate(last_ends, 1):
        assert Counter(kind for kind, _ in ended[:position])["Step"] >= 3 * count


def test_a_step_on_a_thread_of_a_worker_is_waited_for(waits):
    def outer(ctx, item, index, inputs):
        return ctx.map(range(3), returned, config=MapConfig(executor="thread")).get_results()

    run = durable_execution(
        lambda event, context: context.map(range(4), outer, config=MapConfig(executor="process:2")).get_results()
    )
    assert durapool.run(run, store=MemoryStore()) == [[0, 1, 2]] * 4
    assert set(waits) == {f"map-item-{i}" for i in range(4)}


def test_no_step_is_lost_with_the_worker_that_has_gone_on_to_the_next_branches(tmp_path, monkeypatch):
    """The parent hears nothing until the worker is dead, and then all that it has sent."""
    log, gate, died = tmp_path / "log", tmp_path / "gate", tmp_path / "died"
    log.touch()
    first, killer = 20, 22  # where the worker waits for the parent to be deaf, and where it dies
    turn, lines = Pool.turn, []

    def branch(ctx, item, index, inputs):
        def work(_):
            with open(log, "a") as file:
                file.write(f"{item}\n")
            return item

        if item == first:
            wait_until(gate.exists)
        if item == killer and not died.exists():
            died.touch()
            os._exit(3)
        return ctx.step(work)

    def turn_deaf(self):
        for worker in self._workforce:
            line = [run.index for run in worker.runs]
            if killer in line[1:] and not gate.exists():
                self._workforce.wants_to_send(worker)
                self._workforce.send()
                gate.touch()
                wait_until(died.exists)
                lines.append(line)
        turn(self)

    @durable_execution
    def handler(event, context):
        config = MapConfig(executor="process:1", completion_config=CompletionConfig.all_completed())
        result = context.map(range(BRANCHES), branch, config=config)
        return [item.index for item in result.failed()]

    monkeypatch.setattr(Pool, "turn", turn_deaf)
    store = MemoryStore()
    assert durapool.run(handler, id="job", store=store) == [killer]
    assert len(lines) == 1
    assert durapool.run(handler, id="job", store=store, retry_failed=True) == []
    assert Counter(map(int, log.read_text().split())) == Counter(range(BRANCHES))
