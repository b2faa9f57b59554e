"""The simulated cluster: a coordinator that keeps its rules whatever happens to 50 workers, the same way each time."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from perf.simulation import Call, Cluster, Course, follow_alone, follow_recorded, simulate

from durapool.results import BatchItemStatus, CompletionReason

BRANCHES = 2_000
ROUGH = Cluster(workers=50, failed=200, lost=100, taken_back=100, suspended=200)


@pytest.fixture(scope="module")
def course() -> Course:
    return simulate(BRANCHES, ROUGH)


def made(course: Course) -> list[tuple[Call, int]]:
    """All calls, in order."""
    return [(Call(call), index) for call, index in zip(course.calls, course.indexes, strict=True)]


def test_every_branch_ends_once_whatever_happens_to_its_workers(course: Course) -> None:
    ends = Counter(index for call, index in made(course) if call in (Call.SUCCEEDED, Call.FAILED))
    assert ends == dict.fromkeys(range(BRANCHES), 1)
    assert all(course.count(call) > 0 for call in Call)


def test_no_more_branches_are_in_flight_than_max_concurrency(course: Course) -> None:
    in_flight: set[int] = set()
    most = 0
    for call, index in made(course):
        if call is Call.NEXT:
            in_flight.add(index)
        elif call in (Call.SUCCEEDED, Call.FAILED, Call.TAKEN_BACK):
            in_flight.discard(index)
        most = max(most, len(in_flight))
    assert most == course.most_in_flight == ROUGH.workers


def test_new_branches_start_in_index_order(course: Course) -> None:
    seen: set[int] = set()
    firsts = [index for call, index in made(course) if call is Call.NEXT and not (index in seen or seen.add(index))]
    assert all(earlier < later for earlier, later in pairwise(firsts))


def test_failures_are_counted(course: Course) -> None:
    counts = follow_alone(course).counts
    assert counts.failed == course.count(Call.FAILED) > 0
    assert counts.succeeded == BRANCHES - counts.failed


def test_the_same_calls_with_a_journal_come_to_the_same_result(course: Course) -> None:
    journal, outcome = follow_recorded(course)
    failed = {index for call, index in made(course) if call is Call.FAILED}
    assert outcome.reason is CompletionReason.ALL_COMPLETED
    assert [item.index for item in outcome.items] == list(range(BRANCHES))
    assert {item.index for item in outcome.items if item.status is BatchItemStatus.FAILED} == failed
    recorded = [operation for operation in journal.operations() if operation.branch is not None]
    assert len(recorded) == BRANCHES
    assert all(operation.status.is_terminal for operation in recorded)


def test_the_course_comes_from_the_seed_alone(course: Course) -> None:
    assert simulate(BRANCHES, ROUGH) == course
    assert simulate(BRANCHES, Cluster(workers=50, seed=21)).calls != course.calls
