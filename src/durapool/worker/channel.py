"""The worker's end of its socket to the parent.

Any thread of the branch may send; a thread that waits for an answer reads for all, one at a time. Answers change
plain state (what is acknowledged, which nested batch has ended) and wake those who wait for it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from durapool.pool.wire import Decoder, Kind, pack
from durapool.worker.transfer import Arrivals, receive

RECEIVE = 64 * 1024  # bytes asked of one recv; above 128 KiB malloc maps fresh pages each time, at 12 us a call
AT_ONCE = int(socket.MSG_DONTWAIT)
AWAKE = 0.0001  # seconds that a thread looks for an answer before it sleeps

_RUN, _ACK = Kind.RUN, Kind.ACK  # looked up once: in its class a member of an enum takes as long as a call


class ParentGoneError(BaseException):
    """The parent has closed its end; the supervisor is about to end this process."""


class Channel:
    """Sends messages to the parent and keeps what it answered."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._decoder = Decoder()
        self._sending = threading.Lock()
        self._sender: int | None = None  # the thread that holds it
        self._late: deque[bytes] = deque()
        self._state = threading.RLock()
        self._changed = threading.Condition(self._state)
        self._reading = False
        self._asleep = 0  # threads that another one reads for
        self.orders: deque[tuple[Kind, list[Any]]] = deque()  # what only the main loop may take up
        self.run = 0  # the number of the present one
        self.acknowledged = 0  # updates of it
        self.told: list[list[Any]] = []  # operations of it that the store has completed
        self.taken_in = 0  # the last run whose outcome the parent has taken in and told so
        self.nested_ends: dict[int, list[Any]] = {}
        self.inputs: dict[int, list[bytes | list[Any] | str]] = {}  # text says why an item cannot be sent
        self.arrivals = Arrivals()

    def send(self, kind: Kind, *body: Any) -> None:
        """Send one message whole. The parent always reads, so this never waits for long."""
        self.send_frame(pack(kind, *body))

    def send_frame(self, frame: bytes) -> None:
        """Send a packed message.

        A finalizer or a signal handler may run in the midst of it, and log: that waits until this message is sent.
        """
        own = threading.get_ident()
        if self._sender == own:
            self._late.append(frame)
            return
        try:
            with self._sending:
                self._sender = own
                try:
                    self._link.sendall(frame)
                    while self._late:
                        self._link.sendall(self._late.popleft())
                finally:
                    self._sender = None
        except (BrokenPipeError, ConnectionResetError):
            raise ParentGoneError from None

    def wait(self, until: Callable[[], bool]) -> None:
        """Read what the parent sends until the condition holds."""
        with self._state:  # by itself it is taken in C
            while not until():
                if self._reading:
                    self._sleep()
                else:
                    self._read_once()

    def _sleep(self) -> None:
        self._asleep += 1
        try:
            self._changed.wait()
        finally:
            self._asleep -= 1

    def _read_once(self) -> None:
        """One recv, with the state released so that other threads may look at what they wait for."""
        self._reading = True
        self._state.release()
        try:
            data, descriptors = self._receive()
        except ConnectionResetError:
            data, descriptors = b"", []
        finally:
            self._state.acquire()
            self._reading = False
            if self._asleep:
                self._changed.notify_all()
        if not data:
            raise ParentGoneError
        if descriptors:
            self.arrivals.arrive(descriptors)
        for kind, body in self._decoder.feed(data):
            self._take(kind, body)

    def _receive(self) -> tuple[bytes, list[int]]:
        """What the parent has sent, and the descriptors with it; waits for it, at first without sleeping.

        An answer mostly comes at once, and a process that has gone to sleep is woken late, at the parent's cost: tens
        of us in a virtual machine. Whoever else wants this CPU gets it at every look.
        """
        awake_until = time.perf_counter() + AWAKE
        while True:
            try:
                return receive(self._link, RECEIVE, AT_ONCE)
            except BlockingIOError:
                if time.perf_counter() > awake_until:
                    return receive(self._link, RECEIVE)
                os.sched_yield()

    def _take(self, kind: Kind, body: list[Any]) -> None:
        if kind is _RUN:
            self.orders.append((kind, body))
        elif kind is _ACK:
            run, acknowledged, told = body
            if run == self.run:  # an earlier run may have ended without waiting for its last one
                self.acknowledged = acknowledged
                self.told += told
        else:
            self._take_rare(kind, body)

    def _take_rare(self, kind: Kind, body: list[Any]) -> None:
        match kind:
            case Kind.GO:
                self.taken_in = body[0]
            case Kind.NESTED_END:
                self.nested_ends[body[0]] = body[1]
            case Kind.INPUTS:
                self.inputs[body[0]] = body[1]
            case Kind.SEGMENT | Kind.FILE | Kind.NO_FILE:
                self.arrivals.take(kind, body)
            case _:
                self.orders.append((kind, body))

    def begin(self, run: int) -> None:
        """From now on answers are for this run."""
        with self._state:  # by itself it is taken in C
            self.run, self.acknowledged, self.told = run, 0, []

    def wait_until_taken_in(self, run: int) -> None:
        """Wait until the parent has taken in the outcome of this run."""
        self.wait(lambda: self.taken_in >= run)

    def next_order(self) -> tuple[Kind, list[Any]]:
        """The next thing to do; waits for it."""
        self.tell_dropped()
        if not self.orders:
            self.wait(lambda: bool(self.orders))
        return self.orders.popleft()

    def tell_dropped(self) -> None:
        """Let the parent write the segments again that are not in use here any more."""
        if self.arrivals.gone:
            self.send(Kind.DROPPED, self.arrivals.dropped())

    def close_for_fork(self) -> None:
        """In a process that user code forked: it must not speak on this socket."""
        if self._link.fileno() >= 0:
            os.close(self._link.detach())
