"""How exceptions become records and come back.

    exception --error_of--> ErrorObject (text, and the pickled exception in a local store)
    ErrorObject --exception_of--> exception, with its notes and its chain of causes
    ErrorObject --raise_from--> StepError (or another) from that exception

User code only ever sees what was rebuilt from the record, so that it meets the same error on a thread, in a worker and
after a replay. Pickle by itself loses causes, contexts and, where a class reduces itself, notes: they are recorded
beside the exceptions.
"""

from __future__ import annotations

import os
from typing import NamedTuple, NoReturn, cast

from durapool.exceptions import DurableOperationError
from durapool.records import ErrorObject

NOTE = "traceback of the original:\n"
"""How the note begins that carries the traceback of an exception that was rebuilt, and of each of its causes."""

_OWN_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep
_MAX_CHAIN = 100  # exceptions of one chain that are recorded
_MAX_FRAMES = 60  # innermost frames of one traceback that are recorded


def error_of(exception: BaseException, *, local: bool) -> ErrorObject:
    """The exception as it is recorded.

    An error that stands for another one (a StepError) keeps the type, message, data and traceback of that one.

    Args:
        local: the store is the user's own, so the exception itself is recorded too where it survives pickling.
    """
    pickled = _dump(exception) if local else None
    message, kind, data, trace = _message(exception), type(exception).__name__, None, _trace(exception)
    if issubclass(type(exception), DurableOperationError):  # isinstance would ask it for its __class__
        error = cast(DurableOperationError, exception)
        message = _clean(error.message) or message
        kind = _clean(error.error_type) or kind
        data = _clean(error.data)
        if error.stack_trace is not None:
            trace = tuple(_clean(line) or "" for line in error.stack_trace)
    return ErrorObject(message=message, type=kind, data=data, stack_trace=trace, pickled=pickled)


def exception_of(error: ErrorObject) -> BaseException | None:
    """The exception that was recorded, with notes and causes; None where only its text is known."""
    if error.pickled is None:
        return None
    try:
        return _load(error.pickled)
    except Exception:  # noqa: BLE001  # its class is gone or has changed: the text still tells what happened
        return None


def raise_from(error: ErrorObject, cls: type[DurableOperationError]) -> NoReturn:
    """Raise the error of an operation as a `cls`; its `__cause__` is the original exception where it was kept."""
    trace = None if error.stack_trace is None else list(error.stack_trace)
    raise cls(error.message, error.type, error.data, trace) from exception_of(error)


class _Link(NamedTuple):
    """One exception of a chain; cause and context are places in the list of links."""

    exception: BaseException
    notes: tuple[str, ...]
    cause: int | None
    context: int | None
    suppress_context: bool


def _dump(exception: BaseException) -> bytes | None:
    """The exception with its chain; alone where a cause cannot be pickled; None where it does not come back."""
    from durapool.pickling import dump_exceptions  # only here: it brings cloudpickle, and most runs meet no error

    try:
        links = _links(exception)
    except Exception:  # noqa: BLE001  # a user's class may have attributes of its own making
        return None
    for candidate in (links, [links[0]._replace(cause=None, context=None)]):
        try:
            data = dump_exceptions([tuple(link) for link in candidate])
            loaded = _load(data)
        except Exception:  # noqa: BLE001  # user classes may raise anything while they are pickled or made
            continue
        if type(loaded) is type(exception) and _message(loaded) == _message(exception):
            return data
    return None


def _load(data: bytes) -> BaseException:
    from durapool.unpickling import load_value  # only here, as above

    links = [_Link(*row) for row in load_value(data)]
    for link in links:
        exception = link.exception
        exception.__cause__ = None if link.cause is None else links[link.cause].exception
        exception.__context__ = None if link.context is None else links[link.context].exception
        exception.__suppress_context__ = link.suppress_context
        if link.notes:
            exception.__notes__ = list(link.notes)
    return links[0].exception


def _links(exception: BaseException) -> list[_Link]:
    """The exception and all that it is linked to, each once, so that a cyclic chain is finite too."""
    places: dict[int, int] = {id(exception): 0}
    found = [exception]

    def place(other: BaseException | None) -> int | None:
        if other is None or (id(other) not in places and len(found) == _MAX_CHAIN):
            return None
        if id(other) not in places:
            places[id(other)] = len(found)
            found.append(other)
        return places[id(other)]

    links: list[_Link] = []
    while len(links) < len(found):
        current = found[len(links)]
        cause = place(current.__cause__)
        context = None if current.__suppress_context__ else place(current.__context__)
        links.append(_Link(current, _notes(current), cause, context, current.__suppress_context__))
        if isinstance(current, BaseExceptionGroup):
            for member in current.exceptions:
                place(member)
    return links


def _notes(exception: BaseException) -> tuple[str, ...]:
    """The notes, with the traceback as one more unless an earlier record has left it there."""
    given = getattr(exception, "__notes__", ())
    notes = tuple(note for note in given if isinstance(note, str)) if isinstance(given, (list, tuple)) else ()
    trace = "\n".join(_trace(exception))
    if not trace or any(note.startswith(NOTE) for note in notes):
        return notes
    return *notes, NOTE + trace


def _trace(exception: BaseException) -> tuple[str, ...]:
    """The lines of the exception's own traceback, one entry a frame, without durapool's frames."""
    import traceback  # only here: it is slow to import, and most branches meet no error

    try:
        frames = traceback.extract_tb(exception.__traceback__, limit=-_MAX_FRAMES)
        theirs = [frame for frame in frames if not frame.filename.startswith(_OWN_FOLDER)]
        lines = traceback.StackSummary.from_list(theirs).format()
    except Exception as error:  # noqa: BLE001  # a user's loader may raise anything when it is asked for source
        return (f"(the traceback cannot be formatted: {type(error).__name__})",)
    return tuple((_clean(line) or "").rstrip("\n") for line in lines)


def _message(exception: BaseException) -> str:
    try:
        return _clean(str(exception)) or ""
    except Exception as error:  # noqa: BLE001  # a user's __str__ may raise anything
        return f"<a {type(exception).__qualname__} whose str() raises {type(error).__name__}>"


def _clean(text: object) -> str | None:
    """The text with lone surrogates escaped: neither the wire nor a store takes them."""
    if text is None:
        return None
    text = str(text)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
