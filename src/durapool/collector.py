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

_HERE = (5_000, 0, 0)
"""The least thresholds while branches run in this process: what they leave in cycles may be large. Python's own: 700 or
2,000 new containers to a collection of the youngest, 10 of these to one of the middle generation."""

_ELSEWHERE = (5_000, 100, 0)
"""The same while they run in other processes, and this one keeps what they have recorded (a tenth of its time)."""


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
    """Raises the collector's thresholds while anybody holds it; settings of the user's above them stay.

    What user code leaves in cycles is still collected, some thousands of objects later.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._here = self._elsewhere = 0  # holders
        self._before = self._now = (0, 0, 0)

    @contextmanager
    def hold(self, *, here: bool) -> Iterator[None]:
        """While the block runs; `here` where branches run in this process."""
        self._count(1, here)
        try:
            yield
        finally:
            self._count(-1, here)

    def _count(self, change: int, here: bool) -> None:
        with self._lock:
            if not self._here + self._elsewhere:
                self._before = self._now = gc.get_threshold()
            if here:
                self._here += change
            else:
                self._elsewhere += change
            self._set()

    def _set(self) -> None:
        if gc.get_threshold() != self._now:
            return  # user code has set it meanwhile
        young, middle, old = self._before
        if young and self._here + self._elsewhere:
            least = _HERE if self._here else _ELSEWHERE
            young, middle, old = max(young, least[0]), max(middle, least[1]), max(old, least[2])
        gc.set_threshold(young, middle, old)
        self._now = young, middle, old

    def abandon(self) -> None:
        """In a forked child: its own batches come later."""
        if self._here + self._elsewhere:
            self._here = self._elsewhere = 0
            self._set()
        self._lock = threading.Lock()  # a thread of the parent may have held it


patience = _Patience()
"""Held while a batch of very many branches runs."""

os.register_at_fork(after_in_child=patience.abandon)
