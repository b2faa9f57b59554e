"""Frames between the parent, the supervisor and the workers.

    +---------+------+-----------------+------------------+
    | version | kind | length (uint32) | body (msgpack)   |
    +---------+------+-----------------+------------------+

The body is an array whose shape the kind fixes. A frame that is not well-formed raises WireError: the parent then
discards the worker that sent it. Both sides come from one installation, so there is one version and no negotiation.
"""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Iterator, Sequence
from enum import IntEnum
from functools import partial
from typing import Any

import msgpack

from durapool.records import (
    Action,
    BlobRef,
    ErrorObject,
    Operation,
    OperationStatus,
    OperationSubType,
    OperationType,
    Payload,
    Update,
)
from durapool.usage import Usage

VERSION = 1
HEADER = struct.Struct(">BBI")
_HEADER_SIZE, _pack_header = HEADER.size, HEADER.pack
_unpack_header = struct.Struct(">HI").unpack_from  # version and kind in one number, and the length
MOST_KEPT = 1 << 20  # bytes of a frame whose buffer is kept
MAX_FRAME = 2**31 - 1  # bytes; a larger length is a broken stream, not a large result


class WireError(Exception):
    """The stream holds what no peer of ours sends."""


class Kind(IntEnum):
    """What a frame says. The comment gives the body."""

    # parent to supervisor
    FORK = 1  # worker; with four descriptors: its socket, its permits, the pipes that become its stdout and stderr
    KILL = 2  # worker, seconds of grace before a SIGKILL (0: at once), signal for their begin (0: none)
    WATCH = 3  # worker, memory limit in bytes (0: none)
    # supervisor to parent
    FORKED = 10  # worker, pid
    EXITED = 11  # worker, wait status, peak RSS in bytes, bytes at which it passed its memory limit (0: it did not)
    # parent to worker
    SURROUNDINGS = 20  # cwd, sys.path, environment, levels of loggers {name: level}, filters of warnings
    BATCH = 21  # batch key, settings blob, shared function or nil
    FORGET = 22  # batch key; its segments go too
    RUN = 23  # see pool.cargo and worker.branch.run_message
    ACK = 24  # run, number of its updates that are committed, [operations that the store has completed]
    NESTED_END = 25  # nested batch number, outcome
    INPUTS = 26  # batch key, [pickled items]
    INITIALIZE = 27  # pickled initializer
    GO = 28  # run: its outcome is taken in, the next run may begin
    EXIT = 29
    SEGMENT = 30  # number, batch key, bytes used; with a descriptor. Ahead of what lies in it
    DROP = 31  # [numbers of segments] that nothing sent from now on lies in
    FILE = 32  # token of the request, segment number or 0, name, synced, bytes, whether to write; with a descriptor
    NO_FILE = 33  # token of the request, why
    # worker to parent
    READY = 40  # pid
    UPDATES = 41  # run, [rows of updates], whether an ACK is waited for; the first one tells that the branch has begun
    DONE = 42  # run, usage, payload, summary or nil
    FAILED = 43  # run, usage, error
    SUSPENDED = 44  # run, usage, [operation ids]
    CRASHED = 45  # run, usage, pickled exception or nil, error
    SPAWN_BATCH = 46  # run, nested batch number, see worker.nested.describe
    FETCH_INPUTS = 47  # run, batch key
    LOG = 48  # run or nil, log record as a map
    SKIPPED = 50  # run: it was taken back before it began
    NEW_FILE = 51  # run, token, bytes: a descriptor to write a large payload to
    OPEN_FILE = 52  # run, token, blob name, its bytes: a descriptor to read it from
    DROPPED = 53  # [numbers of segments] of which it has nothing mapped any more
    WARNING = 49  # text, [[module, class], ...] of the category and its bases, file name, line number, line or nil


KINDS = {int(kind): kind for kind in Kind}
_kind_of = {VERSION << 8 | number: kind for number, kind in KINDS.items()}.get


def _framed(kind: Kind, packed: bytes) -> bytes:
    length = len(packed)
    if length > MAX_FRAME:
        raise WireError(f"a message of {length} bytes is too large, the limit is {MAX_FRAME}: keep it in a file")
    return _pack_header(VERSION, kind, length) + packed


class Packer:
    """As `pack`, with what msgpack needs kept from frame to frame, which halves the time of a small one.

    Only where nothing can ask for a frame while one is made: in a worker a finalizer may run in the midst, and log.
    """

    def __init__(self) -> None:
        self._packer = msgpack.Packer(unicode_errors="surrogatepass")

    def pack(self, kind: Kind, *body: Any) -> bytes:
        """One frame."""
        return self.frame(kind, body)

    def frame(self, kind: Kind, body: Sequence[Any]) -> bytes:
        """As `pack`."""
        packed: bytes = self._packer.pack(body)
        length = len(packed)
        if length <= MOST_KEPT:
            return _pack_header(VERSION, kind, length) + packed
        self._packer = msgpack.Packer(unicode_errors="surrogatepass")  # its buffer never shrinks
        return _framed(kind, packed)


_packer = Packer()
_at_hand = threading.Lock()  # whose holder packs by `_packer`


