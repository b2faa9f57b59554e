"""Who turns the loop: one thread at a time, never nobody while somebody waits."""

from __future__ import annotations

import threading

import pytest

from durapool.exceptions import OrphanedBranch
from durapool.pool.drive import Driver


class Waiter:
    def __init__(self):
        self.signal = threading.Event()
        self.finished = False

    def finish(self):
        self.finished = True
        self.signal.set()


class Loop:
    """Each turn waits for a poke, then does what was left for it."""

    def __init__(self):
        self.poked = threading.Semaphore(0)
        self.todo = []
        self.threads = []
        self.inside = 0

    def turn(self):
        self.inside += 1
        assert self.inside == 1, "two threads turn the loop"
        self.threads.append(threading.current_thread())
        self.poked.acquire()
        if self.todo:
            self.todo.pop(0)()
        self.inside -= 1

    def wake(self):
        self.poked.release()

    def do(self, action):
        self.todo.append(action)
        self.wake()


def start(driver, waiter):
    thread = threading.Thread(target=driver.drive, args=(waiter,))
    thread.start()
    return thread


def test_when_the_driver_leaves_another_waiting_thread_drives():
    loop, waiters = Loop(), [Waiter(), Waiter(), Waiter()]
    driver = Driver(loop)
    threads = [start(driver, waiter) for waiter in waiters]
    for waiter, thread in zip(waiters, threads, strict=True):
        loop.do(waiter.finish)
        thread.join(10)
        assert not thread.is_alive()
    assert loop.inside == 0


def test_a_pause_stops_the_loop_and_gives_it_back():
    loop, waiter = Loop(), Waiter()
    driver = Driver(loop)
    thread = start(driver, waiter)
    seen = []
    driver.while_paused(lambda: seen.append(loop.inside))
    assert seen == [0]
    loop.do(waiter.finish)
    thread.join(10)
    assert not thread.is_alive()


def test_an_interrupted_turn_poisons_the_loop_for_everybody():
    loop = Loop()
    driver = Driver(loop)

    def interrupt():
        loop.inside -= 1
        raise KeyboardInterrupt

    loop.do(interrupt)
    with pytest.raises(KeyboardInterrupt):
        driver.drive(Waiter())
    assert driver.poisoned
    with pytest.raises(OrphanedBranch):
        driver.drive(Waiter())
