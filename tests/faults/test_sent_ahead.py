"""Short branches are sent ahead to workers that run others. Nobody may notice, but for the time that it saves.

The first branches of each batch here are short, so that lines form behind those that follow.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from pool_tools import ALL, FIRST, run_batch, the_pool, wait_until

import durapool
from durapool import CompletionConfig, ParallelConfig, durable_execution
from durapool.executors import ProcessExecutor, process
from durapool.pool.dispatch import Dispatcher
from durapool.pool.pool import Pool
from durapool.stores import MemoryStore

pytestmark = pytest.mark.usefixtures("fresh_pools")

SHORT = 40  # branches that come first


def note(folder: Path, index: int) -> None:
    (folder / f"{index}").touch()


def noted(folder: Path) -> set[int]:
    return {int(each.name) for each in folder.iterdir()}


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths that lines had when another branch was sent ahead."""
    lengths: list[int] = []
    give = Dispatcher._give

    def give_and_count(self, worker, *args):
        lengths.append(len(worker.runs))
        give(self, worker, *args)

    monkeypatch.setattr(Dispatcher, "_give", give_and_count)
    return lengths


def test_short_branches_are_sent_ahead(lines):
    assert run_batch([lambda ctx, i=i: ctx.step(lambda _: i) for i in range(200)]) == list(range(200))
    assert max(lines) > 2


def test_the_first_branches_of_a_batch_are_not_sent_ahead(lines):
    """Nothing is known of their length yet."""
    assert run_batch([lambda ctx: 1, lambda ctx: 2]) == [1, 2]
    assert run_batch([lambda ctx: 3, lambda ctx: 4]) == [3, 4]
    assert set(lines) == {0}


def test_max_concurrency_counts_what_was_sent_ahead(lines):
    config = ParallelConfig(executor="process:1", max_concurrency=2)

    @durable_execution
    def handler(event, context):
        return context.parallel([lambda ctx: 1] * SHORT, config=config).total_count

    assert durapool.run(handler, store=MemoryStore()) == SHORT
    assert max(lines) == 1


def test_what_waits_behind_a_slow_branch_is_taken_back(tmp_path, lines):
    """The slow branch ends only when all others have: those in its line among them."""

    def short(ctx, i):
        note(tmp_path, i)
        return i

    def slow(ctx):
        wait_until(lambda: len(noted(tmp_path)) == 2 * SHORT, 60)
        return "slow"

    branches = [lambda ctx, i=i: short(ctx, i) for i in range(2 * SHORT)]
    branches.insert(SHORT, slow)
    results = run_batch(branches)
    assert results.pop(SHORT) == "slow"
    assert results == list(range(2 * SHORT))
    assert max(lines) > 1


@pytest.mark.parametrize("last", ["success", "failure"])
def test_no_branch_starts_behind_the_one_that_decides(tmp_path, lines, last):
    """One worker, so what was in its line is known to have been behind the decision."""

    def branch(ctx, i):
        note(tmp_path, i)
        if (i == SHORT) is (last == "failure"):
            raise ValueError(i)

    completion = FIRST if last == "success" else CompletionConfig.all_successful()
    results = run_batch([lambda ctx, i=i: branch(ctx, i) for i in range(2 * SHORT)], "process:1", completion)
    assert len(results) == SHORT + 1
    assert noted(tmp_path) == set(range(SHORT + 1))
    assert max(lines) > 0


def test_a_worker_that_dies_loses_the_branch_that_it_ran_and_none_of_its_line(tmp_path, lines):
    def dies(ctx):
        os.kill(os.getpid(), signal.SIGKILL)

    branches = [lambda ctx, i=i: i for i in range(2 * SHORT)]
    branches.insert(SHORT, dies)
    results = run_batch(branches)
    assert results.pop(SHORT) == "WorkerLostError"
    assert results == list(range(2 * SHORT))
    assert max(lines) > 1


