"""What a cluster has to offer: slots, and messages to and from the agents that hold them.

    parent                                          a node
    RemoteLink --lease--> Engine  . . grants . . .  run_agent(side) in the slot
               <--on_up--                           side.node
               --send---> Engine  . . carries . .   side.inbox
               <--on_data                           side.send
               --put----> Engine  . . stores  . .   side.fetch
               --release-> Engine . . . . . . . .   side.inbox ends; the slot is free

An engine carries bytes and knows nothing of what they say. It must not run an agent twice by itself: where it cannot be
told so, the second run comes up like any other and the link, which knows better, releases it.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Protocol

from durapool.executors import ClusterExecutor, DaskExecutor


class EngineListener(Protocol):
    """Who is told what becomes of agents. All methods may be called from any thread, and return at once."""

    def on_up(self, agent: int, node: str) -> None:
        """The agent has its slot and listens. `node` names the machine, for people."""
        ...

    def on_data(self, agent: int, data: bytes) -> None:
        """A message of the agent: whole, in order."""
        ...

    def on_end(self, agent: int, reason: str) -> None:
        """The agent has ended, or cannot come up; `reason` says why in a few words, with the node."""
        ...

    def on_gone(self, reason: str) -> None:
        """Nothing more can be expected: the cluster is gone, or its nodes cannot run agents. A sentence for people that
        says which, and what to do."""
        ...


class Engine(Protocol):
    """One connection to a cluster. Used by one link, whose methods are called by one thread at a time, but for `send`,
    which any thread may call at any time. No method waits for the cluster, but for the first connection."""

    label: str  # such as "the Dask cluster tcp://10.0.0.1:8786", for messages

    def slots(self) -> int:
        """How many agents the cluster could run at once if it did nothing else; 0 where no node will do.

        It changes while the cluster grows and shrinks; what was known a few seconds ago is good enough.
        """
        ...

    def lease(self, agent: int, spec: bytes, listener: EngineListener) -> None:
        """Ask for a slot, with the resources that the executor wants. `run_agent(spec, side)` runs there when it is
        granted. `agent` is a number that was never used before."""
        ...

    def send(self, agent: int, data: bytes) -> None:
        """A message to an agent that is up: whole, in order, not lost while the agent lives. Nothing for others."""
        ...

    def put(self, agent: int, data: Sequence[memoryview]) -> bytes:
        """Keep these bytes, one after the other, where agents can fetch them, at best on the node of this one.

        They may be taken away as soon as this returns. What it returns is for `AgentSide.fetch` and for `drop`.
        """
        ...

    def drop(self, reference: bytes) -> None:
        """Nobody will fetch it any more."""
        ...

    def release(self, agent: int) -> None:
        """End the agent, if it has not ended, and free its slot; one that waits for a slot shall get none."""
        ...

    def close(self) -> None:
        """Release all agents, drop what was put, and let go of the cluster. Waits a few seconds at the most."""
        ...


class AgentSide(Protocol):
    """An engine on the node, as one agent sees it."""

    node: str
    inbox: Inbox

    def send(self, data: bytes) -> None:
        """A message to the parent. Returns at once: how much may be on its way is the agent's care."""
        ...

    def fetch(self, reference: bytes) -> bytes | memoryview:
        """What the parent has put. Waits for it.

        Raises:
            LookupError: it is gone, with the node that had it perhaps.
        """
        ...


class Inbox:
    """Messages for an agent, put in by any thread of its engine. The agent waits on `fileno`."""

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._lock = threading.Lock()
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        self.ended = False  # nothing more will come: the parent has let the agent go, or is gone

    def fileno(self) -> int:
        """For a selector: readable when there is something to take, or nothing more to come."""
        return self._read.fileno()

    def put(self, data: bytes) -> None:
        """A message has arrived."""
        self._messages.append(data)
        self._wake()

    def end(self) -> None:
        """Nothing more will come."""
        self.ended = True
        self._wake()

    def take(self) -> list[bytes]:
        """All that has arrived."""
        try:
            self._read.recv(4096)
        except BlockingIOError:
            pass
        return [self._messages.popleft() for _ in range(len(self._messages))]

    def _wake(self) -> None:
        with self._lock:
            try:
                self._write.send(b"\0")
            except OSError:
                pass  # it is full, which wakes as well, or closed: nobody takes anything any more

    def close(self) -> None:
        """Release the descriptors."""
        with self._lock:
            self._read.close()
            self._write.close()


def open_engine(executor: ClusterExecutor) -> Engine:
    """Connect to the cluster of an executor; without an address a local one is started.

    Raises:
        PoolError: nobody answers there.
    """
    module = "dask" if isinstance(executor, DaskExecutor) else "ray"
    connect: Callable[[ClusterExecutor], Engine] = import_module(f"durapool.cluster.{module}").open_engine
    return connect(executor)
