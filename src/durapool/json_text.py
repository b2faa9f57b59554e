"""Values as JSON text: plain where that is enough, else in an envelope that keeps types.

Workers import this module and call it for every step, so the common small values go by the shortest way.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json.encoder import encode_basestring_ascii
from typing import Any

MARK = "$durapool"
"""The key of an envelope. A plain dict of the user's that has it goes into an envelope itself."""

MAX_DEPTH = 100
"""Deeper values are left to pickle, whose reading does not recurse; cyclic ones end here too."""

LONGEST_SCALAR = 1000
"""Characters; an int with more digits goes the way of all other values."""

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode
_raw_decode = json.JSONDecoder().raw_decode
_STR = frozenset({str})
_SCALARS = frozenset({type(None), bool, int, float, str})
_EXACT = _SCALARS - {str}  # lone surrogates of a text may be read back as one character
_PLAIN = _SCALARS | {list, dict}


def _float_text(value: float) -> str:
    if value - value != 0.0:
        raise ValueError("JSON has no NaN and no infinity")
    return repr(value)


_SCALAR_TEXT: dict[type, Callable[[Any], str]] = {
    str: encode_basestring_ascii,
    int: int.__repr__,
    float: _float_text,
    bool: {True: "true", False: "false"}.__getitem__,
    type(None): {None: "null"}.__getitem__,
}


def scalar_text(value: Any) -> str | None:
    """The payload of a number, a truth value or None, which reads back as the very same; None for all else."""
    kind = type(value)
    if kind not in _EXACT:
        return None
    try:
        text = _SCALAR_TEXT[kind](value)
    except ValueError:  # as of `json_text`
        return None
    return text if len(text) < LONGEST_SCALAR else None


def json_text(value: Any) -> str | None:
    """The value as JSON text, plain where that is enough; None where JSON cannot keep it."""
    kind = type(value)
    writer = _SCALAR_TEXT.get(kind)
    try:
        if writer is not None:
            return writer(value)
        if _is_plain(value, kind, 0) and not (kind is dict and MARK in value):
            return _encode(value)
    except (ValueError, RecursionError):
        pass  # NaN, infinity or an int of thousands of digits: the envelope keeps them
    from durapool.envelope import UnsupportedError, wrap

    try:
        return _encode(wrap(value))
    except (UnsupportedError, RecursionError):
        return None


def _is_plain(value: Any, kind: type, depth: int) -> bool:
    """Whether a list or dict holds exact plain types only; the work per item is in C."""
    if kind is dict:
        if not set(map(type, value)) <= _STR:
            return False
        value = value.values()
    elif kind is not list:
        return False
    kinds = set(map(type, value))
    if kinds <= _SCALARS:
        return True
    if depth == MAX_DEPTH or not kinds <= _PLAIN:
        return False
    for item in value:
        kind = type(item)
        if kind not in _SCALARS and not _is_plain(item, kind, depth + 1):
            return False
    return True


def from_json_text(text: Any) -> Any:
    """The value again. Raises what a text leads to that is no JSON, or a damaged envelope."""
    try:
        value, end = _raw_decode(text)
    except (ValueError, TypeError):
        value, end = json.loads(text), len(text)  # from outside: white space in front, or bytes
    if end != len(text):
        value = json.loads(text)
    if type(value) is dict and MARK in value:
        from durapool.envelope import unwrap

        return unwrap(value)
    return value
