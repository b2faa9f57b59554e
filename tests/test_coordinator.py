"""One test for each rule of a batch that the coordinator keeps."""

from __future__ import annotations

import math
import sys

import pytest

from durapool.config import CompletionConfig
from durapool.coordinator import CompletionPolicy, Coordinator, Counts, PauseAfter
from durapool.exceptions import InvalidStateError, ValidationError
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


def run(coordinator: Coordinator, outcomes: str) -> CompletionReason | None:
    """Start all, then end branch i as letter i says: s or f."""
    start_all(coordinator)
    for index, outcome in enumerate(outcomes):
        (coordinator.on_succeeded if outcome == "s" else coordinator.on_failed)(index)
    return coordinator.decision


# Completion


def test_an_empty_batch_is_complete_at_once() -> None:
    coordinator = batch(0)
    assert coordinator.decision is ALL_COMPLETED
    assert coordinator.next() is None
    assert coordinator.unfinished == []
    assert not coordinator.is_blocked


def test_min_successful_above_the_number_of_branches_is_refused() -> None:
    with pytest.raises(ValidationError, match="3 > 2"):
        CompletionPolicy.of(CompletionConfig(min_successful=3), 2)
    assert CompletionPolicy.of(CompletionConfig(min_successful=2), 2).min_successful == 2


def test_max_concurrency_below_one_is_refused() -> None:
    with pytest.raises(ValidationError, match="max_concurrency"):
        batch(1, 0)


def test_without_any_criterion_the_first_failure_decides() -> None:
    assert run(batch(3, config=CompletionConfig()), "sf") is FAILURE_TOLERANCE_EXCEEDED


def test_all_successful_stops_at_the_first_failure() -> None:
    assert run(batch(3, config=CompletionConfig.all_successful()), "sf") is FAILURE_TOLERANCE_EXCEEDED
    assert run(batch(3, config=CompletionConfig.all_successful()), "sss") is ALL_COMPLETED


def test_all_completed_goes_on_through_every_failure() -> None:
    coordinator = batch(3)
    assert run(coordinator, "ff") is None
    coordinator.on_failed(2)
    assert coordinator.decision is ALL_COMPLETED


def test_first_successful_ignores_failures_until_a_success() -> None:
    assert run(batch(4, config=CompletionConfig.first_successful()), "ffs") is MIN_SUCCESSFUL_REACHED
    assert run(batch(3, config=CompletionConfig.first_successful()), "fff") is ALL_COMPLETED


def test_as_many_failures_as_the_count_are_tolerated() -> None:
    config = CompletionConfig(tolerated_failure_count=2)
    assert run(batch(5, config=config), "ff") is None
    assert run(batch(5, config=config), "fff") is FAILURE_TOLERANCE_EXCEEDED


def test_as_many_failures_as_the_percentage_are_tolerated() -> None:
    config = CompletionConfig(tolerated_failure_percentage=40)
    assert run(batch(5, config=config), "ff") is None
    assert run(batch(5, config=config), "fff") is FAILURE_TOLERANCE_EXCEEDED


@pytest.mark.parametrize(
    ("percentage", "total", "tolerated"),
    [(50, 3, 1), (33.4, 3, 1), (33.3, 3, 0), (100, 7, 7), (0, 7, 0), (2.3, 1000, 23), (0.1, 1000, 1)],
)
def test_a_percentage_counts_exactly(percentage: float, total: int, tolerated: int) -> None:
    policy = CompletionPolicy.of(CompletionConfig(tolerated_failure_percentage=percentage), total)
    assert policy.tolerated_failures == tolerated


def test_the_stricter_of_count_and_percentage_holds() -> None:
    for count, percentage in ((1, 90), (9, 10)):
        config = CompletionConfig(tolerated_failure_count=count, tolerated_failure_percentage=percentage)
        assert CompletionPolicy.of(config, 10).tolerated_failures == 1


def test_min_successful_alone_tolerates_any_failure() -> None:
    assert CompletionPolicy.of(CompletionConfig(min_successful=1), 10).tolerated_failures == math.inf


def test_tolerance_comes_before_all_completed() -> None:
    assert run(batch(2, config=CompletionConfig(tolerated_failure_count=0)), "sf") is FAILURE_TOLERANCE_EXCEEDED


def test_all_completed_comes_before_min_successful() -> None:
    assert run(batch(2, config=CompletionConfig(min_successful=2)), "ss") is ALL_COMPLETED


