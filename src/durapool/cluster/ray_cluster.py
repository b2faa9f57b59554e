"""The connection of a gateway to its Ray cluster: made within seconds, looked at once a second, let go of in time."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import psutil
import ray

from durapool.cluster.ray_frames import LOCAL

PORT_SECONDS = 3.0  # for the head's port to answer; tried first, since Ray goes on trying for two minutes
LOOK_SECONDS = 1.0  # between two looks at the nodes
SILENCE = 15.0  # seconds without an answer of the head: the cluster is gone. Ray itself ends its driver after 60
SHUTDOWN_SECONDS = 5.0  # that Ray has to let go of the cluster
PROCESSES = ("raylet", "gcs_server")  # of a cluster of our own; without one of them it is gone


@dataclass(frozen=True, slots=True)
class Target:
    """What to connect to.

    `cpus` and `directory` (empty: Ray's own) are for a cluster that is started; `runtime_env` is Ray's, for the agents.
    """

    address: str
    cpus: int
    directory: str
    runtime_env: Mapping[str, Any]


def connect(target: Target) -> None:
    """Make this process a driver of the cluster. On the main thread: a cluster of our own ends with that.

    Raises:
        Exception: whatever Ray has against it.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if target.address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        place = {"_temp_dir": target.directory} if target.directory else {}
        ray.init(LOCAL, num_cpus=target.cpus, include_dashboard=False, **place, **quiet)
    else:
        _try_port(target.address)
        ray.init(target.address, runtime_env=dict(target.runtime_env) or None, **quiet)


def _try_port(address: str) -> None:
    """Raises OSError where nobody listens at an address of the form HOST:PORT."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), PORT_SECONDS).close()


def address() -> str:
    """Of the cluster that this process is connected to."""
    return str(ray.get_runtime_context().gcs_address)


class Watch:
    """A thread that asks for the nodes: it waits for the head as long as that is away. Others read what it has seen.

    Args:
        is_own: the cluster was started by this process, which can see it die.
        on_seen: called by the thread after each answer.
    """

    def __init__(self, on_seen: Callable[[], None], *, is_own: bool) -> None:
        children = psutil.Process().children() if is_own else []
        self._processes = [process for process in children if process.name() in PROCESSES]
        self._here = ray.get_runtime_context().get_node_id()
        self._dead = ""
        self._on_seen = on_seen
        self._now = threading.Event()
        self.seen = 0.0  # time.monotonic() at which the last answer was asked for
        self.nodes: list[dict[str, float]] = []
        self._look()
        threading.Thread(target=self._go_on, name="durapool-nodes", daemon=True).start()

    def _go_on(self) -> None:
        while True:
            self._now.wait(LOOK_SECONDS)
            self._now.clear()
            self._look()
            self._on_seen()

    def look_now(self) -> None:
        """Ask again, at once."""
        self._now.set()

    def _look(self) -> None:
        began = time.monotonic()
        nodes = ray.nodes()
        self.nodes = [node["Resources"] for node in nodes if node["Alive"]]
        if any(node["NodeID"] == self._here and not node["Alive"] for node in nodes):
            self._dead = "the node that this program is connected to has died"
        self.seen = began

    def problem(self) -> str:
        """Why nothing more can be expected of the cluster; empty while that is not so."""
        for process in self._processes:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return "one of its processes (raylet or gcs_server) has died"
        silent = time.monotonic() - self.seen
        return self._dead or (f"its head has not answered for {silent:.0f} s" if silent > SILENCE else "")


def leave_in_time() -> None:
    """End this process soon even if Ray waits for a cluster that is gone; one of our own ends with it."""
    timer = threading.Timer(SHUTDOWN_SECONDS, os._exit, (1,))
    timer.daemon = True
    timer.start()


def why_ended(problem: BaseException, node: str) -> str:
    """Why an actor could not come up or has ended, in a few words; Ray's own are a page. `node`: where, if known."""
    text = re.sub(r"\x1b\[\d+m", "", str(problem))
    address = re.search(r"\bip[=:] ?([\w.:]*\w)", text)
    where = node or (address[1] if address else "a node")
    if re.search(r"No module named 'durapool|cannot import name .* from 'durapool", text):
        ours = version("durapool")
        return (
            f"durapool {ours} is not installed on {where}: install the same version for the Python that Ray runs there"
        )
    cause = re.search(
        r"The actor (?:is dead|died) because (.+?)(?: Worker exit type| Node Id|\.\s|\.?$)", text, re.MULTILINE
    )
    return f"its actor on {where} has died: {cause[1].rstrip('.:,') if cause else text.partition(chr(10))[0]}"
