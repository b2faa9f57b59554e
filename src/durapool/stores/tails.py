"""Which executions have a tail, and how what is in it gets into the database.

To append to a file takes a tenth of the time of a transaction, and survives a kill of the program as well. So whoever
holds an execution's lock appends to a file, and what has gathered there moves into the database all at once: every
second, with a change of the execution's status, at the end of the run. Who takes the lock after a kill moves what he
finds.

    lock   --> take_over: what a killed run has left moves
    write  --> a transaction makes the execution, and its tail; from then on `live` finds it
    unlock --> let_go: it moves, and the file goes
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from durapool.stores.places import INSERT, find_execution
from durapool.stores.private import make_private
from durapool.stores.rows import MAX_RECORDS, joined, misplaced
from durapool.stores.tail import Content, Tail, read_tail, tail_path


class Tails:
    """Of one store. Used with its lock held, but for `read` and `exist`.

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

    def exist(self) -> bool:
        """Whether any execution has one."""
        try:
            return bool(os.listdir(self._folder))
        except OSError:
            return False

    def read(self, execution_id: str) -> Content | None:
        """What is in the tail of an execution, whoever runs it. Raises StoreError."""
        return read_tail(tail_path(self._folder, execution_id))

    def hold(self, execution_id: str) -> None:
        """This store runs the execution, and an earlier run may have left something. Raises StoreError."""
        if self._written:
            with contextlib.suppress(OSError):  # then each write is a transaction
                make_private(self._folder, "the newest records")
        self._held.add(execution_id)
        self._unsure.add(execution_id)

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
        else:
            with contextlib.suppress(OSError):  # then each write is a transaction
                self._live[execution_id] = Tail(tail_path(self._folder, execution_id), owner, last)

    def may_hold(self, execution_id: str) -> bool:
        """Whether there may be something to move, of an execution that this store runs."""
        tail = self._live.get(execution_id)
        return execution_id in self._unsure if tail is None else not tail.is_empty

    def move(self, connection: sqlite3.Connection, execution_id: str) -> bool:
        """Inside a transaction: insert what is in the tail; whether that is anything.

        Raises:
            StoreError: it cannot be read, or does not follow on what is in the database though it is this store's own.
        """
        tail = self._live.get(execution_id)
        content = self.read(execution_id) if tail is None else tail.content
        if content is None or not content.entries:
            return False
        owner, last = find_execution(connection, execution_id) or (None, None)
        first, end = content.span
        if tail is not None and (owner != content.owner or first != (last or 0) + 1):
            raise misplaced(execution_id, last if owner == content.owner else None, first, end)
        if owner is None or last is None:
            return False  # the execution was deleted since
        for seq, data in joined(content.following(last, owner)):
            connection.execute(INSERT, (owner.key * MAX_RECORDS + seq, data))
        return True

    def forget(self, execution_id: str) -> None:
        """What is known of the tail may not be true any more: the next write looks into its file."""
        tail = self._live.pop(execution_id, None)
        if tail is not None:
            self._unsure.add(execution_id)
            tail.close()

    def remove(self, execution_id: str) -> None:
        """All that was in it is in the database."""
        self.forget(execution_id)
        self._unsure.discard(execution_id)
        with contextlib.suppress(OSError):  # one that stays is moved again, which changes nothing
            os.unlink(tail_path(self._folder, execution_id))

    def holds(self, execution_id: str) -> bool:
        """Whether this store runs the execution: not one that was closed meanwhile, nor a forked child's copy."""
        return execution_id in self._held

    def release(self, execution_id: str) -> None:
        """This store does not run the execution any more."""
        self.forget(execution_id)
        self._held.discard(execution_id)
        self._unsure.discard(execution_id)

    @property
    def held(self) -> list[str]:
        """The executions that this store runs."""
        return list(self._held)

    def abandon(self) -> None:
        """In a forked child: they are the parent's."""
        for execution_id in list(self._live):
            self.forget(execution_id)
        self._held.clear()
        self._unsure.clear()
