"""What a link and its agents say to each other: messages of an engine, each a list of parcels.

A parcel is an array that begins with its kind. What workers and pool say passes through unread, as DATA and SAID.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import msgpack

VERSION = 1  # of these parcels and of the frames of workers; told in HELLO with durapool's own
WINDOW = 16 << 20  # bytes of workers' streams that may be on their way to one agent, or from it
CHUNK = 1 << 20  # bytes of a file in one parcel
READ = 256 * 1024  # bytes asked of one read


class Parcel(IntEnum):
    """The comment gives what follows the kind."""

    # link to agent
    FORK = 1  # worker
    KILL = 2  # worker, seconds of grace, signal: as wire.Kind.KILL
    WATCH = 3  # worker, memory limit in bytes (0: none)
    DATA = 4  # worker, permits given ahead of it, bytes for its socket
    CONTENT = 5  # number of a segment, its bytes
    REFERENCE = 6  # number of a segment, what the engine fetches it by
    HAND = 7  # worker, number: the segment's descriptor goes with the next DATA
    UNSHARE = 8  # [numbers]: nobody will be handed these any more
    BLANK = 9  # worker, name, bytes: a new file to be written, whose descriptor goes with the next DATA
    BEAT = 10  # the parent lives
    # agent to link
    HELLO = 20  # facts: see agent.facts
    EXITED = 21  # worker, wait status, peak RSS in bytes, excess in bytes: as wire.Kind.EXITED
    SAID = 22  # worker, bytes from its socket
    PRINTED = 23  # worker, 1 or 2, bytes from its stdout or stderr
    WRITTEN = 24  # worker, name of a file, position, bytes
    MISSING = 25  # number of a segment that could not be fetched
    # both
    TAKEN = 30  # bytes of streams that were passed on


def pack(parcels: list[tuple[Any, ...]]) -> bytes:
    """One message."""
    packed: bytes = msgpack.packb(parcels)
    return packed


def unpack(data: bytes) -> list[list[Any]]:
    """The inverse of `pack`."""
    parcels: list[list[Any]] = msgpack.unpackb(data, strict_map_key=False, max_bin_len=2**31 - 1)
    return parcels


class Window:
    """How much of the streams is on its way to the other side, and how much of its own to tell that it was passed on.

    Whoever sends stops reading its sources while the window is full: so a worker that prints without end fills a pipe
    on its own node and waits, and nobody's memory.
    """

    def __init__(self) -> None:
        self._on_the_way = 0
        self._taken = 0

    @property
    def is_full(self) -> bool:
        """Whether the sources have to wait."""
        return self._on_the_way >= WINDOW

    def sent(self, size: int) -> None:
        """So many bytes are on their way."""
        self._on_the_way += size

    def told(self, size: int) -> None:
        """The other side has passed on so many."""
        self._on_the_way -= size

    def taken(self, size: int) -> None:
        """So many bytes from the other side were passed on here."""
        self._taken += size

    def to_tell(self) -> list[tuple[Any, ...]]:
        """The parcel that says so, where it is worth one."""
        if self._taken < WINDOW // 4:
            return []
        taken, self._taken = self._taken, 0
        return [(Parcel.TAKEN, taken)]
