"""Branches that are still running when their batch is decided are stopped at once."""

from __future__ import annotations

import ctypes
import os
import signal
import time

import pytest

import durapool
from durapool import CompletionConfig, ParallelConfig, durable_execution
from durapool.executors import ProcessExecutor
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


@pytest.mark.parametrize("loser", [sleeps, ignores_sigterm, sits_in_a_c_call, has_a_child])
def test_losers_are_stopped_and_reported_as_started(loser, tmp_path):
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
            executor=ProcessExecutor(workers=2), completion_config=CompletionConfig.first_successful()
        )
        result = context.parallel([announces, wins], config=config)
        return result.successful_results, [item.index for item in result.started()], result.completion_reason.value

    assert durapool.run(handler, store=MemoryStore()) == (["won"], [0], "MIN_SUCCESSFUL_REACHED")
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


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
