"""Large data in a worker: what came as a descriptor is mapped, privately; what is recorded is written to one.

    SEGMENT, FILE + descriptor --> Arrivals
    RUN with parts in segments --> Arrivals.load: arrays lie in a mapping that is this branch's alone
    a large result --> WorkerBlobs.save: ask for a descriptor, write, refer to it in the update

The parent is told (DROPPED) when nothing of a segment is mapped here any more.
"""

from __future__ import annotations

import errno
import itertools
import os
import resource
import socket
from array import array
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from durapool.blobs import no_room, same_content
from durapool.exceptions import SerDesError, StoreFailure
from durapool.functions import is_plain_parts, plain_function
from durapool.pool.wire import Kind
from durapool.records import BlobRef
from durapool.segments import Descriptor, is_untouched, pages, unmap, view, write_parts
from durapool.unpickling import load_function

if TYPE_CHECKING:
    from durapool.worker.channel import Channel
    from durapool.worker.journal import StreamedJournal

_RECENT = 2  # of the blobs of a run: what a step has just recorded the branch often returns

_ROOM = socket.CMSG_SPACE(16 * array("i").itemsize)  # for descriptors; the parent sends one at a time
_CLOSE_ON_EXEC = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))

_tokens = itertools.count(1)


def receive(link: socket.socket, size: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """At most `size` bytes, and the descriptors that came with them. Raises as `socket.recv`."""
    data, ancillary, _, _ = link.recvmsg(size, _ROOM, _CLOSE_ON_EXEC | flags)
    if not ancillary:
        return data, []
    descriptors = array("i")
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(payload)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return data, descriptors.tolist()


class Lent(Descriptor):
    """A file of the parent's."""

    def map(self, size: int) -> memoryview:
        """See `Descriptor.map`."""
        return view(_pages(self.descriptor, size), size, unmap, None)


def _pages(descriptor: int, size: int) -> int:
    """As `segments.pages`. The backstop of a memory limit counts what may be written to, but only what is written to
    takes memory, which the limit itself sees: so the backstop makes room."""
    try:
        return pages(descriptor, size)
    except OSError as error:
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if error.errno != errno.ENOMEM or soft == resource.RLIM_INFINITY:
            raise
        resource.setrlimit(resource.RLIMIT_DATA, (soft + size, hard))
        return pages(descriptor, size)


class Received(Lent):
    """A segment of the parent's. When it goes, nothing of it is mapped here.

    A mapping in which a branch has written nothing serves the next one: its pages need not be found again, which takes
    ten times as long as to ask the kernel whether they are as they were.
    """

    def __init__(self, descriptor: int, number: int, dropped: deque[int]) -> None:
        super().__init__(descriptor)
        self._number = number
        self._dropped = dropped
        self._resting: list[tuple[int, int]] = []

    def map(self, size: int) -> memoryview:
        """As `Descriptor.map`; the mapping keeps this object."""
        while self._resting:
            address, length = self._resting.pop()
            if length == size and is_untouched(address, length):
                return view(address, size, _rest, self)
            unmap(address, length, self)
        return view(_pages(self.descriptor, size), size, _rest, self)

    def rest(self, address: int, size: int) -> None:
        """Nobody looks into this mapping any more."""
        self._resting.append((address, size))

    def __del__(self) -> None:
        for address, size in self._resting:
            unmap(address, size, None)
        super().__del__()
        self._dropped.append(self._number)


def _rest(address: int, size: int, owner: Received) -> None:
    owner.rest(address, size)


class File(NamedTuple):
    """A descriptor that the parent gave for a blob."""

    source: Descriptor
    name: str
    synced: bool


class Arrivals:
    """What the parent has sent. One thread at a time takes messages; any may ask and load."""

    def __init__(self) -> None:
        self._descriptors: deque[int] = deque()
        self._segments: dict[int, tuple[int, Descriptor]] = {}  # with the batch
        self.files: dict[int, File | str] = {}  # by token; text says why there is none
        self.gone: deque[int] = deque()  # the segments of which the parent is not told yet

    def arrive(self, descriptors: Sequence[int]) -> None:
        """Descriptors come with the frames that tell of them, in the same order."""
        self._descriptors.extend(descriptors)

    def take(self, kind: Kind, body: list[Any]) -> None:
        """A message about large data."""
        match kind, body:
            case Kind.SEGMENT, [number, batch, _]:
                self._segments[number] = batch, self._received(number)
            case Kind.FILE, [token, number, name, synced, _, _]:
                self.files[token] = File(self._received(number), name, synced)
            case Kind.NO_FILE, [token, why]:
                self.files[token] = why
            case _:
                raise RuntimeError(f"the parent sent a {kind!r} that is not well-formed")

    def _received(self, number: int) -> Descriptor:
        """The descriptor that came with the present message; 0 for one of which the parent need not hear again."""
        descriptor = self._descriptors.popleft()
        return Received(descriptor, number, self.gone) if number else Lent(descriptor)

    def load(self, part: bytes | list[Any]) -> Any:
        """What the parent has sent: a function, an item. Its arrays are this caller's alone."""
        if isinstance(part, bytes):
            return load_function(part)
        if is_plain_parts(part):
            return plain_function(*part)
        stream, slices = part
        ends: dict[int, int] = {}
        for number, start, length in slices:
            ends[number] = max(ends.get(number, 0), start + length)
        mapped = {number: self._segments[number][1].map(end) for number, end in ends.items()}
        views = [mapped[number][start : start + length] for number, start, length in slices]
        return load_function(views.pop(0), views) if stream is None else load_function(stream, views)

    def drop(self, numbers: Sequence[int]) -> None:
        """No branch that comes after needs these segments."""
        for number in numbers:
            self._segments.pop(number, None)

    def forget(self, batch: int) -> None:
        """No branch of this batch comes any more."""
        self.drop([number for number, (owner, _) in self._segments.items() if owner == batch])

    def dropped(self) -> list[int]:
        """The segments that have gone since the last call."""
        gone = self.gone
        return [gone.popleft() for _ in range(len(gone))]


class WorkerBlobs:
    """The blobs of the execution, for one run of a branch. See `durapool.blobs.Blobs`."""

    def __init__(self, channel: Channel, journal: StreamedJournal) -> None:
        self._channel = channel
        self._journal = journal
        self._recent: deque[tuple[BlobRef, Descriptor]] = deque(maxlen=_RECENT)

    def save(self, parts: Sequence[memoryview], size: int) -> BlobRef:
        """See `Blobs.save`."""
        for ref, source in tuple(self._recent):
            if ref.size == size and same_content(source, parts):
                return ref
        file = self._ask(Kind.NEW_FILE, size)
        try:
            write_parts(file.source.descriptor, parts)
            if file.synced:
                os.fsync(file.source.descriptor)
        except OSError as error:
            raise StoreFailure(no_room("a worker", size, error)) from error
        ref = BlobRef(file.name, size)
        self._recent.append((ref, file.source))
        return ref

    def open(self, ref: BlobRef) -> Descriptor:
        """See `Blobs.open`."""
        for known, source in tuple(self._recent):
            if known == ref:
                return source
        return self._ask(Kind.OPEN_FILE, *ref).source

    def _ask(self, kind: Kind, *body: Any) -> File:
        token, files = next(_tokens), self._channel.arrivals.files
        self._journal.ask(kind, token, *body)
        self._channel.wait(lambda: token in files)
        answer = files.pop(token)
        if isinstance(answer, str):
            raise SerDesError(answer)
        return answer

    def close(self) -> None:
        """The run has ended."""
        self._recent.clear()
