"""A cluster within this process: each agent is a thread, granted its slot when the test says so."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from durapool.cluster.agent import run_agent
from durapool.cluster.engine import EngineListener, Inbox


class FakeSide:
    """One agent's side."""

    def __init__(self, engine: FakeEngine, agent: int, listener: EngineListener) -> None:
        self.node = f"node-{agent}"
        self.inbox = Inbox()
        self._engine = engine
        self._agent = agent
        self._listener = listener
        self.is_cut = False

    def send(self, data: bytes) -> None:
        if not self.is_cut:
            self._listener.on_data(self._agent, data)

    def fetch(self, reference: bytes) -> bytes | memoryview:
        self._engine.fetches.append((self._agent, reference))
        return self._engine.stored[reference]


class FakeEngine:
    """Grants slots at once, up to `size` at a time; `hold` keeps agents waiting."""

    label = "the fake cluster"

    def __init__(self, size: int = 2, hold: bool = False) -> None:
        self.size = size
        self.hold = hold
        self.specs: dict[int, tuple[bytes, EngineListener]] = {}
        self.waiting: list[int] = []
        self.sides: dict[int, FakeSide] = {}
        self.threads: list[threading.Thread] = []
        self.granted: list[int] = []  # every agent that has come up, in order
        self.released: list[int] = []
        self.stored: dict[bytes, bytes] = {}
        self.puts: list[bytes] = []
        self.fetches: list[tuple[int, bytes]] = []
        self.closed = False
        self.endings: list[str] = []
        self._lock = threading.RLock()

    def slots(self) -> int:
        return self.size

    def lease(self, agent: int, spec: bytes, listener: EngineListener) -> None:
        with self._lock:
            self.specs[agent] = spec, listener
            self.waiting.append(agent)
        self.grant_waiting()

    def grant_waiting(self) -> None:
        """Let those come up that have room."""
        with self._lock:
            while not self.hold and self.waiting and len(self.sides) < self.size:
                self.grant(self.waiting.pop(0))

    def grant(self, agent: int) -> None:
        """Run this agent now, whatever became of it before: as an engine that runs a task again."""
        spec, listener = self.specs[agent]
        side = FakeSide(self, agent, listener)
        with self._lock:
            self.sides[agent] = side
            self.granted.append(agent)
        thread = threading.Thread(target=self._run, args=(agent, spec, side, listener), daemon=True)
        self.threads.append(thread)
        listener.on_up(agent, side.node)
        thread.start()

    def _run(self, agent: int, spec: bytes, side: FakeSide, listener: EngineListener) -> None:
        reason = run_agent(spec, side)
        with self._lock:
            self.endings.append(reason)
            if self.sides.get(agent) is side:
                del self.sides[agent]
        if not side.is_cut:
            listener.on_end(agent, f"its agent on {side.node} ended: {reason}")
        self.grant_waiting()

    def send(self, agent: int, data: bytes) -> None:
        side = self.sides.get(agent)
        if side is not None:
            side.inbox.put(data)

    def put(self, agent: int, data: Sequence[memoryview]) -> bytes:
        reference = f"data-{len(self.puts)}".encode()
        self.puts.append(reference)
        self.stored[reference] = b"".join(data)
        return reference

    def drop(self, reference: bytes) -> None:
        del self.stored[reference]

    def release(self, agent: int) -> None:
        self.released.append(agent)
        with self._lock:
            if agent in self.waiting:
                self.waiting.remove(agent)
            side = self.sides.get(agent)
        if side is not None:
            side.inbox.end()

    def close(self) -> None:
        self.closed = True
        for agent in list(self.sides):
            self.release(agent)
        for thread in self.threads:
            thread.join(10)

    def lose(self, agent: int) -> None:
        """The node goes down: nothing more is heard of the agent."""
        side = self.sides[agent]
        side.is_cut = True
        side.inbox.end()
        self.specs[agent][1].on_end(agent, f"{side.node} was lost")

    def agents(self) -> Iterator[int]:
        """Those that are up."""
        yield from list(self.sides)
