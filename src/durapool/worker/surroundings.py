"""A worker follows its parent: working directory, sys.path, environment, levels of loggers, filters of warnings."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import warnings
from typing import Any


class Surroundings:
    """What this worker was last told."""

    def __init__(self) -> None:
        self._levels: dict[str, int] = {}
        self._filters: list[list[Any]] = []

    def follow(
        self,
        directory: str,
        path: list[str],
        environment: dict[str, str],
        levels: dict[str, int],
        filters: list[list[Any]],
    ) -> None:
        """Take the parent's. Modules that are imported already stay as they are."""
        if path != sys.path:
            sys.path[:] = path
            importlib.invalidate_caches()
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)
        for name in self._levels.keys() - levels.keys():
            logging.getLogger(name).setLevel(logging.NOTSET)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        self._levels = levels
        if filters != self._filters:
            self._filters = filters
            set_filters(filters)
        try:
            os.chdir(directory)
        except OSError as error:
            warnings.warn(f"durapool: a worker cannot follow to {directory}: {error}", stacklevel=1)


def set_filters(filters: list[list[Any]]) -> None:
    """The filters of warnings, in the order of the parent's. One whose category is not imported here is left out."""
    warnings.resetwarnings()
    for action, message, category_module, category_name, module, lineno in filters:
        category = getattr(sys.modules.get(category_module), category_name, None)
        if isinstance(category, type) and issubclass(category, Warning):
            with contextlib.suppress(Exception):  # a filter that cannot be set here stops no branch
                warnings.filterwarnings(action, message, category, module, lineno, append=True)
