"""The gateway: a process of our own that is Ray's driver, so that the user's program is not.

    RayEngine ==socket, frames==> reader thread --tasks--> main loop --calls--> AgentHolder, AgentHolder, ...
              <==frames==========================--------- main loop <--polls--
              <==GONE============ watch thread

Ray ends the program that is its driver when the cluster has been away for a minute, tries for two minutes to reach one
that is not there, takes over the handlers of signals, and has threads that do not survive a fork (measured, 2.60). Here
it may: what the engine sees is the end of a socket. When the parent is gone, however, all actors go.
"""

from __future__ import annotations

import contextlib
import pickle
import queue
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import msgpack
import ray

from durapool.cluster.ray_actor import Said, holder
from durapool.cluster.ray_cluster import Target, Watch, address, connect, leave_in_time, why_ended
from durapool.cluster.ray_frames import LOCAL, Say

WATCH_SECONDS = 1.0  # between two looks at the cluster, and at agents that should have ended
FINISH_SECONDS = 5.0  # that an agent has to end by itself


class ParentGoneError(Exception):
    """Nobody is at the other end."""


def main(descriptor: int) -> None:
    """Serve the engine at the other end of a socket."""
    frames = Frames(Connection(descriptor))
    kind, *body = frames.receive()
    if kind != Say.CONNECT:
        raise RuntimeError(f"the engine began with {kind!r}")
    target = Target(*body)
    try:
        _serve(frames, target)
    except ParentGoneError:
        pass
    finally:
        leave_in_time()
        ray.shutdown()
        if target.directory:
            shutil.rmtree(target.directory, ignore_errors=True)


def _serve(frames: Frames, target: Target) -> None:
    gateway = Gateway(frames)
    try:
        connect(target)
        watch = Watch(gateway.look_after, is_own=target.address == LOCAL)
    except Exception as error:  # noqa: BLE001  # whatever Ray has against it is for people to read
        frames.say(Say.FAILED, f"{type(error).__name__}: {error}")
        return
    frames.say(Say.NODES, watch.nodes)
    frames.say(Say.CONNECTED, address())
    threading.Thread(target=gateway.read, name="durapool-reader", daemon=True).start()
    threading.Thread(target=_keep_watch, args=(watch, gateway, frames), name="durapool-watch", daemon=True).start()
    gateway.run(watch)


def _keep_watch(watch: Watch, gateway: Gateway, frames: Frames) -> None:
    """The watch thread: the main loop may wait for a cluster that is gone."""
    known = watch.nodes
    with contextlib.suppress(ParentGoneError):
        while not (problem := watch.problem()):
            time.sleep(WATCH_SECONDS)
            nodes = watch.nodes
            if nodes != known:
                frames.say(Say.NODES, nodes)
                known = nodes
        frames.say(Say.GONE, problem)
    gateway.stop()


class Frames:
    """The socket to the engine. Any thread may say something; one receives."""

    def __init__(self, link: Connection) -> None:
        self._link = link
        self._lock = threading.Lock()

    def say(self, kind: Say, *body: Any) -> None:
        """Raises ParentGoneError."""
        frame = msgpack.packb([kind, *body])
        try:
            with self._lock:
                self._link.send_bytes(frame)
        except OSError as error:
            raise ParentGoneError from error

    def receive(self) -> list[Any]:
        """The next frame; that of PUT has the bytes that follow it instead of their count. Raises ParentGoneError."""
        try:
            frame: list[Any] = msgpack.unpackb(self._link.recv_bytes(), strict_map_key=False)
            if frame[0] == Say.PUT:
                frame[2] = [self._link.recv_bytes() for _ in range(frame[2])]
        except (EOFError, OSError) as error:
            raise ParentGoneError from error
        return frame


@dataclass(eq=False, slots=True)
class Lease:
    """An actor, or one that waits for its slot."""

    agent: int
    actor: Any
    sent: int = 0
    node: str = ""  # once it is up
    deadline: float | None = None  # it was told to finish, and is killed then


@dataclass(frozen=True, slots=True)
class Death:
    """An actor has died by itself: told once the cluster is known to have outlived it."""

    agent: int
    time: float
    reason: str


