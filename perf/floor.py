"""The least that pure Python does for a durable branch on a worker process: what durapool's figures are to be held to.

    parent --RUN, ACK--> worker     one send(2) for all that a worker gets in one turn of the loop
    parent <--UPDATES--- worker     START and SUCCEED of the step, then the worker waits for the ACK
    parent <--DONE------ worker     the result
    records                         four a branch: in a list; as an entry of a file, or by a synced transaction, a turn

It has two forked workers, lines of branches sent ahead, msgpack, plain functions by their parts, ids by BLAKE2b and
the same rows as durapool's store. It checks nothing that a worker says, folds no records into operations, knows no
failure, no replay, no completion policy, no limit and no surroundings, and loses everything with its first worker.
"""

from __future__ import annotations

import os
import select
import socket
import sqlite3
import struct
import time
from _blake2 import blake2b
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import msgpack

from durapool.functions import plain_function, plain_parts
from perf.peer import WORKERS

AHEAD = 8  # branches in a worker's line
RECEIVE = 64 * 1024  # bytes
AWAKE = 0.0003  # seconds that a worker looks for its ACK before it sleeps
RUN, ACK, UPDATES, DONE = range(4)
NOBODY = (None,) * 4
_pack_entry = struct.Struct("=IIQ").pack


class Floor:
    """Two workers, and the records of what they ran: in memory, in a file that is appended to, or in a database."""

    def __init__(self, file: Path | None = None, database: Path | None = None) -> None:
        self._records: list[tuple[Any, ...]] = []
        self._file = None if file is None else open(file, "ab", buffering=0)  # noqa: SIM115  # `close` closes it
        self._database = None if database is None else _opened(database)
        self._epoll = select.epoll()
        self._workers = {worker.link.fileno(): worker for worker in (_Worker() for _ in range(WORKERS))}
        for descriptor in self._workers:
            self._epoll.register(descriptor, select.EPOLLIN)
        self._seq = 0

    def run(self, functions: Sequence[Callable[[], Any]]) -> list[Any]:
        """The results of the functions, each of which is one step of a branch of its own."""
        results: list[Any] = [None] * len(functions)
        left = iter(enumerate(functions))
        unfinished = len(functions)
        for worker in self._workers.values():
            worker.fill(left, AHEAD)
            worker.send()
        while unfinished:
            rows: list[tuple[Any, ...]] = []
            heard = [self._workers[descriptor] for descriptor, _ in self._epoll.poll()]
            for worker in heard:
                for kind, index, branch_id, body in worker.receive():
                    if kind == UPDATES:
                        rows.append((branch_id, "START", "CONTEXT", "ParallelBranch", "batch", None, index, *NOBODY))
                        rows += body
                        worker.post((ACK, index))
                    else:
                        results[index] = body
                        ends = "SUCCEED", "CONTEXT", "ParallelBranch", "batch", None, index, body, *NOBODY[:3]
                        rows.append((branch_id, *ends))
                        worker.fill(left, 1)
                        unfinished -= 1
            self._commit(rows)
            for worker in heard:
                worker.send()
        return results

    def _commit(self, rows: list[tuple[Any, ...]]) -> None:
        at = time.time()
        numbered = [(seq, at, *row) for seq, row in enumerate(rows, self._seq)]
        self._seq += len(numbered)
        if self._file is not None:
            data = msgpack.packb(numbered)
            self._file.write(_pack_entry(len(data), crc32(data), self._seq) + data)
            return
        if self._database is None:
            self._records += numbered
            return
        self._database.execute("BEGIN IMMEDIATE")
        self._database.execute("INSERT INTO records VALUES (?, ?)", (self._seq, msgpack.packb(numbered)))
        self._database.execute("COMMIT")

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers.values():
            worker.link.close()
        for worker in self._workers.values():
            os.waitpid(worker.pid, 0)  # only now: the second one has the first one's link too
        self._epoll.close()
        if self._file is not None:
            self._file.close()
        if self._database is not None:
            self._database.close()


def _opened(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE records (seq INTEGER PRIMARY KEY, data BLOB)")
    return database


@contextmanager
def opened_floors(folder: Path) -> Iterator[dict[str, Floor]]:
    """By store, as the benchmark calls them."""
    floors = {
        "floor, memory": Floor(),
        "floor, NORMAL": Floor(file=folder / "floor-normal.log"),
        "floor, FULL": Floor(database=folder / "floor-full.db"),
    }
    try:
        yield floors
    finally:
        for floor in reversed(floors.values()):
            floor.close()  # the later ones' workers have the links of the earlier ones too


class _Worker:
    """The parent's end of one."""

    def __init__(self) -> None:
        self.link, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self.link.close()
            _serve(theirs)
        theirs.close()
        self._unpacker = msgpack.Unpacker()
        self._packer = msgpack.Packer()
        self._outgoing: list[bytes] = []

    def fill(self, left: Any, count: int) -> None:
        """Queue so many of the branches that are left."""
        for _, (index, function) in zip(range(count), left, strict=False):
            branch_id = blake2b(b"batch/%d" % index, digest_size=16).hexdigest()
            self.post((RUN, index, branch_id, plain_parts(function)))

    def post(self, message: Any) -> None:
        """Queue a message."""
        self._outgoing.append(self._packer.pack(message))

    def send(self) -> None:
        """Send what is queued."""
        if self._outgoing:
            self.link.sendall(b"".join(self._outgoing))
            self._outgoing.clear()

    def receive(self) -> msgpack.Unpacker:
        """The messages that have arrived."""
        self._unpacker.feed(self.link.recv(RECEIVE))
        return self._unpacker


def _serve(link: socket.socket) -> None:
    """A worker's whole life."""
    unpacker = msgpack.Unpacker()
    packer = msgpack.Packer()
    runs: list[Any] = []
    while True:
        while not runs:
            unpacker.feed(_received(link))
            runs = list(unpacker)
        _, index, branch_id, parts = runs.pop(0)
        step_id = blake2b(f"{branch_id}/1".encode(), digest_size=16).hexdigest()
        begun = (step_id, "START", "STEP", "Step", branch_id, None, None, None, None, 1, None)
        result = plain_function(*parts)()
        ended = (step_id, "SUCCEED", "STEP", "Step", branch_id, None, None, str(result), None, 1, None)
        link.sendall(packer.pack((UPDATES, index, branch_id, (begun, ended))))
        acknowledged = False
        while not acknowledged:
            unpacker.feed(_received(link))
            for message in unpacker:
                if message[0] == ACK:
                    acknowledged = True
                else:
                    runs.append(message)
        link.sendall(packer.pack((DONE, index, branch_id, result)))


def _received(link: socket.socket) -> bytes:
    """What has come; at first without sleeping, as durapool's workers wait."""
    awake_until = time.perf_counter() + AWAKE
    while True:
        try:
            data = link.recv(RECEIVE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            if time.perf_counter() <= awake_until:
                os.sched_yield()
                continue
            data = link.recv(RECEIVE)
        if not data:
            os._exit(0)
        return data
