"""The thread that takes snapshots and gives them to a view, and keeps itself cheap.

It measures what it uses: after each snapshot it pauses at least so long that it stays under `SHARE` of one CPU, however
many batches, workers and columns there are. A view that cannot write any more ends the showing, never the run.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Protocol

from durapool.flag import Flag
from durapool.progress.meter import Meter
from durapool.progress.model import Snapshot
from durapool.progress.observer import Observer, observing

SHARE = 0.01  # of one CPU that showing may use
_EMIT_PAUSE = 0.05  # seconds between two writes of text that waits
_FAREWELL = 2.0  # seconds that the thread may take to end: a terminal may be held (Ctrl-S)


class View(Protocol):
    """Shows snapshots. `show` and `emit` are called by the reporter's thread, `open` and `close` by the run's."""

    period: float
    """Seconds between two snapshots, at least."""

    def open(self, wake: Callable[[], None], /) -> None:
        """Get ready. `wake` asks for `emit` soon; it may be called from any thread."""
        ...

    def show(self, snapshot: Snapshot) -> None:
        """Show what is going on now."""
        ...

    def emit(self) -> None:
        """Write text that waits, if there is any."""
        ...

    def close(self, last: Snapshot) -> None:
        """Leave everything as it was before `open`, with what is worth keeping of the last snapshot."""
        ...


class Reporter:
    """Shows an observer's snapshots in a view while the `with` block runs."""

    def __init__(self, observer: Observer, view: View, meter: Meter | None = None) -> None:
        self._observer = observer
        self._view = view
        self._meter = Meter() if meter is None else meter
        self._ending = Flag()
        self._wake = Flag()
        self._thread = threading.Thread(target=self._work, name="durapool-progress", daemon=True)

    def __enter__(self) -> Reporter:
        self._view.open(self._wake.set)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._ending.set()
        self._wake.set()
        try:
            self._thread.join(_FAREWELL)
        finally:
            with suppress(OSError, ValueError):  # the stream is gone; nobody looks any more
                self._view.close(self._snapshot())

    def _snapshot(self) -> Snapshot:
        return self._meter.measured(self._observer.snapshot())

    def _work(self) -> None:
        try:
            due = time.monotonic() + self._view.period
            while not self._ending.is_set():
                if self._wake.wait(max(0.0, due - time.monotonic())):
                    self._wake.clear()
                    self._view.emit()
                    self._ending.wait(_EMIT_PAUSE)
                if time.monotonic() >= due:
                    due = time.monotonic() + self._show()
        except (OSError, ValueError):
            return  # the reader has gone, or the stream was closed: the run goes on unseen
        except Exception as error:  # noqa: BLE001  # whatever goes wrong in showing, the run is worth more
            print(f"durapool: progress is not shown any longer: {error!r}", file=sys.stderr)

    def _show(self) -> float:
        """Seconds to pause afterwards."""
        began = time.thread_time()
        self._view.show(self._snapshot())
        return max(self._view.period, (time.thread_time() - began) / SHARE)


@contextmanager
def reporting(execution_id: str, view: View | None) -> Iterator[None]:
    """Show the progress of an execution while the block runs; nothing for no view."""
    if view is None:
        yield
        return
    with observing(execution_id) as observer, Reporter(observer, view):
        yield
