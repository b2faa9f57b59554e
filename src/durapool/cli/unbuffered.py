"""Stdout that loses nothing where Python does not buffer it (PYTHONUNBUFFERED, ``python -u``).

There Python writes once and drops what a pipe did not take because its reader left meanwhile: the command would end as
if all had been read. A buffer writes the rest, and so meets the closed pipe.
"""

from __future__ import annotations

import io
from typing import Any, TextIO


def writing_all(stream: TextIO) -> TextIO:
    """The stream itself where it has a buffer; else one that passes on all of every write at once."""
    raw = getattr(stream, "buffer", None)
    if not isinstance(raw, io.FileIO):
        return stream
    again = io.FileIO(raw.fileno(), "w", closefd=False)
    return io.TextIOWrapper(_Flushed(again), stream.encoding, stream.errors, write_through=True)


class _Flushed(io.BufferedWriter):
    """Holds nothing back."""

    def write(self, data: Any) -> int:
        written = super().write(data)
        self.flush()
        return written
