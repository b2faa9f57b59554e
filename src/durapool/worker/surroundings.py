"""A worker follows its parent: working directory, sys.path, environment, levels of loggers, filters of warnings.

After each branch `restore` undoes what would hurt the next one and is nobody's intention to leave behind. Not more:
what was added to sys.path or to the environment may be the work of a module that the branch has imported, and the next
branch will find that module imported already. What cannot be undone (a user id, a lowered hard limit) ends the worker.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # as `signal`, without its detour over enums
import contextlib
import os
import resource
import signal
import sys
import warnings
from types import ModuleType
from typing import Any

from durapool.worker.imports import Imports

TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
SIGNALS = (signal.SIGCHLD, signal.SIGTERM)  # ignored, subprocesses seem to succeed, and a timeout has no grace
LIMITS = (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_AS)
_NOTSET = 0  # logging.NOTSET
_OFF = (0,) * len(TIMERS)
_PLACE = slice(1, 3)  # of what stat says: inode and device


class Surroundings:
    """What this worker was last told."""

    def __init__(self, imports: Imports) -> None:
        self._levels: dict[str, int] = {}
        imports.when("logging", self._set_levels)
        self._filters: list[list[Any]] = []
        self._environment: dict[str, str] = dict(os.environ)
        self._own_environment = self._environment
        self._own_path = list(sys.path)
        self.note()

    def note(self) -> None:
        """What is now is what `restore` brings back."""
        with contextlib.suppress(OSError):
            self._directory = os.getcwd()
        self._path = list(sys.path)
        self._streams = sys.stdout, sys.stderr
        self._handlers = list(map(_signal.getsignal, SIGNALS))
        self._handler_ids = list(map(id, self._handlers))  # one of the user's may be equal to anything
        self._blocked = _signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._limits = list(map(resource.getrlimit, LIMITS))
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._identity = _identity()

    def restore(self) -> bool:
        """After a branch: its directory, sys.path, streams, signals, limits; False if they cannot be undone."""
        if sys.path != self._path and not set(self._path) <= set(sys.path):
            sys.path[:] = [*self._path, *(entry for entry in sys.path if entry not in self._path)]
        sys.stdout, sys.stderr = self._streams
        os.umask(self._umask)
        list(map(signal.setitimer, TIMERS, _OFF))  # here and below loops are in C: this is done for every branch
        is_whole = self._is_as_noted() or self._undo()
        _signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
        return is_whole and __name__ in sys.modules

    def _is_as_noted(self) -> bool:
        """Whether nothing has changed of what branches seldom change: to ask takes half the time of setting it."""
        try:
            directory = os.getcwd()
        except OSError:  # it is gone, or out of reach
            return False
        return (
            directory == self._directory
            and list(map(id, map(_signal.getsignal, SIGNALS))) == self._handler_ids
            and list(map(resource.getrlimit, LIMITS)) == self._limits
            and _identity() == self._identity
        )

    def _undo(self) -> bool:
        with contextlib.suppress(OSError):
            os.chdir(self._directory)
        for number, handler in zip(SIGNALS, self._handlers, strict=True):
            if _signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        try:
            for kind, given in zip(LIMITS, self._limits, strict=True):
                if resource.getrlimit(kind) != given:
                    resource.setrlimit(kind, given)
        except (OSError, ValueError):
            return False
        return _identity() == self._identity

    def follow(
        self,
        directory: str,
        path: list[str],
        environment: dict[str, str],
        levels: dict[str, int],
        filters: list[list[Any]],
        elsewhere: bool = False,  # the last field of a message
    ) -> None:
        """Take the parent's. Modules that are imported already stay as they are.

        Where the parent is on another machine (`elsewhere`), this one's environment and path come first: what it says
        is added, as far as it is found here.
        """
        if elsewhere:
            environment = self._own_environment | environment
            found = [entry for entry in path if os.path.exists(entry) and entry not in self._own_path]
            path = [*found, *self._own_path]
        if path != sys.path:
            sys.path[:] = path
            look_anew()
        told = self._environment
        for name in told.keys() - environment.keys():
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in environment.items() if told.get(name) != value})
        self._environment = environment  # what the initializer has set besides stays
        self._levels = dict.fromkeys(self._levels, _NOTSET) | levels
        if "logging" in sys.modules:
            self._set_levels(sys.modules["logging"])
        self._levels = levels
        if filters != self._filters:
            self._filters = filters
            set_filters(filters)
        try:
            os.chdir(directory)
        except OSError as error:
            if not elsewhere:
                self._complain(directory, error)
        self.note()

    def _set_levels(self, logging: ModuleType) -> None:
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)

    def _complain(self, directory: str, error: OSError) -> None:
        with contextlib.suppress(UserWarning):  # where warnings are errors, the branch is not the one to raise it
            warnings.warn(f"durapool: a worker cannot follow to {directory}: {error}", stacklevel=1)


def _identity() -> tuple[object, ...] | None:
    """What descriptors 0 to 2 and the root directory lead to, and who the process is; None where one is closed."""
    try:
        places = os.fstat(0)[_PLACE], os.fstat(1)[_PLACE], os.fstat(2)[_PLACE], os.stat("/")[_PLACE]
    except OSError:
        return None
    return places, os.getresuid(), os.getresgid(), os.getpgid(0)


def look_anew() -> None:
    """Let imports look into the folders of sys.path again.

    What importlib.invalidate_caches() does for them; from 3.12 on that also imports `importlib.metadata`, `inspect` and
    `pathlib` behind it, in every worker.
    """
    for entry, finder in list(sys.path_importer_cache.items()):
        if finder is None or not os.path.isabs(entry):
            sys.path_importer_cache.pop(entry, None)
        elif hasattr(finder, "invalidate_caches"):
            finder.invalidate_caches()


def set_filters(filters: list[list[Any]]) -> None:
    """The filters of warnings, in the order of the parent's. One whose category is not imported here is left out."""
    warnings.resetwarnings()
    for action, message, category_module, category_name, module, lineno in filters:
        category = getattr(sys.modules.get(category_module), category_name, None)
        if isinstance(category, type) and issubclass(category, Warning):
            with contextlib.suppress(Exception):  # a filter that cannot be set here stops no branch
                warnings.filterwarnings(action, message, category, module, lineno, append=True)
