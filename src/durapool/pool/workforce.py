"""The workers of a pool: hired through the supervisor, read and written by the loop, replaced when they are lost.

Knows processes and sockets, nothing of batches. What a worker says and that one is lost goes to the `Listener`.
"""

from __future__ import annotations

import contextlib
import itertools
import selectors
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from durapool.exceptions import PoolError
from durapool.pool.claims import Claims
from durapool.pool.relay import LineRelay
from durapool.pool.supervisor import Link, WorkerExit
from durapool.pool.watch import Watch
from durapool.pool.wire import Kind
from durapool.pool.workers import Worker

MOST_FUTILE = 3  # supervisors in a row that end before a worker of theirs has spoken
AWAKE = 0.0001  # seconds that the loop looks for news before it sleeps, where it is about to come
FAREWELL = 1.0  # seconds that the exit handlers of a worker have, such as coverage.py's


@dataclass(frozen=True, slots=True)
class Loss:
    """How a worker came to its end.

    `status` as of wait(2), None where it is not known (the supervisor itself is gone); `peak` RSS in bytes; `excess`
    the memory in bytes for which it was killed, 0 if not for that; `tail` the last lines that it wrote to stderr;
    `problem` why we discarded it ourselves, if we did; `where` its node, or what became of that; `blameless` whether it
    had served before, or its supervisor died before it came to life: then a branch that it had not begun is not lost.
    """

    status: int | None
    peak: int
    excess: int
    tail: tuple[str, ...]
    problem: Exception | None = None
    where: str = ""
    blameless: bool = False


class Listener(Protocol):
    """The pool's loop."""

    def on_message(self, worker: Worker, kind: Kind, body: list[Any]) -> None:
        """A worker has said something. WireError, or any of the project's errors, discards it."""
        ...

    def on_lost(self, worker: Worker, loss: Loss) -> None:
        """A worker has ended without being told to; all that it had sent was delivered before."""
        ...


