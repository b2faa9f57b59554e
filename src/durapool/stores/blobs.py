"""Blobs as files beside the database, in a folder for each execution.

    journal.db-blobs/                          mode 0700
        <as its lock file>/                    one for each execution that has blobs
            <name>                             named only when it is whole, before the record that refers to it
            <name>.part                        being written, where the file system has no files without names

A blob that no record refers to was written just before a crash: the next run of the execution removes it, holding the
execution's lock. What an execution leaves that was deleted goes with it, or when the store is opened next.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import uuid
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from durapool.blobs import NewBlob, no_room, same_content
from durapool.exceptions import ExecutionAlreadyRunningError, SerDesError, StoreError, StoreFailure
from durapool.records import BlobRef
from durapool.segments import Descriptor, write_parts
from durapool.stores.locks import file_stem, stem_lock
from durapool.stores.private import make_private

_PART = ".part"
_RECENT = 2  # of the blobs of a thread: what it has just recorded it often returns
_UNNAMED = getattr(os, "O_TMPFILE", 0)
_NO_UNNAMED = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})


class FileBlob:
    """A file that is being written: without a name, or with one that goes when the object does."""

    def __init__(self, name: str, descriptor: int, part: Path | None) -> None:
        self.name = name
        self.source = Descriptor(descriptor)
        self._part = part

    def link(self, path: Path) -> None:
        """Give it its name. Raises OSError."""
        if self._part is None:
            # a folder's descriptor, of no use with these paths, makes it a linkat(2), which alone follows /proc
            os.link(f"/proc/self/fd/{self.source.descriptor}", path, src_dir_fd=self.source.descriptor)
        else:
            os.rename(self._part, path)
            self._part = None

    def __del__(self) -> None:
        if self._part is not None:
            with contextlib.suppress(OSError):  # the next run sweeps it
                os.unlink(self._part)


class FileBlobs:
    """The blobs of one execution. See `durapool.blobs.BlobStore`."""

    def __init__(self, folder: Path, execution_id: str, synced: bool) -> None:
        self._folder = folder / file_stem(execution_id)
        self.synced = synced
        self._recent = threading.local()

    def save(self, parts: Sequence[memoryview], size: int) -> BlobRef:
        """See `Blobs.save`."""
        for ref in self._recently_saved():
            if ref.size == size and same_content(self.open(ref), parts):
                return ref
        try:
            blob = self.create(size)
            try:
                write_parts(blob.source.descriptor, parts)
                if self.synced:
                    os.fsync(blob.source.descriptor)
            except OSError as error:
                raise no_room(f"the folder {self._folder}", size, error) from error
            ref = self.keep(blob, size)
        except StoreError as error:
            raise StoreFailure(error) from error
        self._recently_saved().append(ref)
        return ref

    def _recently_saved(self) -> deque[BlobRef]:
        found: deque[BlobRef] | None = getattr(self._recent, "refs", None)
        if found is None:
            found = self._recent.refs = deque(maxlen=_RECENT)
        return found

    def open(self, ref: BlobRef) -> Descriptor:
        """See `Blobs.open`."""
        path = self._path(ref.name)
        try:
            source = Descriptor(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
            found = os.fstat(source.descriptor)
        except OSError as error:
            raise SerDesError(
                f"its blob {path} cannot be opened: {error.strerror}. Take it from a backup, or run the execution "
                "again under another id"
            ) from error
        if found.st_size != ref.size or found.st_uid != os.geteuid():
            raise SerDesError(
                f"its blob {path} is not what was recorded: it has {found.st_size} bytes instead of {ref.size}, or "
                "another owner. Take it from a backup, or run the execution again under another id"
            )
        return source

    def create(self, size: int) -> NewBlob:
        """See `BlobStore.create`."""
        name = uuid.uuid4().hex
        try:
            make_private(self._folder.parent, "the large results")
            make_private(self._folder, "the large results")
            return self._unnamed(name) or self._named(name)
        except OSError as error:
            raise no_room(f"the folder {self._folder}", size, error) from error

    def _unnamed(self, name: str) -> FileBlob | None:
        if not _UNNAMED or not os.path.exists("/proc/self/fd"):  # by which it would get its name
            return None
        try:
            return FileBlob(name, os.open(self._folder, _UNNAMED | os.O_RDWR | os.O_CLOEXEC, 0o600), None)
        except OSError as error:
            if error.errno in _NO_UNNAMED:
                return None
            raise

    def _named(self, name: str) -> FileBlob:
        part = self._folder / f"{name}{_PART}"
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        return FileBlob(name, os.open(part, flags, 0o600), part)

    def keep(self, blob: NewBlob, size: int) -> BlobRef:
        """See `BlobStore.keep`. In a synced store the name is on the disk too when it returns."""
        assert isinstance(blob, FileBlob)
        written = os.fstat(blob.source.descriptor).st_size
        if written != size:
            raise ValueError(f"a blob of {size} bytes has {written}")
        try:
            blob.link(self._path(blob.name))
            if self.synced:
                _sync(self._folder)
                _sync(self._folder.parent)
        except OSError as error:
            raise no_room(f"the folder {self._folder}", size, error) from error
        return BlobRef(blob.name, size)

    def has(self, ref: BlobRef) -> bool:
        """See `BlobStore.has`."""
        return ref.name.isalnum() and self._path(ref.name).exists()

    def _path(self, name: str) -> Path:
        return self._folder / name

    def sweep(self, used: set[str]) -> None:
        """See `BlobStore.sweep`."""
        try:
            for name in os.listdir(self._folder):
                if name not in used:
                    os.unlink(self._folder / name)
        except FileNotFoundError:
            return  # it has none
        except OSError as error:
            raise _stuck(self._folder, error) from error

    def remove(self) -> None:
        """Remove all: the execution was deleted. Raises StoreError."""
        _remove(self._folder)


def sweep_deleted(folder: Path, locks: Path, known: Sequence[str]) -> None:
    """Remove what a deletion that was cut short has left.

    Args:
        folder: of all blobs.
        locks: the folder of lock files.
        known: the ids of all executions of the store.

    Raises:
        StoreError: it cannot be removed.
    """
    kept = set(map(file_stem, known))
    for name in os.listdir(folder):
        if name not in kept:
            with contextlib.suppress(ExecutionAlreadyRunningError), stem_lock(locks, name, name):
                _remove(folder / name)


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _stuck(folder, error) from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stuck(folder: Path, error: OSError) -> StoreError:
    return StoreError(f"Large results in {folder} cannot be removed: {error.strerror or error}. Remove them by hand.")
