"""Records as rows: plain values in and out, no database here.

A row is (place, at, the fields of Update in their order). Enums are stored as their text; error and details as msgpack.
Text that is not valid Unicode (a lone surrogate of an odd file name, say) cannot be a TEXT value, and the reference to
a blob is no value at all: such a record is packed whole into the payload column, and its operation_id is NULL.

`place` is the execution's key and the record's seq in one integer. SQLite appends along an integer primary key faster
than along two columns, and keeps rows of a few KiB on the page itself (measured: half the time at 1.5 KB a record).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import msgpack

from durapool.exceptions import StoreError
from durapool.records import (
    DETAIL_HANDLER,
    STATUS_AFTER,
    Action,
    BlobRef,
    ErrorObject,
    OperationStatus,
    OperationSubType,
    OperationType,
    Payload,
    Record,
    Update,
)
from durapool.stores.base import SignalRecord

Row = tuple[Any, ...]

MAX_RECORDS = 1 << 32
"""The places that one execution has."""

COLUMNS = (
    "place INTEGER PRIMARY KEY, at REAL, operation_id TEXT, action TEXT, type TEXT, sub_type TEXT, parent_id TEXT, "
    "name TEXT, branch INTEGER, payload, error BLOB, attempt INTEGER, delay REAL, details BLOB"
)

_PAYLOAD = 9  # its place in a row

_TEXT: dict[Any, str | None] = {
    None: None,
    **{member: member.value for kind in (Action, OperationType, OperationSubType) for member in kind},
}
_ACTIONS: dict[str, Action] = {member.value: member for member in Action}
_TYPES: dict[str, OperationType] = {member.value: member for member in OperationType}
_SUB_TYPES: dict[str | None, OperationSubType | None] = {
    None: None,
    **{member.value: member for member in OperationSubType},
}


def pack(value: Any) -> bytes:
    """msgpack that takes every str of Python, lone surrogates too."""
    return cast(bytes, msgpack.packb(value, unicode_errors="surrogatepass"))


def unpack(data: bytes) -> Any:
    """The inverse of :func:`pack`."""
    return msgpack.unpackb(data, unicode_errors="surrogatepass", strict_map_key=False)


def pack_error(error: ErrorObject | None) -> bytes | None:
    """An error as a blob."""
    return None if error is None else pack((*error.public(), error.pickled))


def unpack_error(data: bytes | None) -> ErrorObject | None:
    """The inverse of :func:`pack_error`."""
    if data is None:
        return None
    message, kind, text, trace, pickled = unpack(data)
    return ErrorObject(message, kind, text, None if trace is None else tuple(trace), pickled)


def pack_signal(signal: SignalRecord) -> bytes:
    """A signal as a blob."""
    return pack((signal.kind, signal.callback_id, signal.payload, pack_error(signal.error), signal.at))


def unpack_signal(data: bytes) -> SignalRecord:
    """The inverse of :func:`pack_signal`."""
    kind, callback_id, payload, error, at = unpack(data)
    return SignalRecord(kind, callback_id, payload, unpack_error(error), at)


def text_value(text: str) -> str | bytes:
    """A str for a column that holds nothing but str: as bytes where it is not valid Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def value_text(value: str | bytes) -> str:
    """The inverse of :func:`text_value`."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")


def encode(key: int, records: Iterable[Record]) -> list[Row]:
    """The rows of the execution `key`. The hot path: about a quarter of a microsecond a record."""
    text, base = _TEXT, key * MAX_RECORDS
    rows = [
        (
            base + seq,
            at,
            operation_id,
            text[action],
            text[kind],
            text.get(sub_type, sub_type),  # a ChildConfig may name a sub-type of the user's own
            parent_id,
            name,
            branch,
            payload,
            None if error is None else pack_error(error),
            attempt,
            delay,
            None if details is None else pack(dict(details)),
        )
        for seq, at, (
            operation_id,
            action,
            kind,
            sub_type,
            parent_id,
            name,
            branch,
            payload,
            error,
            attempt,
            delay,
            details,
        ) in records
    ]
    if BlobRef not in {type(row[_PAYLOAD]) for row in rows}:
        return rows
    return [row if type(row[_PAYLOAD]) is not BlobRef else _packed_row(row) for row in rows]


def encode_odd(key: int, records: Iterable[Record]) -> list[Row]:
    """As `encode`, for records of which some have text that SQLite refuses."""
    return [_packed_row(row) if _is_odd(row) else row for row in encode(key, records)]


def _is_odd(row: Row) -> bool:
    return any(isinstance(value, str) and isinstance(text_value(value), bytes) for value in row)


def _packed_row(row: Row) -> Row:
    place, at, _operation_id, action, kind, *_ = row
    blank = (None,) * 4
    return (place, at, None, action, kind, *blank, pack(row[2:]), None, 0, None, None)


def _unpacked_row(row: Row) -> Row:
    fields = list(row[:2]) + unpack(row[_PAYLOAD])
    if isinstance(fields[_PAYLOAD], list):
        fields[_PAYLOAD] = BlobRef(*fields[_PAYLOAD])
    return tuple(fields)


def decode(rows: Iterable[Row]) -> Iterator[Record]:
    """Records from rows, about a microsecond each.

    Raises:
        KeyError, ValueError, TypeError: the row was not written by `encode`.
    """
    new = tuple.__new__  # twice as fast as Update(...), which goes through a Python function
    actions, types, sub_types = _ACTIONS, _TYPES, _SUB_TYPES
    for row in rows:
        if row[2] is None:
            row = _unpacked_row(row)
        (
            place,
            at,
            operation_id,
            action,
            kind,
            sub_type,
            parent_id,
            name,
            branch,
            payload,
            error,
            attempt,
            delay,
            details,
        ) = row
        update = new(
            Update,
            (
                operation_id,
                actions[action],
                types[kind],
                sub_types.get(sub_type, sub_type),
                parent_id,
                name,
                branch,
                payload,
                None if error is None else unpack_error(error),
                attempt,
                delay,
                None if details is None else unpack(details),
            ),
        )
        yield new(Record, (place % MAX_RECORDS, at, update))


def event_of(row: Row) -> Payload:
    """The event that the first row of an execution holds."""
    update = next(decode([row])).update
    return "null" if update.payload is None else update.payload


def handler_of(first: Update) -> str:
    """What the START of the EXECUTION says of its handler."""
    details: Mapping[str, Any] = first.details or {}
    return str(details.get(DETAIL_HANDLER, ""))


def status_changes(records: Sequence[Record]) -> tuple[OperationStatus, float | None] | None:
    """The status of the whole execution after these records and the time of its end; None if they say nothing of it."""
    execution = OperationType.EXECUTION
    for _, at, update in reversed(records):
        if update[2] is execution and update[1] in STATUS_AFTER:
            status = STATUS_AFTER[update[1]]
            return status, at if status.is_terminal else None
    return None


def check_place(execution_id: str, last_seq: int | None, records: Sequence[Record]) -> None:
    """Refuse records that do not follow on what is stored.

    Args:
        last_seq: the seq of the last stored record; None if the store does not know the execution.

    Raises:
        StoreError: they collide with records that are there, or leave a gap.
    """
    first, last = records[0].seq, records[-1].seq
    if last_seq is None and first != 1:
        raise StoreError(
            f"Execution {execution_id!r} was deleted from the store while it ran: nothing more of it is recorded. "
            "Run it again from the start, or under another id."
        )
    if last_seq is not None and first <= last_seq:
        raise StoreError(
            f"Another process wrote to this execution ({execution_id!r}): record {first} is there already. "
            "Nothing was overwritten. Run it again: it goes on from what is recorded."
        )
    if first != (last_seq or 0) + 1 or last - first != len(records) - 1:
        raise StoreError(
            f"The records {first} to {last} of execution {execution_id!r} do not follow on record {last_seq or 0}: "
            "nothing was written. This is a bug of durapool, please report it."
        )
