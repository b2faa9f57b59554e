"""What the observer sees of batches and workers, under every executor."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import durapool
from durapool import DurableContext, MapConfig, durable_execution
from durapool.config import CompletionConfig, Duration
from durapool.decorator import DurableHandler
from durapool.progress import observer as observing_module
from durapool.progress.meter import Meter
from durapool.progress.model import End, Snapshot
from durapool.progress.observer import Observer, observing, watched
from durapool.stores.memory import MemoryStore

ALL = CompletionConfig.all_completed()


def eventually(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (value := look()):
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(0.01)
    return value


def hold(folder: str, name: str) -> None:
    """Say that this branch is here, and wait until it may go on."""
    Path(folder, f"{name}-is-here").touch()
    while not Path(folder, "go").exists():
        time.sleep(0.005)


@durable_execution
def flat_job(folder: str, context: DurableContext) -> int:
    def work(ctx: DurableContext, item: int, index: int, inputs: list[int]) -> int:
        if item == 1:
            raise ValueError("boom")
        if item >= 2:
            hold(folder, str(item))
        return item

    return context.map(list(range(5)), work, name="items", config=MapConfig(completion_config=ALL)).success_count


@durable_execution
def nested_job(folder: str, context: DurableContext) -> None:
    def inner(ctx: DurableContext, item: int, index: int, inputs: list[int]) -> None:
        hold(folder, f"inner-{item}")

    def outer(ctx: DurableContext, item: int, index: int, inputs: list[int]) -> None:
        ctx.map([item], inner, name="inner")

    context.map([0, 1], outer, name="outer").throw_if_error()


@durable_execution
def suspending_job(folder: str, context: DurableContext) -> None:
    def work(ctx: DurableContext, item: int, index: int, inputs: list[int]) -> None:
        ctx.wait(Duration.from_seconds(1))
        hold(folder, str(item))

    context.map([0, 1], work, name="waits").throw_if_error()


@contextmanager
def running(handler: DurableHandler, folder: Path, executor: str) -> Iterator[Observer]:
    """The handler in a thread of its own, observed; it is let go at the end, and must end well."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            durapool.run(handler, str(folder), id="x", store=MemoryStore(), executor=executor)
        except BaseException as error:
            failures.append(error)

    with observing("x") as observer:
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield observer
        finally:
            (folder / "go").touch()
            thread.join(60)
    assert not thread.is_alive()
    assert not failures


def counts(snapshot: Snapshot) -> list[tuple[str, int, int, int, int]]:
    return [(each.name, each.total, each.succeeded, each.failed, each.running) for each in snapshot.batches]


def test_an_open_batch_is_seen_with_its_counts(tmp_path: Path, executor: str) -> None:
    expected = 2 if executor == "process:2" else 3
    with running(flat_job, tmp_path, executor) as observer:
        eventually(lambda: counts(observer.snapshot()) == [("items", 5, 1, 1, expected)])
        (batch,) = observer.snapshot().batches
        assert (batch.kind, batch.place, batch.end, batch.ended) == ("map", "", None, 2)
    (ended,) = observer.snapshot().ended
    assert (ended.name, ended.succeeded, ended.failed, ended.end) == ("items", 4, 1, End.DECIDED)
    assert observer.snapshot().batches == observer.snapshot().ended == ()


def test_workers_are_seen_with_their_branch_and_load(tmp_path: Path) -> None:
    with running(flat_job, tmp_path, "process:2") as observer:
        meter = Meter(period=0.0)
        held = {f"branch {index} (map-item-{index}) of items" for index in (2, 3, 4)}
        eventually(lambda: len(held.intersection(row.branch for row in observer.snapshot().workers)) == 2)
        snapshot = meter.measured(observer.snapshot())
        assert all(row.load is not None and row.load.rss > 1 << 20 for row in snapshot.workers)
        assert {row.pid for row in snapshot.workers}.isdisjoint({os.getpid()})
        assert snapshot.load is not None


def test_branches_on_threads_are_counted(tmp_path: Path) -> None:
    with running(flat_job, tmp_path, "thread") as observer:
        eventually(lambda: observer.snapshot().on_threads == 3)
        assert observer.snapshot().workers == ()


