"""What once broke the process executor: each test is the smallest program that did."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

import durapool
from durapool import CompletionConfig, MapConfig, ParallelConfig, durable_execution
from durapool.exceptions import OrphanedBranch, PoolError
from durapool.executors import ProcessExecutor
from durapool.pool import registry
from durapool.pool.drive import Driver
from durapool.pool.wire import Decoder, Kind
from durapool.pool.workers import Worker
from durapool.stores import MemoryStore
from durapool.worker.channel import Channel

ALL = CompletionConfig.all_completed()
FIRST = CompletionConfig.first_successful()


@pytest.fixture(autouse=True)
def _fresh_pools():
    registry.close_all()
    yield
    registry.close_all()


def the_pool():
    [running] = registry._pools.values()
    return running


def supervisor() -> psutil.Process:
    return psutil.Process(the_pool().pool._workforce._link._process.pid)


def run_batch(branches, executor="process:2", completion=ALL):
    """Each branch's result, or the type of its error."""

    @durable_execution
    def handler(event, context):
        result = context.parallel(branches, config=ParallelConfig(executor=executor, completion_config=completion))
        return [item.error.type if item.error else item.result for item in result.all]

    return durapool.run(handler, store=MemoryStore())


def wait_until(condition, seconds=10.0):
    """Until what another process does has come to pass; the time is only for a test that fails."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


# two runs at the same time


def test_a_run_that_ends_does_not_swallow_what_the_workers_of_another_run_say(tmp_path):
    """The wait for killed workers reads everybody's messages; the next turn waited for more of them, for ever."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def branch(ctx):
        with gate.open() as file:
            file.read()
        return ctx.step(lambda _: "went on")

    results = []
    other = threading.Thread(target=lambda: results.append(run_batch([branch], "process:1")), daemon=True)
    other.start()
    with gate.open("w"):  # the branch is at work
        running = the_pool()

        def as_a_run_that_ends():
            running.pool._workforce._dismissed.add(-1)  # a worker that was killed and has not ended yet
            closing.set()
            running.pool.end_invocation(object(), 0.5)
            running.pool._workforce._dismissed.discard(-1)

        closing = threading.Event()
        ending = threading.Thread(target=lambda: running.driver.while_paused(as_a_run_that_ends))
        ending.start()
        closing.wait()
    ending.join()
    other.join(20)
    assert results == [["went on"]]


class Turns:
    """A loop whose turns the test lets pass."""

    def __init__(self):
        self.turning = threading.Event()
        self.go = threading.Semaphore(0)
        self.inside = self.most = 0

    def turn(self):
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.turning.set()
        self.go.acquire()
        self.inside -= 1

    def wake(self):
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt


class Waits:
    def __init__(self):
        self.signal = threading.Event()
        self.finished = False


def test_ctrl_c_while_waiting_for_the_loop_to_stand_still_leaves_the_wheel_with_its_driver():
    loop, waiter = Turns(), Waits()
    driver = Driver(loop)
    thread = threading.Thread(target=driver.drive, args=(waiter,))
    thread.start()
    loop.turning.wait()
    with pytest.raises(KeyboardInterrupt):
        driver.while_paused(lambda: None)
    assert driver._driver == thread.ident
    waiter.finished = True
    loop.go.release()
    thread.join()
    assert driver._driver is None


def test_a_signal_handler_that_uses_the_pool_amid_a_turn_is_told_so():
    driver: Driver

    class Interrupted:
        finished, signal = False, threading.Event()

        def turn(self):
            with pytest.raises(PoolError, match="signal handler"):
                driver.drive(Waits())
            self.finished = True

        def wake(self):
            pass

    loop = Interrupted()
    driver = Driver(loop)
    driver.drive(loop)
    assert not driver.poisoned


def test_a_pool_that_another_thread_has_closed_is_closed_once_and_takes_no_batch():
    run_batch([lambda ctx: 1])
    running = the_pool()
    running.driver.poisoned = True
    registry.remove(running)
    registry.remove(running)
    running.pool.wake()
    assert run_batch([lambda ctx: 2]) == [2]


# workers and supervisors that die


def kill_and_wait(process):
    process.kill()
    psutil.wait_procs([process], 10)


@pytest.mark.parametrize("again", [1, 2, 5])
def test_an_idle_supervisor_that_dies_costs_nothing(again):
    """It had no worker any more (max_branches_per_worker), and so seemed never to have started one."""
    executor = ProcessExecutor(workers=1, max_branches_per_worker=1)
    assert run_batch([lambda ctx: 1], executor) == [1]
    for _ in range(again):
        kill_and_wait(supervisor())
        assert run_batch([lambda ctx: 1], executor) == [1]


