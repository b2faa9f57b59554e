"""What a branch logs, on its way to the parent. Imported when logging is: many branches log nothing."""

from __future__ import annotations

import logging
from typing import Any

from durapool.pool.wire import Kind
from durapool.worker.channel import Channel, ParentGoneError
from durapool.worker.logs import cleaned

_LARGEST = 2**63  # integers beyond it travel as text


class LogRecords:
    """Lets every record reach the root logger and there the parent.

    The handlers that a worker has inherited, or that a module adds when it is imported, are the parent's business: it
    has the same ones, and records would come out twice. Those that the initializer or a branch adds are kept.
    """

    def __init__(self, channel: Channel) -> None:
        self._handler = _ToParent(channel)
        self._kept: set[logging.Handler] = {self._handler}
        self.claim()

    def keep_handlers(self) -> None:
        """Those that are there now stay."""
        self._kept.update(handler for logger in _loggers() for handler in logger.handlers)

    def claim(self) -> None:
        """Drop the others, which modules have added."""
        for logger in _loggers():
            logger.handlers[:] = [handler for handler in logger.handlers if handler in self._kept]
            logger.propagate = True
        root = logging.getLogger()
        if self._handler not in root.handlers:
            root.addHandler(self._handler)


def _loggers() -> list[logging.Logger]:
    known = logging.root.manager.loggerDict.values()
    return [logging.root, *(each for each in known if isinstance(each, logging.Logger))]


class _ToParent(logging.Handler):
    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._channel.send(Kind.LOG, None, portable(record))
        except ParentGoneError:
            raise
        except Exception:  # noqa: BLE001  # as logging does: a record that cannot be handled stops nobody
            self.handleError(record)


def portable(record: logging.LogRecord) -> dict[str, Any]:
    """The record as plain values: message and traceback are formatted here, where their objects are."""
    texts = {"msg": record.getMessage(), "args": None, "exc_info": None}
    if record.exc_info and not record.exc_text:
        texts["exc_text"] = logging.Formatter().formatException(record.exc_info)
    return {str(key): _plain(value) for key, value in (vars(record) | texts).items()}


def _plain(value: Any) -> Any:
    """The value as the wire takes it; as its text where it takes none."""
    match value:
        case None | bool() | float() | bytes():
            return value
        case int() if -_LARGEST <= value < _LARGEST:
            return int(value)
        case str():
            return cleaned(value)
        case list() | tuple():
            return [_plain(each) for each in value]
        case dict():
            return {str(key): _plain(each) for key, each in value.items()}
        case _:
            return cleaned(str(value))
