"""Log records and warnings of a branch travel to the parent, which decides what becomes of them."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any, TextIO

from durapool.pool.wire import Kind
from durapool.worker.channel import Channel, ParentGoneError

_LARGEST = 2**63  # integers beyond it travel as text


class Forwarding:
    """Sends what is logged in this worker, and what it warns of, to the parent.

    The handlers that a worker has inherited, or that a module adds when it is imported, are the parent's business: it
    has the same ones, and records would come out twice. Those that the initializer or a branch adds are kept.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._handler = _ToParent(channel)
        self._modules = 0
        self._kept: set[logging.Handler] = {self._handler}
        self.claim()
        os.register_at_fork(after_in_child=self._forget_parent)
        warnings.showwarning = self._show_warning

    def before_loading(self) -> None:
        """User modules may be imported now; the handlers that are there already stay."""
        self._modules = len(sys.modules)
        self._kept.update(handler for logger in _loggers() for handler in logger.handlers)

    def after_loading(self) -> None:
        """User modules may have been imported."""
        if len(sys.modules) != self._modules:
            self.claim()

    def claim(self) -> None:
        """Let every record reach the root logger and there the parent."""
        for logger in _loggers():
            logger.handlers[:] = [handler for handler in logger.handlers if handler in self._kept]
            logger.propagate = True
        root = logging.getLogger()
        if self._handler not in root.handlers:
            root.addHandler(self._handler)

    def _forget_parent(self) -> None:
        """In a process that a branch has forked: its records go to stderr, which the parent passes on."""
        logging.getLogger().handlers[:] = [logging.StreamHandler()]
        warnings.showwarning = _first_showwarning

    def _show_warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if file is not None:
            _first_showwarning(message, category, filename, lineno, file, line)
            return
        kinds = [[cls.__module__, cls.__qualname__] for cls in category.__mro__ if issubclass(cls, Warning)]
        self._channel.send(Kind.WARNING, _clean(str(message)), kinds, _clean(filename), lineno, line)


_first_showwarning = warnings.showwarning


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
            return _clean(value)
        case list() | tuple():
            return [_plain(each) for each in value]
        case dict():
            return {str(key): _plain(each) for key, each in value.items()}
        case _:
            return _clean(str(value))


def _clean(text: str) -> str:
    """With lone surrogates escaped, which no stream would take."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
