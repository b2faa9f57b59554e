"""Ray as an engine: this process speaks to a gateway, which speaks to the cluster; see `ray_gateway` for why.

    pool's loop --lease, send, put, release--> RayEngine --frames--> gateway
    listener    <--on_up, on_data, on_end--- reader thread <--frames--

One gateway serves all engines of the same cluster in this process. One that has started a cluster stays as long as this
process; others go with their last engine.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from durapool.cluster.engine import EngineListener
from durapool.cluster.ray_frames import LOCAL, Say
from durapool.cluster.ray_link import GatewayLink
from durapool.exceptions import ValidationError
from durapool.executors import ClusterExecutor
from durapool.pool.machine import usable_cpus

CLOSE_SECONDS = 3.0  # that agents have to end when their engine is closed
NAMES = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}  # options of an actor, and what nodes call them

_puts = itertools.count(1)


def open_engine(executor: ClusterExecutor) -> RayEngine:
    """See `engine.open_engine`."""
    options = {"num_cpus": 1, **(executor.resources or {})}
    unknown = sorted(options.keys() - NAMES.keys() - {"resources"})
    if unknown:
        raise ValidationError(
            f"Ray knows no {unknown[0]!r} that an actor could ask for: resources= takes num_cpus, num_gpus, memory "
            '(bytes) and resources, the last for those with names of their own: {"resources": {"licence": 1}}'
        )
    return RayEngine(_acquire(executor), options)


class RayEngine:
    """See `Engine`."""

    def __init__(self, gateway: GatewayLink, options: Mapping[str, Any]) -> None:
        self.label = gateway.label
        self._gateway = gateway
        self._options = dict(options)
        self._needs = _needs(options)
        self._agents: set[int] = set()  # that were leased, and may not have ended
        self._puts: set[bytes] = set()
        self._closed = False

    def slots(self) -> int:
        """See `Engine.slots`."""
        return sum(_fits(self._needs, node) for node in self._gateway.nodes)

    def lease(self, agent: int, spec: bytes, listener: EngineListener) -> None:
        """See `Engine.lease`."""
        self._agents = {each for each in self._agents if self._gateway.listens(each)} | {agent}
        self._gateway.listen(agent, listener)
        self._gateway.say(Say.LEASE, agent, spec, self._options)

    def send(self, agent: int, data: bytes) -> None:
        """See `Engine.send`."""
        self._gateway.say(Say.SEND, agent, data)

    def put(self, agent: int, data: Sequence[memoryview]) -> bytes:  # noqa: ARG002  # every node can fetch it
        """See `Engine.put`."""
        reference = b"%d" % next(_puts)
        self._puts.add(reference)
        self._gateway.put(int(reference), data)
        return reference

    def drop(self, reference: bytes) -> None:
        """See `Engine.drop`."""
        if reference in self._puts:
            self._puts.remove(reference)
            self._gateway.say(Say.DROP, int(reference))

    def release(self, agent: int) -> None:
        """See `Engine.release`."""
        self._gateway.say(Say.RELEASE, agent)

    def close(self) -> None:
        """See `Engine.close`."""
        if self._closed:
            return
        self._closed = True
        for agent in self._agents:
            self.release(agent)
        for reference in list(self._puts):
            self.drop(reference)
        self._gateway.wait_for_ends(self._agents, CLOSE_SECONDS)
        _release(self._gateway)


def _needs(options: Mapping[str, Any]) -> dict[str, float]:
    """What an actor takes of its node, in the words of nodes."""
    amounts = {name: options[option] for option, name in NAMES.items() if option in options}
    amounts.update(options.get("resources", {}))
    return {name: amount for name, amount in amounts.items() if amount > 0}


def _fits(needs: Mapping[str, float], node: Mapping[str, float]) -> int:
    """How many such actors a node has room for; one that needs nothing takes a CPU in this count."""
    return min(int(node.get(name, 0) / amount) for name, amount in (needs or {"CPU": 1}).items())


_lock = threading.Lock()
_gateways: dict[tuple[Any, ...], GatewayLink] = {}


def _acquire(executor: ClusterExecutor) -> GatewayLink:
    """The gateway to the executor's cluster, started if need be. Give it back with `_release`.

    Raises:
        ClusterError: nobody answers there, or it cannot be started.
    """
    address, runtime_env = _where(executor.address)
    cpus = max(usable_cpus(), executor.workers or 0) if address == LOCAL else 0
    key = (address, json.dumps(runtime_env, sort_keys=True))
    with _lock:
        gateway = _gateways.get(key)
        if gateway is not None and (gateway.gone or gateway.cpus < cpus):
            del _gateways[key]  # who uses it closes it
            if not gateway.users:
                gateway.close()
            gateway = None
        if gateway is None:
            gateway = _gateways[key] = GatewayLink(address, cpus, runtime_env)
        gateway.users += 1
    return gateway


def _where(address: Any) -> tuple[str, dict[str, Any]]:
    """Address and runtime_env of the cluster that is meant; without an address this program's, or a new one."""
    if address is not None:
        return str(address), {}
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        context = ray.get_runtime_context()
        return str(context.gcs_address), dict(context.runtime_env)
    return os.environ.get("RAY_ADDRESS") or LOCAL, {}


def _release(gateway: GatewayLink) -> None:
    """An engine has ended."""
    with _lock:
        gateway.users -= 1
        keys = [key for key, value in _gateways.items() if value is gateway]
        is_kept = gateway.address == LOCAL and keys and not gateway.gone
        if gateway.users or is_kept:
            return
        for key in keys:
            del _gateways[key]
    gateway.close()


def _close_all() -> None:
    """At exit: pools first, whose workers may have exit handlers."""
    from durapool.pool.registry import close_all

    close_all()
    with _lock:
        gateways = list(_gateways.values())
        _gateways.clear()
    for gateway in gateways:
        gateway.close()


def _forget_after_fork() -> None:
    """In a forked child the gateways are the parent's, and must not hear from us, nor miss its end."""
    global _lock
    _lock = threading.Lock()
    for gateway in _gateways.values():
        gateway.abandon()
    _gateways.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget_after_fork)