def pack(kind: Kind, *body: Any) -> bytes:
    """One frame. Another thread may ask for one meanwhile, or a finalizer in the midst: that makes its own packer."""
    if not _at_hand.acquire(blocking=False):
        return _framed(kind, msgpack.packb(body, unicode_errors="surrogatepass"))
    try:
        return _packer.frame(kind, body)
    finally:
        _at_hand.release()


class Decoder:
    """Turns the bytes of a stream into frames."""

    def __init__(self) -> None:
        self._rest = bytearray()  # of a frame that has not arrived whole
        self._wanted = 0  # bytes of that frame, as far as its header tells

    def feed(self, data: bytes) -> Iterator[tuple[Kind, list[Any]]]:
        """The frames that are complete now.

        Raises:
            WireError: a bad version, an unknown kind, a length beyond the limit, or a body that is no array.
        """
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._wanted:
                return  # a large frame comes in many pieces, which are put together once
            data = bytes(rest)
            rest.clear()
        start, size, self._wanted = 0, len(data), 0
        try:
            while (body_start := start + _HEADER_SIZE) <= size:
                beginning, length = _unpack_header(data, start)
                kind = _kind_of(beginning)
                if kind is None or length > MAX_FRAME:
                    raise WireError(f"bad frame: version {beginning >> 8}, kind {beginning & 255}, {length} bytes")
                end = body_start + length
                if size < end:
                    self._wanted = end - start
                    break
                start = end
                yield kind, unpack(data[body_start:end])
        finally:
            rest += data[start:]


_unpackb = partial(msgpack.unpackb, strict_map_key=False, unicode_errors="surrogatepass")


def unpack(data: Any) -> list[Any]:
    """The body of a frame."""
    try:
        body: list[Any] = _unpackb(data)
    except Exception as error:
        raise WireError(f"a frame's body cannot be read: {type(error).__name__}: {error}") from error
    if type(body) is not list:
        raise WireError(f"a frame's body is a {type(body).__name__}, not an array")
    return body


_ACTIONS = {str(action): action for action in Action}
_TYPES = {str(kind): kind for kind in OperationType}
_SUB_TYPES: dict[str, OperationSubType] = {str(kind): kind for kind in OperationSubType}
_STATUSES = {str(status): status for status in OperationStatus}
_is_id = re.compile(r"[a-zA-Z0-9_-]{1,64}").fullmatch
_TEXT = (str, type(None))
MAX_COUNT = 2**53  # of attempts, branches, seconds: what every store keeps exactly


def pack_error(error: ErrorObject | None) -> tuple[Any, ...] | None:
    """An error as an array."""
    if error is None:
        return None
    return error.message, error.type, error.data, error.stack_trace, error.pickled


def unpack_error(row: Any) -> ErrorObject | None:
    """The inverse of `pack_error`."""
    if row is None:
        return None
    if not isinstance(row, list) or len(row) != 5:
        raise WireError("an error that is not an array of five")
    message, kind, data, trace, pickled = row
    texts = [message, kind, data, *(trace if isinstance(trace, list) else [])]
    if not all(isinstance(text, (str, type(None))) for text in texts) or not isinstance(trace, (list, type(None))):
        raise WireError("an error whose message, type, data or trace is no text")
    if not isinstance(pickled, (bytes, type(None))):
        raise WireError("an error whose pickle is no bytes")
    return ErrorObject(message, kind, data, None if trace is None else tuple(trace), pickled)


def pack_updates(updates: Sequence[Update]) -> list[tuple[Any, ...]]:
    """Updates as rows: arrays of all fields, and of those alone that change where one is of the operation before it."""
    rows: list[tuple[Any, ...]] = []
    before = None
    for update in updates:
        row: tuple[Any, ...] = update
        if update[8] is not None:
            row = (*update[:8], pack_error(update[8]), *update[9:])
        if before is not None and update[0] == before[0] and update[2:7] == before[2:7]:
            row = (row[1], *row[7:])
        rows.append(row)
        before = update
    return rows


def unpack_sub_type(text: str | None) -> OperationSubType | None:
    """The member of that name; a sub-type of the user's own (ChildConfig.sub_type) stays text."""
    if text is None:
        return None
    return _SUB_TYPES.get(text) or text  # type: ignore[return-value]  # a StrEnum's place may be taken by a plain str


