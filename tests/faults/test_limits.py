"""Limits of a branch and of its worker: time, memory, number of branches; descendants are meant too."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys

import pytest
from pool_tools import ALL, wait_until
from program_tools import START_METHODS, run_program

import durapool
from durapool import ParallelConfig, StepConfig, StepSemantics, durable_execution
from durapool.executors import ProcessExecutor
from durapool.retries import RetryPresets
from durapool.stores import MemoryStore

every_method = pytest.mark.parametrize("start_method", START_METHODS)
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is weighed on Linux alone")
MIB = 1 << 20


def run_one(branch, start_method, **limits):
    """The only item of a batch."""
    executor = ProcessExecutor(workers=1, start_method=start_method, **limits)

    @durable_execution
    def handler(event, context):
        config = ParallelConfig(executor=executor, completion_config=ALL)
        return context.parallel([branch], config=config).to_dict()

    return durapool.BatchResult.from_dict(durapool.run(handler, store=MemoryStore())).all[0]


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@every_method
def test_a_branch_over_its_time_may_clean_up_before_it_is_killed(start_method, tmp_path):
    def cleans_up(ctx):
        signal.signal(signal.SIGTERM, lambda *_: (tmp_path / "cleaned").touch())
        while True:
            signal.pause()

    assert run_one(cleans_up, start_method, timeout=0.3).error.type == "BranchTimeoutError"
    wait_until((tmp_path / "cleaned").exists)


@every_method
@pytest.mark.parametrize("own_session", [False, True])
def test_descendants_of_a_branch_over_its_time_go_too(own_session, start_method, tmp_path):
    pids = tmp_path / "pids"

    def leaves_a_child(ctx):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "600"], start_new_session=own_session)
        pids.write_text(f"{os.getpid()} {child.pid}")
        signal.pause()

    assert run_one(leaves_a_child, start_method, timeout=1.0).error.type == "BranchTimeoutError"
    wait_until(lambda: all(is_gone(pid) for pid in map(int, pids.read_text().split())))


@on_linux
@every_method
def test_the_memory_of_a_child_process_counts(start_method, tmp_path):
    def child_allocates(ctx):
        hoard = "hoard = []\nwhile True: hoard.append(b'x' * (4 << 20))"
        subprocess.run([sys.executable, "-c", hoard], check=True)

    item = run_one(child_allocates, start_method, memory_limit="300MiB")
    assert item.error.type == "BranchMemoryError"
    assert "memory_limit of 300 MiB" in item.error.message


@on_linux
@every_method
def test_one_huge_allocation_is_refused(start_method):
    """No look at the memory is needed: the address space of a worker with a limit has one too."""

    def allocates(ctx):
        wait_until(lambda: resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY)
        return len(bytearray(1 << 40))

    assert run_one(allocates, start_method, memory_limit="300MiB").error.type == "MemoryError"


@on_linux
@every_method
def test_a_batch_without_a_limit_is_not_held_to_that_of_an_earlier_one(start_method):
    def looks(ctx):
        wait_until(lambda: resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY)
        return os.getpid()

    pid = run_one(lambda ctx: os.getpid(), start_method, memory_limit="300MiB").result
    assert run_one(looks, start_method).result == pid


@on_linux
def test_what_a_forked_worker_has_from_its_parent_does_not_count(tmp_path):
    source = """
        data = b"x" * (300 << 20)

        @durable_execution(executor=ProcessExecutor(workers=2, start_method="fork", memory_limit="100MiB"))
        def handler(event, context):
            def branch(ctx, item, index, inputs):
                return len(b"y" * (50 << 20))
            return context.map(range(8), branch).get_results()

        print(set(durapool.run(handler, id="x", store=MemoryStore())))
    """
    assert run_program(tmp_path, source, "fork").stdout.strip() == f"{{{50 << 20}}}"


@on_linux
def test_pages_that_forks_share_count_once(tmp_path):
    source = """
        import os
        from durapool.worker.memory import Ration, anonymous_memory

        MIB = 1 << 20
        hoard = b"x" * (200 * MIB)
        read, write = os.pipe()
        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:
                os.read(read, 1)
                os._exit(0)
            children.append(child)
        mine = anonymous_memory("self")
        print(
            mine > len(hoard),
            Ration(os.getpid(), mine + 100 * MIB, 0).excess() == 0,
            Ration(os.getpid(), mine // 2, 0).excess() > mine // 2,
        )
        os.write(write, b"abc")
        for child in children:
            os.waitpid(child, 0)
    """
    assert run_program(tmp_path, source, "fork").stdout.strip() == "True True True"


@every_method
def test_a_worker_is_replaced_after_its_number_of_branches(start_method):
    @durable_execution
    def handler(event, context):
        executor = ProcessExecutor(workers=1, start_method=start_method, max_branches_per_worker=2)
        config = ParallelConfig(executor=executor)
        return context.parallel([lambda ctx: os.getpid()] * 6, config=config).get_results()

    pids = durapool.run(handler, store=MemoryStore())
    assert pids[::2] == pids[1::2]
    assert len(set(pids)) == 3


@every_method
def test_an_initializer_is_called_once_in_each_worker(start_method, tmp_path):
    log = tmp_path / "log"

    def initializer():
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")

    @durable_execution
    def handler(event, context):
        executor = ProcessExecutor(workers=2, start_method=start_method, initializer=initializer)
        config = ParallelConfig(executor=executor)
        return context.parallel([lambda ctx: os.getpid()] * 10, config=config).get_results()

    pids = durapool.run(handler, store=MemoryStore())
    initialized = [int(line) for line in log.read_text().splitlines()]
    assert len(initialized) == len(set(initialized))
    assert set(pids) <= set(initialized)


@every_method
def test_an_at_most_once_step_of_a_lost_branch_is_not_run_twice(start_method, tmp_path):
    log = tmp_path / "log"
    once = StepConfig(RetryPresets.none(), StepSemantics.AT_MOST_ONCE_PER_RETRY)

    def dies_in_its_step(ctx):
        def body(_):
            with log.open("a") as file:
                file.write("ran\n")
            os._exit(1)

        return ctx.step(body, config=once)

    item = run_one(dies_in_its_step, start_method, retry_lost=3)
    assert item.error.type == "StepInterruptedError"
    assert log.read_text() == "ran\n"


class RaisesWhenItGoes:
    def __del__(self):
        raise RuntimeError("not now")


class RaisesWhenItIsLoaded:
    def __reduce__(self):
        return _raise, ()


def _raise():
    raise RuntimeError("no loading today")


@every_method
def test_a_finalizer_that_raises_harms_nobody(start_method):
    def branch(ctx):
        RaisesWhenItGoes()
        return ctx.step(lambda _: "unharmed")

    assert run_one(branch, start_method).result == "unharmed"


@every_method
def test_a_result_that_raises_while_it_is_loaded_is_a_failure_of_its_branch(start_method):
    error = run_one(lambda ctx: RaisesWhenItIsLoaded(), start_method).error
    assert error.type == "SerDesError"
    assert "no loading today" in error.message
