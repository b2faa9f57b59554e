"""The pool's link to workers on a cluster: what `pool.supervisor.SupervisorLink` is to workers on this machine.

    pool --socket, pipes--> RemoteWorker . . . parcels . . . Agent --> worker process

The pool has a socket and two pipes for each worker, as ever. Their other ends are here, in a selector of their own
whose descriptor is the one that the pool's loop watches; `receive` moves what there is, so no thread of ours stands
between a worker and the pool. Engines may call the listener from any thread: that only queues, and wakes the loop.

Segments and files come as descriptors, which do not leave this machine: their contents travel, once to each agent, and
through the engine's own store where they are large.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from durapool.cluster.agent import facts, make_spec
from durapool.cluster.contents import Contents
from durapool.cluster.engine import Engine
from durapool.cluster.leases import Leases
from durapool.cluster.parcels import READ, Parcel, pack, unpack
from durapool.cluster.remote import RemoteAgent, RemoteWorker
from durapool.cluster.streams import Stream
from durapool.exceptions import ClusterError
from durapool.pool.supervisor import SupervisorGoneError, WorkerExit
from durapool.segments import Descriptor
from durapool.worker.transfer import receive

RESUME = "Nothing that was recorded is lost: run the same id again, on this executor or on another one"


class RemoteLink:
    """See `SupervisorLink` for the methods of the same name.

    Args:
        engine: owned, and closed with this.
        most: agents at once; None for as many as the cluster has slots.
        preload: modules that workers find imported.
    """

    def __init__(self, engine: Engine, most: int | None, preload: tuple[str, ...]) -> None:
        self._engine = engine
        self._leases = Leases(engine, most, make_spec(preload), self)
        self._facts = facts()
        self._agents: dict[int, RemoteAgent] = {}
        self._workers: dict[int, RemoteWorker] = {}
        self._contents = Contents(engine, self._queue)
        self.sends_ahead = False  # who begins next is decided here, by who is free first
        self._selector = selectors.DefaultSelector()
        self._news: deque[Callable[[], None]] = deque()  # from any thread
        self._gone = ""
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._woken)

    def fileno(self) -> int:
        """For the selector."""
        return self._selector.fileno()

    @property
    def is_gone(self) -> bool:
        """Whether nothing more can be expected of the cluster."""
        return bool(self._gone)

    # what the pool asks

    @property
    def places(self) -> Mapping[int, int]:
        """How many workers may run at each site, by its number."""
        return {number: 1 for number, agent in self._agents.items() if agent.proven}

    @property
    def size(self) -> int:
        """How many workers may run at once, now; at least 1."""
        return max(1, len(self._agents))

    def adjust(self, wanted: int, busy: set[int]) -> float | None:
        """So many workers could run; these sites are in use. Seconds until it is to be called again, if at all.

        Raises:
            ClusterError: no slot can ever be had.
        """
        now = time.monotonic()
        patience = self._leases.adjust(wanted, self._agents.keys() - busy, len(self._agents), now)
        for number in self._leases.take_surplus():
            self._let_go(number, "it had nothing to do")
        return patience

    def beat(self) -> None:
        """Tell all agents that this process lives. From any thread."""
        for number in list(self._agents):
            self._engine.send(number, pack([(Parcel.BEAT,)]))

    def fork_worker(self, worker: int, claims: int, site: int) -> tuple[socket.socket, int, int]:
        """See `SupervisorLink.fork_worker`."""
        agent = self._agents.get(site)
        if agent is None:
            raise SupervisorGoneError(f"the agent that was to start a worker on {self._engine.label} is gone")
        ours, theirs = socket.socketpair()
        prints_read, prints_write = os.pipe()
        errors_read, errors_write = os.pipe()
        stream = Stream(theirs, self._selector, lambda: self._hear_pool(remote))
        prints = (Stream(prints_write, self._selector, None), Stream(errors_write, self._selector, None))
        remote = RemoteWorker(worker, agent, os.dup(claims), theirs, stream, prints)
        self._workers[worker] = remote
        agent.workers.add(worker)
        stream.listen(not agent.window.is_full)
        self._post(agent, (Parcel.FORK, worker))
        for end in (prints_read, errors_read):
            os.set_blocking(end, False)
        ours.setblocking(False)
        return ours, prints_read, errors_read

    def kill(self, worker: int, grace: float = 0.0, first: int = signal.SIGTERM) -> None:
        """See `SupervisorLink.kill`."""
        self._tell(worker, Parcel.KILL, grace, int(first))

    def watch(self, worker: int, limit: int) -> None:
        """See `SupervisorLink.watch`."""
        self._tell(worker, Parcel.WATCH, limit)

    def _tell(self, worker: int, kind: Parcel, *body: Any) -> None:
        remote = self._workers.get(worker)
        if remote is not None and remote.agent.number in self._agents:
            self._post(remote.agent, (kind, worker, *body))

    def receive(self) -> list[WorkerExit] | None:
        """Move what there is to move; the workers that have ended since the last call.

        Raises:
            ClusterError: nothing more can be expected of the cluster.
        """
        for key, events in self._selector.select(0):
            key.data(events)
        while self._news:
            self._news.popleft()()
        if self._gone:
            raise ClusterError(f"{self._gone}. {RESUME}")
        for agent in self._agents.values():
            self._flush(agent)
        ends = []
        for remote in list(self._workers.values()):
            if remote.held:
                remote.say()
            if remote.exit is not None and remote.is_drained:
                self._forget(remote)
                ends.append(remote.exit)
        return ends

    def end_groups(self) -> None:
        """The agents do."""

    def abandon(self) -> None:
        """In a forked child: let go of our descriptors; the engine's threads are not here."""
        self._selector.close()
        for remote in self._workers.values():
            with contextlib.suppress(OSError):
                remote.close()
        self._wake_read.close()
        self._wake_write.close()

    def close(self) -> None:
        """End all agents, and let go of the cluster."""
        self._engine.close()
        for remote in list(self._workers.values()):
            remote.close()
        self._workers.clear()
        self._agents.clear()
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()

    # messages

    def _queue(self, number: int, parcel: tuple[Any, ...]) -> None:
        """For the next message of an agent, if it is up."""
        agent = self._agents.get(number)
        if agent is not None:
            agent.parcels.append(parcel)

    def _post(self, agent: RemoteAgent, parcel: tuple[Any, ...]) -> None:
        """Queue a parcel. It goes at once where nothing else wakes the loop for it."""
        agent.parcels.append(parcel)
        self._flush(agent)

    def _flush(self, agent: RemoteAgent) -> None:
        for worker in agent.workers:
            remote = self._workers[worker]
            agent.window.taken(sum(stream.taken() for stream in remote.streams))
        agent.parcels += agent.window.to_tell()
        if agent.parcels:
            parcels, agent.parcels = agent.parcels, []
            self._engine.send(agent.number, pack(parcels))

    def _hear_pool(self, remote: RemoteWorker) -> None:
        """Take on what the pool says to a worker, with the contents of what comes as descriptors."""
        agent = remote.agent
        try:
            data, descriptors = receive(remote.socket, READ)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data, descriptors = b"", []
        remote.descriptors.extend(map(Descriptor, descriptors))
        if not data:
            remote.stream.end()  # the pool has done with this worker
            return
        for kind, body in remote.skimmer.feed(data):
            self._contents.send_ahead(remote, kind, body)
        agent.parcels.append((Parcel.DATA, remote.number, _permits(remote.claims), data))
        agent.window.sent(len(data))
        if agent.window.is_full:
            self._let_speak(agent)

    def _let_speak(self, agent: RemoteAgent) -> None:
        for worker in agent.workers:
            self._workers[worker].stream.listen(not agent.window.is_full)

    def _take(self, agent: RemoteAgent, parcel: list[Any]) -> None:
        kind, *body = parcel
        match kind:
            case Parcel.SAID:
                self._deliver(agent, body[0], 0, body[1])
            case Parcel.PRINTED:
                self._deliver(agent, *body)
            case Parcel.EXITED:
                worker, status, peak, excess = body
                remote = self._workers.get(worker)
                if remote is not None:
                    remote.exit = WorkerExit(worker, status, peak, excess, f"on {agent.node}")
            case Parcel.WRITTEN:
                self._contents.write(self._workers[body[0]], *body[1:])
            case Parcel.TAKEN:
                agent.window.told(body[0])
                self._let_speak(agent)
            case Parcel.MISSING:
                self._contents.send_again(agent.number, body[0])
            case Parcel.HELLO:
                self._greet(agent, body[0])
            case _:
                raise ClusterError(f"an agent on {agent.node} sent parcel {kind!r}. {RESUME}")

    def _deliver(self, agent: RemoteAgent, worker: int, which: int, data: bytes) -> None:
        remote = self._workers.get(worker)
        if remote is None:
            agent.window.taken(len(data))
        elif which:
            remote.streams[which].write(data)
        else:
            remote.held.append(data)
            remote.say()

    def _greet(self, agent: RemoteAgent, theirs: Mapping[str, Any]) -> None:
        differences = [
            f"{name} is {ours} here and {theirs.get(name)} there"
            for name, ours in self._facts.items()
            if theirs.get(name) != ours
        ]
        if differences:
            self._gone = (
                f"{self._engine.label} cannot run branches of this program: on {agent.node}, {'; '.join(differences)}. "
                "Install the same versions on both sides"
            )
            return
        agent.proven = True
        self._leases.proven()

    # agents come and go: called by the engine, from any thread

    def on_up(self, agent: int, node: str) -> None:
        """See `EngineListener.on_up`."""
        self._tell_loop(lambda: self._came_up(agent, node))

    def on_data(self, agent: int, data: bytes) -> None:
        """See `EngineListener.on_data`."""
        self._tell_loop(lambda: self._heard(agent, data))

    def on_end(self, agent: int, reason: str) -> None:
        """See `EngineListener.on_end`."""
        self._tell_loop(lambda: self._ended(agent, reason))

    def on_gone(self, reason: str) -> None:
        """See `EngineListener.on_gone`."""
        self._tell_loop(lambda: self._note_gone(reason))

    def _tell_loop(self, news: Callable[[], None]) -> None:
        self._news.append(news)
        with contextlib.suppress(OSError):  # it has enough to wake it, or is closed
            self._wake_write.send(b"\0")

    def _woken(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_read.recv(4096)

    def _note_gone(self, reason: str) -> None:
        self._gone = self._gone or reason

    def _came_up(self, number: int, node: str) -> None:
        """A second run of an agent that has come up before, or one that was let go while it waited, is refused."""
        if not self._leases.granted(number):
            self._engine.release(number)
            return
        self._agents[number] = RemoteAgent(number, node)

    def _heard(self, number: int, data: bytes) -> None:
        agent = self._agents.get(number)
        if agent is not None:  # else it was let go, and says its last words
            for parcel in unpack(data):
                self._take(agent, parcel)

    def _ended(self, number: int, reason: str) -> None:
        self._engine.release(number)  # lest the engine starts it again
        if number in self._agents:
            self._drop_agent(number, reason)
        else:
            self._leases.failed(number, reason)

    def _let_go(self, number: int, reason: str) -> None:
        self._engine.release(number)
        if number in self._agents:
            self._drop_agent(number, reason)

    def _drop_agent(self, number: int, reason: str) -> None:
        """Its workers have gone with it."""
        agent = self._agents.pop(number)
        self._leases.ended(number)
        self._contents.forget_agent(number)
        for worker in list(agent.workers):
            remote = self._workers[worker]
            remote.exit = remote.exit or WorkerExit(worker, None, 0, 0, reason)
        self._tell_loop(_nothing)  # which asks for them then

    def _forget(self, remote: RemoteWorker) -> None:
        self._workers.pop(remote.number, None)
        remote.agent.workers.discard(remote.number)
        remote.agent.window.taken(sum(stream.taken() for stream in remote.streams))
        remote.close()
        others = [batch for each in self._workers.values() for batch in each.batches]
        self._contents.forget(remote.batches.difference(others))


def _nothing() -> None:
    """What is told only to wake the loop."""


def _permits(claims: int) -> int:
    """Take the permits that were given with what has just been read."""
    try:
        return len(os.read(claims, 4096))
    except BlockingIOError:
        return 0