def test_the_decision_does_not_change_and_later_outcomes_do_not_count() -> None:
    coordinator = batch(3, config=CompletionConfig.first_successful())
    start_all(coordinator)
    assert coordinator.on_succeeded(1) is True
    assert coordinator.on_failed(0) is False
    assert coordinator.on_succeeded(2) is False
    assert coordinator.decision is MIN_SUCCESSFUL_REACHED
    assert coordinator.unfinished == [0, 2]
    assert coordinator.counts == Counts(succeeded=1, failed=0, unfinished=2, pending=0)
    assert coordinator.in_flight == 0


# Who starts


def test_branches_start_in_index_order_within_max_concurrency() -> None:
    coordinator = batch(5, 2)
    assert start_all(coordinator) == [0, 1]
    coordinator.on_succeeded(1)
    assert start_all(coordinator) == [2]
    coordinator.on_failed(0)
    assert start_all(coordinator) == [3]
    assert (coordinator.in_flight, coordinator.running) == (2, 2)


def test_without_max_concurrency_all_branches_start() -> None:
    assert start_all(batch(100)) == list(range(100))


def test_nothing_starts_after_the_decision_and_never_started_branches_are_left_out() -> None:
    coordinator = batch(5, 2, CompletionConfig.all_successful())
    start_all(coordinator)
    coordinator.on_failed(1)
    assert coordinator.next() is None
    assert coordinator.unfinished == [0]
    assert coordinator.counts.pending == 3


def test_a_suspended_branch_keeps_its_place() -> None:
    coordinator = batch(3, 1)
    assert start_all(coordinator) == [0]
    coordinator.on_suspended(0)
    assert coordinator.next() is None
    assert (coordinator.in_flight, coordinator.running) == (1, 0)
    assert coordinator.unfinished == [0]


def test_a_ready_branch_goes_on_before_new_ones_and_takes_no_new_place() -> None:
    coordinator = batch(5, 3)
    assert start_all(coordinator) == [0, 1, 2]
    for index in (2, 0):
        coordinator.on_suspended(index)
    for index in (2, 0):
        coordinator.on_ready(index)
    coordinator.on_succeeded(1)
    assert start_all(coordinator) == [0, 2, 3]
    assert coordinator.in_flight == 3


def test_ready_twice_is_ready_once() -> None:
    coordinator = batch(2, 1)
    start_all(coordinator)
    coordinator.on_suspended(0)
    coordinator.on_ready(0)
    coordinator.on_ready(0)
    assert start_all(coordinator) == [0]


def test_a_branch_that_ends_while_it_is_ready_is_not_given_again() -> None:
    coordinator = batch(2, 1)
    start_all(coordinator)
    coordinator.on_suspended(0)
    coordinator.on_ready(0)
    coordinator.on_failed(0)
    assert start_all(coordinator) == [1]


def test_a_branch_of_a_lost_worker_runs_again_before_new_ones() -> None:
    coordinator = batch(4, 2)
    start_all(coordinator)
    coordinator.on_lost_retry(1)
    assert (coordinator.in_flight, coordinator.running) == (2, 1)
    assert start_all(coordinator) == [1]


def test_a_branch_taken_back_is_pending_again_and_given_in_index_order() -> None:
    coordinator = batch(6, 4)
    assert start_all(coordinator) == [0, 1, 2, 3]
    for index in (3, 1, 2):
        coordinator.on_returned(index)
    assert coordinator.unfinished == [0]
    assert coordinator.counts == Counts(succeeded=0, failed=0, unfinished=1, pending=5)
    assert start_all(coordinator) == [1, 2, 3]
    coordinator.on_succeeded(0)
    assert start_all(coordinator) == [4]


def test_a_branch_taken_back_at_the_decision_never_started() -> None:
    coordinator = batch(3, config=CompletionConfig.first_successful())
    start_all(coordinator)
    coordinator.on_succeeded(0)
    coordinator.on_returned(2)
    assert coordinator.unfinished == [1]
    assert coordinator.next() is None


def test_a_branch_that_had_begun_before_stays_started_when_it_is_taken_back() -> None:
    coordinator = batch(3, 1)
    start_all(coordinator)
    coordinator.on_suspended(0)
    coordinator.on_ready(0)
    assert coordinator.next() == 0
    coordinator.on_returned(0)
    assert coordinator.unfinished == [0]
    assert start_all(coordinator) == [0]


# Blocked


