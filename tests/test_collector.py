"""The collector's threshold while a batch of very many branches runs."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

import durapool
from durapool import DurableContext, durable_execution
from durapool.collector import patience, switched_off
from durapool.executors import ProcessExecutor, ThreadExecutor


@pytest.fixture(autouse=True)
def threshold() -> Iterator[tuple[int, int, int]]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield 700, 10, 10
    gc.set_threshold(*before)


def test_the_threshold_is_raised_until_the_last_holder_lets_go(threshold: tuple[int, int, int]) -> None:
    with patience.hold(here=True):
        with patience.hold(here=True):
            pass
        assert gc.get_threshold()[0] > threshold[0]
        assert gc.get_threshold()[1:] == threshold[1:]
    assert gc.get_threshold() == threshold


def test_it_is_raised_further_while_all_branches_run_elsewhere(threshold: tuple[int, int, int]) -> None:
    with patience.hold(here=True):
        modest = gc.get_threshold()
    with patience.hold(here=False):
        great = gc.get_threshold()
        assert great > modest
        with patience.hold(here=True):
            assert gc.get_threshold() == modest
        assert gc.get_threshold() == great
    with patience.hold(here=True), patience.hold(here=False):
        assert gc.get_threshold() == modest
    assert gc.get_threshold() == threshold


@pytest.mark.parametrize("young", [0, 1_000_000])
def test_a_collector_that_is_off_or_more_patient_stays_so(young: int) -> None:
    gc.set_threshold(young, 10, 10)
    with patience.hold(here=True):
        assert gc.get_threshold()[0] == young
    assert gc.get_threshold()[0] == young


def test_what_user_code_sets_meanwhile_stays() -> None:
    with patience.hold(here=True):
        gc.set_threshold(800, 5, 5)
    assert gc.get_threshold() == (800, 5, 5)


def test_a_forked_child_has_the_threshold_of_before(threshold: tuple[int, int, int]) -> None:
    with patience.hold(here=True):
        child = os.fork()
        if not child:
            os._exit(0 if gc.get_threshold() == threshold else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert gc.get_threshold() != threshold


def test_nothing_is_collected_while_the_collector_is_switched_off() -> None:
    with switched_off():
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.mark.parametrize(("branches", "raised"), [(20, False), (1_000, True)])
def test_only_a_batch_of_very_many_branches_raises_it(
    branches: int, raised: bool, threshold: tuple[int, int, int]
) -> None:
    seen: set[int] = set()

    def branch(_ctx: DurableContext, _item: int, _index: int, _inputs: Sequence[int]) -> None:
        seen.add(gc.get_threshold()[0])

    @durable_execution
    def handler(_event: object, context: DurableContext) -> None:
        context.map(range(branches), branch).throw_if_error()

    durapool.run(handler, None, store=durapool.MemoryStore(), executor=ThreadExecutor(max_threads=2))
    assert {value > threshold[0] for value in seen} == {raised}
    assert gc.get_threshold() == threshold


@pytest.mark.parametrize(("executor", "raised"), [(ThreadExecutor(max_threads=2), False), (ProcessExecutor(), True)])
def test_the_middle_generation_waits_longer_only_where_branches_run_elsewhere(
    executor: ThreadExecutor | ProcessExecutor, raised: bool, threshold: tuple[int, int, int]
) -> None:
    seen: set[int] = set()

    class Watched(Sequence[int]):
        """Looked into by this process while the batch runs."""

        def __len__(self) -> int:
            return 1_000

        def __getitem__(self, index: Any) -> Any:
            seen.add(gc.get_threshold()[1])
            return index

    @durable_execution
    def handler(_event: object, context: DurableContext) -> None:
        context.map(Watched(), nothing).throw_if_error()

    durapool.run(handler, None, store=durapool.MemoryStore(), executor=executor)
    assert {value > threshold[1] for value in seen} == {raised}
    assert gc.get_threshold() == threshold


def nothing(_ctx: DurableContext, _item: int, _index: int, _inputs: Sequence[int]) -> None:
    """A branch that does nothing."""
