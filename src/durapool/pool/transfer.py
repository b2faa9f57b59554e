"""Large data between the parent and its workers: descriptors go to the worker, never back.

    captures, items   Crates.pack --> a segment, written once --SEGMENT--> each worker that needs it maps it
    results           NEW_FILE? --> a descriptor of the store's blobs --FILE--> the worker writes it
                      an update refers to it --> keep --> it is named, then the record is committed
    recorded results  OPEN_FILE? --> a descriptor for reading --FILE--> the worker maps it

A worker says DROPPED when nothing of a segment is mapped there any more; until then `Worker.segments` keeps it from
being written again. All of this belongs to the loop, but `Crates.pack`, which a new batch calls once before.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import socket
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from durapool import segments
from durapool.exceptions import SerDesError, StoreError, StoreFailure
from durapool.executors.base import Crashed, Succeeded
from durapool.functions import PlainFunction
from durapool.pickling import APART, Pickled
from durapool.pool.wire import Kind, WireError, pack
from durapool.records import BlobRef, Payload
from durapool.segments import Descriptor, Segment, write_parts

if TYPE_CHECKING:
    from durapool.pool.batches import ActiveRun
    from durapool.pool.workers import Worker

SHARED_BYTES = 128 << 20  # of what a batch has sent and may send again, beside the newest
SHARED_CRATES = 32
_ALIGNMENT = 64

_numbers = itertools.count(1)


class Enclosed(bytes):
    """A frame that goes out by itself, with a descriptor."""

    descriptor: Descriptor

    @classmethod
    def frame(cls, descriptor: Descriptor, kind: Kind, *body: Any) -> Enclosed:
        """A message that carries `descriptor`, which stays open until it is sent."""
        made = cls(pack(kind, *body))
        made.descriptor = descriptor
        return made

    def send(self, link: socket.socket) -> int:
        """As `socket.send`."""
        return socket.send_fds(link, [self], [self.descriptor.descriptor])


@dataclass(frozen=True, slots=True)
class Slice:
    """Where one part lies."""

    crate: Crate
    start: int
    length: int


@dataclass(eq=False, slots=True)
class Crate:
    """What was written at once, into one segment.

    `owners` are the objects whose memory it was: while they live, nothing else can have their addresses.
    """

    segment: Segment
    size: int
    places: list[tuple[int, int]] = field(default_factory=list)
    owners: list[Any] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)  # that were sent it
    number: int = field(default_factory=lambda: next(_numbers))


@dataclass(frozen=True, slots=True)
class Packed:
    """A pickle with parts in crates; where `stream` is None it is in the first of them."""

    stream: bytes | None
    slices: Sequence[Slice]


Part = bytes | Packed | PlainFunction


class Crates:
    """What one batch has sent.

    A buffer that several branches capture is the same memory each time, so it is found by its address and sent once.
    What it holds when it is sent first counts: the batch does not see a change by another thread.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[int, int], Slice] = {}  # (address, bytes) to where it lies
        self._lasting: set[Crate] = set()
        self._passing: OrderedDict[int, Crate] = OrderedDict()  # the one used last is last

    def pack(self, pickled: Pickled) -> Part:
        """For one branch: the large parts in crates; all in one piece where none is large.

        Raises:
            OSError: no segment can be had.
        """
        packed, used = self._pack(pickled)
        for crate in used - self._lasting:
            self._passing[crate.number] = crate
            self._passing.move_to_end(crate.number)
        self._trim(used)
        return packed

    def pack_for_all(self, pickled: Pickled) -> Part:
        """As `pack`, for what any branch may load: it stays as long as the batch."""
        packed, used = self._pack(pickled)
        self._lasting |= used
        for crate in used:
            self._passing.pop(crate.number, None)
        return packed

    def _pack(self, pickled: Pickled) -> tuple[Part, set[Crate]]:
        length = sum(map(len, pickled.stream))
        is_inline = length < APART
        if is_inline and not pickled.buffers:
            return b"".join(pickled.stream), set()
        places = [_place(buffer) for buffer in pickled.buffers]
        pairs = zip(places, pickled.buffers, strict=True)
        unknown = {place: buffer for place, buffer in pairs if place not in self._places}
        crate = self._write([] if is_inline else pickled.stream, unknown)
        slices = [] if is_inline or crate is None else [Slice(crate, 0, length)]
        slices += [self._places[place] for place in places]
        stream = b"".join(pickled.stream) if is_inline else None
        return Packed(stream, slices), {each.crate for each in slices}

    def _write(self, stream: Sequence[bytes], buffers: dict[tuple[int, int], memoryview]) -> Crate | None:
        """A new crate with these, if there are any. Raises OSError."""
        if not stream and not buffers:
            return None
        if segments.are_scarce():
            raise OSError(errno.EMFILE, "segments hold as many descriptors as they may")
        parts = [memoryview(piece).cast("B") for piece in stream]
        position = sum(piece.nbytes for piece in parts)
        starts = []
        for buffer in buffers.values():
            gap = -position % _ALIGNMENT
            parts += [memoryview(bytes(gap)), buffer]
            starts.append(position + gap)
            position += gap + buffer.nbytes
        segment = segments.take(position)
        write_parts(segment.descriptor, parts)
        crate = Crate(segment, position, list(buffers), [buffer.obj for buffer in buffers.values()])
        for start, (place, buffer) in zip(starts, buffers.items(), strict=True):
            self._places[place] = Slice(crate, start, buffer.nbytes)
        return crate

    def _trim(self, used: set[Crate]) -> None:
        """Forget what was not used for longest, but not what is in use now. Workers are told behind the branches that
        they were sent it for."""
        total = sum(crate.size for crate in self._passing.values())
        while total > SHARED_BYTES or len(self._passing) > SHARED_CRATES:
            number, crate = next(iter(self._passing.items()))
            if crate in used:
                return
            del self._passing[number]
            total -= crate.size
            for place in crate.places:
                del self._places[place]
            for worker in crate.workers:
                if number in worker.segments:
                    worker.post(Kind.DROP, [number])


