"""A worker that dies takes its branch along, and nothing else."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys

import pytest

import durapool
from durapool import CompletionConfig, MapConfig, ParallelConfig, durable_execution
from durapool.executors import ProcessExecutor
from durapool.stores import MemoryStore

pytestmark = pytest.mark.parametrize("start_method", ["forkserver", "spawn", "fork"])


def all_completed(start_method, **limits):
    return ParallelConfig(
        executor=ProcessExecutor(workers=2, start_method=start_method, **limits),
        completion_config=CompletionConfig.all_completed(),
    )


def run_among_others(branch, start_method, **limits):
    """The branch as number 1 of 6; the others succeed."""

    @durable_execution
    def handler(event, context):
        branches = [lambda ctx, i=i: ctx.step(lambda _: i * 10) for i in range(6)]
        branches[1] = branch
        return context.parallel(branches, config=all_completed(start_method, **limits)).to_dict()

    result = durapool.BatchResult.from_dict(durapool.run(handler, store=MemoryStore()))
    assert [item.index for item in result.all] == list(range(6))
    assert [item.result for item in result.all if item.index != 1] == [0, 20, 30, 40, 50]
    return result.all[1]


def exits(ctx):
    os._exit(7)


def kills_itself(ctx):
    print("last words", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGKILL)


def reads_address_zero(ctx):
    ctypes.string_at(0)


def overflows_the_c_stack(ctx):
    faulthandler._stack_overflow()


@pytest.mark.parametrize(
    ("branch", "words"),
    [
        (exits, "exited with code 7"),
        (kills_itself, "SIGKILL"),
        (reads_address_zero, "SIGSEGV"),
        (overflows_the_c_stack, "SIGSEGV"),
    ],
)
def test_a_lost_worker_fails_only_its_branch(branch, words, start_method):
    item = run_among_others(branch, start_method)
    assert item.error.type == "WorkerLostError"
    assert words in item.error.message
    assert "branch 1" in item.error.message
    if branch is kills_itself:
        assert "last words" in item.error.message
        assert "MiB" in item.error.message


def test_sys_exit_is_an_ordinary_failure(start_method):
    item = run_among_others(lambda ctx: sys.exit(3), start_method)
    assert item.error.type == "SystemExit"


class ExplodesWhenPickled:
    def __reduce__(self):
        raise RuntimeError("no pickling today")


def test_a_result_that_raises_while_it_is_pickled_is_a_failure_of_its_branch(start_method):
    item = run_among_others(lambda ctx: ExplodesWhenPickled(), start_method)
    assert item.error.type == "SerDesError"
    assert "ExplodesWhenPickled" in item.error.message


def test_a_lost_branch_runs_again_from_its_checkpoints(start_method, tmp_path):
    log = tmp_path / "log"

    def first_step(_):
        with log.open("a") as file:
            file.write("first\n")
        return "first"

    def dies_once(ctx):
        value = ctx.step(first_step)
        if not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os._exit(1)
        return value + " and the rest"

    item = run_among_others(dies_once, start_method, retry_lost=1)
    assert item.result == "first and the rest"
    assert log.read_text() == "first\n"


def test_retry_lost_gives_up_after_its_number(start_method):
    item = run_among_others(exits, start_method, retry_lost=2)
    assert item.error.type == "WorkerLostError"


def test_a_branch_over_its_time_is_stopped(start_method):
    item = run_among_others(lambda ctx: signal.pause(), start_method, timeout=0.5)
    assert item.error.type == "BranchTimeoutError"


def test_a_branch_over_its_memory_is_stopped(start_method):
    def allocates(ctx):
        hoard = []
        while True:
            hoard.append(bytearray(os.urandom(1) * (1 << 22)))

    item = run_among_others(allocates, start_method, memory_limit="400MiB")
    assert item.error.type == "BranchMemoryError"


def test_the_pool_is_usable_after_losses(start_method):
    @durable_execution
    def handler(event, context):
        lost = context.parallel([exits, exits, exits], config=all_completed(start_method))
        executor = ProcessExecutor(workers=2, start_method=start_method)
        squares = context.map(range(20), lambda ctx, item, index, inputs: item**2, config=MapConfig(executor=executor))
        return lost.failure_count, squares.get_results()

    assert durapool.run(handler, store=MemoryStore()) == (3, [i**2 for i in range(20)])
