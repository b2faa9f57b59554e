"""Records as rows: plain values in and out, no database here.

A row is (place, data): the records of one write, packed as one list by msgpack, each as the nested array that its tuple
is. Enums are in it as their text, an error and the reference to a blob as arrays. One row costs less than half of what
a row per record with a column per field does, and it takes text that is not valid Unicode (a lone surrogate of an odd
file name, say), which no TEXT value can be.

`place` is the execution's key and the seq of the row's last record in one integer. SQLite appends along an integer
primary key faster than along two columns. The first record of an execution has a row of its own: lists of executions
need it alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
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

Row = tuple[int, bytes]

MAX_RECORDS = 1 << 32
"""The places that one execution has."""

GROUP_RECORDS = 256
"""So many records are in one row at most: a reader takes them all in at once."""

GROUP_BYTES = 1 << 20
"""So many bytes has a row that holds more than one record: what fits in alone must not fail for what it is with."""

COLUMNS = "place INTEGER PRIMARY KEY, data BLOB"

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
    return None if error is None else pack(_plain(error))


def unpack_error(data: bytes | None) -> ErrorObject | None:
    """The inverse of :func:`pack_error`."""
    if data is None:
        return None
    return _error(*unpack(data))


def _error(message: str | None, kind: str | None, text: str | None, trace: Any, pickled: bytes | None) -> ErrorObject:
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


def encode(records: Sequence[Record]) -> list[Row]:
    """The rows of records that follow on each other, with the seq of the last record in the place of the place.

    The hot path: about half a microsecond a record.

    Raises:
        TypeError, ValueError, OverflowError: a value is in them that cannot be stored.
    """
    count = len(records)
    if count > 1 and records[0][0] == 1:
        return encode(records[:1]) + encode(records[1:])
    if count <= GROUP_RECORDS:
        data = _pack_records(records)
        if count == 1 or len(data) <= GROUP_BYTES:
            return [(records[-1][0], data)]
    middle = count // 2
    return encode(records[:middle]) + encode(records[middle:])


def _pack_records(records: Sequence[Record]) -> bytes:
    try:
        return cast(bytes, msgpack.packb(records, default=_plain))  # a third faster than with an error handler
    except UnicodeEncodeError:
        return cast(bytes, msgpack.packb(records, default=_plain, unicode_errors="surrogatepass"))


def _plain(value: Any) -> Any:
    """What msgpack does not know, as what it knows."""
    if isinstance(value, ErrorObject):
        return (*value.public(), value.pickled)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, int):
        raise OverflowError("an integer has more than 64 bits")
    raise TypeError(f"values of type {type(value).__name__} cannot be recorded")


def joined(rows: Iterable[Row]) -> list[Row]:
    """Fewer rows with the same records, none with more than `GROUP_RECORDS` or, where it is joined, `GROUP_BYTES`."""
    result: list[Row] = []
    group: list[bytes] = []
    count = size = last = 0
    for place, data in rows:
        records, start = _head(data)
        if group and (count + records > GROUP_RECORDS or size + len(data) > GROUP_BYTES):
            result.append((last, _join(group, count)))
            group, count, size = [], 0, 0
        group.append(data[start:])
        count, size, last = count + records, size + len(data), place
    return [*result, (last, _join(group, count))] if group else result


def _head(data: bytes) -> tuple[int, int]:
    """How many elements the array has, at most `GROUP_RECORDS`, and where the first one begins."""
    if data[0] == _ARRAY_16:
        return int.from_bytes(data[1:3]), 3
    return data[0] & 0x0F, 1


_ARRAY_16 = 0xDC
"""How msgpack's specification begins an array of 16 to 65,535 elements: their number follows in two bytes. A shorter
one begins with a byte that has it in its lower half."""


def _join(elements: list[bytes], count: int) -> bytes:
    return cast(bytes, msgpack.Packer().pack_array_header(count)) + b"".join(elements)


def decode(rows: Iterable[Row]) -> Iterator[Record]:
    """Records from rows, about a microsecond each.

    Raises:
        KeyError, ValueError, TypeError: the row was not written by `encode`.
    """
    new = tuple.__new__  # twice as fast as Update(...), which goes through a Python function
    actions, types, sub_types = _ACTIONS, _TYPES, _SUB_TYPES
    for place, data in rows:
        seq = 0
        for seq, at, fields in unpack(data):
            (
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
            ) = fields
            update = new(
                Update,
                (
                    operation_id,
                    actions[action],
                    types[kind],
                    sub_types.get(sub_type, sub_type),  # a ChildConfig may name a sub-type of the user's own
                    parent_id,
                    name,
                    branch,
                    BlobRef(*payload) if type(payload) is list else payload,
                    None if error is None else _error(*error),
                    attempt,
                    delay,
                    details,
                ),
            )
            yield new(Record, (seq, at, update))
        if seq != place % MAX_RECORDS:
            raise ValueError(f"row {place} ends with record {seq}")


def event_of(row: Row) -> Payload:
    """The event that the first row of an execution holds. Raises what `decode` raises."""
    (first,) = decode([row])
    payload = first.update.payload
    return "null" if payload is None else payload


def handler_of(first: Update) -> str:
    """What the START of the EXECUTION says of its handler."""
    details: Mapping[str, Any] = first.details or {}
    return str(details.get(DETAIL_HANDLER, ""))


_EXECUTION = OperationType.EXECUTION
_third = itemgetter(2)  # the update of a record, the type of an update


def status_changes(records: Sequence[Record]) -> tuple[OperationStatus, float | None] | None:
    """The status of the whole execution after these records and the time of its end; None if they say nothing of it."""
    if _EXECUTION not in map(_third, map(_third, records)):
        return None  # as almost always, and found out without a step of Python for each record
    for _, at, update in reversed(records):
        if update[2] is _EXECUTION and update[1] in STATUS_AFTER:
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
    if first != (last_seq or 0) + 1 or last - first != len(records) - 1:
        raise misplaced(execution_id, last_seq, first, last)


def misplaced(execution_id: str, last_seq: int | None, first: int, last: int) -> StoreError:
    """The error for records `first` to `last`, which do not follow on `last_seq`: see `check_place`."""
    if last_seq is None and first != 1:
        return StoreError(
            f"Execution {execution_id!r} was deleted from the store while it ran: nothing more of it is recorded. "
            "Run it again from the start, or under another id."
        )
    if last_seq is not None and first <= last_seq:
        return StoreError(
            f"Another process wrote to this execution ({execution_id!r}): record {first} is there already. "
            "Nothing was overwritten. Run it again: it goes on from what is recorded."
        )
    return StoreError(
        f"The records {first} to {last} of execution {execution_id!r} do not follow on record {last_seq or 0}: "
        "nothing was written. This is a bug of durapool, please report it."
    )
