"""What workers follow of this process; `worker.surroundings` is the other side."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from typing import Any

from durapool.pool.machine import worker_environment


def surroundings(workers: int) -> tuple[Any, ...]:
    """Working directory, sys.path, environment, levels of loggers, filters of warnings: what SURROUNDINGS carries.

    Args:
        workers: the size of the pool, by which the thread counts in the environment go.
    """
    try:
        directory = os.getcwd()
    except FileNotFoundError:
        directory = "/"
    path = [os.path.abspath(entry) for entry in sys.path]
    return directory, path, worker_environment(workers), _levels(), _filters()


def _levels() -> dict[str, int]:
    """The levels set on loggers here, for workers to send only what is wanted."""
    known = list(logging.root.manager.loggerDict.items())
    set_here = {name: each.level for name, each in known if isinstance(each, logging.Logger) and each.level}
    return {"": logging.root.level} | set_here


def _filters() -> list[list[Any]]:
    """The filters of warnings: action, message, module and name of the category, module, line; first comes first."""
    return [
        [action, _pattern(message), category.__module__, category.__qualname__, _pattern(module), lineno]
        for action, message, category, module, lineno in warnings.filters
        if isinstance(category, type)
    ]


def _pattern(given: re.Pattern[str] | str | None) -> str:
    """As `warnings.filterwarnings` takes it. The interpreter's own filters hold plain text that is compared whole."""
    if given is None:
        return ""
    return re.escape(given) + r"\Z" if isinstance(given, str) else given.pattern
