"""Log records and warnings of a branch travel to the parent, which decides what becomes of them."""

from __future__ import annotations

import os
import sys
import warnings
from types import ModuleType
from typing import TYPE_CHECKING, TextIO

from durapool.pool.wire import Kind
from durapool.worker.channel import Channel
from durapool.worker.imports import Imports

if TYPE_CHECKING:
    from durapool.worker.log_records import LogRecords


class Forwarding:
    """Sends what is logged in this worker, and what it warns of, to the parent."""

    def __init__(self, channel: Channel, imports: Imports) -> None:
        self._channel = channel
        self._records: LogRecords | None = None  # before logging is imported
        self._is_forked = False
        self._modules = 0
        imports.when("logging", self._take_up)
        os.register_at_fork(after_in_child=self._forget_parent)
        warnings.showwarning = self._show_warning

    def _take_up(self, logging: ModuleType) -> None:
        if self._is_forked:
            logging.getLogger().handlers[:] = [logging.StreamHandler()]
            return
        from durapool.worker.log_records import LogRecords  # only here: to import logging takes 4 ms

        self._records = LogRecords(self._channel)

    def before_loading(self) -> None:
        """User modules may be imported now; the handlers that are there already stay."""
        self._modules = len(sys.modules)
        if self._records is not None:
            self._records.keep_handlers()

    def after_loading(self) -> None:
        """User modules may have been imported."""
        if self._records is not None and len(sys.modules) != self._modules:
            self._records.claim()

    def _forget_parent(self) -> None:
        """In a process that a branch has forked: its records go to stderr, which the parent passes on."""
        self._is_forked = True
        if "logging" in sys.modules:
            self._take_up(sys.modules["logging"])
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
        self._channel.send(Kind.WARNING, cleaned(str(message)), kinds, cleaned(filename), lineno, line)


_first_showwarning = warnings.showwarning


def cleaned(text: str) -> str:
    """With lone surrogates escaped, which no stream would take."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
