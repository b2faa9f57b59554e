"""The agent: it holds a slot of the cluster, and runs worker processes there as a pool does on its own machine.

    link <--engine's messages--> Agent --supervisor, sockets, pipes--> worker, worker that waits for a nested batch, ...

It starts workers through a supervisor of its own, so that they are isolated, limited and killed as everywhere. It reads
nothing of what pool and workers say to each other but passes it on; the contents of segments it gets beside that, once
each, and what workers write to files it sends back. It ends, with all that it has started, when the parent lets it go,
when the engine says that the parent is gone, and when nothing was heard of the parent for SILENCE.
"""

from __future__ import annotations

import os
import selectors
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import msgpack

from durapool import segments
from durapool.cluster.engine import AgentSide
from durapool.cluster.parcels import CHUNK, READ, VERSION, Parcel, Window, pack, unpack
from durapool.cluster.streams import Stream
from durapool.pool.claims import Claims
from durapool.pool.machine import default_start_method, usable_cpus
from durapool.pool.supervisor import SupervisorLink, WorkerExit
from durapool.segments import Descriptor, write_parts

SILENCE = 60.0  # seconds; the parent says something every few seconds


def make_spec(preload: tuple[str, ...]) -> bytes:
    """What an agent is told before it starts."""
    spec: bytes = msgpack.packb({"preload": preload})
    return spec


def facts() -> dict[str, Any]:
    """What must be the same on both sides, by the names that people know."""
    return {
        "Python": "{}.{}".format(*sys.version_info),
        "durapool": version("durapool"),
        "cloudpickle": version("cloudpickle"),
        "protocol": VERSION,
    }


def run_agent(spec: bytes, side: AgentSide) -> str:
    """Hold a slot until the parent lets it go; why it ended. Called in the slot, on any thread of it."""
    agent = Agent(spec, side)
    try:
        return agent.serve()
    finally:
        agent.close()


@dataclass(eq=False)
class Upload:
    """A file that a worker writes: one piece after the other, from the beginning."""

    source: Descriptor
    size: int
    sent: int = 0


@dataclass(eq=False)
class Hosted:
    """A worker process of this agent."""

    number: int
    claims: Claims
    said: Stream
    prints: tuple[Stream, Stream]
    handed: list[int] = field(default_factory=list)  # descriptors for its next DATA
    uploads: dict[str, Upload] = field(default_factory=dict)

    @property
    def streams(self) -> tuple[Stream, ...]:
        """All that it may say something through."""
        return (self.said, *self.prints)

    def close(self) -> None:
        """Release the descriptors."""
        for stream in self.streams:
            stream.close()
        self.claims.close()
        for descriptor in self.handed:
            os.close(descriptor)
        self.handed.clear()


