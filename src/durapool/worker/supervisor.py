"""The supervisor: the small process that forks workers, reaps them, and cleans up when the parent is gone.

    parent ==control socket==> supervisor --fork--> worker, worker, ...
       \\________________ a socket of its own for each worker ______/

It runs no user code and no threads. It lives in a session of its own, so that a signal to the parent's group does not
reach it, and is a child subreaper: what a worker's descendants leave behind falls to it. When the control socket
closes (the parent has ended, however) it SIGKILLs every worker's process group and all that fell to it: a worker that
sits in a C call cannot leave by itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
from typing import Any, NoReturn

from durapool.pool.wire import Decoder, Kind, pack
from durapool.worker.memory import Ration, anonymous_memory, children, limit_data

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
MAX_DESCRIPTORS = 16  # passed with one message at the most
WEIGHING_SECONDS = 0.01  # between two looks at the memory of workers that have a limit
MEMORY_GRACE = 0.1  # seconds; an allocator does not stop for a SIGTERM, and memory is short
LATER = ("durapool.pickling", "durapool.operations.batch", "durapool.worker.log_records", "traceback")
"""Modules, with cloudpickle, dataclasses, inspect and logging, that many branches do without."""

LATER_SECONDS = 0.1  # after the first fork
OOM_SCORE_ADJ = "500"  # the kernel shall pick a worker before the parent


def main(control: int, spawn: str = "") -> NoReturn:
    """Run the supervisor on the control socket `control` until it closes.

    Args:
        control: descriptor of the control socket.
        spawn: the code that a spawned worker runs; empty to fork workers.
    """
    status = 0
    try:
        hold_standard_descriptors()
        with socket.socket(fileno=control) as link:
            Supervisor(link, spawn).serve()
    except BaseException:  # noqa: BLE001  # the last frame of the process: tell, and leave
        status = 70
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def hold_standard_descriptors() -> None:
    """Where stdout, say, was closed, no descriptor of ours may get its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def preload(names: tuple[str, ...]) -> None:
    """Import what workers shall find imported. A module that fails does so again, and visibly, in a branch."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


class Supervisor:
    """The loop: control messages from the parent, SIGCHLD from the kernel."""

    def __init__(self, control: socket.socket, spawn: str) -> None:
        self._control = control
        self._spawn = spawn
        self._decoder = Decoder()
        self._descriptors: list[int] = []
        self._workers: dict[int, int] = {}  # worker number to pid
        self._grace_ends: dict[int, float] = {}  # worker to the time of its SIGKILL
        self._inherited: dict[int, int] = {}  # worker to the bytes that it had from its fork
        self._rations: dict[int, Ration] = {}
        self._excess: dict[int, int] = {}
        self._parent_gone = False
        self._later = () if spawn else LATER  # modules that are still to be imported
        self._import_at: float | None = None  # time.monotonic()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # the parent decides what a signal means; it closes the control socket when it goes
            signal.signal(number, signal.SIG_IGN)
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        gc.freeze()

    def serve(self) -> None:
        """Until the parent's end is closed; then nothing of ours is left."""
        try:
            while not self._parent_gone:
                ready, _, _ = select.select([self._control.fileno(), self._wake_read], [], [], self._patience())
                self._end_graces()
                self._weigh()
                self._import_later()
                if self._wake_read in ready:
                    os.read(self._wake_read, 4096)
                    self._reap()
                if self._control.fileno() in ready:
                    self._receive()
        finally:
            self._kill_all()

    def _receive(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, 65536, MAX_DESCRIPTORS)
        except ConnectionResetError:
            data, descriptors = b"", []
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        self._descriptors += descriptors
        if not data:
            self._parent_gone = True
            return
        for kind, body in self._decoder.feed(data):
            match kind:
                case Kind.FORK:
                    self._fork(body[0])
                case Kind.KILL:
                    self._kill(*body)
                case Kind.WATCH:
                    self._watch(*body)
                case _:
                    raise RuntimeError(f"the parent sent {kind!r} to the supervisor")

    def _fork(self, worker: int) -> None:
        link, claims, prints, errors = self._descriptors[:4]
        del self._descriptors[:4]
        pid = os.fork()
        if pid == 0:
            ours = (self._control.fileno(), self._wake_read, self._wake_write)
            become_worker(ours, (link, claims), (prints, errors), self._spawn)
        for descriptor in (link, claims, prints, errors):
            os.close(descriptor)
        with contextlib.suppress(OSError):  # the child does the same: whoever comes first
            os.setpgid(pid, pid)
        if self._later and self._import_at is None:
            self._import_at = time.monotonic() + LATER_SECONDS
        self._workers[worker] = pid
        self._inherited[worker] = 0 if self._spawn else anonymous_memory("self")
        self._tell(Kind.FORKED, worker, pid)

    def _import_later(self) -> None:
        """What many branches do without: the first worker does not wait for it, and the next ones find it imported."""
        if self._import_at is not None and time.monotonic() >= self._import_at:
            names, self._later, self._import_at = self._later, (), None
            from durapool import collector  # only here, where nobody waits for it

            with collector.switched_off():  # a forked supervisor has it as the program has: switched off, perhaps
                preload(names)
                gc.freeze()

    def _patience(self) -> float | None:
        waits = [end - time.monotonic() for end in self._grace_ends.values()]
        if self._import_at is not None:
            waits.append(self._import_at - time.monotonic())
        if self._rations:
            waits.append(WEIGHING_SECONDS)
        return max(0.0, min(waits)) if waits else None

    def _kill(self, worker: int, grace: float, first: int = signal.SIGTERM) -> None:
        pid = self._workers.get(worker)
        if pid is None:
            return
        if grace > 0:
            self._grace_ends[worker] = time.monotonic() + grace
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, first)
        else:
            kill_group(pid)

    def _end_graces(self) -> None:
        now = time.monotonic()
        for worker in [worker for worker, end in self._grace_ends.items() if end <= now]:
            del self._grace_ends[worker]
            self._kill(worker, 0.0)

    def _watch(self, worker: int, limit: int) -> None:
        pid = self._workers.get(worker)
        if pid is None:
            return
        limit_data(pid, limit)
        if limit:
            self._rations[worker] = Ration(pid, limit, self._inherited[worker])
        else:
            self._rations.pop(worker, None)

    def _weigh(self) -> None:
        for worker, ration in list(self._rations.items()):
            excess = ration.excess()
            if excess:
                self._excess[worker] = excess
                del self._rations[worker]
                self._kill(worker, MEMORY_GRACE)

    def _reap(self) -> None:
        ended = []
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            ended.append((pid, status, usage.ru_maxrss * 1024))
        numbers = {pid: worker for worker, pid in self._workers.items()}
        lost = [(numbers[pid], status, peak) for pid, status, peak in ended if pid in numbers]
        for worker, _, _ in lost:
            kill_group(self._workers.pop(worker))
            self._grace_ends.pop(worker, None)
            self._inherited.pop(worker, None)
            self._rations.pop(worker, None)
        if lost:
            self._kill_strays()
        for worker, status, peak in lost:
            self._tell(Kind.EXITED, worker, status, peak, self._excess.pop(worker, 0))

    def _kill_strays(self) -> None:
        """Kill what fell to us with the worker that died.

        What has the process group of a live worker is that one's. A daemon in a session of its own cannot be told
        from what the dead worker left, and goes too.
        """
        groups = set(self._workers.values())
        for pid in children():
            if pid not in groups and process_group(pid) not in groups:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _tell(self, kind: Kind, *body: Any) -> None:
        try:
            self._control.sendall(pack(kind, *body))
        except (BrokenPipeError, ConnectionResetError):
            self._parent_gone = True

    def _kill_all(self) -> None:
        for pid in self._workers.values():
            kill_group(pid)
        self._workers.clear()
        for _ in range(1000):  # what falls to us while we kill is killed in the next round; bounded, not forever
            for pid in children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            try:
                os.wait()
            except ChildProcessError:
                return