def test_supervisors_that_die_before_their_first_worker_has_spoken_lose_no_branch():
    run_batch([lambda ctx: 1])
    workforce, killed = the_pool().pool._workforce, []
    connect = workforce._connect

    def connect_to_one_that_dies():
        link = connect()
        if len(killed) < 2:
            killed.append(link)
            link._process.kill()
            link._process.wait()
        return link

    workforce._connect = connect_to_one_that_dies
    kill_and_wait(supervisor())
    assert run_batch([lambda ctx: ctx.step(lambda _: 2)] * 4) == [2] * 4
    assert len(killed) == 2


def test_supervisors_that_never_come_to_life_are_one_clear_error():
    run_batch([lambda ctx: 1])
    workforce = the_pool().pool._workforce
    connect = workforce._connect

    def connect_to_one_that_dies():
        link = connect()
        link._process.kill()
        link._process.wait()
        return link

    workforce._connect = connect_to_one_that_dies
    kill_and_wait(supervisor())
    with pytest.raises(durapool.ExecutionFailedError, match="could start a worker"):
        run_batch([lambda ctx: 1])


def test_an_idle_worker_that_has_died_loses_no_branch():
    """Killed between batches; the loop had not looked yet when it gave it the next branch."""
    assert run_batch([lambda ctx: 1], "process:1") == [1]
    pool = the_pool().pool
    [worker] = pool._workforce
    pid = pool._workforce._link.pids[worker.number]
    started = []
    start = pool._start

    def kill_then_start(batch, index):
        if not started:
            os.kill(pid, signal.SIGSTOP)  # it cannot take up the branch before it dies
            os.kill(pid, signal.SIGKILL)
        started.append(index)
        return start(batch, index)

    pool._start = kill_then_start
    assert run_batch([lambda ctx: ctx.step(lambda _: "done")], "process:1") == ["done"]


def test_after_a_supervisor_has_died_around_a_nested_batch_nobody_waits_for_its_workers(tmp_path):
    def inner(ctx):
        os.kill(os.getppid(), signal.SIGKILL)
        signal.pause()

    def outer(ctx):
        ctx.parallel([inner])

    assert run_batch([outer], "process:1") == ["WorkerLostError"]
    assert the_pool().pool._workforce.ending == 0


def test_a_worker_that_ends_by_itself_right_after_its_last_branch_is_not_waited_for(tmp_path):
    """The supervisor tells of its end before the loop has read its last words, which dismiss it."""
    executor = ProcessExecutor(workers=1, max_branches_per_worker=1)

    def exits_after_its_end(ctx):
        from durapool.worker import entry

        send = entry.send_outcome

        def send_and_exit(*args):
            send(*args)
            os._exit(0)

        entry.send_outcome = send_and_exit
        return "ended"

    assert run_batch([lambda ctx: "warm"], executor) == ["warm"]
    pool = the_pool().pool
    hear = pool._workforce._hear

    def hear_late(worker):
        if not pool._workforce._exits.get(worker.number):
            wait_until(lambda: not Path(f"/proc/{pool._workforce._link.pids.get(worker.number, 0)}/exe").exists())
            return
        hear(worker)

    pool._workforce._hear = hear_late
    assert run_batch([exits_after_its_end], executor) == ["ended"]
    assert pool._workforce.ending == 0


# what one branch does to the next


def test_what_cancel_running_off_has_left_at_work_ends_with_the_invocation(tmp_path):
    def loses(ctx):
        (tmp_path / "pid").write_text(str(os.getpid()))
        signal.pause()

    def wins(ctx):
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        return "won"

    executor = ProcessExecutor(workers=2, cancel_running=False)
    assert run_batch([loses, wins], executor, FIRST)[1] == "won"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_thread_that_was_cut_off_inside_a_process_batch_leaves_no_worker_at_work(tmp_path):
    def loses(ctx):
        def sleeps(inner):
            (tmp_path / "pid").write_text(str(os.getpid()))
            signal.pause()

        ctx.parallel([sleeps], config=ParallelConfig(executor="process:1"))

    def wins(ctx):
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        return "won"

    assert run_batch([loses, wins], "thread", FIRST)[1] == "won"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_an_initializer_may_set_the_environment():
    def initializer():
        os.environ["SET_BY_INITIALIZER"] = "yes"

    executor = ProcessExecutor(workers=1, initializer=initializer)
    assert run_batch([lambda ctx: os.environ.get("SET_BY_INITIALIZER")], executor) == ["yes"]


