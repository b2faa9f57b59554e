"""One worker as the parent sees it: its socket, what is queued for it, what it is doing, the tail of its stderr."""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from durapool.pool.wire import Decoder, Kind, pack

if TYPE_CHECKING:
    from durapool.pool.batches import ActiveRun

RECEIVE = 256 * 1024  # bytes asked of one recv
TAIL_LINES = 20  # of stderr, kept for the error of a lost worker


@dataclass(eq=False, slots=True)
class Worker:
    """Owned by the pool's loop. All writes are queued and sent when the socket takes them."""

    number: int
    link: socket.socket
    errors: int
    decoder: Decoder = field(default_factory=Decoder)
    outgoing: deque[bytes] = field(default_factory=deque)
    run: ActiveRun | None = None
    known_batches: set[int] = field(default_factory=set)
    surroundings: Any = None
    branches: int = 0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    partial_line: str = ""
    at_end: bool = False  # its socket has ended
    problem: Exception | None = None  # why it was discarded
    received: int = 0  # bytes
    memory_limit: int = 0  # bytes; 0: none
    watching_room: bool = False  # its socket was full; the loop waits for room

    @property
    def heard(self) -> bool:
        """Whether it has ever said anything."""
        return self.received > 0

    def post(self, kind: Kind, *body: Any) -> None:
        """Queue a message."""
        self.outgoing.append(pack(kind, *body))

    def send(self) -> bool:
        """Send what is queued as far as the socket takes it; True when nothing is left."""
        while self.outgoing:
            data = b"".join(self.outgoing) if len(self.outgoing) > 1 else self.outgoing[0]
            self.outgoing.clear()
            try:
                sent = self.link.send(data)
            except BlockingIOError:
                sent = 0
            except (BrokenPipeError, ConnectionResetError):
                return True  # the end of the socket tells
            if sent < len(data):
                self.outgoing.append(data[sent:])
                return False
        return True

    def receive(self) -> bytes:
        """What has arrived; nothing at the end of the socket (`at_end` then tells) or when all was read."""
        try:
            data = self.link.recv(RECEIVE)
        except BlockingIOError:
            return b""
        except ConnectionResetError:
            data = b""
        self.at_end = not data
        self.received += len(data)
        return data

    def relay_errors(self) -> bool:
        """Pass what it wrote to stderr on, in whole lines; False at the end of the pipe."""
        while True:
            try:
                data = os.read(self.errors, 65536)
            except BlockingIOError:
                return True
            *lines, self.partial_line = (self.partial_line + data.decode(errors="replace")).split("\n")
            if not data and self.partial_line:
                lines.append(self.partial_line)
                self.partial_line = ""
            self.tail.extend(lines)
            if lines:
                sys.stderr.write("\n".join(lines) + "\n")
            if not data:
                return False

    def close(self) -> None:
        """Release the descriptors."""
        self.link.close()
        if self.errors >= 0:
            os.close(self.errors)
            self.errors = -1
