"""The database file: made for the user alone, checked before it is touched, and every failure said in plain words.

A file that is damaged, foreign or of another version is refused and left byte for byte as it was. The file is never
opened but through SQLite: closing a descriptor of our own would drop the POSIX locks of every connection in this
process.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
import warnings
from contextlib import suppress
from pathlib import Path

from durapool.exceptions import StoreError, StoreVersionError
from durapool.stores.rows import COLUMNS

APPLICATION_ID = 0x64757261  # "dura"
FORMAT = 3
"""Of the tables, which format 2 has as well, and of the tails beside them, of which an older durapool knows nothing."""

_SAME_TABLES = 2

_CHECKPOINT_PAGES = {"NORMAL": 4000, "FULL": 500}
"""After how many pages the log begins anew; SQLite's own default is 1,000. A checkpoint syncs, which NORMAL does at no
other time. FULL syncs at each commit, which takes a third less where the log is written over than where it grows
(measured: 165 against 250 us)."""

_SCHEMA = (
    "CREATE TABLE executions(key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, handler TEXT, status TEXT, "
    "started_at REAL, ended_at REAL)",
    f"CREATE TABLE records({COLUMNS})",
    "CREATE TABLE signals(key INTEGER PRIMARY KEY, execution INTEGER, message BLOB)",
    "CREATE INDEX signals_of_execution ON signals(execution)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT}",
)

_OTHER_STORE = "name another store (store=, --store or DURAPOOL_STORE)"

_NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "9p", "ceph", "lustre", "beegfs", "gpfs", "ocfs2", "gfs2", "fuse"}
)
_LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs", "fuse.ntfs-3g", "fuse.mergerfs", "fuse.bindfs"})

_WAL_SECONDS = 1.0


def open_database(path: Path, synchronous: str, busy_timeout: float) -> sqlite3.Connection:
    """Open the store's file, or make it.

    Args:
        path: absolute, with symbolic links resolved.
        synchronous: "NORMAL" or "FULL".
        busy_timeout: seconds to wait for other processes.

    Raises:
        StoreVersionError: another version of durapool wrote the file.
        StoreError: the file cannot be used; says what to do.
    """
    try:
        _make_folder(path.parent)
        _make_file(path)
        size = _checked_size(path)
    except OSError as error:
        raise os_failure(path, error) from error
    try:
        if size and _is_on_read_only_disk(path):
            return _open_to_read(path, busy_timeout)
        if size:
            _check_format(path, busy_timeout)
        connection = _connect(path, "rw", busy_timeout)
        try:
            _set_up(connection, path, synchronous)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise database_failure(path, error) from error
    return connection


def _connect(path: Path, mode: str, busy_timeout: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=busy_timeout,
        isolation_level=None,
        check_same_thread=False,
    )


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass  # another process was faster; a file in its place fails at the next step


def _make_file(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    os.close(descriptor)  # new and empty: nobody of this process can have a lock on it


def _checked_size(path: Path) -> int:
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"The store {path} is not a regular file: {_OTHER_STORE}.")
    if found.st_uid != os.geteuid():
        raise StoreError(
            f"The store {path} belongs to another user (uid {found.st_uid}), and pickles in it could run code as you: "
            f"{_OTHER_STORE}, or change its owner if you trust what is in it."
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StoreError(
            f"Other users may write to the store {path}, and pickles in it could run code as you. "
            f"If you trust what is in it: chmod 600 '{path}'."
        )
    return found.st_size


def _is_on_read_only_disk(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _open_to_read(path: Path, busy_timeout: float) -> sqlite3.Connection:
    """Open a file that nobody can change: SQLite then needs neither locks nor files beside it. A write fails."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        raise StoreError(
            f"The store {path} is on a read-only disk, and its last records are still in {log.name}, which can be read "
            "only where files can be made. Copy both to a folder that you can write to, and name the copy."
        )
    connection = _connect(path, "ro&immutable=1", busy_timeout)
    try:
        _refuse_foreign(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_format(path: Path, busy_timeout: float) -> None:
    """Look at the header without changing a byte.

    With a WAL beside the file a read-only connection: a writable one would merge the WAL when it closes. Without one a
    writable connection that only reads: a read-only one would leave an empty WAL behind.
    """
    mode = "ro" if path.with_name(f"{path.name}-wal").exists() else "rw"
    connection = _connect(path, mode, busy_timeout)
    try:
        _refuse_foreign(connection, path)
    finally:
        connection.close()


def _refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise StoreError(
            f"{path} is a database of another program, not a store of durapool. It was not changed: {_OTHER_STORE}."
        )
    version = _pragma(connection, "user_version")
    if version not in (_SAME_TABLES, FORMAT):
        raise StoreVersionError(
            f"The store {path} has format {version}; this durapool knows format {FORMAT}. It was not changed: "
            f"install the durapool that wrote it, or {_OTHER_STORE}."
        )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _set_up(connection: sqlite3.Connection, path: Path, synchronous: str) -> None:
    connection.execute("PRAGMA trusted_schema = OFF")
    if not _pragma(connection, "application_id"):
        _create_tables(connection, path)
    elif _pragma(connection, "user_version") == _SAME_TABLES:
        with suppress(sqlite3.OperationalError):  # one that nobody may write to is read as it is
            connection.execute(f"PRAGMA user_version = {FORMAT}")
    network = network_file_system(path.parent)
    if network is None:
        _use_wal(connection)
    else:
        warnings.warn(
            f"The store {path} is on a network file system ({network}): it works without a write-ahead log, more "
            f"slowly, and needs locks that work over the network. For speed {_OTHER_STORE} on a local disk.",
            RuntimeWarning,
            stacklevel=2,
        )
        connection.execute("PRAGMA journal_mode = DELETE")
        synchronous = "FULL"  # what a rollback journal needs to survive a power cut
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES[synchronous]}")
    connection.execute(f"PRAGMA journal_size_limit = {64 << 20}")


