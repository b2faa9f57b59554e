"""What a worker writes to stdout or stderr, passed on to this process's stream of the same name in whole lines.

Lines go through `sys.stdout` and `sys.stderr` as they are at that moment, so notebooks, capturing test runners and
`contextlib.redirect_stdout` see them. A stream that is closed or full loses the text; no batch fails for it.
"""

from __future__ import annotations

import codecs
import os
import sys
from collections import deque

TAIL_LINES = 20  # kept for the error of a lost worker
_READ = 65536  # bytes asked of one read
_ROUNDS = 16  # reads at a time: a worker that only writes must not keep the loop
_LONGEST = 1 << 20  # characters; a longer line is passed on in parts


class LineRelay:
    """The read end of one pipe. Owned by the pool's loop."""

    def __init__(self, pipe: int, name: str) -> None:
        self._pipe = pipe
        self._name = name
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._partial: list[str] = []
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)

    def fileno(self) -> int:
        """For the selector."""
        return self._pipe

    def pass_on(self) -> bool:
        """Write on what has arrived, up to its last line end; False at the end of the pipe."""
        if self._pipe < 0:
            return False
        for _ in range(_ROUNDS):
            try:
                data = os.read(self._pipe, _READ)
            except BlockingIOError:
                return True
            if not data:
                self._end()
                return False
            self._take(self._decoder.decode(data))
            if len(data) < _READ:
                break
        return True

    def _take(self, text: str) -> None:
        whole, line_end, rest = text.rpartition("\n")
        if line_end:
            self._write("".join([*self._partial, whole, line_end]))
            self._partial.clear()
        if rest:
            self._partial.append(rest)
            if sum(map(len, self._partial)) > _LONGEST:
                self._write("".join(self._partial))
                self._partial.clear()

    def _end(self) -> None:
        self._take(self._decoder.decode(b"", final=True))
        if self._partial:
            self._take("\n")

    def _write(self, text: str) -> None:
        self.tail.extend(text.splitlines()[-TAIL_LINES:])
        stream = getattr(sys, self._name)
        try:
            try:
                stream.write(text)
            except UnicodeEncodeError:
                stream.write(text.encode(stream.encoding, "backslashreplace").decode(stream.encoding))
            stream.flush()
        except Exception:  # noqa: BLE001  # whatever has been put in the place of the stream, or None
            return

    def close(self) -> None:
        """Pass on what is left, an unfinished line too, and release the descriptor."""
        if self._pipe < 0:
            return
        if self.pass_on():
            self._end()
        self.abandon()

    def abandon(self) -> None:
        """Release the descriptor."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
