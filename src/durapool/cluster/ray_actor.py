"""What runs on a node of a Ray cluster: an actor that holds a slot and has an agent in it.

    gateway --deliver, share, finish--> AgentHolder --inbox--> run_agent, on a thread
            <--poll-- all that the agent has said since the last one <--outbox--

Calls within a concurrency group run one after the other, in their order. Ray makes no call of ours twice; one that is
missing ends the agent.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, TypeVar

import ray

from durapool.cluster.agent import run_agent
from durapool.cluster.engine import Inbox

_Method = TypeVar("_Method", bound=Callable[..., Any])

LOOK_SECONDS = 1.0  # between two looks at whether the parent has gone, while something is fetched


class Said(StrEnum):
    """Kinds of what `AgentHolder.poll` returns. The comment gives what comes with it."""

    SENT = "sent"  # bytes for the parent
    WANTED = "wanted"  # number of what was put: to be shared
    ENDED = "ended"  # why


def _within(group: str) -> Callable[[_Method], _Method]:
    """A method of this concurrency group."""
    mark: Callable[[_Method], _Method] = ray.method(concurrency_group=group)
    return mark


class AgentHolder:
    """The actor, one for each agent."""

    def __init__(self) -> None:
        self._side = RaySide()
        self._delivered = 0

    def start(self, spec: bytes) -> str:
        """Let the agent come up; the name of the node, for people."""
        threading.Thread(target=self._run, args=(spec,), name="durapool-agent", daemon=True).start()
        return self._side.node

    def _run(self, spec: bytes) -> None:
        try:
            reason = run_agent(spec, self._side)
        except BaseException as error:  # noqa: BLE001  # the last frame of the thread: tell, and the gateway ends us
            reason = f"{type(error).__name__}: {error}"
        self._side.outbox.put((Said.ENDED, f"{reason}, on {self._side.node}"))

    @_within("inward")
    def deliver(self, number: int, data: bytes) -> None:
        """Message `number` of the parent, counted from 1."""
        self._delivered += 1
        if number == self._delivered:
            self._side.inbox.put(data)
        else:
            self._side.outbox.put((Said.ENDED, f"a message was lost on its way to {self._side.node}"))

    @_within("inward")
    def share(self, number: int, shared: Sequence[ray.ObjectRef[Any]]) -> None:
        """What `RaySide.fetch` waits for, as a reference in a list, into which Ray does not look; an empty one: it is
        gone."""
        self._side.shared.put((number, shared))

    @_within("inward")
    def finish(self) -> None:
        """The parent lets the agent go."""
        self._side.inbox.end()

    @_within("outward")
    def poll(self) -> list[tuple[str, Any]]:
        """Wait until the agent has something to say; all that it has."""
        outbox = self._side.outbox
        said = [outbox.get()]
        while not outbox.empty():
            said.append(outbox.get())
        return said


def holder() -> Any:
    """`AgentHolder` as Ray makes actors of it: never made twice, no call made twice."""
    return ray.remote(max_restarts=0, max_task_retries=0, concurrency_groups={"inward": 1, "outward": 1})(AgentHolder)


class RaySide:
    """Ray as an agent sees it: see `AgentSide`."""

    def __init__(self) -> None:
        self.node = f"{socket.gethostname()} ({ray.util.get_node_ip_address()})"
        self.inbox = Inbox()
        self.outbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.shared: queue.SimpleQueue[tuple[int, Sequence[ray.ObjectRef[Any]]]] = queue.SimpleQueue()

    def send(self, data: bytes) -> None:
        """See `AgentSide.send`."""
        self.outbox.put((Said.SENT, data))

    def fetch(self, reference: bytes) -> memoryview:
        """See `AgentSide.fetch`: from the object store of this node, which gets it from another one the first time."""
        number = int(reference)
        self.outbox.put((Said.WANTED, number))
        shared = self._answer(number)
        if not shared:
            raise LookupError(f"nothing is kept under {number}")
        try:
            return memoryview(ray.get(shared[0]))
        except ray.exceptions.RayError as error:
            raise LookupError(f"what was kept under {number} is lost: {error}") from error

    def _answer(self, number: int) -> Sequence[ray.ObjectRef[Any]]:
        while not self.inbox.ended:
            try:
                answered, shared = self.shared.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue
            if answered == number:
                return shared
        return ()
