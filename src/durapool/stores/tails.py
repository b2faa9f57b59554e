"""Which executions have a tail, and how what is in it gets into the database.

To append to a file takes a tenth of the time of a transaction (2 instead of 20 us, measured), and survives a kill of
the program as well. So whoever holds an execution's lock appends to a file, and what has gathered there moves into the
database all at once: every second, with a change of the execution's status, at the end of the run. Who takes the lock
after a kill moves what he finds.

    lock   --> hold: what a killed run has left moves
    write  --> a transaction makes the execution; begin: from then on `live` finds its tail
    unlock --> what is left moves, and the file goes; release
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from durapool.exceptions import StoreError
from durapool.stores.places import INSERT, find_execution
from durapool.stores.private import make_private
from durapool.stores.rows import MAX_RECORDS, joined, misplaced
from durapool.stores.tail import Content, Tail, read_tail, tail_path, void


class Tails:
    """Of one store. Used with its lock held, but for `read` and `read_all`.

    Args:
        folder: of their files.
        written: whether new ones are made; those of others are read all the same.
    """

    def __init__(self, folder: Path, *, written: bool) -> None:
        self._folder = folder
        self._written = written
        self._held: set[str] = set()  # executions that this store runs
        self._live: dict[str, Tail] = {}
        self._unsure: set[str] = set()  # of these something may be in their file
        self.live = self._live.get  # by execution id

    def read(self, execution_id: str) -> Content | None:
        """What is in the tail of an execution, whoever runs it. Raises StoreError."""
        return read_tail(tail_path(self._folder, execution_id))

    def read_all(self) -> Callable[[str], Content | None]:
        """What is in all tails now; to be asked by execution id."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            names = []
        found = {}
        for name in names:
            with contextlib.suppress(StoreError):  # of which whoever reads that execution hears
                found[name] = read_tail(self._folder / name)
        return lambda execution_id: found.get(tail_path(self._folder, execution_id).name) if found else None

    def hold(self, execution_id: str) -> None:
        """This store runs the execution, and an earlier run may have left something. Raises StoreError."""
        self.forget(execution_id)
        self._unsure.add(execution_id)
        if self._written:
            with contextlib.suppress(OSError):  # then each write is a transaction
                make_private(self._folder, "the newest records")
        self._held.add(execution_id)

    def holds(self, execution_id: str) -> bool:
        """Whether this store runs the execution: not one that was closed meanwhile, nor a forked child's copy."""
        return execution_id in self._held

    def begin(self, connection: sqlite3.Connection, execution_id: str) -> None:
        """All of the execution is in the database now: what comes next goes to its tail, if this store runs it."""
        self._unsure.discard(execution_id)
        if not self._written or execution_id not in self._held:
            return
        found = find_execution(connection, execution_id)
        if found is None:
            return
        owner, last = found
        tail = self._live.get(execution_id)
        if tail is not None:
            tail.clear(last)
            return
        try:
            self._live[execution_id] = Tail(tail_path(self._folder, execution_id), owner, last)
        except OSError:
            self._written = False  # from now on each write is a transaction

    def left(self, execution_id: str) -> Content | None:
        """What is to be moved, of an execution that this store runs. Raises StoreError."""
        tail = self._live.get(execution_id)
        if tail is not None:
            return tail.content if tail.content.entries else None
        return self.read(execution_id) if execution_id in self._unsure else None

    def move(self, connection: sqlite3.Connection, execution_id: str, content: Content) -> None:
        """Inside a transaction: insert what is in the tail.

        Raises:
            StoreError: it does not follow on what is in the database though it is this store's own.
        """
        if not content.entries:
            return
        owner, last = find_execution(connection, execution_id) or (None, None)
        first, end = content.span
        if execution_id in self._live and (owner != content.owner or first != (last or 0) + 1):
            raise misplaced(execution_id, last if owner == content.owner else None, first, end)
        if owner is not None and last is not None:  # else the execution was deleted since
            for seq, data in joined(content.following(last, owner)):
                connection.execute(INSERT, (owner.key * MAX_RECORDS + seq, data))

    def forget(self, execution_id: str) -> None:
        """What is known of the tail may not be true any more: the next write looks into its file."""
        tail = self._live.pop(execution_id, None)
        if tail is not None:
            self._unsure.add(execution_id)
            tail.close()

    def remove(self, execution_id: str) -> None:
        """All that was in it is in the database."""
        tail = self._live.get(execution_id)
        path = tail_path(self._folder, execution_id)
        with contextlib.suppress(OSError):  # one that stays is moved again, which changes nothing
            if tail is None:
                void(path)
            elif tail.is_named:
                os.unlink(path)
        self.forget(execution_id)
        self._unsure.discard(execution_id)

    def release(self, execution_id: str) -> None:
        """This store does not run the execution any more."""
        self._held.discard(execution_id)
        self.forget(execution_id)
        self._unsure.discard(execution_id)

    @property
    def running(self) -> list[str]:
        """The executions that have a tail of this store's own."""
        return list(self._live)

    def abandon(self) -> None:
        """In a forked child: they are the parent's."""
        self._held.clear()
        for execution_id in list(self._live):
            self.forget(execution_id)
        self._unsure.clear()
