"""What branches and invocations used is recorded with their ends, on every executor."""

from __future__ import annotations

import os
import time

import pytest

import durapool
from durapool import CompletionConfig, MapConfig, durable_execution
from durapool.pool.wire import WireError, unpack_usage
from durapool.records import DETAIL_CPUS, DETAIL_USAGE, Action, OperationSubType
from durapool.reopen import updates_to_reopen
from durapool.stores import MemoryStore
from durapool.usage import Usage


def burn(seconds: float) -> None:
    """Use so much CPU."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def recorded(executor: str) -> MemoryStore:
    @durable_execution
    def handler(event, context):
        def branch(ctx, item, index, inputs):
            burn(0.05)
            if item == 2:
                raise ValueError("two")
            return os.getpid()

        config = MapConfig(completion_config=CompletionConfig.all_completed())
        return context.map([0, 1, 2], branch, config=config).get_results()

    store = MemoryStore()
    durapool.run(handler, id="x", store=store, executor=executor)
    return store


def test_each_branch_tells_where_it_ran_and_what_it_used(executor):
    store = recorded(executor)
    updates = [record.update for record in store.read("x")]
    ends = [u for u in updates if u.sub_type is OperationSubType.MAP_ITERATION and u.action is not Action.START]
    assert [u.action for u in ends].count(Action.FAIL) == 1
    assert len(ends) == 3
    for update in ends:
        usage = Usage(*update.details[DETAIL_USAGE])
        assert 0.04 < usage.cpu <= usage.seconds + 0.05
        assert usage.peak_rss > 1_000_000
        assert (usage.thread is None) == executor.startswith("process")
        if update.action is Action.SUCCEED:
            assert str(usage.pid) == update.payload


def test_an_invocation_tells_its_cpus_and_what_its_process_used(executor):
    details = [r.update.details for r in recorded(executor).read("x") if r.update.action is Action.INVOCATION]
    usage = Usage(*details[0][DETAIL_USAGE])
    assert details[0][DETAIL_CPUS] >= 1
    assert (usage.pid, usage.thread) == (os.getpid(), None)


def test_what_is_reopened_has_used_nothing_yet(executor):
    from durapool.clock import SystemClock
    from durapool.journal import Journal

    store = recorded(executor)
    journal = Journal.open(store, "x", SystemClock())
    try:
        assert all(DETAIL_USAGE not in (u.details or {}) for u in updates_to_reopen(journal, "null", "h"))
    finally:
        journal.close()


@pytest.mark.parametrize(
    "row",
    [
        None,
        [],
        [1, None, 0.1, 0.1],
        [1, None, 0.1, 0.1, 1, 1],
        ["1", None, 0.1, 0.1, 1],
        [1, "main", 0.1, 0.1, 1],
        [1, None, -0.1, 0.1, 1],
        [1, None, 0.1, float("nan"), 1],
        [1, None, float("inf"), 0.1, 1],
        [1, None, 0.1, 0.1, -1],
        [1, None, 0.1, 0.1, 2**63],
        {"pid": 1},
    ],
)
def test_a_usage_that_is_none_is_refused(row):
    with pytest.raises(WireError):
        unpack_usage(row)


def test_a_usage_comes_back_as_it_was_sent():
    usage = Usage(1, 2, 0.5, 0.25, 3)
    assert unpack_usage(list(usage)) == usage
