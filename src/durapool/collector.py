"""The cyclic garbage collector, kept from walking again and again over what stays.

A branch leaves objects that live as long as its batch, and others that live until the next commit. The collector takes
the latter for long-lived ones where many branches end at once, and walks over everything ever more often: half of the
time of a branch in a batch of 100,000.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_YOUNG = 5_000  # new containers between two collections of the youngest; Python's own setting is 700 or 2,000


@contextmanager
def switched_off() -> Iterator[None]:
    """No collection while the block runs, which only makes objects that all stay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Patience:
    """Raises the first of the collector's thresholds while anybody holds it; a setting of the user's above it stays.

    What user code leaves in cycles is still collected, some thousands of objects later.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._before = self._raised = (0, 0, 0)

    def __enter__(self) -> None:
        with self._lock:
            self._holders += 1
            if self._holders == 1:
                young, *older = self._before = gc.get_threshold()
                if 0 < young < _YOUNG:
                    gc.set_threshold(_YOUNG, *older)
                self._raised = gc.get_threshold()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._holders -= 1
            if not self._holders:
                self._restore()

    def _restore(self) -> None:
        if gc.get_threshold() == self._raised:  # else user code has set it meanwhile
            gc.set_threshold(*self._before)

    def abandon(self) -> None:
        """In a forked child: its own batches come later."""
        if self._holders:
            self._restore()
        self._holders = 0
        self._lock = threading.Lock()  # a thread of the parent may have held it


patience = _Patience()
"""Held while a batch of very many branches runs."""

os.register_at_fork(after_in_child=patience.abandon)