def unpack_updates(rows: Any) -> list[Update]:
    """The inverse of `pack_updates`. Those of one operation in a row share their identity, parent and name.

    Raises:
        WireError: a field is missing or of another type.
    """
    updates: list[Update] = []
    try:
        for row in rows:
            shape = tuple(map(type, row))
            is_change = _shapes.get(shape)
            if is_change is None:
                is_change = _check_shape(shape)
            if is_change and updates:
                action, payload, error, attempt, delay, details = row
            else:
                identity, action, kind, sub_type, parent, name, branch, payload, error, attempt, delay, details = row
                if _is_id(identity) is None or not (branch is None or 0 <= branch < MAX_COUNT):
                    raise ValueError(f"a bad operation id, or branch: {identity:.100}, {branch}")
                kind = _TYPES[kind]
                sub_type = _SUB_TYPES.get(sub_type, sub_type)  # one of the user's own (ChildConfig.sub_type) stays text
            if not (0 <= attempt < MAX_COUNT and (delay is None or 0 <= delay < MAX_COUNT)):
                raise ValueError(f"a number of {identity} that is out of range")
            if type(payload) is list:
                payload = unpack_ref(payload)
            if error is not None:
                error = unpack_error(error)
            action = _ACTIONS[action]
            fields = (identity, action, kind, sub_type, parent, name, branch, payload, error, attempt, delay, details)
            updates.append(_new(Update, fields))  # twice as fast as a call, which goes through a function
    except (TypeError, ValueError, KeyError) as problem:
        raise WireError(f"an update that is not well-formed: {problem!r}") from problem
    return updates


_new = tuple.__new__
_NONE = type(None)
_FIELD_TYPES: tuple[set[type], ...] = (
    {str},  # operation id
    {str},  # action
    {str},  # type
    {str, _NONE},  # sub-type
    {str, _NONE},  # parent
    {str, _NONE},  # name
    {int, _NONE},  # branch
    {str, bytes, list, _NONE},  # payload, or the reference to one
    {list, _NONE},  # error
    {int},  # attempt
    {int, float, _NONE},  # delay
    {dict, _NONE},  # details
)
_CHANGES = 6  # fields of an update that say what changes: the action, and all behind the identity
_shapes: dict[tuple[type, ...], bool] = {}  # of updates, found good before: there are few, and this is asked very often


def _check_shape(shape: tuple[type, ...]) -> bool:
    """Whether only what changes is in a row of this shape."""
    is_change = len(shape) == _CHANGES
    expected = (_FIELD_TYPES[1], *_FIELD_TYPES[7:]) if is_change else _FIELD_TYPES
    for number, (found, allowed) in enumerate(zip(shape, expected, strict=True)):
        if found not in allowed:
            raise TypeError(f"field {number} is of type {found.__name__}")
    _shapes[shape] = is_change
    return is_change


def unpack_ref(row: list[Any]) -> BlobRef:
    """The reference to a blob, which travels as an array.

    Raises:
        WireError: a field is missing or of another type.
    """
    match row:
        case [str(name), int(size)] if _is_id(name) and 0 < size < MAX_COUNT:
            return BlobRef(name, size)
        case _:
            raise WireError(f"a payload of a type that is none: {row!r:.100}")


def unpack_payload(payload: Any) -> Any:
    """What a peer that is trusted has sent as a payload."""
    return BlobRef(*payload) if isinstance(payload, list) else payload


_RESULTS = frozenset({(str, _NONE), (bytes, _NONE), (str, str), (bytes, str)})  # almost all that come


def unpack_result(payload: Any, summary: Any) -> tuple[Payload, str | None]:
    """What a branch returned, and what is recorded instead where that is too large.

    Raises:
        WireError: they are of other types.
    """
    if (type(payload), type(summary)) in _RESULTS:
        return payload, summary
    if isinstance(payload, list):
        payload = unpack_ref(payload)
    if not isinstance(payload, (str, bytes, BlobRef)) or not isinstance(summary, _TEXT):
        raise WireError(f"a result of type {type(payload).__name__} with a summary of type {type(summary).__name__}")
    return payload, summary


_USAGES = frozenset({(int, int, float, float, int), (int, _NONE, float, float, int)})


def unpack_usage(row: Any) -> Usage:
    """What a branch used.

    Raises:
        WireError: a field is missing, of another type or out of range.
    """
    if type(row) is not list or tuple(map(type, row)) not in _USAGES:
        raise WireError(f"a usage of another shape: {row!r:.100}")
    usage = _new(Usage, row)
    _, _, seconds, cpu, peak_rss = row
    if not (0 <= seconds < MAX_COUNT and 0 <= cpu < MAX_COUNT and 0 <= peak_rss < MAX_COUNT):
        raise WireError("a usage with a field out of range")
    return usage


def pack_operation(operation: Operation, now: float) -> tuple[Any, ...]:
    """An operation as an array. Its due time becomes a duration: clocks are not compared between processes."""
    return (
        operation.id,
        operation.type,
        operation.sub_type,
        operation.parent_id,
        operation.name,
        operation.branch,
        operation.status,
        operation.payload,
        pack_error(operation.error),
        operation.attempt,
        operation.details,
        None if operation.due_at is None else operation.due_at - now,
        operation.ended_seq,
    )


def unpack_operation(row: list[Any], now: float) -> Operation:
    """The inverse of `pack_operation`."""
    identity, kind, sub_type, parent, name, branch, status, payload, error, attempt, details, delay, ended = row
    return Operation(
        id=identity,
        type=_TYPES[kind],
        sub_type=unpack_sub_type(sub_type),
        parent_id=parent,
        name=name,
        branch=branch,
        status=_STATUSES[status],
        payload=unpack_payload(payload),
        error=unpack_error(error),
        attempt=attempt,
        details=details,
        due_at=None if delay is None else now + delay,
        ended_seq=ended,
    )