def _place(buffer: memoryview) -> tuple[int, int]:
    """Address and length of a piece of memory."""
    view = _PyBuffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(buffer), ctypes.byref(view), 0)
    try:
        return view.buf or 0, view.len
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(view))


class _PyBuffer(ctypes.Structure):
    """The Py_buffer of the C API, whose shape the stable ABI fixes since Python 3.11."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_void_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


def shipped(worker: Worker, batch: int, part: Part | str | None) -> Any:
    """The part as a message for this worker has it; the segments that it lies in are queued ahead.

    They are the worker's until it is told to DROP them, or to forget the batch.
    """
    if not isinstance(part, Packed):
        return part
    for each in part.slices:
        crate = each.crate
        if crate.number not in worker.segments:
            worker.segments[crate.number] = crate.segment
            crate.workers.append(worker)
            worker.outgoing.append(Enclosed.frame(crate.segment, Kind.SEGMENT, crate.number, batch, crate.size))
    return [part.stream, [[each.crate.number, each.start, each.length] for each in part.slices]]


def give_file(run: ActiveRun, kind: Kind, body: list[Any]) -> None:
    """Answer NEW_FILE or OPEN_FILE.

    Raises:
        WireError: it is neither, or not well-formed.
        StoreFailure: the store has no room.
    """
    blobs = run.batch.root.blobs
    match kind, body:
        case _ if blobs is None:
            raise WireError(f"{kind.name} in an execution without blobs")
        case Kind.NEW_FILE, [_, token, int(size)] if size > 0:
            try:
                blob = blobs.create(size)
            except StoreError as error:
                raise StoreFailure(error) from error
            run.files[blob.name] = blob
            _post_file(run.worker, token, blob.source, BlobRef(blob.name, size), synced=blobs.synced, new=True)
        case Kind.OPEN_FILE, [_, token, str(name), int(size)]:
            try:
                source = blobs.open(BlobRef(name, size))
            except SerDesError as error:
                run.worker.post(Kind.NO_FILE, token, str(error))
            else:
                _post_file(run.worker, token, source, BlobRef(name, size), synced=False, new=False)
        case _:
            raise WireError(f"a {kind.name} that is not well-formed: {body!r:.100}")


def _post_file(worker: Worker, token: Any, source: Descriptor, ref: BlobRef, *, synced: bool, new: bool) -> None:
    number = 0
    if isinstance(source, Segment):
        number = next(_numbers)
        worker.segments[number] = source
    worker.outgoing.append(Enclosed.frame(source, Kind.FILE, token, number, ref.name, synced, ref.size, new))


def keep(run: ActiveRun, payload: Payload | None) -> None:
    """What a run refers to is there for good before the record is: name the blob that it has written.

    Raises:
        WireError: it was not given to this run and is none of the execution's, or it was not written whole.
        StoreFailure: it cannot be kept.
    """
    if not isinstance(payload, BlobRef):
        return
    blobs = run.batch.root.blobs
    blob = run.files.pop(payload.name, None)
    if blobs is None or (blob is None and not blobs.has(payload)):
        raise WireError(f"a reference to blob {payload.name}, which it has not written")
    if blob is not None:
        try:
            blobs.keep(blob, payload.size)
        except ValueError as error:
            raise WireError(str(error)) from error
        except StoreError as error:
            raise StoreFailure(error) from error


def kept(run: ActiveRun, result: Succeeded) -> Succeeded | Crashed:
    """The result of a run, kept where it counts; where the store fails, that is its outcome. Raises WireError."""
    try:
        if not run.detached:
            keep(run, result.payload)
    except StoreFailure as failure:
        return Crashed(failure)
    return result


def drop(worker: Worker, numbers: list[Any]) -> None:
    """A worker has nothing of these segments any more.

    Raises:
        WireError: it was never sent one of them.
    """
    for number in numbers:
        if number not in worker.segments:
            raise WireError(f"that it has dropped segment {number!r:.100}, which it was not sent")
        del worker.segments[number]