class Gateway:
    """The main loop: all calls of actors are made here, other threads only queue what is to be done."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._leases: dict[int, Lease] = {}
        self._kept: dict[int, ray.ObjectRef[Any]] = {}
        self._deaths: list[Death] = []
        self._holder = holder()

    def run(self, watch: Watch) -> None:
        """Until the parent is gone, or the cluster.

        Raises:
            ParentGoneError: the loop is over.
        """
        while True:
            with contextlib.suppress(queue.Empty):
                self._tasks.get(timeout=WATCH_SECONDS)()
            self._tell_deaths(watch)
            now = time.monotonic()
            for lease in [each for each in self._leases.values() if each.deadline is not None and each.deadline < now]:
                self._end(lease, "it was let go, and did not end by itself")

    def read(self) -> None:
        """The reader thread: it always reads, so the parent never waits for Ray."""
        with contextlib.suppress(ParentGoneError):
            while True:
                kind, *body = self._frames.receive()
                self._tasks.put(partial(self._take, kind, body))
        self.stop()

    def look_after(self) -> None:
        """The cluster has answered. From any thread."""
        self._tasks.put(_nothing)

    def stop(self) -> None:
        """End the loop, at once or in the time that it has. From any thread."""
        leave_in_time()
        self._tasks.put(_leave)

    def _take(self, kind: str, body: list[Any]) -> None:
        match kind:
            case Say.LEASE:
                self._lease(*body)
            case Say.SEND:
                self._send(*body)
            case Say.RELEASE:
                self._release(*body)
            case Say.PUT:
                self._put(*body)
            case Say.DROP:
                self._kept.pop(body[0], None)
            case _:
                raise RuntimeError(f"the engine sent {kind!r}")

    def _lease(self, agent: int, spec: bytes, options: Mapping[str, Any]) -> None:
        try:
            lease = Lease(agent, self._holder.options(**options).remote())
        except Exception as error:  # noqa: BLE001  # what Ray has against the options is for people to read
            self._frames.say(Say.END, agent, f"{type(error).__name__}: {error}")
            return
        self._leases[agent] = lease
        self._follow(lease, lease.actor.start.remote(spec), self._came_up)

    def _follow(self, lease: Lease, reference: Any, then: Callable[[Lease, Any], None]) -> None:
        """Call it in this loop with what a method of the actor has returned; if it has raised, the lease is over."""

        def arrived() -> None:
            if self._leases.get(lease.agent) is not lease:
                return
            problem = future.exception()
            if problem is None:
                then(lease, future.result())
            else:
                self._died(lease, why_ended(problem, lease.node))

        future = reference.future()
        future.add_done_callback(lambda _: self._tasks.put(arrived))

    def _died(self, lease: Lease, reason: str) -> None:
        """Where the whole cluster has gone, no branch is lost: the run goes on later."""
        del self._leases[lease.agent]
        ray.kill(lease.actor)
        self._deaths.append(Death(lease.agent, time.monotonic(), reason))

    def _tell_deaths(self, watch: Watch) -> None:
        if self._deaths:
            watch.look_now()
        told = [death for death in self._deaths if death.time < watch.seen]
        if told and not watch.problem():
            self._deaths = [death for death in self._deaths if death not in told]
            for death in told:
                self._frames.say(Say.END, death.agent, death.reason)

    def _came_up(self, lease: Lease, node: str) -> None:
        lease.node = node
        self._frames.say(Say.UP, lease.agent, node)
        self._follow(lease, lease.actor.poll.remote(), self._polled)

    def _polled(self, lease: Lease, said: list[tuple[str, Any]]) -> None:
        for kind, body in said:
            match kind:
                case Said.SENT:
                    self._frames.say(Say.DATA, lease.agent, body)
                case Said.WANTED:
                    kept = self._kept.get(body)
                    lease.actor.share.remote(body, [] if kept is None else [kept])
                case Said.ENDED:
                    self._end(lease, body)
                    return
        self._follow(lease, lease.actor.poll.remote(), self._polled)

    def _send(self, agent: int, data: bytes) -> None:
        lease = self._leases.get(agent)
        if lease is not None and lease.node:
            lease.sent += 1
            lease.actor.deliver.remote(lease.sent, data)

    def _release(self, agent: int) -> None:
        lease = self._leases.get(agent)
        if lease is None:
            return
        if lease.node:
            lease.actor.finish.remote()
            lease.deadline = lease.deadline or time.monotonic() + FINISH_SECONDS
        else:
            self._end(lease, "it was let go")

    def _end(self, lease: Lease, reason: str) -> None:
        del self._leases[lease.agent]
        ray.kill(lease.actor)
        self._frames.say(Say.END, lease.agent, reason)

    def _put(self, number: int, pieces: list[bytes]) -> None:
        # where the object store has no room for it, an agent hears that it is not there and gets it from the parent
        with contextlib.suppress(ray.exceptions.RayError):
            self._kept[number] = ray.put(pickle.PickleBuffer(b"".join(pieces) if len(pieces) > 1 else pieces[0]))


def _nothing() -> None:
    """A task that only wakes the loop."""


def _leave() -> NoReturn:
    raise ParentGoneError
