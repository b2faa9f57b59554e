"""What the link knows of an agent, and of a worker that it hosts."""

from __future__ import annotations

import os
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from durapool.cluster.parcels import Window
from durapool.cluster.streams import Skimmer, Stream
from durapool.pool.supervisor import WorkerExit
from durapool.segments import Descriptor

if TYPE_CHECKING:
    from durapool.cluster.contents import NewFile


@dataclass(eq=False)
class RemoteAgent:
    """An agent that is up."""

    number: int
    node: str
    workers: set[int] = field(default_factory=set)
    window: Window = field(default_factory=Window)
    parcels: list[tuple[Any, ...]] = field(default_factory=list)  # for its next message
    proven: bool = False  # it has said which versions it has, and they are ours


@dataclass(eq=False)
class RemoteWorker:
    """The far ends of a worker's socket and pipes."""

    number: int
    agent: RemoteAgent
    claims: int  # a copy of the read end of its permits
    socket: socket.socket
    stream: Stream
    prints: tuple[Stream, Stream]
    skimmer: Skimmer = field(default_factory=Skimmer)
    descriptors: deque[Descriptor] = field(default_factory=deque)  # that came with what it is sent
    batches: set[int] = field(default_factory=set)  # whose segments it was handed
    files: dict[str, NewFile] = field(default_factory=dict)  # that it writes
    held: deque[bytes] = field(default_factory=deque)  # of what it has said, until what it had printed is passed on
    exit: WorkerExit | None = None  # told once all that it has said is passed on

    @property
    def streams(self) -> tuple[Stream, ...]:
        """All of them."""
        return (self.stream, *self.prints)

    def say(self) -> None:
        """Pass on what it has said, behind what it had printed before."""
        while self.held and all(stream.is_drained for stream in self.prints):
            self.stream.write(self.held.popleft())

    @property
    def is_drained(self) -> bool:
        """Whether the pool has taken, or can take, all that came from it."""
        return not self.held and all(stream.is_drained for stream in self.streams)

    def close(self) -> None:
        """Release the descriptors."""
        for stream in self.streams:
            stream.close()
        os.close(self.claims)
