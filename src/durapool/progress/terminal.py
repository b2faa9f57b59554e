"""The live view on a terminal: the frame at the bottom, what the program prints above it.

    print, logging ----> StreamAbove --lines--> Region: clear the frame, write the lines, draw the frame
    snapshot --frame()-------------------------^          (one write for all of it)

The cursor stays visible and below the frame, and no mode of the terminal is changed: however the program ends, SIGKILL
included, the terminal is as it was. Text waits at most 50 ms for the reporter's thread, so a print costs no write of
its own. What a program writes to the descriptors past `sys.stdout` and `sys.stderr` is not seen here.
"""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from durapool.progress.frame import Room, frame
from durapool.progress.lines import end_line
from durapool.progress.model import End, Snapshot
from durapool.progress.views import is_terminal
from durapool.wording import counted

PERIOD = 0.25  # seconds
_MOST_WAITING = 1 << 20  # characters; above it the writer writes by itself
_STYLING = re.compile(r"\x1b\[[0-9;]*m")
_MOST_ENDS = 8  # ends of batches told at once


class Region:
    """The bottom of a terminal. Thread-safe."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.RLock()  # of all writing; a signal handler may print, too
        self._waiting: list[str] = []
        self._waiting_size = 0
        self._drawn: list[str] = []
        # TERM, NO_COLOR and the stream's encoding are looked at here
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False, legacy_windows=False)

    @property
    def room(self) -> Room:
        """What there is to draw on now; one line is the cursor's."""
        try:
            columns, lines = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            columns, lines = 80, 24
        ascii_only = not self._console.encoding.startswith("utf")
        return Room(max(columns, 1) if columns else 80, max((lines or 24) - 1, 1), ascii_only)

    def add(self, text: str) -> bool:
        """Text for above the frame; it waits for the next `draw` unless it is much. Whether it is the first to wait."""
        self._waiting.append(text)
        self._waiting_size += len(text)
        if self._waiting_size > _MOST_WAITING:
            self.redraw()
        return len(self._waiting) == 1

    def draw(self, lines: Sequence[Text]) -> None:
        """Write what waits, and a new frame below it."""
        self._write(self._rendered(lines))

    def draw_tree(self, tree: Tree) -> None:
        """As `draw`; of what is higher than the terminal the end is counted."""
        with self._console.capture() as capture:
            self._console.print(tree)
        lines, height = capture.get().splitlines(), self.room.height
        if len(lines) > height:
            lines = [*lines[: height - 1], f"... {counted(len(lines) - height + 1, 'more line')}"]
        self._write(lines)

    def redraw(self) -> None:
        """Write what waits, if anything does, and the frame that is there below it."""
        if self._waiting:
            self._write(self._drawn)

    def _write(self, drawn: list[str]) -> None:
        with self._lock:
            frame_text = "".join(f"{line}\n" for line in drawn)
            text = f"{self._clearing()}{self._take_waiting()}{frame_text}"
            self._drawn = drawn
            self._stream.write(self._encodable(text))
            self._stream.flush()

    def _rendered(self, lines: Sequence[Text]) -> list[str]:
        with self._console.capture() as capture:
            for line in lines:
                self._console.print(line, no_wrap=True, crop=False, soft_wrap=True)
        return capture.get().splitlines()

    def _take_waiting(self) -> str:
        count = len(self._waiting)  # others may add more meanwhile
        text = "".join(self._waiting[:count])
        del self._waiting[:count]
        self._waiting_size = 0
        return text

    def _clearing(self) -> str:
        """Back to where the frame begins, and clear from there. A narrower terminal has wrapped its lines since."""
        if not self._drawn:
            return ""
        columns = self.room.width
        rows = sum(max(1, -(-cell_len(_STYLING.sub("", line)) // columns)) for line in self._drawn)
        return f"\r\x1b[{rows}A\x1b[J"

    def _encodable(self, text: str) -> str:
        encoding = self._console.encoding
        return text.encode(encoding, "backslashreplace").decode(encoding)


class StreamAbove(io.TextIOBase):
    """Stands for `sys.stdout` or `sys.stderr`: whole lines go above the frame, the rest waits for its end."""

    def __init__(self, stream: TextIO, region: Region, wake: Callable[[], None]) -> None:
        self.stream = stream
        self._region = region
        self._wake = wake
        self._partial = ""
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a signal handler may print, too
        self._closed = False

    def write(self, text: str) -> int:
        """Whole lines to the region. In a forked child, and after the end of the view, straight to the stream."""
        if self._closed or os.getpid() != self._pid:
            return self.stream.write(text)
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        with self._lock:
            whole, line_end, rest = text.rpartition("\n")
            if not line_end:
                self._partial += rest
                return len(text)
            lines = f"{self._partial}{whole}{line_end}"
            self._partial = rest
        if self._region.add(lines):
            self._wake()
        return len(text)

    def flush(self) -> None:
        """Nothing to do: lines are written within 50 ms."""
        if self._closed:
            self.stream.flush()

    def finish(self) -> None:
        """From now on straight to the stream; an unfinished line first."""
        with self._lock:
            self._closed = True
            rest, self._partial = self._partial, ""
        if rest:
            self._region.add(rest)

    def isatty(self) -> bool:
        """As the stream."""
        return self.stream.isatty()

    def fileno(self) -> int:
        """As the stream; what is written there is not seen here."""
        return self.stream.fileno()

    def writable(self) -> bool:
        """Yes."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a class attribute in typeshed
        """As the stream."""
        return self.stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]  # as encoding
        """As the stream."""
        return self.stream.errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)  # buffer, reconfigure, mode: whatever else programs ask of stdout


class TerminalView:
    """Bars and workers at the bottom of the terminal that `stream` leads to; see `View`."""

    def __init__(self, stream: TextIO, period: float = PERIOD) -> None:
        self.period = period
        self._region = Region(stream)
        self._streams: list[StreamAbove] = []

    def open(self, wake: Callable[[], None], /) -> None:
        """Take the place of the streams that lead to a terminal, also in handlers of logging."""
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None and is_terminal(stream):
                above = StreamAbove(stream, self._region, wake)
                self._streams.append(above)
                setattr(sys, name, above)
                _exchange_in_handlers(stream, above)

    def show(self, snapshot: Snapshot) -> None:
        """See `View.show`."""
        self._tell_ends(snapshot)
        self._region.draw(frame(snapshot, self._region.room))

    def emit(self) -> None:
        """See `View.emit`."""
        self._region.redraw()

    def close(self, last: Snapshot) -> None:
        """See `View.close`. Of batches that have ended one line stays."""
        try:
            self._tell_ends(last)
        finally:
            self._give_back()
        self._region.draw([])

    def _give_back(self) -> None:
        for above, name in ((above, name) for above in self._streams for name in ("stdout", "stderr")):
            if getattr(sys, name) is above:
                setattr(sys, name, above.stream)
        for above in self._streams:
            above.finish()
            _exchange_in_handlers(above, above.stream)

    def _tell_ends(self, snapshot: Snapshot) -> None:
        told = [batch for batch in snapshot.ended if batch.end is not End.SUSPENDED]
        for batch in told[:_MOST_ENDS]:
            self._region.add(f"{end_line(batch)}\n")
        if len(told) > _MOST_ENDS:
            self._region.add(f"... and {len(told) - _MOST_ENDS} more batches\n")


def _exchange_in_handlers(old: Any, new: Any) -> None:
    """Let every handler of logging that writes to one stream write to the other."""
    for handler in _handlers():
        if isinstance(handler, logging.StreamHandler) and handler.stream is old:
            handler.setStream(new)


def _handlers() -> Iterator[logging.Handler]:
    loggers = [logging.root, *list(logging.root.manager.loggerDict.values())]
    for logger in loggers:
        if isinstance(logger, logging.Logger):
            yield from list(logger.handlers)
