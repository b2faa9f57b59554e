"""The suspended branches of a batch: who goes on when, and who is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from durapool.clock import SystemClock
from durapool.executors.waiting import Waiting
from durapool.journal import EXECUTION_ID, Journal
from durapool.records import DETAIL_HANDLER, Action, OperationType, Update
from durapool.stores import MemoryStore

START = 1000.0


class Clock(SystemClock):
    at = START

    def now(self) -> float:
        return self.at


class Watched:
    """A view of a journal that notes which operations were asked for."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.view = journal.view("the test")
        self.asked: list[str] = []

    def is_due(self, operation_id: str) -> bool:
        self.asked.append(operation_id)
        return self.journal.is_due(operation_id)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(clock: Clock) -> Iterator[Any]:
    journal = Journal.open(MemoryStore(), "x", clock)
    journal.append((Update(EXECUTION_ID, Action.START, OperationType.EXECUTION, details={DETAIL_HANDLER: "m:h"}),))
    journal.append([Update(f"wait-{n}", Action.START, OperationType.WAIT, delay=float(n)) for n in range(1, 1001)])
    journal.append((Update("callback", Action.START, OperationType.CALLBACK, delay=500.0),))
    yield Watched(journal)
    journal.close()


def take(waiting: Waiting, journal: Any) -> list[int]:
    return waiting.take_due(journal.view.settle(), journal)


def test_only_branches_whose_time_has_come_are_asked_about(journal: Any, clock: Clock) -> None:
    waiting = Waiting()
    for index in range(1, 1001):
        waiting.add(index, frozenset({f"wait-{index}"}), journal)
    journal.asked.clear()
    assert take(waiting, journal) == []
    assert journal.asked == []
    clock.at = START + 2
    assert take(waiting, journal) == [1, 2]
    assert sorted(journal.asked) == ["wait-1", "wait-2"]
    assert len(waiting.branches) == 998


def test_the_earliest_of_several_operations_lets_a_branch_go_on_once(journal: Any, clock: Clock) -> None:
    waiting = Waiting()
    waiting.add(7, frozenset({"wait-3", "wait-5"}), journal)
    clock.at = START + 3
    assert take(waiting, journal) == [7]
    clock.at = START + 5
    assert take(waiting, journal) == []
    assert not waiting.operations


def test_a_branch_goes_on_when_its_callback_is_answered_or_has_timed_out(journal: Any, clock: Clock) -> None:
    waiting = Waiting()
    waiting.add(0, frozenset({"callback", "wait-900"}), journal)
    assert take(waiting, journal) == []
    clock.at = START + 500
    assert take(waiting, journal) == [0]


def test_what_another_view_has_settled_is_told_to_this_one(journal: Any, clock: Clock) -> None:
    waiting = Waiting()
    waiting.add(0, frozenset({"wait-1"}), journal)
    clock.at = START + 1
    assert "wait-1" in journal.journal.view("another").settle()
    clock.at = START  # a clock that was put back
    assert journal.view.next_due() == 0
    assert take(waiting, journal) == [0]


def test_a_branch_suspended_on_what_has_ended_meanwhile_goes_on(journal: Any, clock: Clock) -> None:
    clock.at = START + 1
    journal.journal.settle()
    waiting = Waiting()
    waiting.add(0, frozenset({"wait-1"}), journal)
    assert take(waiting, journal) == [0]


def test_a_branch_that_waits_no_more_is_not_given(journal: Any, clock: Clock) -> None:
    waiting = Waiting()
    waiting.add(0, frozenset({"wait-1"}), journal)
    waiting.add(1, frozenset({"callback"}), journal)
    waiting.discard(0)
    waiting.discard(1)
    clock.at = START + 600
    assert take(waiting, journal) == []
