"""How values become payloads and come back.

    dump(value) --> plain JSON text        None, bool, int, float, str, list, dict with str keys: readable anywhere
                --> an envelope, JSON too  tuple, bytes, datetime, Decimal, UUID, other keys, ...: types are kept
                --> pickle (bytes)         all else, only where the store is the user's own
    load(payload) gives back an equal value of the same exact types, or raises SerDesError.

Only exact types are taken as JSON: a subclass, a namedtuple, an IntEnum or a numpy float would come back as something
else. Workers import this module, so what rarer types need is imported when the first one is met.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from durapool.exceptions import SerDesError
from durapool.json_text import from_json_text, json_text
from durapool.records import BlobRef, Payload
from durapool.values import dataclass

if TYPE_CHECKING:
    from durapool.blobs import Blobs, MappedPickle
    from durapool.pickling import Pickled
    from durapool.scope import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SerDesContext:
    """Where a value belongs: what a serdes is called with.

    Args:
        operation_id: the operation whose value it is.
        durable_execution_arn: names the execution.
    """

    operation_id: str = ""
    durable_execution_arn: str = ""


class SerDes(ABC, Generic[T]):
    """Serialises the values of an operation; subclass it and give an instance as ``serdes=``.

    Both methods may raise anything: it arrives as the cause of a SerDesError.

    Example:
        >>> class Upper(SerDes[str]):
        ...     def serialize(self, value, context):
        ...         return value.upper()
        ...     def deserialize(self, data, context):
        ...         return data.lower()
    """

    @abstractmethod
    def serialize(self, value: T, context: SerDesContext) -> str | bytes:
        """The value as text (or bytes)."""

    @abstractmethod
    def deserialize(self, data: Any, context: SerDesContext) -> T:
        """The value again, from the str or bytes that `serialize` returned."""


class JsonSerDes(SerDes[T]):
    """The standard library's JSON: tuples come back as lists, keys as text, and NaN is refused.

    Example:
        >>> JsonSerDes().deserialize(JsonSerDes().serialize({1: (2, 3)}))
        {'1': [2, 3]}
    """

    def serialize(self, value: T, context: SerDesContext | None = None) -> str:  # noqa: ARG002
        """The value as JSON text. Raises TypeError or ValueError for what JSON does not have."""
        return json.dumps(value, allow_nan=False)

    def deserialize(self, data: Any, context: SerDesContext | None = None) -> T:  # noqa: ARG002
        """The value of JSON text. Raises ValueError for other text."""
        return json.loads(data)  # type: ignore[no-any-return]  # what was dumped is the caller's knowledge


class ExtendedTypeSerDes(SerDes[T]):
    """JSON that keeps types; the default without its fall-back to pickle.

    Takes None, bool, int, float, str, bytes, list, tuple, dict, datetime, date, Decimal, UUID, ErrorObject, BatchItem
    and BatchResult, exactly these types, nested as you like (at most 100 deep).

    Example:
        >>> serdes = ExtendedTypeSerDes()
        >>> serdes.deserialize(serdes.serialize({1: (2.5, b"bytes")}))
        {1: (2.5, b'bytes')}
    """

    def serialize(self, value: T, context: SerDesContext | None = None) -> str:  # noqa: ARG002
        """The value as JSON text.

        Raises:
            SerDesError: another type; the message names the place in the value and the type.
        """
        text = json_text(value)
        if text is None:
            raise SerDesError(f"{_unsupported(value)}. Convert it, or give another serdes such as PickleSerDes")
        return text

    def deserialize(self, data: Any, context: SerDesContext | None = None) -> T:  # noqa: ARG002
        """The value again, of the same types. Raises ValueError for text that `serialize` did not make."""
        return from_json_text(data)  # type: ignore[no-any-return]  # what was dumped is the caller's knowledge


class PassThroughSerDes(SerDes[T]):
    """The value is the payload: for values that are str or bytes already.

    Example:
        >>> context.step(lambda _: "<xml/>", config=StepConfig(serdes=PassThroughSerDes()))
        '<xml/>'
    """

    def serialize(self, value: T, context: SerDesContext | None = None) -> str | bytes:  # noqa: ARG002
        """The value itself.

        Raises:
            SerDesError: it is neither str nor bytes.
        """
        if not isinstance(value, (str, bytes)):
            raise SerDesError(f"PassThroughSerDes takes str or bytes, not a {_type_name(value)}")
        return value

    def deserialize(self, data: Any, context: SerDesContext | None = None) -> T:  # noqa: ARG002
        """The payload itself."""
        return data  # type: ignore[no-any-return]  # what was dumped is the caller's knowledge


class PickleSerDes(SerDes[T]):
    """Pickle protocol 5. Classes by reference: a replay meets the class as it is defined then.

    Never use it for data that others can write: unpickling runs code.

    Example:
        >>> context.step(lambda _: {1, 2}, config=StepConfig(serdes=PickleSerDes()))
        {1, 2}
    """

    def serialize(self, value: T, context: SerDesContext | None = None) -> bytes:  # noqa: ARG002
        """The pickle of the value. Raises what pickling raises."""
        from durapool import pickling

        return pickling.dump_value(value)

    def deserialize(self, data: Any, context: SerDesContext | None = None) -> T:  # noqa: ARG002
        """The value again. Raises what unpickling raises."""
        from durapool.unpickling import load_value

        return load_value(data)  # type: ignore[no-any-return]  # what was dumped is the caller's knowledge


EXTENDED_TYPES_SERDES: ExtendedTypeSerDes[Any] = ExtendedTypeSerDes()
"""One instance for all: it has no state."""

_PICKLE: PickleSerDes[Any] = PickleSerDes()


LARGE = 256 * 1024
"""Bytes of a payload from which it is kept as a blob, where the store has blobs."""


def dump(
    value: Any,
    serdes: SerDes[Any] | None,
    settings: Settings,
    operation_id: str,
    what: object,
    blobs: Blobs | None = None,
) -> Payload:
    """The payload of a value. `serdes` None stands for the default: JSON with types, else pickle in a local store.

    Args:
        what: its text names the value in messages, such as ``"the result of step 'fetch'"``.
        blobs: where a large payload is kept; None to have it whole.

    Raises:
        SerDesError: the value cannot be serialised.
        StoreFailure: a large payload cannot be kept.
    """
    if serdes is not None:
        return _kept(_dump_by(serdes, value, SerDesContext(operation_id, settings.arn), what), blobs)
    text = None if _is_large_bytes(value, blobs) else json_text(value)
    if text is not None:
        return _kept(text, blobs)
    if not settings.local_store:
        raise SerDesError(
            f"{what} cannot be recorded: {_unsupported(value)}. The store is remote, so it is not pickled by itself: "
            "convert it, or give a serdes (PickleSerDes, or your own)"
        )
    try:
        if blobs is not None:
            pickled = _pickled_apart(value)
        else:
            return _PICKLE.serialize(value)
    except Exception as error:
        raise SerDesError(
            f"{what} cannot be recorded: {_unpicklable(value)}, which can be neither JSON nor pickled "
            f"({type(error).__name__}: {error}). Return what it is made from, or give a serdes of your own"
        ) from error
    if isinstance(pickled, bytes):
        return pickled
    from durapool.blobs import stowed_pickle

    return stowed_pickle(pickled, blobs)


def _is_large_bytes(value: Any, blobs: Blobs | None) -> bool:
    """bytes, which JSON would only blow up; a pickle keeps them as they are."""
    return type(value) is bytes and len(value) >= LARGE and blobs is not None


def _pickled_apart(value: Any) -> bytes | Pickled:
    """The pickle, whole where it is small."""
    from durapool import pickling

    pickled = pickling.dump_value_apart(value)
    if pickled.size >= LARGE:
        return pickled
    return _PICKLE.serialize(value) if pickled.buffers else b"".join(pickled.stream)


def _kept(payload: str | bytes, blobs: Blobs | None) -> Payload:
    """The payload, or where it is kept because it is large."""
    if blobs is None or len(payload) < LARGE:
        return payload
    from durapool.blobs import stowed

    return stowed(payload, blobs)


def load(
    payload: Payload | None,
    serdes: SerDes[Any] | None,
    settings: Settings,
    operation_id: str,
    what: object,
    blobs: Blobs | None = None,
) -> Any:
    """The value of a payload that `dump` made with the same serdes; None where nothing was recorded.

    Raises:
        SerDesError: it cannot be read.
    """
    if payload is None:
        return None
    try:
        if isinstance(payload, BlobRef):
            found = _read_blob(payload, blobs)
            if not isinstance(found, (str, bytes)):
                return _load_mapped(found, serdes)
            payload = found
        if serdes is not None:
            return serdes.deserialize(payload, SerDesContext(operation_id, settings.arn))
        if isinstance(payload, str):
            return from_json_text(payload)
        if settings.local_store:
            return _PICKLE.deserialize(payload)
    except Exception as error:
        reader = "" if serdes is None else f" by {type(serdes).__name__}"
        raise SerDesError(f"{what} cannot be read back{reader}: {type(error).__name__}: {error}") from error
    raise SerDesError(f"{what} was recorded as bytes in a remote store: give the serdes that wrote it")


def _read_blob(ref: BlobRef, blobs: Blobs | None) -> str | bytes | MappedPickle:
    if blobs is None:
        raise SerDesError("it is in a blob, and this store has none")
    from durapool.blobs import read

    return read(ref, blobs)


def _load_mapped(found: MappedPickle, serdes: SerDes[Any] | None) -> Any:
    if serdes is not None:
        raise SerDesError("it was recorded without a serdes")
    from durapool.unpickling import load_value

    return load_value(found.stream, found.buffers)


def _dump_by(serdes: SerDes[Any], value: Any, context: SerDesContext, what: object) -> str | bytes:
    name = type(serdes).__name__
    try:
        payload = serdes.serialize(value, context)
    except Exception as error:
        raise SerDesError(
            f"{what} (a {_type_name(value)}) cannot be serialised by {name}: {type(error).__name__}: {error}"
        ) from error
    if isinstance(payload, bytes):
        return payload
    if not isinstance(payload, str):
        raise SerDesError(f"{what}: {name}.serialize must return str or bytes, not a {_type_name(payload)}")
    if not payload.isascii():
        try:
            payload.encode()
        except UnicodeEncodeError as error:
            raise SerDesError(f"{what}: the text of {name}.serialize is not valid Unicode: {error}") from error
    return payload


def _type_name(value: Any) -> str:
    from durapool.envelope import type_name

    return type_name(value)


def _unsupported(value: Any) -> str:
    from durapool.envelope import unsupported

    return unsupported(value)


def _unpicklable(value: Any) -> str:
    from durapool.envelope import unpicklable

    return unpicklable(value, _PICKLE.serialize)
