"""A Dask cluster on this machine, for executors without an address: one for all of them, ended with the last.

It runs in a process of its own, which ends when this one does, however that was: so no `__main__` guard is needed, as
with Dask's own LocalCluster, whose worker processes run the user's program again, and nothing is left behind.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from durapool.exceptions import ClusterError
from durapool.pool.machine import usable_cpus

START_SECONDS = 60.0
LOOPBACK = "127.0.0.1:0"  # where Dask shows itself; it would on all of this machine's addresses
_PROGRAM = "from durapool.cluster.dask_local import main; main()"


class LocalDask:
    """The cluster; shared, so it counts who uses it.

    Args:
        workers: how many; None for the CPUs that this process may use.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers
        self._users = 0
        self._process: subprocess.Popen[str] | None = None
        self.address = ""
        self._lock = threading.Lock()

    def acquire(self) -> None:
        """One more user; the first starts it.

        Raises:
            ClusterError: it does not start.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
                self._users = 0
            self._users += 1

    def _start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        command = [sys.executable, "-c", _PROGRAM, str(self._workers or usable_cpus())]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        watchdog = threading.Timer(START_SECONDS, process.kill)
        watchdog.start()
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        watchdog.cancel()
        if not address:
            _end(process)
            raise ClusterError("a Dask cluster on this machine does not start; what it wrote to stderr tells why")
        self._process, self.address = process, address

    def release(self) -> None:
        """One user less; with the last it ends."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._process is not None:
                process, self._process = self._process, None
                _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


_local = LocalDask()


def local_dask() -> LocalDask:
    """The cluster on this machine, started if need be. Give it back with `release`.

    Raises:
        ClusterError: it does not start.
    """
    _local.acquire()
    return _local


def main() -> None:
    """The process: a cluster, until nobody holds the other end of stdin."""
    from distributed import LocalCluster

    cluster = LocalCluster(
        n_workers=int(sys.argv[1]),
        threads_per_worker=1,
        processes=True,
        dashboard_address=LOOPBACK,
        worker_dashboard_address=LOOPBACK,
    )
    print(cluster.scheduler_address, flush=True)
    sys.stdin.read()
    threading.Timer(5.0, os._exit, [1]).start()  # its workers end with this process, at the latest
    cluster.close()
    os._exit(0)
