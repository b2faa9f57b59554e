"""The parent's end of a gateway: its process, the socket to it, and the thread that hears it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

import msgpack

from durapool.cluster.engine import EngineListener
from durapool.cluster.ray_frames import LOCAL, Say
from durapool.exceptions import ClusterError

CONNECT_SECONDS = 20.0  # for a running cluster to answer
LOOK_SECONDS = 0.5  # between two looks at what Ray writes meanwhile
START_SECONDS = 60.0  # for a cluster to start on this machine
LEAVE_SECONDS = 8.0  # that the gateway has to leave
LONGEST_DIRECTORY = 40  # characters; Ray has sockets below it, whose paths may have 107
TOKENS = "https://docs.ray.io/en/latest/ray-security/token-auth.html"
TAIL = 1000  # bytes of what the gateway has written that an error quotes

_BOOTSTRAP = "import sys; sys.path[:] = {path!r}; from durapool.cluster.ray_gateway import main; main({descriptor})"


class GatewayLink:
    """A gateway that is connected. Any thread may say something.

    Args:
        address: as `ray.init` takes it; "local" starts a cluster.
        cpus: of a cluster that is started.
        runtime_env: Ray's, for the agents.

    Raises:
        ClusterError: nobody answers there, or nothing can be started.
    """

    def __init__(self, address: str, cpus: int, runtime_env: Mapping[str, Any]) -> None:
        self.address = address
        self.cpus = cpus
        self.label = "the Ray cluster on this machine" if address == LOCAL else f"the Ray cluster {address}"
        self.users = 0
        self.nodes: list[dict[str, float]] = []  # amounts by name of resource, for each node that is alive
        self.gone = ""
        self._closing = False
        self._listeners: dict[int, EngineListener] = {}
        self._ends = threading.Condition()
        self._sending = threading.Lock()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the gateway
        self._directory = _directory() if address == LOCAL else ""
        self._socket, theirs = socket.socketpair()
        self._link = Connection(os.dup(self._socket.fileno()))
        with theirs:
            self._process = self._start(theirs.fileno())
        try:
            self.say(Say.CONNECT, address, cpus, self._directory, dict(runtime_env))
            self._connect(START_SECONDS if address == LOCAL else CONNECT_SECONDS)
        except BaseException:
            self._process.kill()
            self.close()
            raise
        threading.Thread(target=self._hear, name="durapool-ray", daemon=True).start()

    def _start(self, descriptor: int) -> subprocess.Popen[bytes]:
        # by -c: Ray puts the folder of a driver's script on its workers' path, where ours would shadow Ray itself
        code = _BOOTSTRAP.format(path=sys.path, descriptor=descriptor)
        try:
            return subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                pass_fds=[descriptor],
                start_new_session=True,
            )
        except OSError as error:
            raise ClusterError(f"cannot start {sys.executable} to speak to {self.label}: {error}") from error

    def _connect(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._link.poll(LOOK_SECONDS) or (time.monotonic() < deadline and "InvalidAuthToken" not in self._tail()):
            if not self._link.poll():
                continue
            match self._receive():
                case [Say.NODES, nodes]:
                    self.nodes = nodes
                case [Say.CONNECTED, str(address)]:
                    if self.address != LOCAL:
                        self.label = f"the Ray cluster {address}"
                    return
                case [Say.FAILED, str(why)]:
                    raise ClusterError(self._no_connection(why))
                case _:
                    raise ClusterError(
                        self._no_connection(f"the process that was to connect has ended: {self._tail()}")
                    )
        raise ClusterError(self._no_connection(f"no answer within {seconds:.0f} s {self._tail()}".rstrip()))

    def _no_connection(self, why: str) -> str:
        if self.address == LOCAL:
            return f"Ray cannot start a cluster on this machine: {why}"
        if "InvalidAuthToken" in why:
            return f"{self.label} asks for a token, which this program lacks: set RAY_AUTH_MODE=token, and see {TOKENS}"
        return (
            f"cannot connect to {self.label}: {why}. See that one runs there (`ray start --head`), with the Python and "
            "the Ray of this program, and that this machine reaches it"
        )

    def _tail(self) -> str:
        """The last of what the gateway, and Ray in it, has written."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), TAIL, max(0, size - TAIL)).decode(errors="replace").strip()

    def _receive(self) -> list[Any]:
        """The next frame; an empty one at the end."""
        try:
            frame: list[Any] = msgpack.unpackb(self._link.recv_bytes(), strict_map_key=False)
        except (EOFError, OSError):
            return []
        return frame

    # saying

    def say(self, kind: Say, *body: Any) -> None:
        """Send a frame. Where nobody is left to take it, the reader thread tells."""
        frame = msgpack.packb([kind, *body])
        with contextlib.suppress(OSError), self._sending:
            self._link.send_bytes(frame)

    def put(self, number: int, data: Sequence[memoryview]) -> None:
        """Send what is to be kept, as it lies in memory."""
        frame = msgpack.packb([Say.PUT, number, len(data)])
        with contextlib.suppress(OSError), self._sending:
            self._link.send_bytes(frame)
            for piece in data:
                self._link.send_bytes(piece)

    # hearing

    def listen(self, agent: int, listener: EngineListener) -> None:
        """Who is told of this agent, until it has ended."""
        with self._ends:
            self._listeners[agent] = listener
        if self.gone:
            listener.on_gone(self.gone)

    def listens(self, agent: int) -> bool:
        """Whether it is still to end."""
        return agent in self._listeners

    def _hear(self) -> None:
        """The reader thread."""
        while frame := self._receive():
            match frame:
                case [Say.NODES, nodes]:
                    self.nodes = nodes
                case [Say.UP, agent, node] if agent in self._listeners:
                    self._listeners[agent].on_up(agent, node)
                case [Say.DATA, agent, data] if agent in self._listeners:
                    self._listeners[agent].on_data(agent, data)
                case [Say.END, agent, reason] if agent in self._listeners:
                    self._forget(agent).on_end(agent, reason)
                case [Say.GONE, why]:
                    self._lose(f"{self.label} is gone: {why}")
        if not self._closing:
            self._lose(f"the process that speaks to {self.label} has ended: {self._tail()}")

    def _forget(self, agent: int) -> EngineListener:
        with self._ends:
            self._ends.notify_all()
            return self._listeners.pop(agent)

    def _lose(self, reason: str) -> None:
        if self.gone:
            return
        self.gone = reason
        with self._ends:
            listeners = set(self._listeners.values())
            self._listeners.clear()
            self._ends.notify_all()
        for listener in listeners:
            listener.on_gone(reason)

    def wait_for_ends(self, agents: set[int], seconds: float) -> None:
        """Wait until these have ended, at most so long."""
        with self._ends:
            self._ends.wait_for(lambda: agents.isdisjoint(self._listeners), seconds)

    # leaving

    def abandon(self) -> None:
        """In a forked child: let go of the parent's descriptors."""
        self._link.close()
        self._socket.close()
        self._output.close()
        self._process.returncode = 0  # nothing here will wait for it

    def close(self) -> None:
        """End the gateway, all agents with it, and the cluster that it has started."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._socket.close()
        self._output.close()
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)


def _directory() -> str:
    """A new one for a cluster; empty where a path would be too long for Ray, which then has its own."""
    if len(tempfile.gettempdir()) + len("/durapool-ray-12345678") > LONGEST_DIRECTORY:
        return ""
    return tempfile.mkdtemp(prefix="durapool-ray-")
