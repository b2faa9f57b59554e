"""Payloads and errors as the service keeps them: text, and not too much of it. Pure."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from durapool.exceptions import StoreError
from durapool.operations.batch_record import DETAIL_ENDED, DETAIL_REASON, DETAIL_STARTED, DETAIL_SUBMITTED
from durapool.records import BlobRef, ErrorObject, Payload

_BYTES = '{"$durapool":"bytes","base64":'
_SUMMARY = '{"$durapool":"summary","outline":'
_OUTLINE = (DETAIL_REASON, DETAIL_SUBMITTED, DETAIL_ENDED, DETAIL_STARTED)

MAX_ERROR = 30_000  # bytes of a whole error as JSON; the service takes 32 KiB
_MAX_MESSAGE = 8_000  # bytes of its message, and of its data
_MAX_TYPE = 500
_CUT = " ... (cut)"


def payload_text(payload: Payload | None, details: Mapping[str, Any] | None) -> str | None:
    """The text that is kept: the payload, with the outline of a summarised batch beside it."""
    if isinstance(payload, bytes):
        return _json({"$durapool": "bytes", "base64": b64encode(payload).decode()})
    if isinstance(payload, BlobRef):
        raise StoreError("a blob was recorded for a store that has none")
    if details and DETAIL_REASON in details:
        outline = {key: details[key] for key in _OUTLINE}
        return _json({"$durapool": "summary", "outline": outline, "summary": payload})
    return payload


def payload_from(text: str | None) -> tuple[Payload | None, Mapping[str, Any]]:
    """The payload of a text, and the outline that was beside it. Raises ValueError or KeyError for a damaged one."""
    if text is None:
        return None, {}
    if text.startswith(_BYTES):
        return b64decode(json.loads(text)["base64"]), {}
    if text.startswith(_SUMMARY):
        kept = json.loads(text)
        return kept["summary"], kept["outline"]
    return text, {}


def error_dict(error: ErrorObject) -> dict[str, Any]:
    """The error as the service takes it: long text is cut, of a long traceback the last lines are kept."""
    kept = ErrorObject(_cut(error.message, _MAX_MESSAGE), _cut(error.type, _MAX_TYPE), _cut(error.data, _MAX_MESSAGE))
    found = kept.to_dict()
    left = MAX_ERROR - len(json.dumps(found))
    lines: list[str] = []
    for line in reversed(error.stack_trace or ()):
        left -= len(json.dumps(line)) + 2
        if left < 0:
            break
        lines.append(line)
    if error.stack_trace is not None:
        found["StackTrace"] = lines[::-1]
    return found


def _cut(text: str | None, limit: int) -> str | None:
    """The text, as JSON at most so many bytes."""
    if text is None or len(json.dumps(text)) <= limit:
        return text
    kept = text[:limit]
    while len(json.dumps(kept)) > limit - len(_CUT):
        kept = kept[: len(kept) * 3 // 4]
    return kept + _CUT


def error_from(data: Mapping[str, Any]) -> ErrorObject:
    """The error of the service's form."""
    return ErrorObject.from_dict(data)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
