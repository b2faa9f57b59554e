"""`python -m perf.faults.probes PEER PROBE FOLDER`: one probe in a process of its own; prints one line of JSON.

Probes that end with a signal from outside (`stay`) print nothing: `perf.faults_table` looks at what is left of them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import psutil

from perf.faults.tasks import Task, exits, healthy, is_killed, own_pid, pids_in, stays
from perf.peer import FaultPeer
from perf.peers import FAULT_PEERS

TASKS, DYING = 8, 3
TIMEOUT = 1.0  # seconds given to a task that would take long
CLEARING = 5.0  # seconds for a task that was stopped to be gone


def die(peer: FaultPeer, task: Task) -> dict[str, Any]:
    """One of TASKS dies. What of the others? And of the pool afterwards?"""
    peer.run_all([partial(healthy, 0)] * 2)  # warm
    tasks: list[Task] = [partial(healthy, number) for number in range(TASKS)]
    tasks[DYING] = task
    began = time.monotonic()
    outcomes = peer.run_all(tasks)
    seconds = time.monotonic() - began
    kept = sum(outcomes[number] == number for number in range(TASKS) if number != DYING)
    usable = peer.run_all([partial(healthy, 1), partial(healthy, 2)]) == [1, 2]
    dead = outcomes[DYING]
    return {
        "kept": kept,
        "seconds": seconds,
        "usable": usable,
        "error": type(dead).__name__,
        "tells": getattr(dead, "exitcode", None) in (7, -9)
        or any(word in str(dead) for word in ("SIGKILL", "code 7", "EXIT(7)")),
    }


def gone(pids: list[int]) -> bool:
    """Whether these processes have ended, or end soon."""
    found = []
    for pid in pids:
        try:
            found.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            pass
    _, alive = psutil.wait_procs(found, CLEARING)
    return bool(pids) and not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def time_out(peer: FaultPeer, folder: str) -> dict[str, Any]:
    """A task over its time: is it stopped?"""
    peer.run_all([partial(healthy, 0)] * 2)
    peer.run_with_timeout(partial(stays, folder), TIMEOUT)
    return {"stopped": gone(pids_in(folder))}


def cancel(peer: FaultPeer, folder: str) -> dict[str, Any]:
    """A running task that is cancelled: is it stopped?"""
    peer.cancel_running(partial(stays, folder), folder)
    return {"stopped": gone(pids_in(folder))}


def without_semaphores(peer: FaultPeer) -> dict[str, Any]:
    """POSIX semaphores fail as they do in serverless containers (see `main`): do tasks run, and where?"""
    outcomes = peer.run_all([own_pid] * 4)
    errors = sorted({type(outcome).__name__ for outcome in outcomes if isinstance(outcome, Exception)})
    return {"errors": errors, "elsewhere": all(outcome != os.getpid() for outcome in outcomes)}


def forbid_semaphores() -> None:
    """Let `sem_open` fail with "Function not implemented", before anything else is imported."""
    import _multiprocessing  # type: ignore[import-not-found]  # CPython's own; it has no stub

    class Missing:
        SEM_VALUE_MAX = _multiprocessing.SemLock.SEM_VALUE_MAX

        def __new__(cls, *_: object, **__: object) -> Missing:
            raise OSError(38, "Function not implemented")

    _multiprocessing.SemLock = Missing


PROBES: dict[str, Callable[[FaultPeer, str], dict[str, Any]]] = {
    "exit": lambda peer, _: die(peer, partial(exits, 7)),
    "kill": lambda peer, _: die(peer, is_killed),
    "timeout": time_out,
    "cancel": cancel,
    "semaphores": lambda peer, _: without_semaphores(peer),
    "stay": lambda peer, folder: {"results": len(peer.run_all([partial(stays, folder)] * 2))},
}


def main(name: str, probe: str, folder: str) -> None:
    """Run one probe."""
    if probe == "semaphores":
        forbid_semaphores()
    peer = FAULT_PEERS[name]()
    try:
        peer.open()
        found = PROBES[probe](peer, folder)
    except Exception as error:  # noqa: BLE001  # a library that cannot start is a finding
        found = {"raised": f"{type(error).__name__}: {error}"}
    except KeyboardInterrupt:
        peer.close()
        raise
    print(json.dumps(found), flush=True)
    os._exit(0)  # what hangs at exit is measured by `stay` alone


if __name__ == "__main__":
    main(*sys.argv[1:])
