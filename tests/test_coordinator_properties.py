"""The coordinator against a naive model: any number of branches, any order of what happens, any config."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durapool.config import CompletionConfig
from durapool.coordinator import CompletionPolicy, Coordinator, PauseAfter
from durapool.exceptions import InvalidStateError
from durapool.results import CompletionReason

ACTIONS = ("next", "succeeded", "failed", "suspended", "ready", "returned", "lost_retry")


class Model:
    """The rules written down one by one, each answer worked out anew from lists and sets."""

    def __init__(self, config: CompletionConfig, total: int, max_concurrency: int | None) -> None:
        self.config, self.total, self.limit = config, total, max_concurrency
        self.ends: list[tuple[int, bool]] = []  # those that count, in order
        self.late: set[int] = set()
        self.started: set[int] = set()  # has a place or had one in an earlier run, and has not ended
        self.places: set[int] = set()
        self.running: set[int] = set()
        self.suspended: set[int] = set()
        self.first_run: set[int] = set()
        self.decision = self.verdict([])

    def verdict(self, ends: list[tuple[int, bool]]) -> CompletionReason | None:
        failed = sum(1 for _, good in ends if not good)
        minimum = self.config.min_successful
        if self.exceeds(failed):
            return CompletionReason.FAILURE_TOLERANCE_EXCEEDED
        if len(ends) == self.total:
            return CompletionReason.ALL_COMPLETED
        if minimum is not None and len(ends) - failed >= minimum:
            return CompletionReason.MIN_SUCCESSFUL_REACHED
        return None

    def exceeds(self, failed: int) -> bool:
        count, percentage = self.config.tolerated_failure_count, self.config.tolerated_failure_percentage
        return any(
            [
                count is not None and failed > count,
                percentage is not None and 100 * failed > Fraction(str(percentage)) * self.total,
                count is None and percentage is None and self.config.min_successful is None and failed > 0,
            ]
        )

    def recover(self, ended: list[tuple[int, bool]], started: list[int]) -> None:
        for index, good in ended:
            self.end(index, good)
        self.started.update(started)

    def end(self, index: int, good: bool) -> bool:
        for group in (self.places, self.running, self.suspended, self.first_run):
            group.discard(index)
        if self.decision is not None:
            self.started.add(index)
            self.late.add(index)
            return False
        self.started.discard(index)
        self.ends.append((index, good))
        self.decision = self.verdict(self.ends)
        return True

    def candidate(self) -> int | None:
        if self.decision is not None:
            return None
        has_room = self.limit is None or len(self.places) < self.limit
        waiting = self.started - self.running - self.suspended - self.late
        again = [index for index in waiting if index in self.places or has_room]
        if again:
            return min(again)
        ended = {index for index, _ in self.ends}
        new = [index for index in range(self.total) if index not in self.started | ended]
        return min(new) if new and has_room else None

    def next(self) -> int | None:
        index = self.candidate()
        if index is not None:
            if index not in self.started:
                self.first_run.add(index)
            self.started.add(index)
            self.places.add(index)
            self.running.add(index)
        return index

    def allowed(self, action: str, index: int) -> bool:
        match action:
            case "succeeded" | "failed":
                return index in self.places
            case "ready":
                return index in self.places - self.running
            case _:
                return index in self.running

    def apply(self, action: str, index: int) -> bool | None:
        match action:
            case "succeeded" | "failed":
                return self.end(index, action == "succeeded")
            case "suspended":
                self.running.discard(index)
                self.suspended.add(index)
                self.first_run.discard(index)
            case "ready":
                self.suspended.discard(index)
            case "lost_retry":
                self.running.discard(index)
                self.first_run.discard(index)
            case "returned":
                self.running.discard(index)
                if index in self.first_run:
                    self.first_run.discard(index)
                    self.places.discard(index)
                    self.started.discard(index)
        return None

    def pause_after(self) -> PauseAfter:
        if self.decision is not None:
            return PauseAfter.ANY
        alike = max(1, len(self.running))  # so many may end the same way before the parent hears of one
        good = sum(1 for _, succeeded in self.ends if succeeded)
        success = self.config.min_successful is not None and good + alike >= self.config.min_successful
        failure = self.exceeds(len(self.ends) - good + alike)
        if success and failure:
            return PauseAfter.ANY
        return PauseAfter.SUCCESS if success else PauseAfter.FAILURE if failure else PauseAfter.NEVER


@st.composite
def configs(draw: st.DrawFn, total: int) -> CompletionConfig:
    return CompletionConfig(
        min_successful=draw(st.none() | st.integers(1, total)) if total else None,
        tolerated_failure_count=draw(st.none() | st.integers(0, total + 1)),
        tolerated_failure_percentage=draw(
            st.none() | st.integers(0, 100) | st.integers(0, 1000).map(lambda tenths: tenths / 10)
        ),
    )


@st.composite
def records(draw: st.DrawFn, total: int) -> tuple[list[tuple[int, bool]], list[int]]:
    """What an earlier run recorded: ended branches in order, and started ones."""
    order = draw(st.permutations(range(total)))
    ended = draw(st.integers(0, total))
    started = draw(st.integers(0, total - ended))
    return [(index, draw(st.booleans())) for index in order[:ended]], list(order[ended : ended + started])


def check(coordinator: Coordinator, model: Model) -> None:
    assert coordinator.decision is model.decision
    assert coordinator.unfinished == sorted(model.started)
    assert coordinator.in_flight == len(model.places)
    assert coordinator.running == len(model.running)
    assert coordinator.pause_after is model.pause_after()
    blocked = model.decision is None and not model.running and model.candidate() is None
    assert coordinator.is_blocked is blocked
    counts = coordinator.counts
    assert counts.succeeded == sum(good for _, good in model.ends)
    assert counts.failed == sum(not good for _, good in model.ends)
    assert counts.unfinished == len(model.started)
    assert counts.succeeded + counts.failed + counts.unfinished + counts.pending == model.total


def do(coordinator: Coordinator, model: Model, action: str, pick: int) -> None:
    """Do `action` to a branch that allows it, chosen by `pick`; a negative pick names any branch, known or not."""
    if action == "next":
        assert coordinator.next() == model.next()
        return
    branches = [index for index in range(model.total) if model.allowed(action, index)]
    index = branches[pick % len(branches)] if branches and pick >= 0 else -pick - 2
    if model.allowed(action, index):
        assert getattr(coordinator, f"on_{action}")(index) == model.apply(action, index)
    else:
        with pytest.raises(InvalidStateError):
            getattr(coordinator, f"on_{action}")(index)


@settings(max_examples=400)
@given(st.data())
def test_the_coordinator_does_what_the_naive_model_does(data: st.DataObject) -> None:
    total = data.draw(st.integers(0, 12), "total")
    config = data.draw(configs(total), "config")
    limit = data.draw(st.none() | st.integers(1, total + 1), "max_concurrency")
    coordinator = Coordinator(CompletionPolicy.of(config, total), limit)
    model = Model(config, total, limit)
    if data.draw(st.booleans(), "resumed"):
        ended, started = data.draw(records(total), "record")
        coordinator.recover(ended, started)
        model.recover(ended, started)
    check(coordinator, model)
    steps = st.tuples(st.sampled_from(ACTIONS + ("next",) * 4), st.integers(-total - 3, 24))
    for action, pick in data.draw(st.lists(steps, max_size=60), "steps"):
        do(coordinator, model, action, pick)
        check(coordinator, model)


@settings(max_examples=200)
@given(st.data())
def test_every_batch_ends_and_resumes_from_any_point_to_the_same_decision(data: st.DataObject) -> None:
    """Drive a batch to its decision; a resume from its whole record decides the same, STARTED set included."""
    total = data.draw(st.integers(0, 12), "total")
    policy = CompletionPolicy.of(data.draw(configs(total), "config"), total)
    limit = data.draw(st.none() | st.integers(1, total + 1), "max_concurrency")
    coordinator = Coordinator(policy, limit)
    running: list[int] = []
    ended: list[tuple[int, bool]] = []
    while coordinator.decision is None:
        while (index := coordinator.next()) is not None:
            running.append(index)
        assert running, "undecided, and nothing runs"
        assert limit is None or len(running) <= limit
        index = running.pop(data.draw(st.integers(0, len(running) - 1)))
        if data.draw(st.booleans()):
            coordinator.on_suspended(index)
            coordinator.on_ready(index)
            continue
        good = data.draw(st.booleans())
        assert (coordinator.on_succeeded if good else coordinator.on_failed)(index)
        ended.append((index, good))
    resumed = Coordinator(policy, limit)
    resumed.recover(ended, coordinator.unfinished)
    assert resumed.decision is coordinator.decision
    assert resumed.unfinished == coordinator.unfinished
    assert resumed.counts == coordinator.counts
