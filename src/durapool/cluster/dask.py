"""Dask as an engine: each agent is a task that holds a thread of a Dask worker, and talks over Dask's own connections.

    client.submit(host_agent) -----> scheduler -----> a thread of a Dask worker
    TOPIC event: where it runs <---- scheduler <----- Worker.log_event
    connect(worker, client's connection_args) ------> the listener that every Dask worker has

After that one event the client and the Dask worker talk directly, over a connection of Dask's (TLS and authentication
are those of the cluster; nothing opens a port), because the ways through the scheduler (queues, events, variables)
cost it work for every message, add milliseconds, and keep what was sent. What is left on the scheduler are the last few
events of one topic. Large data that branches share is scattered, and fetched from worker to worker.

Dask runs a task again whose worker it has lost, without asking. Each call of the task has an id of its own; a call
that comes up for an agent which has been up before is told to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import uuid
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from distributed import Client, Future
from distributed.comm import Comm, CommClosedError, connect

from durapool.cluster.dask_local import LocalDask, local_dask
from durapool.cluster.dask_node import OPERATION, TOPIC
from durapool.cluster.engine import EngineListener
from durapool.exceptions import ClusterError, ValidationError
from durapool.executors import DaskExecutor

CONNECT_SECONDS = 10.0  # that a scheduler or a worker may take to answer
LOOK_SECONDS = 1.0  # between two looks at the cluster
VERDICT_SECONDS = 1.0  # after the loss of a Dask worker, until the cluster is asked whether it was lost alone
# The task is text, so that nothing of ours is unpickled: not by the scheduler, which need not have durapool, and not by
# a worker with another Python, which can so say that it has.
_HOST_AGENT = "__import__('durapool.cluster.dask_node', fromlist=['host_agent']).host_agent(engine, agent, spec)"
LONELY_SECONDS = 5.0  # that a cluster without any worker has to come to its own end

_logger = logging.getLogger(__name__)


def open_engine(executor: DaskExecutor) -> DaskEngine:
    """See `engine.open_engine`.

    Raises:
        ClusterError: no scheduler answers at the address.
        ValidationError: the address is no address, or a client that cannot be used.
    """
    match executor.address:
        case Client() as client:
            if client.asynchronous:
                raise ValidationError("DaskExecutor takes a Client with asynchronous=False: batches wait for results")
            return DaskEngine(client, executor.resources)
        case str() as address:
            return DaskEngine(_connect(address), executor.resources, owns_client=True)
        case None:
            local = local_dask()
            try:
                return DaskEngine(_connect(local.address), executor.resources, owns_client=True, local=local)
            except BaseException:
                local.release()
                raise
        case other:
            raise ValidationError(f"address must be a scheduler's address or a distributed.Client, not {other!r:.100}")


def _connect(address: str) -> Client:
    try:
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False, name="durapool")
    except (OSError, ValueError, ImportError) as error:
        raise ClusterError(
            f"no Dask scheduler answers at {address}: {error}. Start one there (dask scheduler), correct the address, "
            "or take another executor; what was recorded is kept"
        ) from error


@dataclass(eq=False)
class Line:
    """One agent as the client sees it. Changed on the client's loop alone, but for `outbox` and `is_released`."""

    agent: int
    listener: EngineListener
    future: Future | None = None
    call: str = ""  # the one call of the task that is served
    node: str = ""
    worker: str = ""
    is_up: bool = False
    is_released: bool = False
    end: str = ""  # what became of the task, once it is known
    outbox: deque[bytes] = field(default_factory=deque)
    more: asyncio.Event = field(default_factory=asyncio.Event)


