"""Permits of branches that were sent ahead: whoever takes one first decides whether the branch starts."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from durapool.pool.claims import Claims
from durapool.worker.entry import may_start


@pytest.fixture
def claims() -> Iterator[Claims]:
    pipe = Claims()
    yield pipe
    pipe.close()


def test_a_worker_starts_one_branch_for_each_permit(claims: Claims) -> None:
    claims.permit()
    claims.permit()
    assert [may_start(claims.read_end) for _ in range(3)] == [True, True, False]


def test_what_has_started_cannot_be_taken_back(claims: Claims) -> None:
    for _ in range(3):
        claims.permit()
    assert may_start(claims.read_end)
    assert claims.take_back(3) == 2
    assert not may_start(claims.read_end)


def test_no_more_is_taken_back_than_was_asked_for(claims: Claims) -> None:
    for _ in range(3):
        claims.permit()
    assert claims.take_back(0) == 0
    assert claims.take_back(2) == 2
    assert claims.take_back(2) == 1
    assert claims.take_back(2) == 0


def test_permits_of_a_closed_pipe_are_gone(claims: Claims) -> None:
    claims.permit()
    claims.close()
    claims.close()
    assert claims.take_back(1) == 0


def test_the_pipe_takes_a_permit_while_nobody_reads(claims: Claims) -> None:
    for _ in range(1000):
        claims.permit()
    assert claims.take_back(2000) == 1000
    assert not os.get_blocking(claims.read_end)
