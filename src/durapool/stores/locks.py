"""One runner at a time: a lock file per execution, held by the kernel's POSIX lock.

    folder/<readable part of the id>-<digest>.lock     {"pid": ..., "started": ..., "host": ...}

The lock, not the file, says who runs: the kernel frees it when the holder dies, however it dies, and a forked child
does not inherit it. What the file says is for the message only.

POSIX locks belong to the process. They do not exclude its own threads, and closing *any* descriptor of the file drops
the lock. So a registry of the process goes before the file, and a file that this process holds is never opened again.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import threading
import time
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from durapool.digests import blake2b
from durapool.exceptions import ExecutionAlreadyRunningError, StoreError


class Registry:
    """What this process holds. Thread-safe; a forked child holds nothing."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew: the locks of a parent are not the child's."""
        self._guard = threading.Lock()
        self._held: set[Hashable] = set()

    def take(self, key: Hashable, execution_id: str) -> None:
        """Hold `key`, or raise ExecutionAlreadyRunningError."""
        with self._guard:
            if key in self._held:
                raise _running_here(execution_id)
            self._held.add(key)

    def drop(self, key: Hashable) -> None:
        """Let go of `key`."""
        with self._guard:
            self._held.discard(key)


_process_registry = Registry()
os.register_at_fork(after_in_child=_process_registry.forget)


def file_lock(folder: Path, execution_id: str) -> AbstractContextManager[None]:
    """Hold the execution while the block runs.

    Args:
        folder: of the lock files; made (0700) where it is missing. Its parent is there.
        execution_id: any text.

    Raises:
        ExecutionAlreadyRunningError: another holds it; names pid and host.
        StoreError: the lock file cannot be made or locked.
    """
    return stem_lock(folder, file_stem(execution_id), execution_id)


@contextmanager
def stem_lock(folder: Path, stem: str, execution_id: str) -> Iterator[None]:
    """As `file_lock`, by the stem of the lock file; `execution_id` is for messages."""
    name = f"{stem}.lock"
    try:
        key = (*_folder_identity(folder), name)
    except OSError as error:
        raise _unusable(folder, error) from error
    _process_registry.take(key, execution_id)
    owner = os.getpid()
    try:
        descriptor = _acquire(folder / name, execution_id)
        try:
            yield
        finally:
            _release(folder / name, descriptor, owner)
    finally:
        if os.getpid() == owner:
            _process_registry.drop(key)


def file_stem(execution_id: str) -> str:
    """The beginning of a file's name for any id: what is readable of it, and a digest that tells all ids apart."""
    raw = execution_id.encode("utf-8", "surrogatepass")
    return f"{quote(raw, safe='')[:80]}-{blake2b(raw, digest_size=16).hexdigest()}"


def lock_name(execution_id: str) -> str:
    """The name of the lock file."""
    return f"{file_stem(execution_id)}.lock"


def _folder_identity(folder: Path) -> tuple[int, int]:
    """Make the folder if need be; device and inode, since one folder has many paths."""
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode):
        raise StoreError(f"{folder} should be the folder of lock files, but it is not a folder: move it away.")
    if found.st_uid != os.geteuid():
        raise StoreError(f"The folder of lock files {folder} belongs to another user: name a store of your own.")
    return found.st_dev, found.st_ino


def _acquire(path: Path, execution_id: str) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same_file(path, descriptor):  # else its last holder has just removed it: lock the new one
                _sign(descriptor)
                return descriptor
            os.close(descriptor)
        except (BlockingIOError, PermissionError):
            holder = _read_holder(descriptor)
            os.close(descriptor)
            raise _running_elsewhere(execution_id, holder) from None
        except OSError as error:
            os.close(descriptor)
            raise _unusable(path, error) from error
        except BaseException:
            os.close(descriptor)
            raise


def _release(path: Path, descriptor: int, owner: int) -> None:
    """Remove the file while it is held, then let go; in a forked child only close the copy."""
    if os.getpid() == owner:
        try:
            if _is_same_file(path, descriptor):
                os.unlink(path)
        except OSError:
            pass  # a file left behind harms nobody: the next run locks it
    os.close(descriptor)


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    import psutil  # not needed before the first lock, and slow to import

    holder = {"pid": os.getpid(), "started": psutil.Process().create_time(), "host": os.uname().nodename}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _read_holder(descriptor: int) -> dict[str, Any]:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _running_here(execution_id: str) -> ExecutionAlreadyRunningError:
    return ExecutionAlreadyRunningError(
        f"Execution {execution_id!r} is already running in this very process (pid {os.getpid()} on host "
        f"{os.uname().nodename}). Wait for that run to end, or use another id."
    )


def _running_elsewhere(execution_id: str, holder: dict[str, Any]) -> ExecutionAlreadyRunningError:
    who = "another process, which has not yet said its pid"
    if "pid" in holder:
        who = f"process {holder['pid']} on host {holder.get('host', 'unknown')}"
        if isinstance(started := holder.get("started"), (int, float)):
            who += f" (started {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(started))})"
    return ExecutionAlreadyRunningError(
        f"Execution {execution_id!r} is already running in {who}. Wait for it to end or stop it, or use another id."
    )


def _unusable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"The lock file {path} cannot be used: {error.strerror or error}. Make its folder writable and free disk space "
        "if need be, or name a store on another file system."
    )
