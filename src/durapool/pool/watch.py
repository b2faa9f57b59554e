"""What the loop waits for: the sockets and pipes of its workers, and other threads that wake it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

LONGEST_WAIT = 3600.0  # seconds; epoll takes no more than 24 days at once
_READ = select.POLLIN
_BOTH = select.POLLIN | select.POLLOUT


class Source(Protocol):
    """A socket, or whatever else has a descriptor."""

    def fileno(self) -> int: ...


class Watch:
    """Calls whoever has something to read. Owned by the loop, but for `wake`.

    `selectors` does the same, and takes as long as the system call that it is about.
    """

    def __init__(self) -> None:
        self._poll, self._unit = _poller()
        self._descriptors: dict[Source, int] = {}
        self._calls: dict[int, Callable[[], None]] = {}  # by descriptor
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self.add(self._wake_read, self._woken)

    def add(self, source: Source, call: Callable[[], None]) -> None:
        """From now on, `call` when something has arrived."""
        descriptor = self._descriptors[source] = source.fileno()
        self._calls[descriptor] = call
        self._poll.register(descriptor, _READ)

    def change(self, source: Source, call: Callable[[], None], *, room: bool) -> None:
        """Another call; with `room`, also when there is room to write."""
        descriptor = self._descriptors[source]
        self._calls[descriptor] = call
        self._poll.modify(descriptor, _BOTH if room else _READ)

    def remove(self, source: Source) -> None:
        """No more, if it is watched at all. Before it is closed."""
        descriptor = self._descriptors.pop(source, None)
        if descriptor is not None:
            del self._calls[descriptor]
            self._poll.unregister(descriptor)

    def look(self, seconds: float | None, awake: float = 0.0) -> None:
        """Call all that have something to say; wait for the first one.

        To wake a process that sleeps takes long, and costs whoever wakes it tens of us in a virtual machine. So where
        something is about to come it is looked for without sleeping; whoever else wants this CPU gets it at every look.

        Args:
            seconds: to wait at the most, or an hour if that is less; None for as long as it takes.
            awake: seconds of it without sleeping.
        """
        patience = None if seconds is None else min(seconds, LONGEST_WAIT) * self._unit
        found = self._poll.poll(0 if awake else patience)
        if awake and not found and seconds != 0:
            sleep_at = time.perf_counter() + (awake if seconds is None else min(awake, seconds))
            while not found and time.perf_counter() < sleep_at:
                os.sched_yield()
                found = self._poll.poll(0)
            found = found or self._poll.poll(patience)
        for call in [self._calls[descriptor] for descriptor, _ in found]:
            call()

    def wake(self) -> None:
        """End the waiting. From any thread."""
        with contextlib.suppress(OSError):  # it has enough to wake it, or it was closed, which the driver tells
            self._wake_write.send(b"\0")

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_read.recv(4096)

    def close(self) -> None:
        """Release the descriptors that are its own."""
        if hasattr(self._poll, "close"):
            self._poll.close()
        self._wake_read.close()
        self._wake_write.close()


def _poller() -> tuple[Any, float]:
    """The best that the system has, and how many of its units of time a second has."""
    return (select.epoll(), 1.0) if hasattr(select, "epoll") else (select.poll(), 1000.0)
