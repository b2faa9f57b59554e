"""Log records of workers, given to this process's loggers."""

from __future__ import annotations

import logging
from typing import Any

from durapool.pool.workers import Worker


def hand_over(worker: Worker, fields: dict[str, Any]) -> None:
    """Let the logger of the record's name handle it, with where it came from in `extra`."""
    record = logging.makeLogRecord(fields)
    record.durapool_worker = worker.number
    if worker.run is not None:
        record.durapool_execution = worker.run.batch.execution_id
        record.durapool_branch = worker.run.index
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


def levels() -> dict[str, int]:
    """The levels set on loggers here, for workers to send only what is wanted."""
    known = logging.root.manager.loggerDict.items()
    set_here = {name: each.level for name, each in known if isinstance(each, logging.Logger) and each.level}
    return {"": logging.root.level} | set_here
