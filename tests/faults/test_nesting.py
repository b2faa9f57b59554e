"""Batches in branches of batches: lent places, the bound on processes, what happens when an outer worker dies."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

import durapool
from durapool import CompletionConfig, MapConfig, ParallelConfig, durable_execution
from durapool.executors import ProcessExecutor
from durapool.stores import MemoryStore


def nest(ctx, depth):
    if depth == 0:
        return ctx.step(lambda _: 1)
    inner = ctx.parallel([lambda c: nest(c, depth - 1)] * 2 if depth == 1 else [lambda c: nest(c, depth - 1)])
    inner.throw_if_error()
    return sum(inner.get_results())


def test_ten_levels_deep_on_a_pool_of_one_worker():
    @durable_execution(executor=ProcessExecutor(workers=1))
    def handler(event, context):
        return nest(context, 10)

    assert durapool.run(handler, store=MemoryStore()) == 2


def live_children(supervisor: int) -> int:
    return len(Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_map_whose_items_all_nest_keeps_to_the_bound_on_processes(workers, tmp_path):
    """processes <= workers x (depth + 1), seen from inside by every branch; and never more than `workers` run."""

    def look(place):
        count = live_children(os.getppid())
        (tmp_path / f"{place}-{os.getpid()}-{count}").touch()
        return count

    def outer(ctx, item, index, inputs):
        inner = ctx.map(range(3), lambda c, i, n, all_: c.step(lambda _: look("inner")) and i)
        inner.throw_if_error()
        return sum(inner.get_results())

    @durable_execution(executor=ProcessExecutor(workers=workers))
    def handler(event, context):
        result = context.map(range(1000), outer)
        result.throw_if_error()
        return sum(result.get_results())

    assert durapool.run(handler, store=MemoryStore()) == 1000 * 3
    most = max(int(path.name.rsplit("-", 1)[1]) for path in tmp_path.iterdir())
    assert most <= workers * 2 + workers  # those of the bound, and idle ones that were just replaced


def test_workers_for_nested_batches_stay_until_a_batch_has_done_without_them(tmp_path):
    executor = ProcessExecutor(workers=2, initializer=lambda: None)  # a pool that no other test has used
    gates = [tmp_path / f"gate-{number}" for number in range(2)]

    def inner(ctx, batch, index, inputs):
        """The first ones of both batches run at once, so that both workers are lent and two more are needed."""
        if index == 0:
            gates[batch].touch()
            while not all(gate.exists() for gate in gates):
                time.sleep(0.001)
        return ctx.step(lambda _: os.getpid())

    def outer(ctx, item, index, inputs):
        return [os.getpid(), *ctx.map([index] * 4, inner).get_results()]

    def flat(ctx, most, index, inputs):
        while (count := live_children(os.getppid())) > most:  # those that were dismissed take a moment to end
            time.sleep(0.001)
        return count

    @durable_execution(executor=executor)
    def handler(event, context):
        pids = []
        for _ in range(3):
            pids.append({pid for found in context.map(range(2), outer).get_results() for pid in found})
            for gate in gates:
                gate.unlink()
        return pids, [max(context.map([most] * 2, flat).get_results()) for most in (4, 2)]

    (first, *later), (after_nesting, after_none) = durapool.run(handler, store=MemoryStore())
    assert len(first) == 2 * 2
    assert all(pids == first for pids in later), "a worker was started anew"
    assert (after_nesting, after_none) == (2 * 2, 2)


def test_an_outer_worker_that_dies_takes_its_nested_batch_along(tmp_path):
    def outer(ctx):
        pid = os.getpid()

        def kills_its_caller(inner):
            os.kill(pid, 9)
            (tmp_path / "inner").write_text(str(os.getpid()))
            threading.Event().wait()

        ctx.parallel([kills_its_caller, lambda c: c.step(lambda _: "beside")])

    @durable_execution(executor=ProcessExecutor(workers=2))
    def handler(event, context):
        config = ParallelConfig(completion_config=CompletionConfig.all_completed())
        result = context.parallel([outer, lambda c: c.step(lambda _: "other")], config=config)
        return [item.error.type if item.error else item.result for item in result.all]

    assert durapool.run(handler, store=MemoryStore()) == ["WorkerLostError", "other"]
    if (tmp_path / "inner").exists() and (pid := (tmp_path / "inner").read_text()):  # else it died ahead of that
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_threads_of_a_branch_may_use_its_context():
    def branch(ctx):
        contexts = []
        gates = [threading.Event() for _ in range(4)]
        results = [None] * 4

        def work(i):
            results[i] = contexts[i](i)

        def in_child(i):
            return ctx.run_in_child_context(lambda child: child.step(lambda _: i * i), name=f"child-{i}")

        contexts[:] = [in_child] * 4
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
            thread.join()
        del gates
        return results

    @durable_execution(executor="process:2")
    def handler(event, context):
        return context.parallel([branch, branch]).get_results()

    assert durapool.run(handler, store=MemoryStore()) == [[0, 1, 4, 9]] * 2


def test_threads_of_a_branch_may_nest_batches_at_the_same_time():
    def branch(ctx):
        results = {}

        def work(i):
            result = ctx.map(range(5), lambda c, item, index, inputs: c.step(lambda _: item), name="same")
            results[i] = sum(result.get_results())

        threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(results.values())

    @durable_execution(executor="process:1")
    def handler(event, context):
        result = context.parallel([branch])
        result.throw_if_error()
        return result.get_results()

    assert durapool.run(handler, store=MemoryStore()) == [[10, 10, 10]]


def test_threads_inside_a_worker():
    def branch(ctx):
        inner = ctx.map(range(10), lambda c, i, n, all_: c.step(lambda _: (i, os.getpid())),
                        config=MapConfig(executor="thread"))  # fmt: skip
        assert {pid for _, pid in inner.get_results()} == {os.getpid()}
        return [i for i, _ in inner.get_results()]

    @durable_execution(executor="process:2")
    def handler(event, context):
        result = context.parallel([branch, branch])
        result.throw_if_error()
        return result.get_results()

    assert durapool.run(handler, store=MemoryStore()) == [list(range(10))] * 2