def test_nested_batches_are_seen_in_their_branch(tmp_path: Path, executor: str) -> None:
    with running(nested_job, tmp_path, executor) as observer:
        eventually(lambda: all((tmp_path / f"inner-{number}-is-here").exists() for number in (0, 1)))
        eventually(lambda: [each.name for each in observer.snapshot().batches] == ["outer", "inner", "inner"])
        snapshot = observer.snapshot()
        assert sorted(each.place.split(" of ")[0] for each in snapshot.batches[1:]) == [
            "branch 0 (map-item-0)",
            "branch 1 (map-item-1)",
        ]
        if executor != "thread":
            assert sum(row.lent for row in snapshot.workers) == 2
    assert [each.name for each in observer.snapshot().ended] == ["outer"]


def test_a_suspended_batch_stays_in_sight_until_it_goes_on(tmp_path: Path, executor: str) -> None:
    with running(suspending_job, tmp_path, executor) as observer:
        suspended = eventually(lambda: [each for each in observer.snapshot().batches if each.end is End.SUSPENDED])
        assert [(each.name, each.waiting) for each in suspended] == [("waits", 2)]
        eventually(lambda: [each.running for each in observer.snapshot().batches] == [2])
    assert [each.end for each in observer.snapshot().ended] == [End.DECIDED]


def test_a_batch_that_is_cut_off_says_so(executor: str) -> None:
    def branch(ctx: DurableContext) -> None:
        raise KeyboardInterrupt

    @durable_execution
    def handler(event: Any, context: DurableContext) -> None:
        context.parallel([branch], name="doomed")

    with observing("x") as observer, pytest.raises(KeyboardInterrupt):
        durapool.run(handler, id="x", store=MemoryStore(), executor=executor)
    assert [(each.name, each.end) for each in observer.snapshot().ended] == [("doomed", End.CUT_OFF)]


def test_what_earlier_runs_have_recorded_is_no_speed_of_this_one(tmp_path: Path, executor: str) -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> int:
        def work(ctx: DurableContext, item: int, index: int, inputs: list[int]) -> int:
            if item == 9 and not (tmp_path / "fixed").exists():
                raise KeyboardInterrupt
            return item

        config = MapConfig(max_concurrency=1)
        return len(context.map(list(range(10)), work, name="items", config=config).get_results())

    store = MemoryStore()
    with pytest.raises(KeyboardInterrupt):
        durapool.run(handler, id="x", store=store, executor=executor)
    (tmp_path / "fixed").touch()
    with observing("x") as observer:
        assert durapool.run(handler, id="x", store=store, executor=executor) == 10
    (ended,) = observer.snapshot().ended
    assert (ended.recorded_before, ended.ended) == (9, 10)
    assert ended.rate == pytest.approx(1 / ended.seconds)


class FakeBatch:
    """As much of an open batch as is looked at."""

    def __init__(self) -> None:
        from durapool.coordinator import CompletionPolicy, Coordinator

        self.coordinator = Coordinator(CompletionPolicy.of(ALL, 1000))

        class Plan:
            operation_id, name, sub_type, total = "op", "items", "Map", 1000

        self.plan = Plan()

    def end(self, count: int) -> None:
        for _ in range(count):
            index = self.coordinator.next()
            assert index is not None
            self.coordinator.on_succeeded(index)


def test_the_rate_is_that_of_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(observing_module.time, "monotonic", lambda: now)
    batch = FakeBatch()
    watch = observing_module._Watch(batch, "")  # type: ignore[arg-type]
    assert watch.progress(now).rate == 0
    assert watch.progress(now).seconds_left is None
    for _ in range(100):  # 100 s at one a second
        now += 1
        batch.end(1)
        watch.progress(now)
    assert watch.progress(now).rate == pytest.approx(1.0, rel=0.05)
    for _ in range(70):  # and then at two
        now += 1
        batch.end(2)
        watch.progress(now)
    progress = watch.progress(now)
    assert progress.rate == pytest.approx(2.0, rel=0.05)
    assert progress.seconds_left == pytest.approx((1000 - 240) / 2, rel=0.05)


def test_nobody_observes_unless_asked() -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> bool:
        context.parallel([lambda ctx: 1])
        return bool(observing_module._observers)

    assert durapool.run(handler, id="x", store=MemoryStore()) is False
    scope: Any = type("Scope", (), {"settings": type("Settings", (), {"execution_id": "x"})})
    with watched(FakeBatch(), scope):  # type: ignore[arg-type]
        assert observing_module._observers == {}
