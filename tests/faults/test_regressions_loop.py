"""What once broke the loop of the process executor: each test is the smallest program that did."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading

import psutil
import pytest
from pool_tools import run_batch, supervisor, the_pool, wait_until

import durapool
from durapool import durable_execution
from durapool.exceptions import OrphanedBranch, PoolError
from durapool.executors import ProcessExecutor
from durapool.pool import registry
from durapool.pool.drive import Driver
from durapool.pool.wire import Decoder, Kind
from durapool.pool.workers import Worker
from durapool.stores import MemoryStore
from durapool.worker.channel import Channel

pytestmark = pytest.mark.usefixtures("fresh_pools")


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
    pid = pool._workforce.link.pids[worker.number]
    started = []
    start = pool._dispatcher._start

    def kill_then_start(batch, index, site):
        if not started:
            os.kill(pid, signal.SIGSTOP)  # it cannot take up the branch before it dies
            os.kill(pid, signal.SIGKILL)
        started.append(index)
        return start(batch, index, site)

    pool._dispatcher._start = kill_then_start
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
            wait_until(lambda: not os.path.exists(f"/proc/{pool._workforce.link.pids.get(worker.number, 0)}/exe"))
            return
        hear(worker)

    pool._workforce._hear = hear_late
    assert run_batch([exits_after_its_end], executor) == ["ended"]
    assert pool._workforce.ending == 0


# messages


def test_a_large_message_is_sent_in_parts_without_being_copied():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    worker = Worker(1, ours, None, None, None)
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

        def as_after_an_interrupt_of_another_thread():
            running.driver.poisoned = True
            running.pool.close()

        running.driver.while_paused(as_after_an_interrupt_of_another_thread)
        with registry._lock:
            registry._pools.clear()
    thread.join()
    assert len(ends) == 1
    thread = threading.Thread(target=lambda: (tmp_path / "gate").write_text("again"))
    thread.start()
    assert durapool.run(handler, id="x", store=store) == ["again"]
    thread.join()
