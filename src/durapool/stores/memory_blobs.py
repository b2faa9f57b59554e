"""Blobs in memory: segments while there are descriptors enough, plain bytes beyond."""

from __future__ import annotations

import os
import threading
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from durapool import segments
from durapool.blobs import NewBlob, no_room, same_content
from durapool.exceptions import SerDesError, StoreError, StoreFailure
from durapool.records import BlobRef
from durapool.segments import Descriptor, Segment, write_parts

_RECENT = 2
_WHERE = "memory"


@dataclass(frozen=True, slots=True)
class MemoryBlob:
    """A segment that is being written."""

    name: str
    source: Segment


class MemoryBlobs:
    """The blobs of one execution. See `durapool.blobs.BlobStore`."""

    synced = False

    def __init__(self) -> None:
        self._kept: dict[str, Segment | bytes] = {}
        self._recent = threading.local()

    def save(self, parts: Sequence[memoryview], size: int) -> BlobRef:
        """See `Blobs.save`."""
        recent: deque[BlobRef] = self._recent.__dict__.setdefault("refs", deque(maxlen=_RECENT))
        for ref in recent:
            if ref.size == size and same_content(self.open(ref), parts):
                return ref
        try:
            blob = self.create(size)
            write_parts(blob.source.descriptor, parts)
            ref = self.keep(blob, size)
        except OSError as error:
            raise StoreFailure(no_room(_WHERE, size, error)) from error
        except StoreError as error:
            raise StoreFailure(error) from error
        recent.append(ref)
        return ref

    def open(self, ref: BlobRef) -> Descriptor:
        """See `Blobs.open`."""
        found = self._kept.get(ref.name)
        if found is None:
            raise SerDesError("its execution was deleted from the memory store")
        if isinstance(found, Segment):
            return found
        try:
            copy = segments.scratch()
            write_parts(copy.descriptor, [memoryview(found)])
        except OSError as error:
            raise SerDesError(f"there is no room for another copy of it: {error.strerror}") from error
        return copy

    def create(self, size: int) -> NewBlob:
        """See `BlobStore.create`."""
        try:
            return MemoryBlob(uuid.uuid4().hex, segments.take(size))
        except OSError as error:
            raise no_room(_WHERE, size, error) from error

    def keep(self, blob: NewBlob, size: int) -> BlobRef:
        """See `BlobStore.keep`."""
        assert isinstance(blob, MemoryBlob)
        if os.fstat(blob.source.descriptor).st_size < size:
            raise ValueError(f"a blob of {size} bytes has less")
        self._kept[blob.name] = bytes(blob.source.map(size)) if segments.are_scarce() else blob.source
        return BlobRef(blob.name, size)

    def has(self, ref: BlobRef) -> bool:
        """See `BlobStore.has`."""
        return ref.name in self._kept

    def sweep(self, used: set[str]) -> None:
        """See `BlobStore.sweep`."""
        for name in self._kept.keys() - used:
            del self._kept[name]
