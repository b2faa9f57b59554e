"""What `cold_start` runs in fresh interpreters: `seconds_of(NAME)`, from a pool that is made to its first result.

The modules that a program imports at its top are imported before the clock starts, for everybody.
"""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

DURAPOOL = {"durapool (fork server)": "forkserver", "durapool (fork)": "fork", "durapool (spawn)": "spawn"}
"""Names and start methods."""


def seconds_of(name: str) -> float:
    """Of durapool or of a pool of `peers.POOLS`."""
    return _of_durapool(DURAPOOL[name]) if name in DURAPOOL else _of_peer(name)


def _of_durapool(start_method: str) -> float:
    import durapool
    from durapool.stores import MemoryStore

    import_module("durapool.executors.process")
    import_module("durapool.invocation")
    executor = durapool.ProcessExecutor(workers=2, start_method=start_method)

    def handler(_event: Any, context: durapool.DurableContext) -> Any:
        return context.parallel([lambda ctx: ctx.step(lambda _: abs(-7))]).get_results()

    durable, store = durapool.durable_execution(handler), MemoryStore()
    began = time.perf_counter()
    results = durapool.run(durable, id="first", store=store, executor=executor)
    seconds = time.perf_counter() - began
    assert results == [7]
    return seconds


def _of_peer(name: str) -> float:
    from perf.peers import POOLS

    pool = next(peer for peer in POOLS if peer.name == name)()
    import_module(pool.module)
    began = time.perf_counter()
    pool.open()
    results = pool.call_each(abs, [-7])  # a function that every interpreter knows without an import
    seconds = time.perf_counter() - began
    assert results == [7]
    pool.close()
    return seconds
