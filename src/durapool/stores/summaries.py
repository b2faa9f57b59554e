"""What `durapool ls` shows of an execution, from its row and its tail."""

from __future__ import annotations

from typing import Any

from durapool.records import OperationStatus
from durapool.stores.base import ExecutionSummary
from durapool.stores.places import LAST_PLACE, Owner
from durapool.stores.rows import MAX_RECORDS, event_of, value_text
from durapool.stores.tail import Content

SUMMARIES = (
    f"SELECT executions.*, {LAST_PLACE}, records.* FROM executions "
    f"JOIN records ON records.place = executions.key * {MAX_RECORDS} + 1"
)
"""Their rows: of the execution, the place of its last record in the database, and its first record."""


def summary_of(row: tuple[Any, ...], tail: Content | None) -> ExecutionSummary:
    """The summary, from a row of `SUMMARIES`. Raises KeyError, ValueError or TypeError for one that makes no sense."""
    key, execution_id, handler, status, started_at, ended_at, last_place, place, data = row
    last = last_place - key * MAX_RECORDS
    return ExecutionSummary(
        id=value_text(execution_id),
        handler=value_text(handler),
        status=OperationStatus(status),
        started_at=started_at,
        ended_at=ended_at,
        event=event_of((place, data)),
        records=last if tail is None else tail.last_behind(last, Owner(key, started_at)),
    )
