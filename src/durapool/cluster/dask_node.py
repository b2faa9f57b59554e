"""An agent on a Dask worker: the task that holds the slot, and the handler through which its parent reaches it.

    host_agent (a thread of the Dask worker) --log_event--> scheduler --> the client hears where the agent is
    client --connects, op "durapool-agent"--> the worker's own listener --> `Desk.answer` --> the agent of that call

Only this module is imported by Dask workers. The handler is there while an agent is.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque

from distributed import Worker, get_worker
from distributed.comm import Comm, CommClosedError
from distributed.core import Status
from distributed.worker import get_data_from_worker

from durapool.cluster.agent import run_agent
from durapool.cluster.engine import Inbox

TOPIC = "durapool"  # of events; the scheduler keeps the last few of each topic, so there is one for all
OPERATION = "durapool-agent"
_FETCH_SECONDS = 30.0  # that something which was just put may take to arrive
_LOOK_SECONDS = 0.2  # between two looks at whether the Dask worker is about to close
_OPEN = (Status.running, Status.paused, Status.init)


def host_agent(engine: str, agent: int, spec: bytes) -> str:
    """The Dask task: run an agent until its parent lets it go. Why it ended."""
    worker = get_worker()
    side = DaskSide(worker)
    desk = Desk.of(worker)
    desk.sides[side.call] = side
    worker.log_event(
        TOPIC,
        {
            "engine": engine,
            "agent": agent,
            "call": side.call,
            "worker": worker.contact_address or worker.address,
            "node": side.node,
        },
    )
    try:
        return run_agent(spec, side)
    finally:
        desk.close(side)


class DaskSide:
    """See `AgentSide`. One call of `host_agent`, under an id that no other call has."""

    def __init__(self, worker: Worker) -> None:
        self.call = uuid.uuid4().hex
        self.node = f"{worker.name} ({worker.address})"
        self.inbox = Inbox()
        self._worker = worker
        self._outbox: deque[bytes] = deque()
        self._more = asyncio.Event()  # of the worker's loop
        self.is_over = False

    def send(self, data: bytes) -> None:
        """See `AgentSide.send`."""
        self._outbox.append(data)
        self.wake()

    def wake(self) -> None:
        """Let the writer look. From any thread."""
        self._worker.loop.add_callback(self._more.set)

    def fetch(self, reference: bytes) -> bytes | memoryview:
        """See `AgentSide.fetch`."""
        key, _, address = reference.decode().partition(" ")
        loop = self._worker.loop.asyncio_loop
        return asyncio.run_coroutine_threadsafe(self._fetch(key, address), loop).result()

    async def _fetch(self, key: str, address: str) -> bytes:
        """From this worker's memory or another's; it may still be on its way there."""
        deadline = asyncio.get_running_loop().time() + _FETCH_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            if key in self._worker.data:
                return bytes(self._worker.data[key])
            if address != self._worker.address:
                try:
                    answer = await get_data_from_worker(rpc=self._worker.rpc, keys=[key], worker=address)
                except OSError as error:
                    raise LookupError(f"the Dask worker {address} that had {key} is gone") from error
                if key in answer.get("data", {}):
                    return bytes(answer["data"][key])
            await asyncio.sleep(0.02)
        raise LookupError(f"{key} has not come to {address}")

    async def serve(self, comm: Comm) -> None:
        """Carry messages until one of both ends. On the worker's loop."""
        writing = asyncio.create_task(self._write(comm))
        try:
            while True:
                for message in await comm.read():
                    if not message:
                        return
                    self.inbox.put(message)
        except CommClosedError:
            return
        finally:
            self.inbox.end()
            await writing

    async def _write(self, comm: Comm) -> None:
        """Until the agent is over; all that it has said goes first."""
        try:
            while not (self.is_over and not self._outbox):
                await self._more.wait()
                self._more.clear()
                if self._outbox:
                    await comm.write([self._outbox.popleft() for _ in range(len(self._outbox))])
        except CommClosedError:
            return
        finally:
            await comm.close()


class Desk:
    """Where parents of agents on this Dask worker come to."""

    def __init__(self, worker: Worker) -> None:
        self.sides: dict[str, DaskSide] = {}
        self._worker = worker
        worker.handlers[OPERATION] = self.answer
        worker.loop.add_callback(self._watch)

    @classmethod
    def of(cls, worker: Worker) -> Desk:
        """The one of this worker; made by its first agent."""
        handler = worker.handlers.get(OPERATION)
        return cls(worker) if handler is None else handler.__self__

    async def answer(self, comm: Comm, call: str, wanted: bool) -> Status:  # named in the message
        """The handler. An agent that is not `wanted` ends."""
        side = self.sides.get(call)
        if side is not None and wanted:
            await side.serve(comm)
        else:
            if side is not None:
                side.inbox.end()
            await comm.close()
        return Status.dont_reply

    async def _watch(self) -> None:
        """A Dask worker that closes waits for its tasks: let them end."""
        while self._worker.status in _OPEN:
            await asyncio.sleep(_LOOK_SECONDS)
        for side in list(self.sides.values()):
            side.inbox.end()

    def close(self, side: DaskSide) -> None:
        """The agent has ended."""
        self.sides.pop(side.call, None)
        side.is_over = True
        side.wake()