def test_what_ended_before_its_worker_was_lost_counts_where_both_are_heard_at_once(tmp_path, monkeypatch):
    turn, go_on = Pool.turn, tmp_path / "go-on"

    def turn_late(pool):
        for worker in pool.workers:
            has_both = [run.index for run in worker.runs] == [SHORT, SHORT + 1]
            if has_both and not (worker.permits or worker.outgoing or go_on.exists()):
                go_on.touch()
                wait_until(lambda: select.select([pool.link], [], [], 0)[0])  # what says that the worker is gone
        turn(pool)

    monkeypatch.setattr(Pool, "turn", turn_late)
    monkeypatch.setattr(process, "BRISK", 60.0)  # on a busy machine, too
    branches = [lambda ctx, i=i: i for i in range(SHORT)]
    branches += [lambda ctx: wait_until(go_on.exists) or "ended", lambda ctx: os._exit(3)]
    results = run_batch(branches, "process:1", CompletionConfig.all_successful())
    assert results == [*range(SHORT), "ended", "WorkerLostError"]


def test_each_branch_runs_once_however_often_it_is_taken_back(tmp_path):
    def branch(ctx, i):
        with (tmp_path / "log").open("a") as log:
            log.write(f"{i}\n")
        if i % 7 == 6:
            os._exit(3)
        if i % 11 == 10:
            end = time.monotonic() + 0.02
            while time.monotonic() < end:
                pass
        return i

    results = run_batch([lambda ctx, i=i: branch(ctx, i) for i in range(120)])
    assert [each for each in results if each != "WorkerLostError"] == [i for i in range(120) if i % 7 != 6]
    times = Counter((tmp_path / "log").read_text().split())
    assert times == Counter(map(str, range(120)))


def test_a_branch_over_its_time_stops_alone(lines):
    executor = ProcessExecutor(workers=1, timeout=1.0)
    branches = [lambda ctx, i=i: i for i in range(2 * SHORT)]
    branches.insert(SHORT, lambda ctx: signal.pause())
    results = run_batch(branches, executor)
    assert results.pop(SHORT) == "BranchTimeoutError"
    assert results == list(range(2 * SHORT))
    assert max(lines) > 0


def test_a_branch_that_nests_holds_up_nobody(lines):
    def nests(ctx):
        return sum(ctx.parallel([lambda c: 1, lambda c: 2]).get_results())

    branches = [lambda ctx: 0] * SHORT + [nests] * SHORT
    assert run_batch(branches) == [0] * SHORT + [3] * SHORT
    assert max(lines) > 0


def test_a_worker_gets_no_more_branches_than_it_may_run(lines):
    executor = ProcessExecutor(workers=2, max_branches_per_worker=5)
    pids = Counter(run_batch([lambda ctx: os.getpid()] * 100, executor))
    assert max(pids.values()) <= 5
    assert sum(pids.values()) == 100


def test_a_branch_that_cannot_be_pickled_fails_alone_in_a_line(lines):
    lock = __import__("threading").Lock()
    branches = [lambda ctx, i=i: i for i in range(2 * SHORT)]
    branches.insert(SHORT, lambda ctx: lock)
    results = run_batch(branches, "process:1")
    assert results.pop(SHORT) == "SerDesError"
    assert results == list(range(2 * SHORT))
    assert max(lines) > 0


def test_a_suspended_branch_does_not_hold_up_its_line():
    def waits(ctx):
        ctx.wait(durapool.Duration.from_seconds(1))
        return "waited"

    branches = [lambda ctx, i=i: i for i in range(2 * SHORT)]
    branches.insert(SHORT, waits)
    results = run_batch(branches, "process:1")
    assert results.pop(SHORT) == "waited"
    assert results == list(range(2 * SHORT))


def test_workers_are_idle_after_an_early_decision_and_serve_the_next_batch(tmp_path):
    def branch(ctx, i):
        if i < SHORT:
            raise ValueError(i)
        return i

    for _ in range(5):
        results = run_batch([lambda ctx, i=i: branch(ctx, i) for i in range(3 * SHORT)], completion=FIRST)
        assert any(isinstance(each, int) for each in results)
        assert run_batch([lambda ctx: 1] * SHORT, completion=ALL) == [1] * SHORT
    assert not [worker for worker in the_pool().pool._workforce if worker.runs]