class Agent:
    """The loop on one thread."""

    def __init__(self, spec: bytes, side: AgentSide) -> None:
        self._side = side
        self._selector = selectors.DefaultSelector()
        self._workers: dict[int, Hosted] = {}
        self._segments: dict[int, Descriptor] = {}
        self._backlog: deque[list[Any]] = deque()  # parcels that wait for a segment that is missing
        self._missing = 0
        self._window = Window()
        self._parcels: list[tuple[Any, ...]] = [(Parcel.HELLO, facts())]
        self._heard = time.monotonic()
        preload = tuple(msgpack.unpackb(spec)["preload"])
        # a slot is one CPU, unless the engine has set the thread counts in the environment
        self._link = SupervisorLink(default_start_method(), usable_cpus(), preload)
        self._selector.register(side.inbox, selectors.EVENT_READ, self._listen)
        self._selector.register(self._link, selectors.EVENT_READ, self._hear_supervisor)
        self._why_ended = ""

    def serve(self) -> str:
        """Until it is let go. Why it ended."""
        while not self._why_ended:
            self._send()
            left = self._heard + SILENCE - time.monotonic()
            for key, events in self._selector.select(max(0.0, left)):
                key.data(events)
            if time.monotonic() - self._heard > SILENCE:
                self._why_ended = f"nothing was heard of the parent for {SILENCE:.0f} s"
        self._send()
        return self._why_ended

    def _send(self) -> None:
        for worker in self._workers.values():
            self._window.taken(worker.said.taken())
        self._parcels += self._window.to_tell()
        if self._parcels:
            self._side.send(pack(self._parcels))
            self._parcels.clear()

    def close(self) -> None:
        """End the supervisor, and all workers with it."""
        self._link.close()
        for worker in self._workers.values():
            worker.close()
        self._selector.close()
        self._side.inbox.close()

    # what the parent says

    def _listen(self, _events: int) -> None:
        inbox = self._side.inbox
        messages = inbox.take()
        if messages:
            self._heard = time.monotonic()
        for message in messages:
            self._backlog.extend(unpack(message))
        self._work_off()
        if inbox.ended:
            self._why_ended = "it was let go"

    def _work_off(self) -> None:
        if self._missing:
            self._take_missing()
        while self._backlog and not self._missing:
            self._take(self._backlog.popleft())

    def _take_missing(self) -> None:
        """What could not be fetched was asked for, and comes behind what was on its way."""
        for parcel in self._backlog:
            if parcel[0] == Parcel.CONTENT and parcel[1] == self._missing:
                self._backlog.remove(parcel)
                self._keep(parcel[1], parcel[2])
                self._missing = 0
                return

    def _take(self, parcel: list[Any]) -> None:
        kind, *body = parcel
        match kind:
            case Parcel.DATA:
                self._pass_on(*body)
            case Parcel.FORK:
                self._fork(body[0])
            case Parcel.KILL:
                self._link.kill(*body)
            case Parcel.WATCH:
                self._link.watch(*body)
            case Parcel.CONTENT:
                self._keep(*body)
            case Parcel.REFERENCE:
                self._fetch(*body)
            case Parcel.HAND:
                worker, segment = self._workers.get(body[0]), self._segments.get(body[1])
                if worker is not None and segment is not None:
                    worker.handed.append(os.dup(segment.descriptor))
            case Parcel.UNSHARE:
                for number in body[0]:
                    self._segments.pop(number, None)
            case Parcel.BLANK:
                self._hand_blank(*body)
            case Parcel.TAKEN:
                self._window.told(body[0])
                self._let_speak()
            case Parcel.BEAT:
                pass
            case _:
                raise RuntimeError(f"the parent sent parcel {kind!r} to an agent")

    def _pass_on(self, number: int, permits: int, data: bytes) -> None:
        worker = self._workers.get(number)
        if worker is None:
            self._window.taken(len(data))  # it has ended, which the parent will hear
            return
        if permits:
            worker.claims.permit(permits)
        handed, worker.handed = worker.handed, []
        worker.said.write(data, handed)

    def _fork(self, number: int) -> None:
        claims = Claims()
        ours, prints, errors = self._link.fork_worker(number, claims.read_end)
        streams = (
            Stream(prints, self._selector, lambda: self._relay(worker, 1)),
            Stream(errors, self._selector, lambda: self._relay(worker, 2)),
        )
        said = Stream(ours, self._selector, lambda: self._hear(worker))
        worker: Hosted = Hosted(number, claims, said, streams)
        self._workers[number] = worker
        for stream in worker.streams:
            stream.listen(not self._window.is_full)

    def _keep(self, number: int, content: bytes | memoryview) -> None:
        segment = segments.scratch()
        write_parts(segment.descriptor, [memoryview(content).cast("B")])
        self._segments[number] = segment

    def _fetch(self, number: int, reference: bytes) -> None:
        try:
            content = self._side.fetch(reference)
        except LookupError:
            self._missing = number
            self._parcels.append((Parcel.MISSING, number))
            self._take_missing()
        else:
            self._keep(number, content)

    def _hand_blank(self, number: int, name: str, size: int) -> None:
        worker = self._workers.get(number)
        if worker is not None:
            file = segments.scratch()
            worker.handed.append(os.dup(file.descriptor))
            worker.uploads[name] = Upload(file, size)

    # what workers say

    def _let_speak(self) -> None:
        listening = not self._window.is_full
        for worker in self._workers.values():
            for stream in worker.streams:
                stream.listen(listening)

    def _hear(self, worker: Hosted) -> bool:
        """Take what a worker has said; whether there may be more. What it has printed and written before goes ahead."""
        data = _read(worker.said)
        if not data:
            return False
        self._relay(worker, 1)  # a read takes more than a pipe holds
        self._relay(worker, 2)
        self._upload(worker)
        self._parcels.append((Parcel.SAID, worker.number, data))
        self._count(len(data))
        return True

    def _relay(self, worker: Hosted, which: int) -> bool:
        data = _read(worker.prints[which - 1])
        if not data:
            return False
        self._parcels.append((Parcel.PRINTED, worker.number, which, data))
        self._count(len(data))
        return True

    def _count(self, size: int) -> None:
        self._window.sent(size)
        if self._window.is_full:
            self._let_speak()

    def _upload(self, worker: Hosted) -> None:
        for name, upload in list(worker.uploads.items()):
            written = os.fstat(upload.source.descriptor).st_size
            while upload.sent < written:
                piece = os.pread(upload.source.descriptor, min(CHUNK, written - upload.sent), upload.sent)
                self._parcels.append((Parcel.WRITTEN, worker.number, name, upload.sent, piece))
                upload.sent += len(piece)
                self._send()
            if upload.sent >= upload.size:
                del worker.uploads[name]

    def _hear_supervisor(self, _events: int) -> None:
        ends = self._link.receive()
        if ends is None:
            self._why_ended = "its supervisor was killed"
            self._link.end_groups()
            return
        for end in ends:
            self._bury(end)

    def _bury(self, end: WorkerExit) -> None:
        """A worker has ended; what it had said goes ahead of the news."""
        worker = self._workers.pop(end.worker, None)
        if worker is not None:
            while self._hear(worker):
                continue
            for which in (1, 2):
                while self._relay(worker, which):
                    continue
            worker.close()
            self._window.taken(worker.said.taken())
        self._parcels.append((Parcel.EXITED, end.worker, end.status, end.peak, end.excess))


def _read(stream: Stream) -> bytes:
    """What is there to read; nothing where nothing is. At its end a stream is not listened to any more."""
    if stream.is_closed:
        return b""
    try:
        data = stream.read(READ)
    except BlockingIOError:
        return b""
    if not data:
        stream.end()
    return data