def _create_tables(connection: sqlite3.Connection, path: Path) -> None:
    """One transaction, so that other processes see an empty file or a whole store."""
    connection.execute("BEGIN EXCLUSIVE")
    try:
        if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            _refuse_foreign(connection, path)  # another process was faster
        else:
            for statement in _SCHEMA:
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log, once in the life of a file.

    SQLite does not wait for others here. If they keep the file busy the connection works without the log, correctly,
    and takes it up as soon as another one has switched.
    """
    deadline = time.monotonic() + _WAL_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if _primary_code(error) != sqlite3.SQLITE_BUSY:
                raise
            if time.monotonic() > deadline:
                return
        time.sleep(0.01)


def network_file_system(folder: Path) -> str | None:
    """The type of the file system, such as "nfs4", if it is one of a network; None for local or unknown ones."""
    device = os.stat(folder).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in mounts.splitlines():
        mount, _, source = line.partition(" - ")
        if mount.split(" ", 3)[2] == wanted:
            kind = source.split(" ", 1)[0]
            return kind if is_network(kind) else None
    return None


def is_network(kind: str) -> bool:
    """Whether a file system of this type is shared over a network, as far as one can tell."""
    if kind in _LOCAL_FUSE:
        return False
    return kind.partition(".")[0] in _NETWORK_FILE_SYSTEMS


def roll_back(connection: sqlite3.Connection) -> None:
    """Undo the transaction, if one is open: after some errors SQLite has rolled back by itself."""
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except sqlite3.Error:
        pass  # the error that led here is the one to report


def os_failure(path: Path, error: OSError) -> StoreError:
    """What the operating system said of the file, and what to do."""
    return StoreError(
        f"The store {path} cannot be opened: {error.strerror or error}. Make its folder writable, or {_OTHER_STORE}."
    )


def database_failure(path: Path, error: Exception) -> StoreError:
    """What SQLite said of the file, and what to do."""
    if isinstance(error, OverflowError):
        return StoreError(f"A value is too big for the store {path}: {error}. {_TOO_BIG}")
    advice = _ADVICE.get(_primary_code(error), "What was recorded before is kept. Run again, it goes on from there.")
    return StoreError(f"The store {path} failed: {error}. {advice}")


def _primary_code(error: Exception) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


_TOO_BIG = "One value may have 1 GB: write it to a file of your own and return its path."
_DAMAGED = (
    "The file is damaged and was left as it is: keep a copy, try `sqlite3 FILE .recover` or take a backup, "
    f"or {_OTHER_STORE}."
)
_BUSY = "Another program keeps the file locked: close it (a database browser, a backup) and run again."
_FULL = "Free disk space and run again: what was recorded before is kept."

_ADVICE = {
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: f"The disk is full or failing, or a limit on file sizes is reached. {_FULL}",
    sqlite3.SQLITE_READONLY: f"You may not write to the file: chmod u+w it and its folder, or {_OTHER_STORE}.",
    sqlite3.SQLITE_PERM: f"You may not write to the file: chmod u+w it and its folder, or {_OTHER_STORE}.",
    sqlite3.SQLITE_CANTOPEN: f"Make sure that its folder is there and writable, or {_OTHER_STORE}.",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_TOOBIG: _TOO_BIG,
}
