"""Which thread runs the loop: the one inside `context.parallel`, if there is one.

The first thread that waits for a batch becomes the driver and turns the loop until its own batch has ended; others
hand in their batches and sleep. When the driver leaves it wakes one of them to drive. So no record ever crosses
threads, and a busy parent cannot starve an I/O thread of the interpreter lock.

An exception that leaves a turn (an interrupt may strike anywhere) poisons the loop: nobody turns it again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from threading import get_ident
from typing import Protocol

from durapool.exceptions import ClusterError, OrphanedBranch, PoolError
from durapool.flag import Flag


class Waiter(Protocol):
    """What a thread waits for. `signal` is set after `finished` has become true."""

    signal: Flag

    @property
    def finished(self) -> bool:
        """Whether the wait is over."""
        ...


class Loop(Protocol):
    """What is driven."""

    def turn(self) -> None:
        """One round; may wait for something to happen."""
        ...

    def wake(self) -> None:
        """End the waiting of a turn. From any thread."""
        ...


class Driver:
    """Elects the thread that turns the loop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._driver: int | None = None  # the thread that turns the loop
        self._waiting: list[Flag] = []
        self._pausing = 0  # threads that want the loop to stand still
        self.poisoned = False
        self._reason: ClusterError | None = None  # for which it was, where that concerns all who wait

    def drive(self, waiter: Waiter) -> None:
        """Return when `waiter` is finished; turn the loop meanwhile, or leave it to another thread.

        Raises:
            OrphanedBranch: a turn of another thread was interrupted, and the loop with it.
            ClusterError: the cluster is gone.
            PoolError: called out of a turn, such as by a signal handler that has interrupted one.
        """
        try:
            while not waiter.finished:
                if self._take_wheel(waiter.signal, pausing=False):
                    self._turn_until(waiter)
                else:
                    waiter.signal.wait()
                    waiter.signal.clear()
        finally:
            self._stop_waiting(waiter.signal)
            self._leave()  # an interrupt may have come right after this thread took the wheel

    def while_paused(self, action: Callable[[], None]) -> None:
        """Run `action` while nobody turns the loop. Does nothing when the loop is poisoned."""
        signal = Flag()
        with self._lock:
            self._pausing += 1
        try:
            while not self._take_wheel(signal, pausing=True):
                self._loop.wake()
                signal.wait()
                signal.clear()
            action()
        except OrphanedBranch:
            return
        except ClusterError:
            if not self.poisoned:  # it is the action's own
                raise
        finally:
            with self._lock:
                self._pausing -= 1
            self._stop_waiting(signal)
            self._leave()

    def _turn_until(self, waiter: Waiter) -> None:
        try:
            while not waiter.finished and not self._pausing:
                self._loop.turn()
        except BaseException as reason:
            self.poisoned = True
            self._reason = reason if isinstance(reason, ClusterError) else None
            raise
        finally:
            self._leave()

    def _take_wheel(self, signal: Flag, pausing: bool) -> bool:
        with self._lock:
            if self.poisoned and self._reason is not None:
                raise ClusterError(str(self._reason))
            if self.poisoned:
                raise OrphanedBranch("the process pool was interrupted")
            if self._driver == get_ident():
                raise PoolError(
                    "this thread is at work in the process pool already; a signal handler cannot wait for it"
                )
            if self._driver is not None or (self._pausing and not pausing):
                if signal not in self._waiting:
                    self._waiting.append(signal)
                return False
            self._driver = get_ident()
            if signal in self._waiting:
                self._waiting.remove(signal)
            return True

    def _stop_waiting(self, signal: Flag) -> None:
        with self._lock:
            if signal in self._waiting:
                self._waiting.remove(signal)
                if self._driver is None:
                    self._wake_waiting()

    def _leave(self) -> None:
        """Let another thread drive, if this one does."""
        with self._lock:
            if self._driver == get_ident():
                self._driver = None
            if self._driver is None:
                self._wake_waiting()

    def _wake_waiting(self) -> None:
        """All of them: few, and each either drives or sleeps again. One alone might be the wrong one."""
        for signal in self._waiting:
            signal.set()
