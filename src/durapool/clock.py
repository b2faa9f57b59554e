"""Where the parent takes the time from: the system, or a clock that skips what nobody has to sit through.

Times are epoch seconds. A journal stamps its records with `now`; the invocation loop calls `wait` when only time can
bring the execution on, and `listen` when the outside world may do so too (a callback is open).
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

from durapool.flag import Flag

_NAP = 1.0  # seconds; the system's clock may be set, and a request to stop may come, while we sleep


class Clock(Protocol):
    """The time source of one execution. Thread-safe."""

    def now(self) -> float:
        """Epoch seconds."""
        ...

    def wait(self, seconds: float, event: Flag) -> None:
        """Let at most `seconds` pass; return as soon as `event` is set."""
        ...

    def listen(self, timer: float | None, timeout: float | None, poll: float, event: Flag) -> None:
        """Wait for the outside world: at most `poll` real seconds, and not beyond the time that is due first.

        Args:
            timer: seconds until a wait or a retry is due; None if there is none.
            timeout: seconds until an open callback times out; None if none does.
            poll: seconds until the outside world is asked again.
            event: set when there is news at once.
        """
        ...


class SystemClock:
    """The real time."""

    def now(self) -> float:
        """See `Clock.now`."""
        return time.time()

    def wait(self, seconds: float, event: Flag) -> None:
        """See `Clock.wait`."""
        event.wait(max(0.0, min(seconds, _NAP)))

    def listen(self, timer: float | None, timeout: float | None, poll: float, event: Flag) -> None:
        """See `Clock.listen`."""
        due = [seconds for seconds in (timer, timeout) if seconds is not None]
        event.wait(max(0.0, min([poll, *due])))


class SkippingClock:
    """The real time plus all that was skipped: waits and retries take no time at all.

    A callback is another matter, since a test may want to answer it. Its timeout is skipped to only after the outside
    world has had `patience` real seconds in which it did nothing; None never skips to it.

    Args:
        patience: real seconds.
    """

    def __init__(self, patience: float | None = 0.0) -> None:
        self._patience = patience
        self._skipped = 0.0
        self._listening_since: float | None = None
        self._lock = threading.Lock()

    def now(self) -> float:
        """See `Clock.now`."""
        return time.time() + self._skipped

    def skip(self, seconds: float) -> None:
        """Set the clock forward."""
        with self._lock:
            self._skipped += max(0.0, seconds)

    def wait(self, seconds: float, event: Flag) -> None:
        """See `Clock.wait`."""
        self._listening_since = None
        if not event.is_set():
            self.skip(seconds)

    def listen(self, timer: float | None, timeout: float | None, poll: float, event: Flag) -> None:
        """See `Clock.listen`."""
        if timer is not None and (timeout is None or timer <= timeout):
            self.wait(timer, event)
            return
        since = self._listening_since = self._listening_since or time.monotonic()
        grace = poll
        if timeout is not None and self._patience is not None:
            grace = min(poll, max(0.0, since + self._patience - time.monotonic()))
        if event.wait(grace):
            self._listening_since = None
        elif timeout is not None and grace < poll:
            self.skip(timeout)
            self._listening_since = None