def test_the_time_of_a_branch_begins_when_the_initializer_has_ended(tmp_path):
    os.mkfifo(tmp_path / "gate")

    def initializer():
        (tmp_path / "gate").read_text()

    executor = ProcessExecutor(workers=1, initializer=initializer, timeout=30)
    started = []
    thread = threading.Thread(
        target=lambda: started.append(run_batch([lambda ctx: ctx.step(lambda _: 1)], executor)), daemon=True
    )
    thread.start()
    with (tmp_path / "gate").open("w"):
        pool = the_pool().pool
        [worker] = pool._workforce
        run = worker.run
        handed_out = run.started
        before = time.monotonic()
    thread.join()
    assert handed_out < before < run.started
    assert started == [[1]]


def test_an_initializer_that_exits_fails_its_branches_and_loses_no_worker():
    executor = ProcessExecutor(workers=1, initializer=lambda: sys.exit("no licence"))
    assert run_batch([lambda ctx: 1] * 3, executor) == ["SystemExit"] * 3


def test_a_module_that_exits_when_it_is_imported_fails_its_branch(tmp_path, monkeypatch):
    (tmp_path / "exits_in_workers.py").write_text(
        f"import os, sys\nif os.getpid() != {os.getpid()}: sys.exit('not here')\ndef branch(ctx): return 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import exits_in_workers

    assert run_batch([exits_in_workers.branch, lambda ctx: 2]) == ["SerDesError", 2]


def test_a_serdes_that_cannot_be_loaded_in_a_worker_fails_the_branches(tmp_path, monkeypatch):
    (tmp_path / "serdes_of_the_parent.py").write_text(
        f"import os\nif os.getpid() != {os.getpid()}: raise RuntimeError('not here')\n"
        "from durapool import PickleSerDes\nclass Mine(PickleSerDes): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import serdes_of_the_parent

    @durable_execution
    def handler(event, context):
        config = MapConfig(executor="process:1", item_serdes=serdes_of_the_parent.Mine(), completion_config=ALL)
        return [error.type for error in context.map([1, 2], lambda ctx, *_: 1, config=config).get_errors()]

    assert durapool.run(handler, store=MemoryStore()) == ["SerDesError"] * 2


# what cannot be pickled


def test_an_input_that_cannot_be_pickled_is_an_error_only_where_it_is_asked_for():
    @durable_execution
    def handler(event, context):
        def branch(ctx, item, index, inputs):
            return inputs[1 - index] if index == 1 else index if inputs[0] == "fine" else None

        def asks(ctx, item, index, inputs):
            return inputs[2]

        config = MapConfig(executor="process:1", completion_config=ALL)
        items = ["fine", "fine too", threading.Lock()]
        kept = context.map(items, branch, config=config)
        lost = context.map(items, asks, config=config)
        return [[item.error.type if item.error else item.result for item in each.all] for each in (kept, lost)]

    kept, lost = durapool.run(handler, store=MemoryStore())
    assert kept == [0, "fine", "SerDesError"]
    assert lost == ["SerDesError"] * 3


def test_a_nested_branch_that_cannot_be_pickled_fails_alone():
    def outer(ctx):
        lock = threading.Lock()
        config = ParallelConfig(completion_config=ALL)
        inner = ctx.parallel([lambda c: 1, lambda c: lock, lambda c: 3], config=config)
        return [item.error.type if item.error else item.result for item in inner.all]

    assert run_batch([outer]) == [[1, "SerDesError", 3]]


def test_an_object_that_cannot_be_looked_into_is_an_error_of_its_branch():
    class Sulks:
        def __getattribute__(self, name):
            raise RuntimeError(f"no {name} for you")

        def __reduce_ex__(self, protocol):
            raise RuntimeError("no pickling")

    sulks = Sulks()
    assert run_batch([lambda ctx: sulks, lambda ctx: 2]) == ["SerDesError", 2]


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
        _, alive = psutil.wait_procs(pools, 5)
        assert not alive
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

    for _ in range(registry.MOST_IDLE + 4):
        assert run_batch([lambda ctx: 1], executor()) == [1]
    assert len(registry._pools) <= registry.MOST_IDLE + 1
    assert len(psutil.Process().children()) <= registry.MOST_IDLE + 1


def test_a_thousand_batches_and_fifty_losses_leave_no_descriptor_behind():
    def count():
        return len(os.listdir("/proc/self/fd")), threading.active_count(), len(psutil.Process().children(True))

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


# messages


def test_a_large_message_is_sent_in_parts_without_being_copied():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    worker = Worker(1, ours, None, None)
    big = os.urandom(5_000_000)
    worker.post(Kind.FORGET, 1)
    worker.post(Kind.BATCH, 1, big, None)
    worker.post(Kind.FORGET, 2)
    received, decoder = [], Decoder()
    while not worker.send():
        assert all(isinstance(part, memoryview) or len(part) < 1000 for part in worker.outgoing)
        received += decoder.feed(theirs.recv(1 << 20))
    theirs.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            received += decoder.feed(theirs.recv(1 << 20))
    assert received == [(Kind.FORGET, [1]), (Kind.BATCH, [1, big, None]), (Kind.FORGET, [2])]
    ours.close()
    theirs.close()


def test_a_finalizer_that_logs_while_a_message_is_sent_waits_for_its_turn():
    class Link:
        sent: list[bytes] = []  # noqa: RUF012

        def sendall(self, frame):
            if not self.sent:
                self.sent.append(frame)
                channel.send_frame(b"late")
            else:
                self.sent.append(frame)

    channel = Channel(Link())
    channel.send_frame(b"early")
    channel.send_frame(b"next")
    assert Link.sent == [b"early", b"late", b"next"]


def test_a_run_in_a_thread_whose_pool_was_interrupted_is_an_orphan_not_a_failure(tmp_path):
    """The pool died under it through no fault of its handler: nothing may be recorded as failed."""
    os.mkfifo(tmp_path / "gate")
    store = MemoryStore()
    ends = []

    @durable_execution(executor="process:1")
    def handler(event, context):
        return context.parallel([lambda ctx: (tmp_path / "gate").read_text()]).get_results()

    def follow():
        try:
            durapool.run(handler, id="x", store=store)
        except OrphanedBranch as orphan:
            ends.append(orphan)

    thread = threading.Thread(target=follow)
    thread.start()
    with (tmp_path / "gate").open("w"):
        running = the_pool()
        running.driver.poisoned = True  # as an interrupt of another thread's turn does
        running.pool.close()
        with registry._lock:
            registry._pools.clear()
    thread.join()
    assert len(ends) == 1
    thread = threading.Thread(target=lambda: (tmp_path / "gate").write_text("again"))
    thread.start()
    assert durapool.run(handler, id="x", store=store) == ["again"]
    thread.join()


# what a branch leaves behind


def closes_the_standard_descriptors(ctx):
    os.closerange(0, 3)
    return 1


def prints(ctx):
    print("I am heard")
    return os.getcwd()


@pytest.mark.parametrize("start_method", ["forkserver", "spawn", "fork"])
def test_a_branch_that_closes_the_standard_descriptors_hurts_only_itself(start_method, capfd):
    executor = ProcessExecutor(workers=1, start_method=start_method)
    assert run_batch([closes_the_standard_descriptors, prints, prints], executor) == [1, os.getcwd(), os.getcwd()]
    assert capfd.readouterr().out.count("I am heard\n") == 2


def test_a_directory_a_stream_and_an_alarm_do_not_pass_from_branch_to_branch():
    def leaves(ctx):
        os.chdir("/")
        sys.stdout = None
        signal.alarm(600)

    def looks(ctx):
        print("heard")
        return os.getcwd(), signal.alarm(0), os.getpid()

    def pid(ctx):
        return os.getpid()

    [worker, _, seen] = run_batch([pid, leaves, looks], "process:1")
    assert seen == (os.getcwd(), 0, worker)


def test_what_the_initializer_sets_stays_when_the_environment_of_the_parent_changes(monkeypatch):
    def initializer():
        os.environ["SET_BY_INITIALIZER"] = "yes"

    def looks(ctx):
        return os.environ.get("SET_BY_INITIALIZER"), os.environ.get("SET_BY_PARENT")

    executor = ProcessExecutor(workers=1, initializer=initializer)
    seen = run_batch([looks], executor)
    monkeypatch.setenv("SET_BY_PARENT", "1")
    seen += run_batch([looks], executor)
    monkeypatch.delenv("SET_BY_PARENT")
    seen += run_batch([looks], executor)
    assert seen == [("yes", None), ("yes", "1"), ("yes", None)]
