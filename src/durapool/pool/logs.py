"""Log records and warnings of workers, given to this process's loggers and to `warnings.showwarning`."""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from typing import Any

from durapool.pool.workers import Worker


def hand_over(worker: Worker, fields: dict[str, Any]) -> None:
    """Let the logger of the record's name handle it, with where it came from in `extra`."""
    record = logging.makeLogRecord(fields)
    run = worker.run
    record.durapool_worker = worker.number
    record.durapool_execution = None if run is None else run.batch.execution_id
    record.durapool_branch = None if run is None else run.index
    logger = logging.getLogger(record.name)
    if not logger.isEnabledFor(record.levelno):
        return
    try:
        logger.handle(record)
    except Exception:  # noqa: BLE001  # the user's filters and handlers run here; none of them may stop the loop
        _complain()


def warn_again(worker: Worker, text: str, kinds: list[list[str]], filename: str, lineno: int, line: str | None) -> None:
    """Show a warning of a branch here, once a batch.

    The worker has applied this process's filters already (they are among its surroundings), so it is only shown: on
    stderr, as a log record of "py.warnings", to `catch_warnings(record=True)`, as this process shows its own.
    """
    kind = _first_known(kinds)
    seen = worker.warned if worker.run is None else worker.run.batch.root.warned
    key = (text, kind, filename, lineno)
    if key in seen:
        return
    seen.add(key)
    try:
        message: Warning | str = kind.__new__(kind, text)
    except Exception:  # noqa: BLE001  # a user's class may want other arguments
        message = text
    try:
        warnings.showwarning(message, kind, filename, lineno, line=line)
    except Exception:  # noqa: BLE001  # the user may have replaced it
        _complain()


def _first_known(kinds: list[list[str]]) -> type[Warning]:
    """The class of the warning, or the nearest base of it that this process has."""
    for module, name in kinds:
        found = getattr(sys.modules.get(module), name, None)
        if isinstance(found, type) and issubclass(found, Warning):
            return found
    return Warning


def _complain() -> None:
    """As logging does for its handlers."""
    if logging.raiseExceptions:
        traceback.print_exc()