def test_a_batch_is_blocked_when_only_suspended_branches_are_left_to_wait_for() -> None:
    coordinator = batch(3, 2)
    assert not coordinator.is_blocked  # 0 may start
    start_all(coordinator)
    coordinator.on_suspended(0)
    assert not coordinator.is_blocked  # 1 runs
    coordinator.on_suspended(1)
    assert coordinator.is_blocked
    coordinator.on_ready(1)
    assert not coordinator.is_blocked


def test_a_suspended_branch_does_not_block_while_there_is_room_for_a_new_one() -> None:
    coordinator = batch(2)
    assert coordinator.next() == 0
    coordinator.on_suspended(0)
    assert not coordinator.is_blocked


def test_a_decided_batch_is_not_blocked() -> None:
    coordinator = batch(2, config=CompletionConfig.first_successful())
    start_all(coordinator)
    coordinator.on_suspended(1)
    coordinator.on_succeeded(0)
    assert not coordinator.is_blocked
    assert coordinator.unfinished == [1]


# Pausing


@pytest.mark.parametrize(
    ("config", "total", "outcomes", "expected"),
    [
        (CompletionConfig.all_completed(), 3, "", PauseAfter.NEVER),
        (CompletionConfig.all_completed(), 3, "sf", PauseAfter.NEVER),
        (CompletionConfig.all_successful(), 3, "", PauseAfter.FAILURE),
        (CompletionConfig.first_successful(), 3, "", PauseAfter.SUCCESS),
        (CompletionConfig.first_successful(), 3, "s", PauseAfter.ANY),
        (CompletionConfig(tolerated_failure_count=9), 9, "", PauseAfter.NEVER),
        (CompletionConfig(tolerated_failure_count=1), 9, "", PauseAfter.FAILURE),  # those beside it may fail too
        (CompletionConfig(tolerated_failure_count=1), 9, "f", PauseAfter.FAILURE),
        (CompletionConfig(min_successful=2, tolerated_failure_count=1), 9, "sf", PauseAfter.ANY),
    ],
)
def test_a_worker_pauses_after_an_outcome_that_could_decide(
    config: CompletionConfig, total: int, outcomes: str, expected: PauseAfter
) -> None:
    coordinator = batch(total, config=config)
    run(coordinator, outcomes)
    assert coordinator.pause_after is expected


# Misuse


def test_a_second_end_of_a_branch_is_refused() -> None:
    coordinator = batch(2)
    start_all(coordinator)
    coordinator.on_succeeded(0)
    with pytest.raises(InvalidStateError, match="branch 0: it is ended"):
        coordinator.on_failed(0)


def test_a_second_end_is_refused_after_the_decision_too() -> None:
    coordinator = batch(2, config=CompletionConfig.first_successful())
    start_all(coordinator)
    coordinator.on_succeeded(0)
    coordinator.on_succeeded(1)
    for index in (0, 1):
        with pytest.raises(InvalidStateError):
            coordinator.on_succeeded(index)


@pytest.mark.parametrize("method", ["on_succeeded", "on_failed", "on_suspended", "on_returned", "on_lost_retry"])
@pytest.mark.parametrize("index", [-1, 1, 2, 3])
def test_an_outcome_of_a_branch_that_is_not_in_flight_is_refused(method: str, index: int) -> None:
    coordinator = batch(3, 1)
    coordinator.recover(ended=[], started=[0, 2])
    assert start_all(coordinator) == [0]
    with pytest.raises(InvalidStateError, match=f"branch {index}"):
        getattr(coordinator, method)(index)
    assert coordinator.counts == Counts(succeeded=0, failed=0, unfinished=2, pending=1)


def test_only_a_suspended_branch_becomes_ready() -> None:
    coordinator = batch(2, 1)
    start_all(coordinator)
    for index in (0, 1):
        with pytest.raises(InvalidStateError, match="make ready"):
            coordinator.on_ready(index)


# Size


def test_a_hundred_thousand_branches_take_one_byte_each_at_rest() -> None:
    coordinator = batch(100_000, 4)
    kept = sum(sys.getsizeof(getattr(coordinator, name)) for name in Coordinator.__slots__)
    assert kept < 110_000


def test_a_hundred_thousand_branches_run_through() -> None:
    total = 100_000
    coordinator = batch(total)
    assert start_all(coordinator) == list(range(total))
    for index in reversed(range(total // 2, total)):
        coordinator.on_returned(index)
    assert start_all(coordinator) == list(range(total // 2, total))
    for index in reversed(range(total)):
        coordinator.on_succeeded(index)
    assert coordinator.decision is ALL_COMPLETED