class Workforce:
    """All workers of one pool. Owned by the loop."""

    def __init__(self, connect: Callable[[], Link], watch: Watch, initializer: bytes | None) -> None:
        self._connect = connect
        self._watch = watch
        self._initializer = initializer
        self._numbers = itertools.count(1)
        self._employed: dict[int, Worker] = {}
        self.employed = self._employed.values()  # for a loop that hires and dismisses nobody; others iterate over self
        self._idle: list[Worker] = []  # the last used is used first: its caches are warm
        self._dismissed: set[int] = set()  # told to end; their exits concern nobody
        self._exits: dict[int, WorkerExit] = {}
        self._unsent: set[Worker] = set()
        self.wants_to_send = self._unsent.add  # something was queued for this worker
        self._proven = False  # whether a worker of this supervisor has ever said anything
        self._futile = 0  # supervisors in a row that ended without
        self.link = self._open_link()  # who starts the workers
        self._listener: Listener | None = None
        self._hire_ahead()

    def listen(self, listener: Listener) -> None:
        """Who is told what workers say. Before the first turn."""
        self._listener = listener

    def __iter__(self) -> Any:
        return iter(list(self._employed.values()))

    @property
    def ending(self) -> int:
        """How many workers were told to end and have not yet."""
        return len(self._dismissed)

    def _open_link(self) -> Link:
        link = self._connect()
        self._proven = False
        self._watch.add(link, self._hear_supervisor)
        return link

    # hiring and dismissing

    def free_sites(self) -> list[int]:
        """Where one more worker may run; the one first whose idle worker was used last."""
        taken = []
        for worker in self.employed:
            runs = worker.runs
            if not runs[0].nested if runs else worker.stale:  # else it is idle, or its place is lent
                taken.append(worker.site)
        if self.link.sends_ahead and len(taken) >= self.link.size:
            return []  # as almost always, on this machine, which is one site
        free = [site for site, places in self.link.places.items() if taken.count(site) < places]
        if len(free) > 1 and self._idle:
            warm = [worker.site for worker in self._idle]
            free.sort(key=lambda site: warm.index(site) if site in warm else -1, reverse=True)
        return free

    def take(self, site: int) -> Worker:
        """An idle worker at this site, or a new one.

        Raises:
            PoolError: no worker can be started.
        """
        for worker in reversed(self._idle):
            if worker.site == site:
                self._idle.remove(worker)
                if not worker.at_end:
                    return worker
        return self._hire(site)

    def _hire_ahead(self) -> None:
        """The first worker comes up while the first branch is serialised."""
        for site in self.free_sites()[:1]:
            with contextlib.suppress(PoolError, OSError):  # what stands in the way is told when a branch wants a worker
                self._idle.append(self._hire(site))

    def _hire(self, site: int) -> Worker:
        number = next(self._numbers)
        claims = Claims()
        try:
            link, prints, errors = self.link.fork_worker(number, claims.read_end, site)
        except PoolError:
            claims.close()
            raise
        worker = Worker(number, link, LineRelay(prints, "stdout"), LineRelay(errors, "stderr"), claims, site)
        self._employed[number] = worker
        self._watch.add(link, partial(self._hear, worker))
        for relay in (worker.prints, worker.errors):
            self._watch.add(relay, partial(self._relay, worker, relay))
        worker.initializer = self._initializer
        return worker

    def release(self, worker: Worker, keep: int) -> None:
        """The worker has nothing to do; above `keep` idle ones the oldest is dismissed."""
        self._idle.append(worker)
        self.trim(keep)

    def trim(self, keep: int) -> None:
        """Dismiss idle workers above `keep`, those first that were idle longest."""
        while len(self._idle) > keep:
            self.retire(self._idle[0])

    def retire(self, worker: Worker) -> None:
        """Let a worker that runs nothing end: its exit handlers have `FAREWELL` seconds."""
        worker.post(Kind.EXIT)
        if worker.number in self._employed and worker.send():
            self.link.kill(worker.number, FAREWELL, 0)
            self._let_go(worker)
        else:
            self.dismiss(worker)

    def limit_memory(self, worker: Worker, limit: int) -> None:
        """Let the supervisor kill the worker above `limit` bytes; 0 for no limit."""
        if worker.memory_limit != limit:
            worker.memory_limit = limit
            self.link.watch(worker.number, limit)

    def read_for(self, seconds: float, going_on: Callable[[], bool]) -> None:
        """Take in what is said for so long, while `going_on` holds."""
        until = time.monotonic() + seconds
        while going_on() and (left := until - time.monotonic()) > 0:
            self._watch.look(left, AWAKE)

    def dismiss(self, worker: Worker, grace: float = 0.0) -> None:
        """Kill a worker, with its descendants; it may clean up for `grace` seconds after a SIGTERM."""
        if worker.number not in self._employed:
            return  # it has ended already
        self.link.kill(worker.number, grace)
        self._let_go(worker)

    def _let_go(self, worker: Worker) -> None:
        if self._exits.pop(worker.number, None) is None:
            self._dismissed.add(worker.number)
        self._forget(worker)

    def _forget(self, worker: Worker) -> None:
        self._employed.pop(worker.number, None)
        self._unsent.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        self._close(worker)

    def _close(self, worker: Worker) -> None:
        for source in (worker.link, worker.prints, worker.errors):
            self._watch.remove(source)
        worker.close()

    # listening

    def _hear(self, worker: Worker) -> None:
        number, employed, listener = worker.number, self._employed, self._listener
        assert listener is not None
        if worker.at_end or number not in employed:
            return  # it came to its end in the same round of the selector
        data = worker.receive()
        if worker.at_end:
            self._watch.remove(worker.link)
            self._check_lost(worker)
            return
        if data:
            self._proven = True
        if worker.problem is not None:
            return  # it was distrusted: what it says until it is dead counts for nothing
        try:
            for kind, body in worker.decoder.feed(data):
                listener.on_message(worker, kind, body)
                if number not in employed:
                    return  # what it said led to its end
        except Exception as problem:  # noqa: BLE001  # whatever it said to get there, the loop goes on
            self.distrust(worker, problem)

    def distrust(self, worker: Worker, problem: Exception) -> None:
        """A worker broke the protocol: kill it; it is lost."""
        worker.problem = problem
        if worker in self._idle:
            self.dismiss(worker)  # at once, or the next branch would be given to it
        else:
            self.link.kill(worker.number)

    def _relay(self, worker: Worker, relay: LineRelay) -> None:
        if worker.number in self._employed and not relay.pass_on():
            self._watch.remove(relay)

    def look(self) -> None:
        """Take what the link has to tell, though nobody waits for it."""
        self._hear_supervisor()

    def _hear_supervisor(self) -> None:
        ends = self.link.receive()
        if ends is None:
            self._supervisor_lost()
            return
        for end in ends:
            if end.worker in self._dismissed:
                self._dismissed.discard(end.worker)
                continue
            self._exits[end.worker] = end
            worker = self._employed.get(end.worker)
            if worker is not None:
                self._drain(worker)
                self._check_lost(worker)

    def _drain(self, worker: Worker) -> None:
        """Read what a worker that has ended sent before: a descendant that holds its socket must not keep us."""
        while not worker.at_end and worker.number in self._employed:
            before = worker.received
            self._hear(worker)
            if worker.received == before:
                worker.at_end = True

    def _check_lost(self, worker: Worker) -> None:
        """A worker is lost when its socket has ended and the supervisor has told how."""
        end = self._exits.get(worker.number)
        if not worker.at_end or end is None or worker.number not in self._employed:
            return
        del self._exits[worker.number]
        self._lose(worker, end)

    def _lose(self, worker: Worker, end: WorkerExit) -> None:
        worker.relay()
        # others count against the branch that they were given: so a worker that cannot start is not hired for ever
        blameless = worker.branches > 0 or (end.status is None and not worker.heard)
        tail = tuple(worker.errors.tail)
        loss = Loss(end.status, end.peak, end.excess, tail, worker.problem, end.where, blameless)
        assert self._listener is not None
        self._listener.on_lost(worker, loss)  # takes back what the worker has not begun, while its permits can be read
        self._forget(worker)

    def _supervisor_lost(self) -> None:
        """All workers have gone with it. A new one takes over, unless none gets as far as a worker that speaks."""
        self._watch.remove(self.link)
        self.link.end_groups()
        self.link.close()
        lost = list(self)
        for worker in lost:
            self._drain(worker)
        self._futile = 0 if self._proven else self._futile + 1
        if self._futile == MOST_FUTILE:
            raise PoolError(
                "the supervisor of the process pool ended before it could start a worker; what it wrote to stderr "
                "tells why"
            )
        self.link = self._open_link()
        for worker in lost:
            if worker.number in self._employed:
                self._lose(worker, WorkerExit(worker.number, None, 0, 0))
        self._dismissed.clear()

    # speaking

    def send(self) -> None:
        """Send what is queued; what a socket does not take yet goes when it is writable."""
        while self._unsent:
            worker = self._unsent.pop()
            if worker.number in self._employed and not worker.at_end:
                done = worker.send()
                if not done or worker.watching_room:
                    worker.watching_room = not done
                    self._watch.change(worker.link, partial(self._hear_and_send, worker), room=not done)

    def _hear_and_send(self, worker: Worker) -> None:
        self._unsent.add(worker)
        self._hear(worker)

    def close(self) -> None:
        """End the supervisor and with it all workers."""
        self._see_off()
        self.link.close()
        for worker in self:
            worker.close()
        self._employed.clear()
        self._idle.clear()

    def _see_off(self) -> None:
        """Let idle workers end by themselves, for `FAREWELL` seconds at the most; one that ran nothing just ends."""
        leavers = {each for each in self._idle if each.branches}
        if not leavers:
            return
        with selectors.DefaultSelector() as leaving:
            leaving.register(self.link, selectors.EVENT_READ)
            for worker in leavers:
                worker.post(Kind.EXIT)
                worker.send()
                leaving.register(worker.link, selectors.EVENT_READ, worker)
            deadline = time.monotonic() + FAREWELL
            while leavers and (left := deadline - time.monotonic()) > 0 and self._carry():
                for leaver in [key.data for key, _ in leaving.select(left) if key.data is not None]:
                    while leaver.receive():
                        continue
                    if leaver.at_end:
                        leaving.unregister(leaver.link)
                        leavers.remove(leaver)

    def _carry(self) -> bool:
        """Let the link move what is said to workers elsewhere, and by them; whether it still can."""
        try:
            return self.link.receive() is not None
        except PoolError:
            return False

    def abandon(self) -> None:
        """In a forked child: close our copies of what is the parent's."""
        self.link.abandon()
        for worker in self:
            worker.abandon()
