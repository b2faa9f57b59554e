"""What a thread waits for another one to say."""

from __future__ import annotations

import time
from queue import Empty, SimpleQueue


class Flag:
    """As `threading.Event`, for one thread that waits.

    An Event takes its lock by methods written in Python. Where a signal handler raises in the midst of one, the lock
    stays taken, and whoever asks for it next waits for ever: the thread that is to be ended, or the one that ends it.
    Here each step is one of C's.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._news: SimpleQueue[None] = SimpleQueue()  # one for each `set`; what is older than a `clear` tells nothing

    def is_set(self) -> bool:
        """Whether it was set and not cleared since."""
        return self._is_set

    def set(self) -> None:
        """Let the thread that waits go on, now or when it comes to wait. From any thread."""
        self._is_set = True
        self._news.put(None)

    def clear(self) -> None:
        """From now on `wait` waits for the next `set`."""
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, for `timeout` seconds at the most; whether it is."""
        until = None if timeout is None else time.monotonic() + timeout
        while not self._is_set:
            try:
                self._news.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
            except Empty:
                break
        return self._is_set
