"""JSON that keeps types: the envelope of `serdes`, for values that plain JSON would change.

    {"$durapool": 1, "value": tree}

A tree holds scalars as they are and every other value as a list that begins with its tag. Only exact types are taken:
anything else raises UnsupportedError, and `unsupported` says in words what it was. Imported by `serdes` when the first
such value is met.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

from durapool.exceptions import SerDesError
from durapool.json_text import MARK, MAX_DEPTH
from durapool.records import ErrorObject
from durapool.results import BatchItem, BatchItemStatus, BatchResult, CompletionReason

FORMAT = 1
"""The version of the envelope."""

_MAX_INT_BITS = 2048  # Python may refuse to read longer decimal numbers (sys.set_int_max_str_digits, at least 640)
_SCALARS = frozenset({type(None), bool, str})


class UnsupportedError(Exception):
    """The envelope does not take a value of this type, or not so deep."""


def wrap(value: Any) -> dict[str, Any]:
    """The envelope of a value.

    Raises:
        UnsupportedError: the value holds something that would come back as something else.
    """
    return {MARK: FORMAT, "value": _to_tree(value, 0)}


def unwrap(envelope: Mapping[str, Any]) -> Any:
    """The value again.

    Raises:
        SerDesError: not an envelope of this version.
        Exception: whatever a damaged one leads to.
    """
    if envelope[MARK] != FORMAT:
        raise SerDesError(f"it was written in format {envelope[MARK]!r}, and this durapool reads format {FORMAT}")
    return _from_tree(envelope["value"])


def _to_tree(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise UnsupportedError
    kind = type(value)
    if kind in _SCALARS:
        return value
    encoder = _ENCODERS.get(kind)
    if encoder is None:
        raise UnsupportedError
    return encoder(value, depth + 1)


def _int_tree(value: int, _: int) -> Any:
    return value if value.bit_length() <= _MAX_INT_BITS else ["int", hex(value)]


def _float_tree(value: float, _: int) -> Any:
    return value if value - value == 0.0 else ["float", repr(value)]


def _dict_tree(value: dict[Any, Any], depth: int) -> list[Any]:
    return ["dict", *[_to_tree(part, depth) for item in value.items() for part in item]]


def _datetime_tree(value: datetime, _: int) -> list[Any]:
    naive = ["datetime", value.replace(tzinfo=None).isoformat(), value.fold]
    zone: Any = value.tzinfo
    if zone is None:
        return naive
    if type(zone) is timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]  # typeshed leaves it out
        return [*naive, "offset", offset.days, offset.seconds, offset.microseconds, *name]
    if type(zone).__module__ == "zoneinfo" and getattr(zone, "key", None) is not None:
        return [*naive, "zone", zone.key]
    raise UnsupportedError


def _error_tree(error: ErrorObject, depth: int) -> list[Any]:
    return ["ErrorObject", *[_to_tree(part, depth) for part in (*error.public(), error.pickled)]]


def _item_tree(item: BatchItem[Any], depth: int) -> list[Any]:
    parts = (item.index, item.status.value, item.result, item.error)
    return ["BatchItem", *[_to_tree(part, depth) for part in parts]]


def _batch_tree(batch: BatchResult[Any], depth: int) -> list[Any]:
    parts = (batch.all, batch.completion_reason.value, batch.submitted_count)
    return ["BatchResult", *[_to_tree(part, depth) for part in parts]]


_ENCODERS: dict[type, Callable[[Any, int], Any]] = {
    int: _int_tree,
    float: _float_tree,
    list: lambda value, depth: ["list", *[_to_tree(item, depth) for item in value]],
    tuple: lambda value, depth: ["tuple", *[_to_tree(item, depth) for item in value]],
    dict: _dict_tree,
    bytes: lambda value, _: ["bytes", binascii.b2a_base64(value, newline=False).decode()],
    datetime: _datetime_tree,
    date: lambda value, _: ["date", value.isoformat()],
    Decimal: lambda value, _: ["Decimal", str(value)],
    UUID: lambda value, _: ["UUID", value.hex],
    ErrorObject: _error_tree,
    BatchItem: _item_tree,
    BatchResult: _batch_tree,
}


def _from_tree(node: Any) -> Any:
    return _DECODERS[node[0]](*node[1:]) if type(node) is list else node


def _to_dict(*parts: Any) -> dict[Any, Any]:
    halves = map(_from_tree, parts)
    return dict(zip(halves, halves, strict=True))


def _to_datetime(text: str, fold: int, kind: str | None = None, *zone: Any) -> datetime:
    naive = datetime.fromisoformat(text).replace(fold=fold)
    match kind:
        case None:
            return naive
        case "offset":
            days, seconds, microseconds, *name = zone
            return naive.replace(tzinfo=timezone(timedelta(days, seconds, microseconds), *name))
        case "zone":
            from zoneinfo import ZoneInfo  # only here: few values have one

            return naive.replace(tzinfo=ZoneInfo(zone[0]))
        case _:
            raise SerDesError(f"a datetime has the unknown kind of zone {kind!r}")


def _to_item(index: int, status: str, result: Any, error: Any) -> BatchItem[Any]:
    return BatchItem(index, BatchItemStatus(status), _from_tree(result), _from_tree(error))


def _to_batch(items: Any, reason: str, submitted: int) -> BatchResult[Any]:
    return BatchResult(_from_tree(items), CompletionReason(reason), submitted)


_DECODERS: dict[str, Callable[..., Any]] = {
    "int": lambda text: int(text, 16),
    "float": float,
    "list": lambda *items: list(map(_from_tree, items)),
    "tuple": lambda *items: tuple(map(_from_tree, items)),
    "dict": _to_dict,
    "bytes": binascii.a2b_base64,
    "datetime": _to_datetime,
    "date": date.fromisoformat,
    "Decimal": Decimal,
    "UUID": UUID,
    "ErrorObject": lambda *fields: ErrorObject(*map(_from_tree, fields)),
    "BatchItem": _to_item,
    "BatchResult": _to_batch,
}


def unsupported(value: Any, path: str = "the value", depth: int = 0) -> str:
    """The first part that an envelope does not take, in words."""
    if depth > MAX_DEPTH:
        return f"it is nested more than {MAX_DEPTH} deep, or contains itself"
    for child_path, child in _children(value, path):
        try:
            _to_tree(child, depth + 1)
        except (UnsupportedError, RecursionError):
            return unsupported(child, child_path, depth + 1)
    zone = f" with a {type_name(value.tzinfo)}" if type(value) is datetime else ""
    return f"{path} is a {type_name(value)}{zone}"


def unpicklable(value: Any, pickle: Callable[[Any], object], path: str = "the value", depth: int = 0) -> str:
    """The innermost part that `pickle` fails on, in words."""
    attributes = [] if isinstance(value, type) else list(getattr(value, "__dict__", {}).items())
    children = [*_children(value, path), *((f"{path}.{name}", item) for name, item in attributes)]
    if depth > MAX_DEPTH:
        return "it is nested very deep"
    for child_path, child in children:
        try:
            pickle(child)
        except Exception:  # noqa: BLE001  # a user's __reduce__ may raise anything
            return unpicklable(child, pickle, child_path, depth + 1)
    return f"{path} is a {type_name(value)}"


def type_name(value: Any) -> str:
    """The full name of the value's type; a built-in one without its module."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _children(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"a key of {path}", key) for key in value)
        yield from ((f"{path}[{_short(key)}]", item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"{path}[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, BatchResult):
        yield from ((f"{path}.all[{index}]", item) for index, item in enumerate(value.all))
    elif isinstance(value, BatchItem):
        yield f"{path}.result", value.result


def _short(key: Any) -> str:
    try:
        text = repr(key)
    except Exception:  # noqa: BLE001  # a user's __repr__ may raise anything
        return f"a {type_name(key)}"
    return text if len(text) <= 40 else f"{text[:37]}..."
