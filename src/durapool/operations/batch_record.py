"""What a batch's own operation records: the reason, how many branches were given, which ended, which were cut off.

    NESTED: the outline; the results stand with the branches' operations
    FLAT:   the outline and the items, because a FLAT branch has no operation; and where a service forgets the branches
    above the store's limit: a summary, and the outline in the update's details

Pure: payloads in, payloads out. Indices are kept as ranges, so a batch of 100,000 branches has a record of one line.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from durapool.executors.base import ItemRecord
from durapool.records import BlobRef, ErrorObject, Payload
from durapool.results import BatchItemStatus, CompletionReason

DETAIL_REASON = "reason"
DETAIL_SUBMITTED = "submitted"
DETAIL_ENDED = "ended"
DETAIL_STARTED = "started"
_ITEMS = "items"


class Outline(NamedTuple):
    """How a batch was decided."""

    reason: CompletionReason
    submitted: int
    ended: Sequence[int]
    started: Sequence[int]

    @classmethod
    def of(cls, reason: CompletionReason, submitted: int, items: Sequence[ItemRecord]) -> Outline:
        """The outline of a decided batch."""
        unfinished = BatchItemStatus.STARTED  # once: to look it up takes time, for each item
        started = [item.index for item in items if item.status is unfinished]
        ended = [item.index for item in items if item.status is not unfinished]
        return cls(reason, submitted, ended, started)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: JSON and msgpack take them."""
        return {
            DETAIL_REASON: self.reason.value,
            DETAIL_SUBMITTED: self.submitted,
            DETAIL_ENDED: list(_ranges(self.ended)),
            DETAIL_STARTED: list(_ranges(self.started)),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Outline:
        """The inverse of `to_dict`. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            CompletionReason(data[DETAIL_REASON]),
            data[DETAIL_SUBMITTED],
            _indices(data[DETAIL_ENDED]),
            _indices(data[DETAIL_STARTED]),
        )


def encode(outline: Outline) -> str:
    """The payload of a NESTED batch."""
    return _json(outline.to_dict())


def encode_whole(outline: Outline, items: Iterable[ItemRecord]) -> str:
    """The payload of a batch that keeps its items itself."""
    rows = [_row(item) for item in items if item.status is not BatchItemStatus.STARTED]
    return _json(outline.to_dict() | {_ITEMS: rows})


def decode(payload: Payload | None) -> Outline:
    """The outline in a batch's payload. Raises KeyError, TypeError or ValueError for anything else."""
    return Outline.from_dict(json.loads(_text(payload)))


def decode_items(payload: Payload | None) -> dict[int, ItemRecord]:
    """The ended items in the payload of a batch that keeps them itself.

    Raises:
        KeyError, TypeError, ValueError: it is anything else.
    """
    items = [_item(row) for row in json.loads(_text(payload))[_ITEMS]]
    return {item.index: item for item in items}


def _text(payload: Payload | None) -> str | bytes:
    if isinstance(payload, BlobRef):
        raise ValueError("it is a blob")
    return payload or ""


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _ranges(indices: Sequence[int]) -> Iterator[list[int]]:
    """Ascending indices as [first, last] pairs."""
    first = last = None
    for index in indices:
        if first is not None and last is not None and index == last + 1:
            last = index
            continue
        if first is not None and last is not None:
            yield [first, last]
        first = last = index
    if first is not None and last is not None:
        yield [first, last]


def _indices(ranges: Sequence[Sequence[int]]) -> list[int]:
    return [index for first, last in ranges for index in range(first, last + 1)]


def _row(item: ItemRecord) -> list[Any]:
    """[index, text], [index, null, base64 of bytes], [index, null, [name, size] of a blob] or [index, error]."""
    if item.error is not None or item.status is BatchItemStatus.FAILED:
        error = item.error or ErrorObject()
        pickled = error.pickled and b64encode(error.pickled).decode()
        return [item.index, {**error.to_dict(), "Pickled": pickled}]
    if isinstance(item.payload, bytes):
        return [item.index, None, b64encode(item.payload).decode()]
    if isinstance(item.payload, BlobRef):
        return [item.index, None, list(item.payload)]
    return [item.index, item.payload]


def _item(row: Sequence[Any]) -> ItemRecord:
    match row:
        case [int(index), dict(data)]:
            plain = ErrorObject.from_dict(data)
            pickled = data.get("Pickled")
            error = ErrorObject(*plain.public(), b64decode(pickled) if pickled else None)
            return ItemRecord(index, BatchItemStatus.FAILED, error=error)
        case [int(index), None, str(text)]:
            return ItemRecord(index, BatchItemStatus.SUCCEEDED, b64decode(text))
        case [int(index), None, [str(name), int(size)]]:
            return ItemRecord(index, BatchItemStatus.SUCCEEDED, BlobRef(name, size))
        case [int(index), str() | None as payload]:
            return ItemRecord(index, BatchItemStatus.SUCCEEDED, payload)
        case _:
            raise ValueError(f"not an item of a batch: {row!r:.100}")
