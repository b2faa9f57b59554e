"""The default store: one SQLite file beside the user's work.

    journal.db          executions, records, signals (mode 0600, as its -wal and -shm)
    journal.db-locks/   one lock file per running execution (mode 0700)
    journal.db-blobs/   large payloads, see blobs.py (mode 0700)
    journal.db-tails/   the newest records of running executions, see tails.py (mode 0700)

One connection, guarded by a lock; each write is one transaction, or an entry in the execution's tail. Processes may
share the file: each execution has one writer (its lock), signals may come from anywhere.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from durapool.exceptions import StoreError, ValidationError
from durapool.records import Record
from durapool.stores.base import ExecutionSummary, SignalRecord
from durapool.stores.blobs import FileBlobs, sweep_deleted
from durapool.stores.locks import file_lock
from durapool.stores.medium import FORMAT, database_failure, open_database, roll_back
from durapool.stores.memory import unknown
from durapool.stores.places import INSERT, Owner, find_execution, insert_execution
from durapool.stores.rows import (
    MAX_RECORDS,
    Row,
    check_place,
    decode,
    encode,
    pack_signal,
    status_changes,
    text_value,
    unpack_signal,
    value_text,
)
from durapool.stores.summaries import SUMMARIES, summary_of
from durapool.stores.tail import LONGEST, Content, Tail, tail_failure
from durapool.stores.tails import Tails

_End = tuple[str, int, int, int]
"""An execution's id, the `PRAGMA data_version` of which this is true, its key and last seq.

