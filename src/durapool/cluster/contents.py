"""Contents of segments and files on their way to agents, and from them: descriptors do not leave this machine.

    SEGMENT + descriptor --> CONTENT or REFERENCE, once for each agent, then HAND for each worker
    FILE + descriptor    --> the same for one to be read; BLANK for one to be written, and WRITTEN comes back
    DROP, FORGET         --> UNSHARE

Part of the link.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from durapool.blobs import no_room
from durapool.cluster.engine import Engine
from durapool.cluster.parcels import Parcel
from durapool.exceptions import StoreFailure
from durapool.pool.wire import Kind
from durapool.segments import Descriptor, map_private

if TYPE_CHECKING:
    from durapool.cluster.remote import RemoteWorker

PUT_BYTES = 1 << 20  # from which the engine's store carries it: several nodes may want it


@dataclass(eq=False)
class NewFile:
    """A file of the store that a worker writes, elsewhere."""

    target: Descriptor
    size: int
    synced: bool


@dataclass(eq=False)
class Shared:
    """A segment, or a file that is read."""

    number: int
    source: Descriptor
    size: int
    batch: int  # 0: of one run, for one worker
    reference: bytes | None = None
    agents: set[int] = field(default_factory=set)  # that have it

    @property
    def content(self) -> memoryview:
        """Mapped."""
        return map_private(self.source.descriptor, self.size, self.source)


class Contents:
    """What agents have been sent, and what their workers write.

    Args:
        engine: keeps what is large.
        post: queues a parcel for an agent.
    """

    def __init__(self, engine: Engine, post: Callable[[int, tuple[Any, ...]], None]) -> None:
        self._engine = engine
        self._post = post
        self._shared: dict[int, Shared] = {}
        self._files = itertools.count(-1, -1)  # numbers of files that are read; segments have those above 0

    def send_ahead(self, remote: RemoteWorker, kind: Kind, body: Sequence[Any]) -> None:
        """What goes to a worker ahead of the data with this frame."""
        match kind, body:
            case Kind.SEGMENT, [number, batch, size]:
                source = remote.descriptors.popleft()
                shared = self._shared.setdefault(number, Shared(number, source, size, batch))
                remote.batches.add(batch)
                self._hand(remote, shared, is_put=size >= PUT_BYTES)
            case Kind.FILE, [_, _, name, synced, size, True]:
                remote.files[name] = NewFile(remote.descriptors.popleft(), size, synced)
                self._post(remote.agent.number, (Parcel.BLANK, remote.number, name, size))
            case Kind.FILE, [_, _, _, _, size, _]:
                file = Shared(next(self._files), remote.descriptors.popleft(), size, 0)
                self._hand(remote, file, is_put=False)
                self._unshare([file])
            case Kind.DROP, [numbers]:
                self._unshare([self._shared[number] for number in numbers if number in self._shared])
            case Kind.FORGET, [batch]:
                remote.batches.discard(batch)
                self.forget([batch])
            case _:
                raise RuntimeError(f"the pool sent a {kind!r} that is not well-formed")

    def _hand(self, remote: RemoteWorker, shared: Shared, *, is_put: bool) -> None:
        agent = remote.agent.number
        if agent not in shared.agents:
            shared.agents.add(agent)
            if is_put:
                if shared.reference is None:
                    shared.reference = self._engine.put(agent, [shared.content])
                self._post(agent, (Parcel.REFERENCE, shared.number, shared.reference))
            else:
                self._post(agent, (Parcel.CONTENT, shared.number, bytes(shared.content)))
        self._post(agent, (Parcel.HAND, remote.number, shared.number))

    def send_again(self, agent: int, number: int) -> None:
        """An agent could not fetch it: it goes by itself. One that was dropped meanwhile is handed to nobody."""
        shared = self._shared.get(number)
        self._post(agent, (Parcel.CONTENT, number, b"" if shared is None else bytes(shared.content)))

    def forget(self, batches: Iterable[int]) -> None:
        """No branch of these comes any more."""
        wanted = set(batches)
        self._unshare([shared for shared in self._shared.values() if shared.batch in wanted])

    def forget_agent(self, agent: int) -> None:
        """It is gone, and what it had."""
        for shared in self._shared.values():
            shared.agents.discard(agent)

    def _unshare(self, dropped: Sequence[Shared]) -> None:
        for shared in dropped:
            self._shared.pop(shared.number, None)
            for agent in shared.agents:
                self._post(agent, (Parcel.UNSHARE, [shared.number]))
            if shared.reference is not None:
                self._engine.drop(shared.reference)

    def write(self, remote: RemoteWorker, name: str, position: int, data: bytes) -> None:
        """A worker has written a part of a file.

        Raises:
            StoreFailure: there is no room for it.
        """
        file = remote.files[name]
        try:
            os.pwrite(file.target.descriptor, data, position)
            if position + len(data) >= file.size:
                del remote.files[name]
                if file.synced:
                    os.fsync(file.target.descriptor)
        except OSError as error:
            raise StoreFailure(no_room("the store", file.size, error)) from error
