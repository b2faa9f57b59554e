"""Progress without a terminal: a plain line every few seconds for people, JSON lines for machines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TextIO

from durapool.progress.model import BatchProgress, Snapshot
from durapool.wording import clean, counted, duration, rate, size

LINES_PERIOD = 5.0  # seconds
JSON_PERIOD = 1.0
_MOST = 3  # batches named in one line


class LinesView:
    """One line on stderr every `period` seconds; a run that ends before the first says nothing."""

    def __init__(self, period: float = LINES_PERIOD) -> None:
        self.period = period
        self._has_spoken = False

    def open(self, _wake: Callable[[], None], /) -> None:
        """See `View.open`."""

    def show(self, snapshot: Snapshot) -> None:
        """See `View.show`."""
        self._has_spoken = True
        for batch in snapshot.ended:
            _write(sys.stderr, f"durapool: {end_line(batch)}\n")
        _write(sys.stderr, f"durapool: {line(snapshot)}\n")

    def emit(self) -> None:
        """See `View.emit`."""

    def close(self, last: Snapshot) -> None:
        """See `View.close`."""
        if self._has_spoken:
            for batch in last.ended:
                _write(sys.stderr, f"durapool: {end_line(batch)}\n")


def line(snapshot: Snapshot) -> str:
    """All of a snapshot in one line.

    Example:
        >>> line(Snapshot("nightly", 65.0))
        'nightly 1 min 05 s'
    """
    parts = [f"{clean(snapshot.execution_id)} {duration(snapshot.seconds)}"]
    parts += [_batch(batch) for batch in snapshot.batches[:_MOST]]
    if len(snapshot.batches) > _MOST:
        parts.append(f"{counted(len(snapshot.batches) - _MOST, 'more batch', 'more batches')}")
    loads = [load for load in (snapshot.load, *(row.load for row in snapshot.workers)) if load is not None]
    if snapshot.workers:
        parts.append(counted(len(snapshot.workers), "worker"))
    if loads:
        cpu, rss = sum(load.cpu_percent for load in loads), sum(load.rss for load in loads)
        parts.append(f"CPU {cpu:.0f} %, {size(rss)}")
    return "; ".join(parts)


def _batch(batch: BatchProgress) -> str:
    notes = ", ".join(state_of(batch))
    return f"{clean(batch.name)} {batch.ended}/{batch.total}" + (f" ({notes})" if notes else "")


def state_of(batch: BatchProgress) -> list[str]:
    """What is to be said of a batch beside how many branches have ended, from failures to the time left."""
    notes = [f"{batch.failed} failed"] if batch.failed else []
    notes += [f"{batch.running} running"] if batch.running and batch.end is None else []
    notes += [f"{batch.waiting} waiting"] if batch.waiting else []
    notes += [pace] if (pace := rate(batch.rate)) and batch.end is None else []
    left = batch.seconds_left
    return notes if left is None else [*notes, f"{duration(left)} left"]


def end_line(batch: BatchProgress) -> str:
    """What is worth keeping of a batch that is not open any more."""
    notes = [f"{batch.failed} failed"] if batch.failed else []
    notes += [f"{batch.recorded_before} from earlier runs"] if batch.recorded_before else []
    how = f"{batch.end} after" if batch.end == "cut off" else "in"
    note = f" ({', '.join(notes)})" if notes else ""
    branches = counted(batch.total, "branch", "branches")
    return f"{batch.kind} {clean(batch.name)}: {batch.ended} of {branches}{note} {how} {duration(batch.seconds)}"


class JsonView:
    """One JSON object a line on stdout: "progress" every `period` seconds, "batch" for each outermost one that ended.

    What the program prints meanwhile goes to stderr, so that every line of stdout is an object.
    """

    def __init__(self, period: float = JSON_PERIOD) -> None:
        self.period = period
        self._stream = sys.stdout

    def open(self, _wake: Callable[[], None], /) -> None:
        """See `View.open`."""
        self._stream, sys.stdout = sys.stdout, sys.stderr

    def show(self, snapshot: Snapshot) -> None:
        """See `View.show`."""
        self._write_ends(snapshot)
        write_event(self._stream, "progress", snapshot.execution_id, progress_fields(snapshot))

    def emit(self) -> None:
        """See `View.emit`."""

    def close(self, last: Snapshot) -> None:
        """See `View.close`."""
        sys.stdout = self._stream
        self._write_ends(last)

    def _write_ends(self, snapshot: Snapshot) -> None:
        for batch in snapshot.ended:
            write_event(self._stream, "batch", snapshot.execution_id, _fields_of(batch))


def write_event(stream: TextIO, event: str, execution_id: str, fields: Mapping[str, Any]) -> None:
    """Write one line: what happened, in which execution, when (epoch seconds), and the rest."""
    document = {"event": event, "execution": execution_id, "at": round(time.time(), 3), **fields}
    _write(stream, json.dumps(document) + "\n")


def progress_fields(snapshot: Snapshot) -> dict[str, Any]:
    """The fields of a "progress" line; seconds, bytes and per cent as numbers, None for what is not known."""
    return {
        "seconds": round(snapshot.seconds, 3),
        "batches": [_fields_of(batch) for batch in snapshot.batches],
        "workers": [asdict(row) for row in snapshot.workers],
        "on_threads": snapshot.on_threads,
        "load": None if snapshot.load is None else asdict(snapshot.load),
    }


def _fields_of(batch: BatchProgress) -> dict[str, Any]:
    left = batch.seconds_left
    fields = asdict(batch) | {"seconds": round(batch.seconds, 3), "rate": round(batch.rate, 6)}
    return fields | {"seconds_left": None if left is None else round(left, 3)}


def _write(stream: TextIO, text: str) -> None:
    """Whole lines at once, flushed; what the stream's encoding does not have is escaped."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()