SQLite gives another version once another connection has changed the file, and keeps it over changes of this one.
"""

_NORMAL = 1  # of PRAGMA synchronous
_PAGE = 1000
"""Records read at once, more than one row holds: no read transaction stays open while the caller works on them."""


class SQLiteStore:
    """Journals in one SQLite file.

    Args:
        path: of the file; it and its folder are made where they are missing, for this user alone.
        synchronous: "NORMAL" survives any kill of the program; "FULL" survives a power cut too, more slowly.
        busy_timeout: seconds to wait while another process has the file locked.

    Raises:
        StoreVersionError: another version of durapool wrote the file.
        StoreError: the file cannot be used; the message says what to do.

    Example:
        >>> store = SQLiteStore(folder / "jobs.db", synchronous="FULL")
        >>> durapool.run(handler, {"n": 1}, id="nightly", store=store)
        2
        >>> store.close()
    """

    local = True
    payload_limit: int | None = None

    def __init__(
        self,
        path: str | os.PathLike[str],
        synchronous: Literal["NORMAL", "FULL"] = "NORMAL",
        busy_timeout: float = 5.0,
    ) -> None:
        if synchronous not in ("NORMAL", "FULL"):
            raise ValidationError(f'synchronous must be "NORMAL" or "FULL", not {synchronous!r}')
        try:
            self.path = Path(os.path.realpath(path))
        except ValueError as error:
            raise StoreError(f"{path!r} is not the path of a store: {error}.") from error
        self._guard = threading.Lock()
        self._closed_because = "it is closed: open it anew"
        self._synced = synchronous == "FULL"
        self._connection: sqlite3.Connection | None = open_database(self.path, synchronous, busy_timeout)
        self._end: _End | None = None  # of the execution written last; changed inside of a transaction alone
        self._tails = Tails(self.path.with_name(f"{self.path.name}-tails"), written=self._has_tails())
        _open_stores.add(self)
        if self._blob_folder.is_dir():
            ids = [value_text(name) for (name,) in self._query("SELECT id FROM executions")]
            sweep_deleted(self._blob_folder, self._lock_folder, ids)

    def _has_tails(self) -> bool:
        """Not where writes are synced, in FULL or on a network, nor where the format could not be raised to theirs."""
        return self._query("PRAGMA synchronous") == [(_NORMAL,)] and self._query("PRAGMA user_version") == [(FORMAT,)]

    @property
    def label(self) -> str:
        """The path of the file."""
        return str(self.path)

    def lock(self, execution_id: str) -> AbstractContextManager[None]:
        """Hold the execution for this run."""
        with self._guard:
            self._opened()
        return self._hold(execution_id)

    @contextmanager
    def _hold(self, execution_id: str) -> Iterator[None]:
        with file_lock(self._lock_folder, execution_id):
            try:
                with self._guard:
                    self._tails.hold(execution_id)
                    self._move_tail(execution_id)  # that a killed run has left
                try:
                    yield
                finally:
                    with suppress(StoreError), self._guard:  # where it failed already: the next run finds what stays
                        self._move_tail(execution_id)
            finally:
                with self._guard:
                    self._tails.release(execution_id)

    def _move_tail(self, execution_id: str) -> None:
        """Let all that is in the tail be in the database, and remove it. The guard is held, to the end."""
        connection = self._connection
        if connection is None or not self._tails.holds(execution_id):
            return
        try:
            content = self._tails.left(execution_id)
            if content is not None:
                self._write_through(connection, execution_id, (), [], content)
            self._tails.remove(execution_id)
        except BaseException as error:
            self._undo(connection, error, execution_id)
            raise

    @property
    def _lock_folder(self) -> Path:
        return self.path.with_name(f"{self.path.name}-locks")

    @property
    def _blob_folder(self) -> Path:
        return self.path.with_name(f"{self.path.name}-blobs")

    def blobs(self, execution_id: str) -> FileBlobs:
        """The large payloads of one execution."""
        return FileBlobs(self._blob_folder, execution_id, self._synced)

    def find(self, execution_id: str) -> ExecutionSummary | None:
        """The summary of one execution, or None if it is unknown."""
        tail = self._tails.read(execution_id)
        found = self._query(f"{SUMMARIES} WHERE executions.id = ?", text_value(execution_id))
        return self._summary(found[0], tail) if found else None

    def executions(self) -> list[ExecutionSummary]:
        """All, newest first."""
        tail_of = self._tails.read_all()  # first, as in `read`
        rows = self._query(f"{SUMMARIES} ORDER BY started_at DESC, key DESC")
        return [self._summary(row, tail_of(value_text(row[1]))) for row in rows]

    def _summary(self, row: tuple[Any, ...], tail: Content | None) -> ExecutionSummary:
        try:
            return summary_of(row, tail)
        except (KeyError, ValueError, TypeError) as error:
            raise self._damaged(row[1], error) from error

    def read(self, execution_id: str) -> Iterator[Record]:
        """All records in order of seq."""
        tail = self._tails.read(execution_id)  # first: what leaves it meanwhile is found in the database
        found = self._query("SELECT key, started_at FROM executions WHERE id = ?", text_value(execution_id))
        return self._records(execution_id, Owner(*found[0]), tail) if found else iter(())

    def _records(self, execution_id: str, owner: Owner, tail: Content | None) -> Iterator[Record]:
        base = owner.key * MAX_RECORDS
        page = "SELECT * FROM records WHERE place > ? AND place < ? ORDER BY place"
        place, end = base, base + MAX_RECORDS
        while rows := self._query(page, place, min(place + _PAGE, end)):
            yield from self._decoded(execution_id, rows)
            place = rows[-1][0]
        if tail is not None:
            yield from self._decoded(execution_id, tail.following(place - base, owner))

    def _decoded(self, execution_id: str, rows: Sequence[Row]) -> list[Record]:
        try:
            return list(decode(rows))
        except (KeyError, ValueError, TypeError) as error:
            raise self._damaged(execution_id, error) from error

    def _damaged(self, execution_id: str, error: Exception) -> StoreError:
        return StoreError(
            f"The store {self.label} holds data of execution {execution_id!r} that cannot be read "
            f"({type(error).__name__}: {error}). It was not changed: take a backup, or name another store."
        )

    def write(self, execution_id: str, records: Sequence[Record]) -> None:
        """Append, all or nothing: in one transaction, or to the tail of an execution that this store runs."""
        if not records:
            return
        try:
            rows = encode(records)
        except (TypeError, ValueError, OverflowError) as error:
            raise database_failure(self.path, error) from error
        with self._guard:  # what `_transaction` does, without the cost of a context manager: this is the hot path
            connection = self._opened()
            tail = self._tails.live(execution_id)
            try:
                # what is large is moved at once anyway, and what is more than one row could be cut off in between
                if tail is None or len(rows) > 1 or len(rows[0][1]) > LONGEST or status_changes(records) is not None:
                    self._write_through(connection, execution_id, records, rows, self._tails.left(execution_id))
                    self._tails.begin(connection, execution_id)
                else:
                    check_place(execution_id, tail.last, records)
                    tail.append(rows[0], records[0][0])
                    if tail.is_due:
                        self._try_to_move(connection, execution_id, tail)
            except BaseException as error:
                self._undo(connection, error, execution_id)
                raise

    def _try_to_move(self, connection: sqlite3.Connection, execution_id: str, tail: Tail) -> None:
        """What is in it is safe where it is: a database that is locked for a while stops nobody."""
        try:
            self._write_through(connection, execution_id, (), [], tail.content)
        except sqlite3.OperationalError:
            roll_back(connection)
            if not tail.postpone():
                raise
        else:
            self._tails.begin(connection, execution_id)

    def _write_through(
        self,
        connection: sqlite3.Connection,
        execution_id: str,
        records: Sequence[Record],
        rows: list[Row],
        left: Content | None,
    ) -> None:
        """In one transaction, behind what is left in the tail."""
        connection.execute("BEGIN IMMEDIATE")
        if left is not None:
            self._end = None  # there are more records then
            self._tails.move(connection, execution_id, left)
        if records:
            self._append(connection, execution_id, records, rows)
        connection.execute("COMMIT")

    def _append(
        self, connection: sqlite3.Connection, execution_id: str, records: Sequence[Record], rows: list[Row]
    ) -> None:
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        key: int | None
        last_seq: int | None
        if (end := self._end) is not None and end[0] == execution_id and end[1] == version:
            key, last_seq = end[2], end[3]
        elif (found := find_execution(connection, execution_id)) is not None:
            key, last_seq = found[0].key, found[1]
        else:
            key = last_seq = None
        check_place(execution_id, last_seq, records)
        if key is None:
            key = insert_execution(connection, execution_id, records[0])
        base = key * MAX_RECORDS
        for last, data in rows:
            connection.execute(INSERT, (base + last, data))
        if (change := status_changes(records)) is not None:
            status, ended_at = change
            connection.execute(
                "UPDATE executions SET status = ?, ended_at = ? WHERE key = ?", (status.value, ended_at, key)
            )
        self._end = execution_id, version, key, records[-1].seq

    def delete(self, execution_id: str) -> None:
        """Forget an execution that does not run."""
        with self.lock(execution_id):
            with self._transaction() as connection:
                self._end = None
                key = self._key_of(connection, execution_id)
                places = (key * MAX_RECORDS, (key + 1) * MAX_RECORDS)
                connection.execute("DELETE FROM records WHERE place >= ? AND place < ?", places)
                connection.execute("DELETE FROM signals WHERE execution = ?", (key,))
                connection.execute("DELETE FROM executions WHERE key = ?", (key,))
            self.blobs(execution_id).remove()

    def post(self, execution_id: str, signal: SignalRecord) -> None:
        """Leave a signal for the execution. Raises ExecutionNotFoundError."""
        message = pack_signal(signal)
        with self._transaction() as connection:
            key = self._key_of(connection, execution_id)
            connection.execute("INSERT INTO signals(execution, message) VALUES (?, ?)", (key, message))

    def signals(self, execution_id: str) -> list[SignalRecord]:
        """The signals left, oldest first."""
        rows = self._query(
            "SELECT message FROM signals WHERE execution = (SELECT key FROM executions WHERE id = ?) ORDER BY key",
            text_value(execution_id),
        )
        try:
            return [unpack_signal(message) for (message,) in rows]
        except (ValueError, TypeError) as error:
            raise self._damaged(execution_id, error) from error

    def discard(self, execution_id: str, count: int) -> None:
        """Drop the oldest `count` signals."""
        with self._transaction() as connection:
            connection.execute(
                "DELETE FROM signals WHERE key IN (SELECT key FROM signals "
                "WHERE execution = (SELECT key FROM executions WHERE id = ?) ORDER BY key LIMIT ?)",
                (text_value(execution_id), count),
            )

    def close(self) -> None:
        """Close the file. May be called again."""
        with self._guard:
            for execution_id in self._tails.running:
                with suppress(StoreError):  # what stays in the tail is found by the next run
                    self._move_tail(execution_id)
                self._tails.release(execution_id)
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def abandon(self) -> None:
        """In a forked child: never use, and never close, what belongs to the parent.

        Even closing would be harm: SQLite would undo a transaction that the parent is about to commit.
        """
        self._guard = threading.Lock()  # a thread of the parent may have held it
        self._tails.abandon()
        if self._connection is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))
            self._connection = None
            self._closed_because = "the parent of this process opened it: open it anew here"

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError(f"The store {self.label} cannot be used: {self._closed_because}.")
        return self._connection

    def _key_of(self, connection: sqlite3.Connection, execution_id: str) -> int:
        found = find_execution(connection, execution_id)
        if found is None:
            raise unknown(execution_id, self.label)
        return found[0].key

    def _query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._guard:
            connection = self._opened()
            try:
                return connection.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise database_failure(self.path, error) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._guard:
            connection = self._opened()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                self._undo(connection, error)
                raise

    def _undo(self, connection: sqlite3.Connection, error: BaseException, execution_id: str = "") -> None:
        """After an error in a transaction, or in the tail of an execution; raises what says more in its place."""
        self._end = None  # not known to be true: an interrupt may come on either side of the commit
        if not isinstance(error, StoreError):
            self._tails.forget(execution_id)
        roll_back(connection)
        if isinstance(error, (sqlite3.Error, OverflowError)):
            raise database_failure(self.path, error) from error
        if isinstance(error, OSError):
            raise tail_failure(self.path, error) from error


_open_stores: weakref.WeakSet[SQLiteStore] = weakref.WeakSet()


def _abandon_all() -> None:
    for store in list(_open_stores):
        store.abandon()


os.register_at_fork(after_in_child=_abandon_all)
