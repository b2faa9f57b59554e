"""A batch that is resumed: what the coordinator takes over from the record, and who starts again."""

from __future__ import annotations

import pytest

from durapool.config import CompletionConfig
from durapool.coordinator import CompletionPolicy, Coordinator, Counts
from durapool.exceptions import InvalidStateError
from durapool.results import CompletionReason

ALL_COMPLETED = CompletionReason.ALL_COMPLETED
MIN_SUCCESSFUL_REACHED = CompletionReason.MIN_SUCCESSFUL_REACHED
FAILURE_TOLERANCE_EXCEEDED = CompletionReason.FAILURE_TOLERANCE_EXCEEDED


def batch(total: int, max_concurrency: int | None = None, config: CompletionConfig | None = None) -> Coordinator:
    """A coordinator that runs everything to its end unless a config says otherwise."""
    policy = CompletionPolicy.of(config or CompletionConfig.all_completed(), total)
    return Coordinator(policy, max_concurrency)


def start_all(coordinator: Coordinator) -> list[int]:
    given = []
    while (index := coordinator.next()) is not None:
        given.append(index)
    return given


def test_a_resumed_batch_restarts_started_branches_in_index_order_and_then_starts_new_ones() -> None:
    coordinator = batch(8, 3)
    coordinator.recover(ended=[(2, True), (0, False)], started=[5, 1, 3])
    assert coordinator.counts == Counts(succeeded=1, failed=1, unfinished=3, pending=3)
    assert coordinator.in_flight == 0
    assert start_all(coordinator) == [1, 3, 5]
    coordinator.on_succeeded(3)
    coordinator.on_succeeded(1)
    assert start_all(coordinator) == [4, 6]


def test_more_recorded_branches_than_places_wait_for_their_turn() -> None:
    coordinator = batch(4, 1)
    coordinator.recover(ended=[], started=[0, 1, 2])
    assert start_all(coordinator) == [0]
    coordinator.on_suspended(0)
    assert coordinator.is_blocked
    coordinator.on_ready(0)
    assert start_all(coordinator) == [0]
    coordinator.on_succeeded(0)
    assert start_all(coordinator) == [1]
    assert coordinator.unfinished == [1, 2]


def test_the_lower_of_a_ready_and_a_recorded_branch_goes_first() -> None:
    coordinator = batch(4, 3)
    coordinator.recover(ended=[], started=[0, 1, 2, 3])
    assert start_all(coordinator) == [0, 1, 2]
    coordinator.on_suspended(2)
    coordinator.on_ready(2)
    coordinator.on_succeeded(0)
    assert start_all(coordinator) == [2, 3]


def test_the_decision_falls_at_the_recorded_branch_and_later_ends_count_as_started() -> None:
    coordinator = batch(5, config=CompletionConfig(min_successful=2, tolerated_failure_count=0))
    coordinator.recover(ended=[(3, True), (1, True), (0, False)], started=[4])
    assert coordinator.decision is MIN_SUCCESSFUL_REACHED
    assert coordinator.unfinished == [0, 4]
    assert coordinator.counts == Counts(succeeded=2, failed=0, unfinished=2, pending=1)
    assert coordinator.next() is None


def test_the_recorded_order_decides_not_the_index_order() -> None:
    config = CompletionConfig(min_successful=1, tolerated_failure_count=0)
    failure_first, success_first = batch(3, config=config), batch(3, config=config)
    failure_first.recover(ended=[(2, False), (0, True)], started=[])
    success_first.recover(ended=[(0, True), (2, False)], started=[])
    assert failure_first.decision is FAILURE_TOLERANCE_EXCEEDED
    assert success_first.decision is MIN_SUCCESSFUL_REACHED


def test_a_record_of_a_finished_batch_gives_its_result_again() -> None:
    coordinator = batch(2)
    coordinator.recover(ended=[(1, True), (0, False)], started=[])
    assert coordinator.decision is ALL_COMPLETED
    assert coordinator.unfinished == []


@pytest.mark.parametrize(
    ("ended", "started"),
    [([(0, True), (0, False)], []), ([(0, True)], [0]), ([], [1, 1]), ([(3, True)], []), ([], [-1])],
)
def test_a_record_that_names_a_branch_twice_or_an_unknown_one_is_refused(
    ended: list[tuple[int, bool]], started: list[int]
) -> None:
    with pytest.raises(InvalidStateError):
        batch(3).recover(ended, started)


def test_a_record_is_taken_over_before_anything_else() -> None:
    coordinator = batch(2)
    coordinator.next()
    with pytest.raises(InvalidStateError, match="before its first branch"):
        coordinator.recover([], [1])
