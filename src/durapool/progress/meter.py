"""CPU and memory of this process and the workers, by psutil."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import psutil

from durapool.progress.model import Load, Snapshot

PERIOD = 1.0  # seconds between two measurements: CPU per cent over less says little


class Meter:
    """Adds loads to snapshots; measures at most once a `PERIOD`. Owned by one thread."""

    def __init__(self, period: float = PERIOD) -> None:
        self._period = period
        self._processes: dict[int, psutil.Process] = {}
        self._loads: dict[int, Load] = {}
        self._due = 0.0

    def measured(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with what is known of each process."""
        now = time.monotonic()
        pids = {os.getpid(), *(row.pid for row in snapshot.workers if row.pid and row.is_here)}
        if now >= self._due:
            self._due = now + self._period
            self._loads = {pid: load for pid in pids if (load := self._measure(pid)) is not None}
            self._processes = {pid: process for pid, process in self._processes.items() if pid in pids}
        loads = self._loads
        workers = tuple(replace(row, load=loads.get(row.pid) if row.is_here else None) for row in snapshot.workers)
        return replace(snapshot, workers=workers, load=loads.get(os.getpid()))

    def _measure(self, pid: int) -> Load | None:
        """None for a process that has ended. CPU is 0 the first time: it is counted from then on."""
        try:
            process = self._processes.get(pid)
            if process is None:
                process = self._processes[pid] = psutil.Process(pid)
            with process.oneshot():
                return Load(process.cpu_percent(), process.memory_info().rss)
        except (psutil.Error, ValueError):
            self._processes.pop(pid, None)
            return None
