"""Log records of a branch travel to the parent's handlers."""

from __future__ import annotations

import logging
from typing import Any

from durapool.worker.channel import Channel, ParentGoneError

_PLAIN = (str, int, float, bool, type(None))


def forward_logs(channel: Channel) -> None:
    """Send every record that reaches the root logger to the parent, which decides what becomes of it."""
    root = logging.getLogger()
    root.handlers[:] = [_ToParent(channel)]
    logging.captureWarnings(True)


class _ToParent(logging.Handler):
    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        from durapool.pool.wire import Kind

        try:
            self._channel.send(Kind.LOG, None, portable(record))
        except ParentGoneError:
            raise
        except Exception:  # noqa: BLE001  # as logging does: a record that cannot be handled stops nobody
            self.handleError(record)


def portable(record: logging.LogRecord) -> dict[str, Any]:
    """The record as plain values: message and traceback are formatted here, where their objects are."""
    fields = {key: value for key, value in vars(record).items() if isinstance(value, _PLAIN)}
    fields["msg"] = record.getMessage()
    fields["args"] = None
    if record.exc_info:
        fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
    fields["exc_info"] = None
    return fields
