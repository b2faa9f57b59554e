"""Branches that are still running when their batch is decided are stopped at once."""

from __future__ import annotations

import ctypes
import os
import signal
import time

import pytest
from program_tools import START_METHODS

import durapool
from durapool import CompletionConfig, ParallelConfig, durable_execution
from durapool.executors import ProcessExecutor
from durapool.records import Action
from durapool.stores import MemoryStore


def ignores_sigterm(ctx):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return sleeps(ctx)


def sits_in_a_c_call(ctx):
    ctypes.PyDLL(None).sleep(600)  # PyDLL keeps the interpreter lock


def sleeps(ctx):
    return ctx.step(lambda _: time.sleep(600))


def has_a_child(ctx):
    if os.fork() == 0:
        os.setsid()
        signal.pause()
    return sleeps(ctx)


LOSERS = [sleeps, ignores_sigterm, sits_in_a_c_call, has_a_child]


@pytest.mark.parametrize("start_method", START_METHODS)
@pytest.mark.parametrize("loser", LOSERS)
def test_losers_are_stopped_and_reported_as_started(loser, start_method, tmp_path):
    def announces(ctx):
        (tmp_path / "pid").write_text(str(os.getpid()))
        return loser(ctx)

    def wins(ctx):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            os.sched_yield()
        return "won"

    @durable_execution
    def handler(event, context):
        config = ParallelConfig(
            executor=ProcessExecutor(workers=2, start_method=start_method),
            completion_config=CompletionConfig.first_successful(),
        )
        result = context.parallel([announces, wins], config=config)
        return result.successful_results, [item.index for item in result.started()], result.completion_reason.value

    assert durapool.run(handler, store=MemoryStore()) == (["won"], [0], "MIN_SUCCESSFUL_REACHED")
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("loser", LOSERS)
def test_a_batch_does_not_wait_for_its_losers(loser, tmp_path):
    """200 ms from the decision to the result: the best of five rounds, as machines have other work too."""

    def seconds_after_the_decision(folder):
        def announces(ctx):
            (folder / "begun").touch()
            return loser(ctx)

        def wins(ctx):
            while not (folder / "begun").exists():
                os.sched_yield()
            return time.monotonic()

        @durable_execution
        def handler(event, context):
            config = ParallelConfig(
                executor=ProcessExecutor(workers=2), completion_config=CompletionConfig.first_successful()
            )
            [won_at] = context.parallel([announces, wins], config=config).successful_results
            return time.monotonic() - won_at

        return durapool.run(handler, store=MemoryStore())

    rounds = [tmp_path / str(number) for number in range(5)]
    for folder in rounds:
        folder.mkdir()
    assert min(map(seconds_after_the_decision, rounds)) < 0.2


def test_what_a_loser_still_records_counts_for_nothing(tmp_path):
    """Its last update is on its way when the batch is decided."""

    def loses(ctx):
        for number in range(10**6):
            ctx.step(lambda _, number=number: number, name="late")
            (tmp_path / "begun").touch()

    def wins(ctx):
        while not (tmp_path / "begun").exists():
            os.sched_yield()
        return "won"

    @durable_execution
    def handler(event, context):
        config = ParallelConfig(
            executor=ProcessExecutor(workers=2), completion_config=CompletionConfig.first_successful()
        )
        result = context.parallel([loses, wins], name="race", config=config)
        return [item.status.value for item in result.all]

    store = MemoryStore()
    assert durapool.run(handler, id="x", store=store) == ["STARTED", "SUCCEEDED"]
    updates = [record.update for record in store.read("x")]
    end_of_batch = next(i for i, u in enumerate(updates) if u.name == "race" and u.action is Action.SUCCEED)
    assert not [update for update in updates[end_of_batch:] if update.name == "late"]
    assert not [u for u in updates if u.branch == 0 and u.action is not Action.START]


def test_with_cancel_running_off_losers_finish_in_the_background(tmp_path):
    read, write = os.pipe()
    os.set_inheritable(write, True)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def loses(ctx):
        (tmp_path / "begun").touch()
        with fifo.open() as gate:
            gate.read()
        ctx.step(lambda _: (tmp_path / "finished").touch())

    def wins(ctx):
        while not (tmp_path / "begun").exists():
            os.sched_yield()
        return "won"

    executor = ProcessExecutor(workers=2, cancel_running=False)

    @durable_execution
    def handler(event, context):
        config = ParallelConfig(executor=executor, completion_config=CompletionConfig.first_successful())
        first = context.parallel([loses, wins], config=config)
        fifo.write_text("go")
        second = context.parallel([lambda ctx: ctx.step(lambda _: 1)] * 8, config=ParallelConfig(executor=executor))
        return first.successful_results, second.success_count

    assert durapool.run(handler, store=MemoryStore()) == (["won"], 8)
    os.close(read)
    os.close(write)
