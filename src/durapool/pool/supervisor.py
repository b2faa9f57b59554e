"""The link to the supervisor: start it, let it fork and kill workers, hear of those that ended."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from durapool.exceptions import PoolError
from durapool.pool.machine import worker_environment
from durapool.pool.wire import Decoder, Kind, pack
from durapool.worker.supervisor import hold_standard_descriptors, interpreter, kill_group
from durapool.worker.supervisor import main as supervise
from durapool.worker.supervisor import preload as import_preloads

GRACE = 5.0  # seconds that the supervisor has to leave after its control socket was closed


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """A worker has ended.

    `status` as of wait(2), None where it is not known, and `where` says what happened; `peak` RSS and `excess` (0:
    within its limit) in bytes; `where` names the node, for a worker on another machine.
    """

    worker: int
    status: int | None
    peak: int
    excess: int
    where: str = ""


class SupervisorGoneError(PoolError):
    """The supervisor has just died; whoever listens to its socket hears of it."""


class Link(Protocol):
    """What a pool needs of whoever starts its workers; `SupervisorLink` says what the methods do."""

    sends_ahead: bool  # whether a worker may be sent branches that it has not begun, and be relieved of them

    @property
    def places(self) -> Mapping[int, int]:
        """The sites that there are now, by number, and how many workers may run at each."""
        ...

    @property
    def size(self) -> int:
        """How many workers may run together, at least 1."""
        ...

    def adjust(self, wanted: int, busy: set[int]) -> float | None:
        """So many workers could run, and these sites have something to do: let the others go, or find more.

        Seconds until this wants to be called again; None for not before something happens.
        """
        ...

    @property
    def is_gone(self) -> bool:
        """Whether it can never start a worker again."""
        ...

    def beat(self) -> None:
        """Let whoever works elsewhere know that this process lives. From any thread."""
        ...

    def fileno(self) -> int: ...
    def fork_worker(self, worker: int, claims: int, site: int) -> tuple[socket.socket, int, int]: ...
    def kill(self, worker: int, grace: float = 0.0, first: int = signal.SIGTERM) -> None: ...
    def watch(self, worker: int, limit: int) -> None: ...
    def receive(self) -> list[WorkerExit] | None: ...
    def end_groups(self) -> None: ...
    def abandon(self) -> None: ...
    def close(self) -> None: ...


class SupervisorLink:
    """The parent's end of the control socket.

    Raises:
        PoolError: the supervisor cannot be started.
    """

    def __init__(self, start_method: str, workers: int, preload: tuple[str, ...]) -> None:
        hold_standard_descriptors()
        self.sends_ahead = True
        self.is_gone = False
        self.size = workers
        self.places = {0: workers}  # one site: this machine
        self._control, theirs = socket.socketpair()
        self._decoder = Decoder()
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self.pids: dict[int, int] = {}
        with theirs:
            if start_method == "fork":
                self._pid = _fork_supervisor(theirs, workers, preload)
            else:
                self._process = _start_supervisor(theirs, start_method, workers, preload)
        self._control.setblocking(False)

    def fileno(self) -> int:
        """For the selector."""
        return self._control.fileno()

    def beat(self) -> None:
        """See `Link.beat`: the supervisor knows, by its socket."""

    def adjust(self, wanted: int, busy: set[int]) -> float | None:  # noqa: ARG002  # this machine stays as it is
        """See `Link.adjust`."""
        return None

    def fork_worker(self, worker: int, claims: int, site: int = 0) -> tuple[socket.socket, int, int]:  # noqa: ARG002  # there is one
        """Ask for a new worker that takes its permits from the pipe `claims`.

        Its socket and the read ends of its stdout and stderr, ready for use at once.
        """
        ours, theirs = socket.socketpair()
        prints_read, prints_write = os.pipe()
        errors_read, errors_write = os.pipe()
        try:
            self._send(pack(Kind.FORK, worker), [theirs.fileno(), claims, prints_write, errors_write])
        except OSError as error:
            ours.close()
            os.close(prints_read)
            os.close(errors_read)
            raise SupervisorGoneError(f"the supervisor of the process pool is gone ({error})") from error
        finally:
            theirs.close()
            os.close(prints_write)
            os.close(errors_write)
        ours.setblocking(False)
        os.set_blocking(prints_read, False)
        os.set_blocking(errors_read, False)
        return ours, prints_read, errors_read

    def kill(self, worker: int, grace: float = 0.0, first: int = signal.SIGTERM) -> None:
        """End a worker's process group: `first` (0: none), and SIGKILL after `grace` seconds. Its end is told later."""
        self._tell(pack(Kind.KILL, worker, grace, int(first)))

    def watch(self, worker: int, limit: int) -> None:
        """Kill the worker when it and its descendants hold more than `limit` bytes; 0 for no limit."""
        self._tell(pack(Kind.WATCH, worker, limit))

    def _tell(self, frame: bytes) -> None:
        try:
            self._send(frame, [])
        except OSError:
            return  # the supervisor is gone, and its workers with it; the loop will hear of it

    def _send(self, frame: bytes, descriptors: list[int]) -> None:
        """Small frames to a peer that only reads: waiting for room is short."""
        self._control.setblocking(True)
        try:
            socket.send_fds(self._control, [frame], descriptors)
        finally:
            self._control.setblocking(False)

    def receive(self) -> list[WorkerExit] | None:
        """The workers that have ended since the last call; None when the supervisor itself has ended."""
        ends = []
        try:
            data = self._control.recv(65536)
        except BlockingIOError:
            return []
        except ConnectionResetError:
            return None
        if not data:
            return None
        for kind, body in self._decoder.feed(data):
            match kind:
                case Kind.FORKED:
                    self.pids[body[0]] = body[1]
                case Kind.EXITED:
                    self.pids.pop(body[0], None)
                    ends.append(WorkerExit(*body))
                case _:
                    raise PoolError(f"the supervisor sent {kind!r}")
        return ends

    def end_groups(self) -> None:
        """The supervisor was killed and its workers with it: end what they have left in their process groups."""
        for pid in self.pids.values():
            kill_group(pid)

    def abandon(self) -> None:
        """In a forked child: the supervisor is the parent's, and must not hear that we are gone."""
        self._control.close()
        if self._process is not None:
            self._process.returncode = 0  # nothing here will wait for it
        self._pid = 0

    def close(self) -> None:
        """Close the control socket, which ends the supervisor and all workers, and wait for it."""
        self._control.close()
        if self._process is not None:
            try:
                self._process.wait(GRACE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        elif self._pid:
            with contextlib.suppress(ChildProcessError):  # the user's program reaps all children by itself
                os.waitpid(self._pid, 0)
            self._pid = 0


WORKERS_MODULES = ("durapool.worker.entry", "durapool.context")  # forked workers find them imported


def _bootstrap(modules: Iterable[str], statement: str) -> str:
    """Code for ``-c``: our own sys.path, so that the same modules are found, then imports and one statement.

    What is imported stays: looking through it for garbage would only cost time, now and after each fork.
    """
    imports = "".join(f"import {module}; " for module in modules)
    return f"import gc, sys; gc.disable(); sys.path[:] = {sys.path!r}; {imports}gc.freeze(); gc.enable(); {statement}"


SPAWNED_WORKER = "durapool.worker.entry.serve(*map(int, sys.argv[1:3]))"


def _start_supervisor(
    theirs: socket.socket, start_method: str, workers: int, preload: tuple[str, ...]
) -> subprocess.Popen[bytes]:
    spawn = _bootstrap(WORKERS_MODULES, SPAWNED_WORKER) if start_method == "spawn" else ""
    control = theirs.fileno()
    code = _bootstrap(
        ("durapool.worker.supervisor", *(() if spawn else WORKERS_MODULES)),
        f"from durapool.worker.supervisor import main, preload; preload({preload!r}); main({control}, {spawn!r})",
    )
    try:
        return subprocess.Popen(
            [*interpreter(), "-c", code],
            stdin=subprocess.DEVNULL,
            pass_fds=[control],
            start_new_session=True,
            env=worker_environment(workers),
        )
    except OSError as error:
        raise PoolError(f"the process pool cannot start {sys.executable}: {error}") from error


def _fork_supervisor(theirs: socket.socket, workers: int, preload: tuple[str, ...]) -> int:
    for module in WORKERS_MODULES:
        importlib.import_module(module)
    with warnings.catch_warnings():
        # the child calls nothing that another thread's lock could hold: it closes descriptors and serves
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    try:
        gc.freeze()  # what is garbage here was the parent's: no finalizer of it runs twice
        os.setsid()
        _let_go_of_all_but(theirs.fileno())
        _forget_exit_handlers()
        os.environ.update(worker_environment(workers))
        import_preloads(preload)
        supervise(theirs.fileno())
    finally:
        os._exit(70)


def _let_go_of_all_but(keep: int) -> None:
    """Give up the parent's descriptors. Their numbers stay taken: an object of the parent's that still has one, a file
    with text in its buffer perhaps, must not meet a descriptor of ours under it."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/dev/fd"):
        descriptor = int(name)
        if descriptor > 2 and descriptor not in (keep, nothing):
            try:
                os.fstat(descriptor)
            except OSError:
                continue  # the listing's own
            os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)


def _forget_exit_handlers() -> None:
    """They are the parent's, and workers run theirs at their end. A running coverage.py saves in one, so it stays."""
    atexit._clear()
    coverage = sys.modules.get("coverage")
    current = None if coverage is None else coverage.Coverage.current()
    if current is not None:
        atexit.register(current.save)
