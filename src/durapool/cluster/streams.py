"""What link and agent share: a descriptor that is read when it can be, and written as far as it takes it.

`Skimmer` finds the frames about large data in what the pool says to a worker: their contents travel apart.
"""

from __future__ import annotations

import os
import selectors
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from durapool.pool.wire import HEADER, KINDS, Kind, unpack

SKIMMED = frozenset({Kind.SEGMENT, Kind.FILE, Kind.DROP, Kind.FORGET})


class Stream:
    """One end of a socket or a pipe, owned, in a selector whose keys' data are called with the events.

    A peer that is gone is no error: what was written for it is dropped, and reading tells.
    """

    def __init__(
        self, end: socket.socket | int, selector: selectors.BaseSelector, on_readable: Callable[[], object] | None
    ) -> None:
        self._socket = None if isinstance(end, int) else end
        self._descriptor = end if isinstance(end, int) else end.fileno()
        os.set_blocking(self._descriptor, False)
        self._selector = selector
        self._on_readable = on_readable
        self._reading = on_readable is not None
        self._waiting: deque[tuple[memoryview, Sequence[int]]] = deque()
        self._watched = 0
        self._taken = 0
        self.is_closed = False
        self._watch()

    @property
    def is_drained(self) -> bool:
        """Whether nothing waits to be written."""
        return not self._waiting

    def taken(self) -> int:
        """Bytes that the peer has taken, or can never take, since this was last asked."""
        taken, self._taken = self._taken, 0
        return taken

    def write(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Write behind what waits; the descriptors go with the first byte, and are closed here once they are sent."""
        self._waiting.append((memoryview(data), descriptors))
        self._flush()

    def _flush(self) -> None:
        while self._waiting and not self.is_closed:
            data, descriptors = self._waiting[0]
            try:
                written = self._put(data, descriptors)
            except BlockingIOError:
                break
            except OSError:  # nobody is there any more
                self._give_up()
                break
            for descriptor in descriptors:
                os.close(descriptor)
            self._taken += written
            self._waiting.popleft()
            if written < len(data):
                self._waiting.appendleft((data[written:], ()))
        self._watch()

    def _put(self, data: memoryview, descriptors: Sequence[int]) -> int:
        if descriptors:
            assert self._socket is not None
            return socket.send_fds(self._socket, [data], descriptors)
        return os.write(self._descriptor, data)

    def _give_up(self) -> None:
        for data, descriptors in self._waiting:
            self._taken += len(data)
            for descriptor in descriptors:
                os.close(descriptor)
        self._waiting.clear()

    def read(self, size: int) -> bytes:
        """What is there; nothing where nothing is, or at the end (`BlockingIOError` tells them apart)."""
        try:
            return os.read(self._descriptor, size)
        except ConnectionResetError:
            return b""

    def listen(self, reading: bool) -> None:
        """Let the source speak, or wait."""
        self._reading = reading and self._on_readable is not None
        self._watch()

    def end(self) -> None:
        """Nothing more will be read."""
        self._on_readable = None
        self.listen(reading=False)

    def _watch(self) -> None:
        wanted = (selectors.EVENT_READ if self._reading else 0) | (selectors.EVENT_WRITE if self._waiting else 0)
        if wanted == self._watched or self.is_closed:
            return
        if not wanted:
            self._selector.unregister(self._descriptor)
        elif not self._watched:
            self._selector.register(self._descriptor, wanted, self._ready)
        else:
            self._selector.modify(self._descriptor, wanted, self._ready)
        self._watched = wanted

    def _ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush()
        if events & selectors.EVENT_READ and self._reading and self._on_readable is not None:
            self._on_readable()

    def close(self) -> None:
        """Release the descriptor; the peer reads the end."""
        if self.is_closed:
            return
        self._give_up()
        self._reading = False
        self._watch()
        self.is_closed = True
        if self._socket is None:
            os.close(self._descriptor)
        else:
            self._socket.close()


class Skimmer:
    """The frames about large data in a stream to a worker; the others are not read."""

    def __init__(self) -> None:
        self._head = bytearray()  # of a frame; the whole of one that is wanted
        self._to_skip = 0

    def feed(self, data: bytes) -> Iterator[tuple[Kind, list[Any]]]:
        """Those that are complete now."""
        position, size = 0, len(data)
        while position < size:
            step = min(self._to_skip, size - position)
            if step:
                self._to_skip -= step
                position += step
                continue
            piece = data[position : position + self._wanted() - len(self._head)]
            self._head += piece
            position += len(piece)
            if len(self._head) < HEADER.size or len(self._head) < self._wanted():
                continue
            _, number, length = HEADER.unpack_from(self._head)
            kind = KINDS[number]
            if kind in SKIMMED:
                yield kind, unpack(bytes(self._head[HEADER.size :]))
            else:
                self._to_skip = length
            self._head.clear()

    def _wanted(self) -> int:
        """Bytes that the head must have before it is looked at."""
        if len(self._head) < HEADER.size:
            return HEADER.size
        _, number, length = HEADER.unpack_from(self._head)
        return HEADER.size + (int(length) if number in SKIMMED else 0)
