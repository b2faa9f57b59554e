"""What all pools that durapool is compared with can be asked. The pools themselves are in `peers.py`."""

from __future__ import annotations

import pickle
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle

from perf.faults.tasks import Task, pids_in

WORKERS = 2
PATIENCE = 30.0  # seconds for a batch of short tasks


class Peer(ABC):
    """A pool."""

    name: str
    module: str  # without which it is left out
    distribution: str = ""
    sends_lambdas = False  # by itself; else they are sent as bytes of cloudpickle

    def __init__(self, workers: int = WORKERS) -> None:
        self.workers = workers

    def open(self) -> None:  # noqa: B027  # not every pool has to be opened
        """Start the pool."""

    def close(self) -> None:  # noqa: B027  # nor closed
        """End the pool."""

    @abstractmethod
    def call_each(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """The results in order, each call a task of its own unless the library joins them by itself."""

    def call_all(self, functions: Sequence[Task]) -> list[Any]:
        """The results of functions that no module has."""
        if self.sends_lambdas:
            return self.call_each(call, functions)
        return self.call_each(load_and_call, [cloudpickle.dumps(function) for function in functions])


class FaultPeer(Peer):
    """A pool that can also be asked what happens to tasks that die."""

    @abstractmethod
    def run_all(self, tasks: Sequence[Task]) -> list[Any]:
        """Each task's result, or the exception that stands for it. What has no end in PATIENCE is a TimeoutError."""

    @abstractmethod
    def run_with_timeout(self, task: Task, seconds: float) -> None:
        """Run with the library's own limit on the time of a task, and return when that has struck."""

    @abstractmethod
    def cancel_running(self, task: Task, folder: str) -> None:
        """Start the task, and once it has said its pid in the folder cancel it by the library's own means."""


def call(function: Task) -> Any:
    """In a worker: of a function that the library has brought there."""
    return function()


def load_and_call(function: bytes) -> Any:
    """In a worker: of a function that came as bytes."""
    return pickle.loads(function)()


def wait_for_pid(folder: str) -> None:
    """Until a task has said its pid."""
    deadline = time.monotonic() + PATIENCE
    while not pids_in(folder) and time.monotonic() < deadline:
        time.sleep(0.01)
