"""A worker follows its parent: working directory, sys.path, environment, levels of loggers, filters of warnings.

After each branch `restore` undoes what would hurt the next one and is nobody's intention to leave behind. Not more:
sys.path, the environment or the recursion limit may be the work of a module that the branch has imported, and the next
branch will find that module imported already.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import sys
import warnings
from typing import Any


class Surroundings:
    """What this worker was last told."""

    def __init__(self) -> None:
        self._levels: dict[str, int] = {}
        self._filters: list[list[Any]] = []
        self._environment: dict[str, str] = dict(os.environ)
        self.note()

    def note(self) -> None:
        """What is now is what `restore` brings back."""
        with contextlib.suppress(OSError):
            self._directory = os.getcwd()
        self._streams = sys.stdout, sys.stderr
        self._descriptors = _standard_descriptors()

    def restore(self) -> bool:
        """After a branch: its directory, an alarm that it has left set, its streams; False if it cannot be undone."""
        with contextlib.suppress(OSError):
            os.chdir(self._directory)
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdout, sys.stderr = self._streams
        return _standard_descriptors() == self._descriptors

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
        told = self._environment
        for name in told.keys() - environment.keys():
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in environment.items() if told.get(name) != value})
        self._environment = environment  # what the initializer has set besides stays
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
            with contextlib.suppress(UserWarning):  # where warnings are errors, the branch is not the one to raise it
                warnings.warn(f"durapool: a worker cannot follow to {directory}: {error}", stacklevel=1)
        self.note()


def _standard_descriptors() -> list[tuple[int, int]] | None:
    """What descriptors 0 to 2 lead to; None where one is closed."""
    try:
        return [(stat.st_dev, stat.st_ino) for stat in map(os.fstat, (0, 1, 2))]
    except OSError:
        return None


def set_filters(filters: list[list[Any]]) -> None:
    """The filters of warnings, in the order of the parent's. One whose category is not imported here is left out."""
    warnings.resetwarnings()
    for action, message, category_module, category_name, module, lineno in filters:
        category = getattr(sys.modules.get(category_module), category_name, None)
        if isinstance(category, type) and issubclass(category, Warning):
            with contextlib.suppress(Exception):  # a filter that cannot be set here stops no branch
                warnings.filterwarnings(action, message, category, module, lineno, append=True)
