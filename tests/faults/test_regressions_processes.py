"""What forks, descriptors and start methods once broke: each test is the smallest program that did."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading

import psutil
import pytest
from pool_tools import ALL, run_batch, wait_until
from program_tools import descendants, still_running

import durapool
from durapool import ParallelConfig, durable_execution
from durapool.executors import ProcessExecutor
from durapool.pool import registry
from durapool.stores import MemoryStore

pytestmark = pytest.mark.usefixtures("fresh_pools")


# forks and descriptors


def test_a_child_that_the_users_program_forks_does_not_keep_workers_alive(tmp_path):
    """It had a copy of the control socket, so the supervisor did not see the parent die."""
    program = f"""
import os, signal, sys
import durapool
from durapool import durable_execution
from durapool.stores import MemoryStore

def branch(ctx):
    print(os.getpid(), os.getppid(), flush=True)
    signal.pause()

@durable_execution(executor="process:1")
def handler(event, context):
    def forks(ctx):
        if os.fork() == 0:
            open({str(tmp_path / "child")!r}, "w").write(str(os.getpid()))
            signal.pause()
        os.kill(os.getpid(), signal.SIGSTOP)
    context.parallel([lambda ctx: 1])
    forks(context)

durapool.run(handler, store=MemoryStore())
"""
    (tmp_path / "program.py").write_text(program)
    process = subprocess.Popen([sys.executable, str(tmp_path / "program.py")], start_new_session=True)
    try:
        wait_until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
        child = int((tmp_path / "child").read_text())
        pools = [each for each in psutil.Process(process.pid).children(recursive=True) if each.pid != child]
        assert len(pools) == 2
        process.kill()
        process.wait()
        assert not still_running(pools, 5)
        assert psutil.pid_exists(child)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_forks_of_forks_of_a_branch_are_quiet(capfd):
    def forks_twice(ctx):
        child = os.fork()
        if child == 0:
            grandchild = os.fork()
            if grandchild == 0:
                os._exit(0)
            os.waitpid(grandchild, 0)
            os._exit(0)
        os.waitpid(child, 0)
        return "done"

    assert run_batch([forks_twice]) == ["done"]
    registry.close_all()
    assert "Exception" not in capfd.readouterr().err


@pytest.mark.parametrize("start_method", ["forkserver", "spawn", "fork"])
def test_programs_that_a_branch_starts_inherit_no_descriptor_of_ours(start_method):
    def open_descriptors(ctx):
        before = set(os.listdir("/proc/self/fd"))
        read, write = os.pipe()
        os.set_inheritable(write, True)
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", f"ls /proc/self/fd >&{write}"], os.environ)
        os.waitpid(pid, 0)
        os.close(write)
        with os.fdopen(read) as file:
            inherited = set(file.read().split())
        return sorted(inherited & before - {"0", "1", "2", str(read), str(write), "3"})

    executor = ProcessExecutor(workers=1, start_method=start_method)
    [found] = run_batch([open_descriptors], executor)
    assert found == []


def test_a_forked_worker_does_not_run_the_atexit_functions_of_the_parent(tmp_path):
    def clean_up():
        (tmp_path / f"cleaned-{os.getpid()}").touch()

    atexit.register(clean_up)
    try:
        executor = ProcessExecutor(workers=1, start_method="fork")
        assert run_batch([lambda ctx: atexit._run_exitfuncs()], executor) == [None]
    finally:
        atexit.unregister(clean_up)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("start_method", ["forkserver", "spawn", "fork"])
def test_classes_of_main_keep_their_identity_in_a_worker(start_method, tmp_path):
    program = f"""
import enum
from dataclasses import dataclass
from typing import NamedTuple
import durapool
from durapool import durable_execution
from durapool.executors import ProcessExecutor
from durapool.stores import MemoryStore

class Colour(enum.Enum):
    RED = 1

@dataclass
class Point:
    x: int

class Pair(NamedTuple):
    a: int

def branch(ctx):
    red, point, pair = ctx.step(lambda _: (Colour.RED, Point(1), Pair(2)))
    assert red is Colour.RED, red
    assert type(point) is Point
    assert type(pair) is Pair
    return red, point, pair

@durable_execution(executor=ProcessExecutor(workers=1, start_method={start_method!r}))
def handler(event, context):
    for _ in range(2):
        result = context.parallel([branch, branch])
        result.throw_if_error()
        for red, point, pair in result.get_results():
            assert red is Colour.RED and type(point) is Point and type(pair) is Pair
    return "same"

print(durapool.run(handler, id="x", store=MemoryStore()))
"""
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(tmp_path / "program.py")], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "same\n", done.stderr


def test_initializers_made_anew_for_each_batch_do_not_pile_up_pools():
    def executor():
        return ProcessExecutor(workers=1, initializer=lambda: None)

    before = descendants()
    for _ in range(registry.MOST_IDLE + 4):
        assert run_batch([lambda ctx: 1], executor()) == [1]
    assert len(registry._pools) <= registry.MOST_IDLE + 1
    supervisors = [process for process in descendants(before) if process.ppid() == os.getpid()]
    assert len(supervisors) <= registry.MOST_IDLE + 1


def test_a_thousand_batches_and_fifty_losses_leave_no_descriptor_behind():
    gc.collect()  # what earlier tests have left may hold segments, whose descriptors would go in the midst of this one
    before = descendants()

    def count():
        return len(os.listdir("/proc/self/fd")), threading.active_count(), len(descendants(before))

    @durable_execution(executor="process:2")
    def handler(event, context):
        config = ParallelConfig(completion_config=ALL)
        context.parallel([lambda ctx: 1] * 4)
        counts = []
        for number in range(1000):
            context.parallel([lambda ctx: 1])
            if number % 20 == 0:
                context.parallel([lambda ctx: os._exit(1)], config=config)
            if number % 500 == 499:
                context.parallel([lambda ctx: 1] * 8)
                counts.append(count())
        return counts

    first, second = durapool.run(handler, store=MemoryStore())
    assert first == second
