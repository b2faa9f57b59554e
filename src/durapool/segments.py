"""Memory that crosses to another process as a descriptor: written with write(2), mapped by the reader, used again.

    take(size) --> Segment --write_parts--> its descriptor goes to the reader --> map(size)

A segment is a memfd, or a temporary file without a name where there is no memfd: whoever dies, nothing is left behind.
Readers map it privately and may write: what they write is theirs alone. Lifetimes are those of Python objects: a
segment lives while its object does, each mapping keeps its segment, and the last one gone returns it to be written
again, since pages that exist already take a copy three times as fast as new ones.

Imported by workers: it must stay light.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

_MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
KEPT_BYTES = min(512 << 20, _MEMORY // 32)  # of segments that wait to be written again
KEPT_SEGMENTS = 16
ROOM = 2  # a segment that waits is taken for something smaller, unless it is so many times as large
_PARTS = 512  # of one pwritev; the system takes 1,024
_MOST_DESCRIPTORS = 256


class Descriptor:
    """Owns an open file; closed when the object goes."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def map(self, size: int) -> memoryview:
        """The first `size` bytes, private and writable. The mapping outlives the descriptor.

        Raises:
            OSError: there is no memory for it.
        """
        return map_private(self.descriptor, size, None)

    def __del__(self) -> None:
        os.close(self.descriptor)


class Segment(Descriptor):
    """A piece of memory that is written again when nobody has it any more."""

    def __init__(self, descriptor: int, capacity: int) -> None:
        super().__init__(descriptor)
        self.capacity = capacity  # bytes that it may hold before it takes new pages
        self._owner = os.getpid()
        _live.add(descriptor)

    def map(self, size: int) -> memoryview:
        """As `Descriptor.map`; the mapping keeps the segment from being written again."""
        return map_private(self.descriptor, size, self)

    def __del__(self) -> None:
        _live.discard(self.descriptor)
        waiting = sum(capacity for _, capacity in tuple(_free))
        if self._owner != os.getpid() or waiting + self.capacity > KEPT_BYTES or len(_free) >= KEPT_SEGMENTS:
            os.close(self.descriptor)
        else:
            _free.append((self.descriptor, self.capacity))


# Finalizers run at any moment, also in the midst of `take`: both are changed in single steps, without a lock.
_free: deque[tuple[int, int]] = deque()
_live: set[int] = set()


def take(size: int) -> Segment:
    """A segment for so many bytes.

    Raises:
        OSError: no descriptor, or no memory, is left.
    """
    for _ in range(len(_free)):
        try:
            descriptor, capacity = _free.popleft()
        except IndexError:
            break
        if size <= capacity <= size * ROOM:
            return Segment(descriptor, capacity)
        _free.append((descriptor, capacity))
    return Segment(_nameless_file(), size)


def scratch() -> Descriptor:
    """As `take`, of memory that goes with its last mapping and holds no descriptor until then.

    Raises:
        OSError: no descriptor, or no memory, is left.
    """
    return Descriptor(_nameless_file())


def are_scarce() -> bool:
    """Whether segments hold so many of this process's descriptors that others shall do without."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else min(_MOST_DESCRIPTORS, soft // 4)
    return len(_live) >= limit


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("durapool", os.MFD_CLOEXEC)
    import tempfile  # slow to import, and rarely needed

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def write_parts(descriptor: int, parts: Sequence[memoryview]) -> None:
    """Write the parts, memory of single bytes, one after the other from the beginning of the file.

    Raises:
        OSError: there is no room for them.
    """
    position, pending = 0, [part for part in parts if part.nbytes]
    while pending:
        written = os.pwritev(descriptor, pending[:_PARTS], position)
        position += written
        done = 0
        while done < len(pending) and written >= pending[done].nbytes:
            written -= pending[done].nbytes
            done += 1
        del pending[:done]
        if written:
            pending[0] = pending[0][written:]


def map_private(descriptor: int, size: int, owner: object) -> memoryview:
    """The first `size` bytes of a file, private and writable; `owner` is kept until they are unmapped.

    Raises:
        OSError: there is no memory for it.
    """
    return view(pages(descriptor, size), size, unmap, owner)


def pages(descriptor: int, size: int) -> int:
    """Map a file privately; the address.

    By the C library's mmap: Python's own keeps a descriptor for each mapping, and a thousand arrays are not rare.

    Raises:
        OSError: there is no memory for it.
    """
    address = _libc().mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE, descriptor, 0)
    if address == _FAILED:
        code = ctypes.get_errno()
        raise OSError(code, f"{size} bytes cannot be mapped: {os.strerror(code)}")
    return int(address)


def view(address: int, size: int, then: Callable[[int, int, Any], None], owner: object) -> memoryview:
    """What is mapped there. When nobody looks any more, `then(address, size, owner)` is called.

    Not at the end of the interpreter, where others may still look into it.
    """
    mapped = (ctypes.c_char * size).from_address(address)
    weakref.finalize(mapped, then, address, size, owner).atexit = False
    return memoryview(mapped).cast("B")


def unmap(address: int, size: int, owner: object) -> None:  # noqa: ARG001  # the owner is let go with the arguments
    """Give a mapping back."""
    _libc().munmap(address, size)


def is_untouched(address: int, size: int) -> bool:
    """Whether nothing was ever written into a private mapping. False where the kernel does not tell."""
    first, behind = address // mmap.PAGESIZE, -(-(address + size) // mmap.PAGESIZE)
    try:
        descriptor = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        entries = os.pread(descriptor, (behind - first) * _ENTRY, first * _ENTRY)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    tops = set(entries[_ENTRY - 1 :: _ENTRY])  # the byte of each page's entry that has its flags
    return len(entries) == (behind - first) * _ENTRY and all(top & _OF_FILE or not top & _IN_USE for top in tops)


_ENTRY = 8  # bytes for a page, see proc_pid_pagemap(5)
_OF_FILE = 1 << 5
_IN_USE = 3 << 6  # present, or swapped out
_FAILED = ctypes.c_void_p(-1).value
_library: Any = None


def _libc() -> Any:
    global _library
    if _library is None:
        library = ctypes.CDLL(None, use_errno=True)
        integer, pointer, size = ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t
        library.mmap.restype = pointer
        library.mmap.argtypes = [pointer, size, integer, integer, integer, ctypes.c_int64]
        library.munmap.argtypes = [pointer, size]
        _library = library
    return _library


def _forget() -> None:
    """In a forked child: what waits is the parent's to write again."""
    while _free:
        os.close(_free.pop()[0])
    _live.clear()


os.register_at_fork(after_in_child=_forget)
