"""Where the records of an execution are in the database.

A record's place is the execution's key and its seq in one integer: see `rows`.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from durapool.records import OperationStatus, Record
from durapool.stores.rows import MAX_RECORDS, handler_of, text_value

INSERT = "INSERT INTO records VALUES (?, ?)"
LAST_PLACE = f"(SELECT max(place) FROM records WHERE place < (executions.key + 1) * {MAX_RECORDS})"


class Owner(NamedTuple):
    """An execution: its id may be deleted and used again, and its key too, but hardly both at the same moment."""

    key: int
    started_at: float  # epoch seconds


def find_execution(connection: sqlite3.Connection, execution_id: str) -> tuple[Owner, int] | None:
    """An execution, and the seq of its last record; None for one that is unknown."""
    row = connection.execute(
        f"SELECT key, started_at, {LAST_PLACE} FROM executions WHERE id = ?", (text_value(execution_id),)
    ).fetchone()
    return None if row is None else (Owner(row[0], row[1]), row[2] - row[0] * MAX_RECORDS)


def insert_execution(connection: sqlite3.Connection, execution_id: str, first: Record) -> int:
    """Make the execution's row; its key."""
    cursor = connection.execute(
        "INSERT INTO executions(id, handler, status, started_at) VALUES (?, ?, ?, ?)",
        (
            text_value(execution_id),
            text_value(handler_of(first.update)),
            OperationStatus.STARTED.value,
            first.at,
        ),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid
