"""Large payloads: kept beside the records, in a file or in memory, and mapped when they are read.

    dump --> stowed / stowed_pickle --> Blobs.save --> BlobRef in the record
    load --> read --> Blobs.map --> the text, the bytes, or a pickle whose arrays lie in the mapping

    +-------+------+---------------+---------------------+--------------+-------------+-----
    | magic | kind | how many      | length of each part | text, bytes  | buffer of   | ...
    |       |      | parts         |                     | or pickle    | an array    |
    +-------+------+---------------+---------------------+--------------+-------------+-----

Each part begins at a multiple of 64. The mapping is private and writable: what is written into an array that was read
back is seen by its owner alone and is never recorded. Imported by workers.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple, Protocol

from durapool.exceptions import SerDesError, StoreError
from durapool.records import BlobRef

if TYPE_CHECKING:
    from durapool.pickling import Pickled
    from durapool.segments import Descriptor

ALIGNMENT = 64  # bytes; what array libraries like best
_MAGIC = b"durapool"
_HEADER = struct.Struct("<8sII")
_LENGTH = struct.Struct("<Q")
_PIECE = 1 << 20  # bytes compared at once


class Kind(IntEnum):
    """What the first part is."""

    TEXT = 1
    BYTES = 2
    PICKLE = 3


class Blobs(Protocol):
    """The blobs of one execution, as the operations of a context use them. Thread-safe."""

    def save(self, parts: Sequence[memoryview], size: int) -> BlobRef:
        """Keep the parts, `size` bytes together. The ref may be recorded when it returns.

        Raises:
            StoreFailure: there is no room, or the medium fails.
        """
        ...

    def open(self, ref: BlobRef) -> Descriptor:
        """For reading.

        Raises:
            SerDesError: it is gone.
        """
        ...


class NewBlob(Protocol):
    """A blob that somebody writes, perhaps in a worker. It goes with its object unless it is kept."""

    @property
    def name(self) -> str:
        """Its name, once it is kept."""
        ...

    @property
    def source(self) -> Descriptor:
        """Where to write."""
        ...


class BlobStore(Blobs, Protocol):
    """The blobs of one execution in its store: what the pool needs, so that workers can write them."""

    @property
    def synced(self) -> bool:
        """Whether whoever writes a blob waits until it is on the disk."""
        ...

    def create(self, size: int) -> NewBlob:
        """A blob to be written.

        Raises:
            StoreError: none can be made.
        """
        ...

    def keep(self, blob: NewBlob, size: int) -> BlobRef:
        """The blob was written: name it for good.

        Raises:
            StoreError: that failed.
            ValueError: it does not have so many bytes.
        """
        ...

    def has(self, ref: BlobRef) -> bool:
        """Whether it was kept."""
        ...

    def sweep(self, used: set[str]) -> None:
        """Remove all that no record names. Only while nobody runs the execution.

        Raises:
            StoreError: they cannot be removed.
        """
        ...


class MappedPickle(NamedTuple):
    """A pickle in a mapping."""

    stream: memoryview
    buffers: Sequence[memoryview]


def stowed(payload: str | bytes, blobs: Blobs) -> BlobRef:
    """A large payload as a blob."""
    if isinstance(payload, str):
        return _save(Kind.TEXT, [memoryview(payload.encode())], [], blobs)
    return _save(Kind.BYTES, [memoryview(payload)], [], blobs)


def stowed_pickle(pickled: Pickled, blobs: Blobs) -> BlobRef:
    """A large pickle as a blob."""
    return _save(Kind.PICKLE, [memoryview(piece).cast("B") for piece in pickled.stream], pickled.buffers, blobs)


def _save(kind: Kind, first: Sequence[memoryview], others: Sequence[memoryview], blobs: Blobs) -> BlobRef:
    lengths = [sum(piece.nbytes for piece in first), *(part.nbytes for part in others)]
    *starts, size = _places(lengths)
    header = bytearray(starts[0])
    _HEADER.pack_into(header, 0, _MAGIC, kind, len(lengths))
    for place, length in enumerate(lengths):
        _LENGTH.pack_into(header, _HEADER.size + place * _LENGTH.size, length)
    parts, position = [memoryview(header), *first], starts[0] + lengths[0]
    for start, part in zip(starts[1:], others, strict=True):
        parts += [memoryview(bytes(start - position)), part]
        position = start + part.nbytes
    assert position == size
    return blobs.save(parts, size)


def _places(lengths: Sequence[int]) -> list[int]:
    """Where each part begins, and where the last one ends."""
    header = _HEADER.size + len(lengths) * _LENGTH.size
    starts = list(accumulate(lengths[:-1], lambda start, length: _aligned(start + length), initial=_aligned(header)))
    return [*starts, starts[-1] + lengths[-1]]


def _aligned(position: int) -> int:
    return -(-position // ALIGNMENT) * ALIGNMENT


def read(ref: BlobRef, blobs: Blobs) -> str | bytes | MappedPickle:
    """What was kept.

    Raises:
        SerDesError: it is gone, or damaged.
    """
    mapped = blobs.open(ref).map(ref.size)
    kind, parts = _parts(mapped, ref)
    match kind:
        case Kind.TEXT:
            return str(parts[0], "utf-8")
        case Kind.BYTES:
            return bytes(parts[0])
        case Kind.PICKLE:
            return MappedPickle(parts[0], parts[1:])


def _parts(mapped: memoryview, ref: BlobRef) -> tuple[Kind, list[memoryview]]:
    try:
        magic, kind, count = _HEADER.unpack_from(mapped)
        lengths = [_LENGTH.unpack_from(mapped, _HEADER.size + place * _LENGTH.size)[0] for place in range(count)]
        *starts, size = _places(lengths)
        if magic != _MAGIC or size != ref.size:
            raise ValueError("its head does not say what it should")
        parts = [mapped[start : start + length] for start, length in zip(starts, lengths, strict=True)]
        return Kind(kind), parts
    except (struct.error, ValueError, IndexError) as error:
        raise SerDesError(f"the blob {ref.name} is damaged: {error}") from error


def same_content(source: Descriptor, parts: Sequence[memoryview]) -> bool:
    """Whether a blob of the same size holds exactly these parts. Stops at the first difference."""
    piece, position = bytearray(_PIECE), 0
    for wanted in _pieces(parts):
        with memoryview(piece)[: wanted.nbytes] as found:
            if os.preadv(source.descriptor, [found], position) != wanted.nbytes:
                return False
        if piece != wanted and piece[: wanted.nbytes] != wanted:
            return False
        position += wanted.nbytes
    return True


def _pieces(parts: Sequence[memoryview]) -> Iterator[memoryview]:
    for part in parts:
        yield from (part[start : start + _PIECE] for start in range(0, part.nbytes, _PIECE))


def no_room(where: str, size: int, error: OSError) -> StoreError:
    """What the operating system said of a blob, and what to do."""
    return StoreError(
        f"{size} bytes cannot be written to {where}: {error.strerror or error}. Make room or raise the limit, "
        "and run again: what was recorded before is kept."
    )
