"""What a run used: time, CPU and memory, measured where it ran and recorded with its end.

Measured are the runs of branches (in a worker, or on a thread) and the invocations of the handler. The figures are for
people who look at an execution later; nothing is decided by them. Imported by workers: it must stay light.
"""

from __future__ import annotations

import os
import resource
import sys
from threading import get_native_id
from time import perf_counter, process_time, thread_time
from typing import NamedTuple

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss


class Usage(NamedTuple):
    """What one run used. A NamedTuple because it also is the row of the wire and of the store."""

    pid: int  # of the process it ran in
    thread: int | None  # native id of its thread; None where the figures are the whole process's
    seconds: float  # from its first line to its end, waits included
    cpu: float  # seconds, user and system
    peak_rss: int  # bytes: the most that the process has had so far


class ProcessMeter:
    """Measures from now on what this process uses."""

    __slots__ = ("_cpu", "_pid", "_wall")

    def __init__(self) -> None:
        self._pid = os.getpid()
        self.start()

    def start(self) -> None:
        """Measure from now on."""
        self._wall, self._cpu = perf_counter(), process_time()

    def read(self) -> Usage:
        """What was used so far."""
        fields = (self._pid, None, perf_counter() - self._wall, process_time() - self._cpu, _peak_rss())
        return tuple.__new__(Usage, fields)  # half the time of a call, which goes through a function


class ThreadMeter:
    """Measures from now on what the calling thread uses; to be read by the same thread."""

    __slots__ = ("_cpu", "_wall")

    def __init__(self) -> None:
        self._wall, self._cpu = perf_counter(), thread_time()

    def read(self) -> Usage:
        """What was used so far; the memory is the whole process's."""
        return Usage(os.getpid(), get_native_id(), perf_counter() - self._wall, thread_time() - self._cpu, _peak_rss())


def _peak_rss() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
