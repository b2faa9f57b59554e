"""One worker as the parent sees it: its socket, what is queued for it, what it was given to run, what it prints."""

from __future__ import annotations

import socket
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from durapool.pool.claims import Claims
from durapool.pool.relay import LineRelay
from durapool.pool.transfer import Enclosed
from durapool.pool.wire import Decoder, Kind, Packer
from durapool.segments import Segment

if TYPE_CHECKING:
    from durapool.pool.batches import ActiveRun

RECEIVE = 64 * 1024  # bytes asked of one recv; above 128 KiB malloc maps fresh pages each time, at 12 us a call
SEND = 64 * 1024  # bytes of a message up to which it is sent together with others
MOST_LADEN = 256 << 20  # bytes of large data that branches ahead of their turn may lie in


@dataclass(eq=False, slots=True)
class Worker:
    """Owned by the pool's loop. All writes are queued and sent when the socket takes them."""

    number: int
    link: socket.socket
    prints: LineRelay
    errors: LineRelay
    claims: Claims
    site: int = 0  # where it runs, see supervisor.Link.places
    decoder: Decoder = field(default_factory=Decoder)
    packer: Packer = field(default_factory=Packer)
    outgoing: deque[bytes | memoryview] = field(default_factory=deque)
    runs: deque[ActiveRun] = field(default_factory=deque)  # the one it runs, then those sent ahead
    permits: int = 0  # to be given with the next messages
    stale: int = 0  # runs taken back that it has still to skip; nothing is sent to it before it has
    known_batches: set[int] = field(default_factory=set)
    surroundings: Any = None
    warned: set[Any] = field(default_factory=set)  # warnings shown while it ran no branch
    segments: dict[int, Segment] = field(default_factory=dict)  # it has them mapped, or may map them
    branches: int = 0
    initializer: bytes | None = None  # still to be sent, ahead of the first run
    pid: int = 0  # known once it has come up
    unready: int = 1  # READYs still to come: when it has come up, and after the initializer
    at_end: bool = False  # its socket has ended
    problem: Exception | None = None  # why it was discarded
    received: int = 0  # bytes
    memory_limit: int = 0  # bytes; 0: none
    watching_room: bool = False  # its socket was full; the loop waits for room

    @property
    def run(self) -> ActiveRun | None:
        """What it runs, or is about to."""
        return self.runs[0] if self.runs else None

    @property
    def ready(self) -> bool:
        """Whether it has come up, and the initializer has ended."""
        return self.unready <= 0

    @property
    def is_laden(self) -> bool:
        """Whether so much large data was sent to it that more waits until some of it is used."""
        return bool(self.segments) and sum(segment.capacity for segment in self.segments.values()) > MOST_LADEN

    @property
    def heard(self) -> bool:
        """Whether it has ever said anything."""
        return self.received > 0

    def post(self, kind: Kind, *body: Any) -> None:
        """Queue a message."""
        self.outgoing.append(self.packer.frame(kind, body))

    def send(self) -> bool:
        """Send what is queued as far as the socket takes it; True when nothing is left."""
        if self.permits:
            self.claims.permit(self.permits)
            self.permits = 0
        outgoing = self.outgoing
        while outgoing:
            data = outgoing.popleft() if len(outgoing) == 1 else self._next_to_send()
            try:
                sent = data.send(self.link) if type(data) is Enclosed else self.link.send(data)
            except BlockingIOError:
                sent = 0
            except (BrokenPipeError, ConnectionResetError):
                return True  # the end of the socket tells
            if sent < len(data):
                # the rest of a large message is not copied; a descriptor goes with the first byte
                outgoing.appendleft(memoryview(data)[sent:] if sent else data)
                return False
        return True

    def _next_to_send(self) -> bytes | memoryview:
        """Small messages go together; a large one by itself, and one with a descriptor."""
        outgoing = self.outgoing
        if not _is_small(outgoing[0]):
            return outgoing.popleft()
        small: list[bytes | memoryview] = []
        while outgoing and _is_small(outgoing[0]):
            small.append(outgoing.popleft())
        return b"".join(small)

    def clear(self) -> list[ActiveRun]:
        """Its runs, which it will not end: the one that it ran, and what it had begun since it was last heard of."""
        runs = list(self.runs)
        self.runs.clear()
        return runs

    def take_back(self, most: int) -> int:
        """Take back up to `most` branches from the end of its line; how many it had not begun."""
        unsent = min(most, self.permits)
        self.permits -= unsent
        return unsent + self.claims.take_back(most - unsent)

    def receive(self) -> bytes:
        """What has arrived; nothing at the end of the socket (`at_end` then tells) or when all was read."""
        try:
            data = self.link.recv(RECEIVE)
        except BlockingIOError:
            return b""
        except ConnectionResetError:  # what Linux says where the peer has left something unread
            data = b""
        self.at_end = not data
        self.received += len(data)
        return data

    def relay(self) -> None:
        """Pass on what it has printed so far, in whole lines."""
        self.prints.pass_on()
        self.errors.pass_on()

    def abandon(self) -> None:
        """In a forked child: release the descriptors; what comes through them is the parent's to read."""
        self.link.close()
        self.claims.close()
        self.prints.abandon()
        self.errors.abandon()

    def close(self) -> None:
        """Release the descriptors."""
        self.outgoing.clear()
        self.segments.clear()
        self.link.close()
        self.claims.close()
        self.prints.close()
        self.errors.close()


def _is_small(data: bytes | memoryview) -> bool:
    """Whether it may go together with others."""
    return len(data) <= SEND and not isinstance(data, Enclosed)