class DaskEngine:
    """See `Engine`."""

    def __init__(
        self,
        client: Client,
        resources: Any = None,
        *,
        owns_client: bool = False,
        local: LocalDask | None = None,
    ) -> None:
        self.label = f"the Dask cluster {client.scheduler.address}"
        self._client = client
        self._owns_client = owns_client
        self._local = local
        self._resources = dict(resources or {})
        self._token = uuid.uuid4().hex
        self._lines: dict[int, Line] = {}
        self._data: dict[bytes, Future | None] = {}  # None while it is on its way
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._is_gone = False
        self._slots = 0
        self._loop: asyncio.AbstractEventLoop = client.loop.asyncio_loop
        with _engines_lock:
            _engines[self._token] = self
        try:
            self._do(self._look()).result(CONNECT_SECONDS)
        except (OSError, TimeoutError) as error:
            raise ClusterError(f"{self.label} does not answer: {error!r}") from error
        client.subscribe_topic(TOPIC, _on_event)
        self._start(self._watch())

    # coroutines of ours on the client's loop

    def _do(self, coroutine: Coroutine[Any, Any, None]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Let it run. From any thread."""

        def start() -> None:
            task = self._loop.create_task(coroutine)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        try:
            self._loop.call_soon_threadsafe(start)
        except RuntimeError:  # the loop is closed, and with it the client
            coroutine.close()
            self._tell_gone("its client was closed")

    async def _look(self) -> None:
        info = await self._client.scheduler.identity()
        workers = info["workers"].values()
        self._slots = sum(_slots_of(worker, self._resources) for worker in workers)

    async def _watch(self) -> None:
        """Until the engine is closed: how many slots there are, and whether there is a cluster at all."""
        silent = 0.0
        while not self._is_closed:
            await asyncio.sleep(LOOK_SECONDS)
            if self._client.status in ("closed", "closing"):
                self._tell_gone("its client was closed")
                return
            try:
                await asyncio.wait_for(self._look(), CONNECT_SECONDS)
                silent = 0.0
            except (OSError, TimeoutError):
                silent += LOOK_SECONDS
                if silent >= VERDICT_SECONDS * 3:
                    self._tell_gone("its scheduler does not answer any more")
                    return

    def _tell_gone(self, why: str) -> None:
        if self._is_gone or self._is_closed:
            return
        self._is_gone = True
        for listener in {id(line.listener): line.listener for line in list(self._lines.values())}.values():
            listener.on_gone(f"{self.label} is gone: {why}")

    # see `Engine`

    def slots(self) -> int:
        """See `Engine.slots`."""
        return self._slots

    def lease(self, agent: int, spec: bytes, listener: EngineListener) -> None:
        """See `Engine.lease`."""
        line = self._lines[agent] = Line(agent, listener)
        try:
            line.future = self._client.submit(
                eval,
                _HOST_AGENT,
                {"engine": self._token, "agent": agent, "spec": spec},
                key=f"durapool-agent-{self._token}-{agent}",
                pure=False,
                retries=0,
                resources=self._resources or None,
            )
        except Exception as error:  # noqa: BLE001  # a client that was closed says so in many ways
            listener.on_gone(f"{self.label} takes no more tasks: {error}")
            return
        line.future.add_done_callback(lambda future: self._task_done(line, future))

    def send(self, agent: int, data: bytes) -> None:
        """See `Engine.send`."""
        line = self._lines.get(agent)
        if line is None:
            return
        line.outbox.append(data)
        try:
            self._loop.call_soon_threadsafe(line.more.set)
        except RuntimeError:
            self._tell_gone("its client was closed")
        if self._client.status in ("closed", "closing"):
            self._tell_gone("its client was closed")

    def put(self, agent: int, data: Sequence[memoryview]) -> bytes:
        """See `Engine.put`."""
        line = self._lines[agent]
        key = f"durapool-data-{uuid.uuid4().hex}"
        reference = f"{key} {line.worker}".encode()
        self._data[reference] = None
        self._start(self._scatter(reference, key, b"".join(data), line.worker))
        return reference

    async def _scatter(self, reference: bytes, key: str, data: bytes, worker: str) -> None:
        try:
            found = await self._client.scatter(
                {key: data}, workers=[worker], direct=True, hash=False, asynchronous=True
            )
        except (OSError, TimeoutError, ValueError) as error:
            _logger.info("durapool could not scatter %s to %s: %s", key, worker, error)
            return  # the agent that misses it says so, and gets it directly
        if reference in self._data:
            self._data[reference] = found[key]

    def drop(self, reference: bytes) -> None:
        """See `Engine.drop`."""
        self._data.pop(reference, None)  # a Future that nobody has is released

    def release(self, agent: int) -> None:
        """See `Engine.release`."""
        line = self._lines.pop(agent, None)
        if line is None:
            return
        line.is_released = True
        line.outbox.append(b"")  # the last word
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(line.more.set)
        if line.future is not None:
            line.future.release()

    def close(self) -> None:
        """See `Engine.close`."""
        self._is_closed = True
        with _engines_lock:
            _engines.pop(self._token, None)
        for agent in list(self._lines):
            self.release(agent)
        self._data.clear()
        with contextlib.suppress(RuntimeError, TimeoutError, OSError):
            self._do(self._finish()).result(CONNECT_SECONDS)
        if self._owns_client:
            with contextlib.suppress(TimeoutError, OSError, RuntimeError):
                self._client.close(timeout=CONNECT_SECONDS)
        if self._local is not None:
            self._local.release()

    async def _finish(self) -> None:
        """Let last words go out."""
        others = [task for task in self._tasks if task is not asyncio.current_task()]
        if others:
            await asyncio.wait(others, timeout=2 * LOOK_SECONDS)
        for task in others:
            task.cancel()

    # agents

    def announced(self, message: dict[str, Any]) -> None:
        """An agent has begun to run. On the client's loop."""
        line = self._lines.get(message["agent"])
        self._start(self._serve(line, message))

    async def _serve(self, line: Line | None, message: dict[str, Any]) -> None:
        """Carry messages to and from one call of an agent's task, until it ends."""
        call, worker = message["call"], message["worker"]
        if line is not None and line.call == call:
            return  # another client of this process has heard it too
        wanted = line is not None and not line.call and not line.is_released
        if line is not None and wanted:
            line.call, line.worker, line.node = call, worker, message["node"]
        try:
            comm = await connect(worker, timeout=CONNECT_SECONDS, **self._client.connection_args)
            await comm.write({"op": OPERATION, "call": call, "wanted": wanted, "reply": False})
        except OSError as error:
            if line is not None and wanted:
                line.call = ""  # nothing has run: another call of it may come up
                await self._decide(line, f"the Dask worker {message['node']} cannot be reached ({error})")
            return
        if line is None or not wanted:
            await comm.close()
            return
        line.is_up = True
        line.listener.on_up(line.agent, f"Dask worker {line.node}")
        writing = asyncio.create_task(self._write(line, comm))
        try:
            while True:
                for data in await comm.read():
                    line.listener.on_data(line.agent, data)
        except CommClosedError:
            pass
        finally:
            writing.cancel()
            comm.abort()
        if not line.is_released:
            await self._decide(line, f"the Dask worker {line.node} is gone")

    async def _write(self, line: Line, comm: Comm) -> None:
        with contextlib.suppress(CommClosedError):
            while True:
                await line.more.wait()
                line.more.clear()
                if line.outbox:
                    await comm.write([line.outbox.popleft() for _ in range(len(line.outbox))])

    async def _decide(self, line: Line, reason: str) -> None:
        """A Dask worker is lost: alone, or with the whole cluster? The two look the same at first."""
        for _ in range(int(LONELY_SECONDS / VERDICT_SECONDS)):
            await asyncio.sleep(VERDICT_SECONDS)
            if line.is_released or self._is_closed:
                return
            try:
                info = await asyncio.wait_for(self._client.scheduler.identity(), CONNECT_SECONDS)
            except (OSError, TimeoutError):
                self._tell_gone("its scheduler does not answer any more")
                return
            if info["workers"]:
                break
        line.listener.on_end(line.agent, f"{reason}; {line.end}" if line.end else reason)

    def _task_done(self, line: Line, future: Future) -> None:
        """The task of an agent has ended: that counts while it has not come up; later its connection tells."""
        if line.is_released or self._is_closed:
            return
        error = future.exception() if future.status == "error" else None
        match future.status:
            case "error":
                line.end = f"its task failed: {type(error).__name__}: {error}"
            case "finished":
                line.end = f"its task has ended: {future.result()}"
            case status:
                line.end = f"its task was {status}"
        if line.is_up:
            return
        if isinstance(error, ImportError):
            self._tell_unfit(line, error)
        else:
            line.listener.on_end(line.agent, line.end)

    def _tell_unfit(self, line: Line, error: ImportError) -> None:
        line.listener.on_gone(
            f"{self.label} cannot run branches: a worker of it has not installed what they need ({error}). Install "
            'there what is installed here: pip install "durapool[dask]"'
        )


def _slots_of(worker: dict[str, Any], resources: dict[str, float]) -> int:
    """How many agents with these resources one Dask worker could run at once."""
    slots = int(worker["nthreads"])
    for name, amount in resources.items():
        if amount > 0:
            slots = min(slots, int(worker["resources"].get(name, 0) // amount))
    return slots


_engines: dict[str, DaskEngine] = {}
_engines_lock = threading.Lock()


def _on_event(event: tuple[float, dict[str, Any]]) -> None:
    """Of TOPIC: every client hears of every agent. On the loop of any client."""
    _, message = event
    engine = _engines.get(message["engine"])
    if engine is not None:
        engine.announced(message)
