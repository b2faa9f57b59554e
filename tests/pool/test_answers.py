"""Acknowledgements: after the commit, for all who wait; a slow commit waits for those who are about to."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from durapool.pool import answers
from durapool.pool.answers import Answers
from durapool.pool.wire import Kind


class Entity:
    """As a worker and a run are: equal to itself alone."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class Office:
    """Workers with a run each, and what happened to them, in order."""

    def __init__(self, count: int) -> None:
        self.log: list[Any] = []
        self.batch: Any = SimpleNamespace(uncommitted=3, open=SimpleNamespace(crash=None, view=self), attempt=call)
        self.workers: list[Any] = [self._worker(number) for number in range(count)]
        self.speaks: Callable[[], None] = lambda: None
        self.waited: list[float] = []

    def _worker(self, number: int) -> Any:
        run = Entity(number=number, received=2, to_tell=[], batch=self.batch, nested={})
        return Entity(run=run, runs=[run], post=lambda kind, *body: self.log.append((kind, *body)))

    def __iter__(self) -> Any:
        return iter(self.workers)

    def barrier(self) -> None:
        self.log.append("commit")

    def wants_to_send(self, worker: Any) -> None:
        self.log.append(("sent", worker.run.number))

    def read_for(self, seconds: float, going_on: Callable[[], bool]) -> None:
        self.waited.append(seconds)
        assert going_on()
        self.speaks()
        assert not going_on()


def call(action: Callable[..., None], *args: Any) -> None:
    action(*args)


def owed(office: Any, *numbers: int) -> Answers:
    given = Answers(office)
    for number in numbers:
        given.owe(office.workers[number], office.workers[number].run)
    return given


def test_nothing_is_committed_for_nobody() -> None:
    office = Office(1)
    owed(office).give([office.batch])
    assert office.log == []
    assert office.batch.uncommitted == 3


def test_one_commit_comes_before_all_answers() -> None:
    office = Office(2)
    given = owed(office, 0, 1)
    given.give([office.batch])
    assert office.log == ["commit", (Kind.ACK, 0, 2, ()), ("sent", 0), (Kind.ACK, 1, 2, ()), ("sent", 1)]
    assert office.batch.uncommitted == 0
    given.give([office.batch])
    assert len(office.log) == 5  # each is answered once


def test_who_has_gone_on_to_another_run_gets_no_answer() -> None:
    office = Office(1)
    given = owed(office, 0)
    office.workers[0].run = None
    given.give([office.batch])
    assert office.log == ["commit"]


def test_nobody_goes_on_past_a_failed_commit() -> None:
    office = Office(1)

    def fails(_action: Callable[..., None], *_args: Any) -> None:
        office.batch.open.crash = RuntimeError("the disk is full")

    office.batch.attempt = fails
    owed(office, 0).give([office.batch])
    assert office.log == []


def test_a_quick_commit_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "SLOW", 60.0)
    office = Office(2)
    given = owed(office, 0)
    given.give([office.batch])
    given.owe(office.workers[0], office.workers[0].run)
    given.linger()
    assert office.waited == []


def test_a_slow_commit_waits_until_all_that_run_have_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "SLOW", 0.0)
    office = Office(2)
    given = owed(office, 0)
    office.speaks = lambda: given.owe(office.workers[1], office.workers[1].run)
    given.linger()
    assert len(office.waited) == 1
    assert office.waited[0] <= answers.LINGER
    given.linger()
    assert len(office.waited) == 1  # all have spoken


def test_a_slow_commit_does_not_wait_for_who_has_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "SLOW", 0.0)
    office = Office(3)
    office.workers[1].runs.clear()  # idle
    office.workers[2].run.nested[1] = "a batch"  # has lent its place
    owed(office, 0).linger()
    assert office.waited == []
