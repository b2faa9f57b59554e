"""The memory that a worker and its descendants hold, weighed against the executor's limit. Linux alone: it asks /proc.

    RssAnon of status          cheap; pages that a fork shares with its parent count for both
    Pss_Anon of smaps_rollup   counts each page once, but walks the whole process: asked only above the limit
    RLIMIT_DATA                stops one allocation that is faster than the next look, with a MemoryError

What a worker has inherited by its own fork (modules that were preloaded, the parent's data under start_method="fork")
is not counted.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

BACKSTOP_ROOM = 1 << 30  # bytes of address space above twice the limit: stacks, arenas, what libraries only reserve


class Ration:
    """What one worker may hold."""

    def __init__(self, pid: int, limit: int, inherited: int) -> None:
        self._pid = pid
        self._limit = limit
        self._shared = inherited  # bytes of RssAnon that are not, or not only, its own

    def excess(self) -> int:
        """The bytes held, if they are above the limit; else 0."""
        held = sum(anonymous_memory(pid) for pid in tree(self._pid)) - self._shared
        if held <= self._limit:
            return 0
        exact = sum(_proportional_memory(pid) for pid in tree(self._pid))
        if exact > self._limit:
            return min(held, exact)
        self._shared += held - exact
        return 0


def limit_data(pid: int, limit: int) -> None:
    """Set the backstop of a worker; 0 takes it away. Only the soft limit, so that a later batch may have another."""
    if not hasattr(resource, "prlimit"):
        return
    with contextlib.suppress(OSError, ValueError):  # it has ended, or has a lower limit of its own
        _, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
        soft = _field(f"/proc/{pid}/status", "VmData:") + 2 * limit + BACKSTOP_ROOM if limit else hard
        resource.prlimit(pid, resource.RLIMIT_DATA, (soft if hard == -1 else min(soft, hard), hard))


def anonymous_memory(pid: int | str) -> int:
    """The anonymous memory that a process has mapped, in bytes. Shared and mapped files are not counted."""
    return _field(f"/proc/{pid}/status", "RssAnon:")


def _proportional_memory(pid: int) -> int:
    """The same with each page divided by the number of processes that have it."""
    return _field(f"/proc/{pid}/smaps_rollup", "Pss_Anon:") or anonymous_memory(pid)


def _field(file: str, name: str) -> int:
    """A field of a file in /proc, in bytes; 0 where there is none."""
    try:
        text = _text(file)
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0


def tree(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    pending = [pid]
    while pending:
        process = pending.pop()
        pending += children(process)
        yield process


def children(pid: int = 0) -> list[int]:
    """The pids of a process's children (of this one's for 0), by /proc; none where there is no /proc.

    Those that were started by threads other than the main one are found under these threads.
    """
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid or 'self'}/task"):
            found += map(int, _text(f"/proc/{pid or 'self'}/task/{thread}/children").split())
    except OSError:
        pass
    return found


def _text(file: str) -> str:
    """Without pathlib, which is slow to import and not needed elsewhere in a worker."""
    with open(file, encoding="utf-8", errors="replace") as opened:
        return opened.read()