def become_worker(
    supervisors: tuple[int, ...], links: tuple[int, int], streams: tuple[int, int], spawn: str
) -> NoReturn:
    """In the forked child: cut the ties to the supervisor, then serve branches until told to end.

    Args:
        supervisors: descriptors to close.
        links: the socket to the parent, and the pipe of permits.
        streams: what becomes stdout and stderr.
        spawn: see `main`.
    """
    status = 70
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        supervisor = os.getppid()
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:
            os._exit(0)
        for descriptor in supervisors:
            os.close(descriptor)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for descriptor, standard in ((nothing, 0), (streams[0], 1), (streams[1], 2)):
            os.dup2(descriptor, standard)
            os.close(descriptor)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write(OOM_SCORE_ADJ)
        if spawn:
            for link in links:
                os.set_inheritable(link, True)
            os.execv(sys.executable, [*interpreter(), "-c", spawn, *map(str, links)])
        from durapool.worker.entry import serve

        serve(*links)
        status = 0
    except BaseException:  # noqa: BLE001  # the last frame of the process: tell, and leave
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def interpreter() -> list[str]:
    """The command that starts an interpreter with the flags of this one."""
    import subprocess

    return [sys.executable, *subprocess._args_from_interpreter_flags()]  # type: ignore[attr-defined]  # as multiprocessing does


def prctl(option: int, value: int) -> None:
    """prctl(2) where there is one; elsewhere the ends of sockets do its work, more slowly."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def kill_group(pid: int) -> None:
    """SIGKILL a worker and its process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def process_group(pid: int) -> int:
    """The process group of a process; 0 when it is gone."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0
