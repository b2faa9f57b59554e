"""The newest records of an execution that runs, in a file beside the database. See `tails` for when.

    journal.db-tails/                          mode 0700
        <as its lock file>.tail                one for each execution that runs, or was killed

    +----------------+-------------------------------------------------------+----
    | which database | bytes, CRC-32, seq of the first and of the last record | row, as the database has it ...
    +----------------+-------------------------------------------------------+----

To append to a file takes a tenth of the time of a transaction, and survives a kill of the program as well. So a run
that holds its execution's lock appends here, and what has gathered moves into the database all at once: every second,
at a change of the execution's status, at the end of the run. Whoever takes the lock after a kill moves what he finds.

Who reads looks here first and at the database afterwards: what is in neither was not recorded when he began. An entry
that is not whole ends what counts of a file: it was being written, or a power cut tore it.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from durapool.exceptions import StoreError
from durapool.stores.locks import file_stem
from durapool.stores.places import Owner
from durapool.stores.private import check_private
from durapool.stores.rows import Row

LONGEST = 1 << 20
"""Bytes after which the records move into the database."""

OLDEST = 1.0
"""Seconds after which they do, when the next ones come."""

MOST = 8 << 20
"""Bytes that may gather where they cannot, because another program keeps the database locked."""

POSTPONED = 30.0
"""Seconds to the next attempt then: each waits for the lock."""

_MAGIC = b"duratail"
_FILE = struct.Struct("=8sqd")  # magic, key of the execution in the database, when it started
_ENTRY = struct.Struct("=IIQQ")
_pack_entry = _ENTRY.pack


class Tail:
    """Of an execution whose lock is held. Not thread-safe.

    Args:
        path: of its file, which is made.
        owner: whose it is.
        last: seq of the last record in the database.

    Raises:
        OSError: it cannot be made.
        StoreError: others may write to the file.
    """

    def __init__(self, path: Path, owner: Owner, last: int) -> None:
        flags = os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._path = path
        self.last = last
        self.content = Content(owner, [])  # of the file, so that it need not be read
        self._size = 0
        self._descriptor = os.open(path, flags, 0o600)
        try:
            check_private(self._descriptor, path)
            self._write(_FILE.pack(_MAGIC, *owner))
        except BaseException:
            self.close()
            raise
        self._begin = self._size
        self._plan(LONGEST, OLDEST)

    def _plan(self, size: int, seconds: float) -> None:
        self._limit = self._begin + size
        self._due = time.monotonic() + seconds

    def append(self, row: Row, first: int) -> None:
        """Append a row, which begins with record `first`.

        Raises:
            OSError: there is no room for it.
        """
        if self._size == self._begin:
            self._plan(LONGEST, OLDEST)
        last, data = row
        self._write(_pack_entry(len(data), _check(first, last, data), first, last) + data)
        self.content.entries.append((first, row))
        self.last = last

    def _write(self, data: bytes) -> None:
        done = 0
        try:
            done = os.write(self._descriptor, data)
            while done < len(data):
                done += os.write(self._descriptor, data[done:])
        except OSError:
            os.ftruncate(self._descriptor, self._size)  # half an entry hides those behind it
            raise
        self._size += done

    @property
    def is_due(self) -> bool:
        """Whether it is time to move what is in it into the database."""
        return self._size > self._limit or time.monotonic() >= self._due

    def postpone(self) -> bool:
        """It cannot move now; False where it has become too long to leave it at that."""
        self._plan(self._size + LONGEST, POSTPONED)
        return self._size < MOST

    def clear(self, last: int) -> None:
        """What was in it is in the database now, where `last` is the last record."""
        os.ftruncate(self._descriptor, self._begin)
        self.content.entries.clear()
        self._size, self.last = self._begin, last

    @property
    def is_named(self) -> bool:
        """Whether its path leads to it still, and not to that of another process."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.lstat(self._path))
        except OSError:
            return False

    def close(self) -> None:
        """Release the descriptor."""
        with contextlib.suppress(OSError):  # a forked child may have closed all that it found
            os.close(self._descriptor)


def tail_path(folder: Path, execution_id: str) -> Path:
    """The file of an execution."""
    return folder / f"{file_stem(execution_id)}.tail"


class Content(NamedTuple):
    """What is in a tail."""

    owner: Owner
    entries: list[tuple[int, Row]]  # each with the seq of its first record

    @property
    def span(self) -> tuple[int, int]:
        """The seq of the first and of the last record."""
        return self.entries[0][0], self.entries[-1][1][0]

    def following(self, last: int, owner: Owner) -> list[Row]:
        """The rows of this execution behind record `last`; none behind one that is missing, as after a power cut."""
        rows: list[Row] = []
        for first, row in self.entries if owner == self.owner else ():
            if first == last + 1:
                rows.append(row)
                last = row[0]
        return rows

    def last_behind(self, last: int, owner: Owner) -> int:
        """The seq of the last record, where `last` is the one in the database."""
        rows = self.following(last, owner)
        return rows[-1][0] if rows else last


def read_tail(path: Path) -> Content | None:
    """What is in the file; None if there is none.

    Raises:
        StoreError: it is not this user's own, or cannot be read.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
            check_private(file.fileno(), path)
            content = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise tail_failure(path, error) from error
    if len(content) < _FILE.size:
        return None
    magic, key, started_at = _FILE.unpack_from(content)
    return None if magic != _MAGIC else Content(Owner(key, started_at), list(_entries(content)))


def _entries(content: bytes) -> Iterator[tuple[int, Row]]:
    position, expected = _FILE.size, 0
    while position + _ENTRY.size <= len(content):
        length, check, first, last = _ENTRY.unpack_from(content, position)
        position += _ENTRY.size
        data = content[position : position + length]
        position += length
        if len(data) != length or _check(first, last, data) != check or (expected and first != expected):
            return
        yield first, (last, data)
        expected = last + 1


def _check(first: int, last: int, data: bytes) -> int:
    return crc32(data, (first * 31 + last) & 0xFFFFFFFF)


def void(path: Path) -> None:
    """Remove the tail of a killed run. Emptied first, and on the disk: a power cut may bring a removed file back, when
    other records have taken the places of those that it held. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.ftruncate(descriptor, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.unlink(path)


def tail_failure(path: Path, error: OSError) -> StoreError:
    """What the operating system said of the file, and what to do."""
    return StoreError(
        f"The newest records of the store, in {path}, cannot be read or written: {error.strerror or error}. "
        "Free disk space and run again: what was recorded before is kept."
    )
