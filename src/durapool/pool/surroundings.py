"""What workers follow of this process; `worker.surroundings` is the other side."""

from __future__ import annotations

import logging
import os
import re
import sys
import sysconfig
import warnings
from typing import Any

from durapool.pool.machine import worker_environment


def surroundings(workers: int) -> tuple[Any, ...]:
    """Working directory, sys.path, environment, levels of loggers, filters of warnings: what SURROUNDINGS carries.

    Args:
        workers: the size of the pool, by which the thread counts in the environment go.
    """
    return _directory(), _path(), worker_environment(workers), _levels(), _filters()


def surroundings_elsewhere() -> tuple[Any, ...]:
    """The same for workers on other machines, which have an environment and installed packages of their own.

    What this program has set since it began, and where its own modules are, in case they are found there too.
    """
    path = [entry for entry in _path() if not entry.startswith(_INSTALLED)]
    return _directory(), path, _changed_environment(), _levels(), _filters(), True


_INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def _directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


def _path() -> list[str]:
    return [os.path.abspath(entry) for entry in sys.path]


def _changed_environment() -> dict[str, str]:
    try:
        with open("/proc/self/environ", "rb") as file:
            rows = file.read().split(b"\0")
    except OSError:
        return {}  # nobody knows how it was
    first = dict(os.fsdecode(row).partition("=")[::2] for row in rows)
    return {name: value for name, value in os.environ.items() if first.get(name) != value}


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
