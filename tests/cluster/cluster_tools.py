"""Short ways to run batches on a cluster and to see what became of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

import durapool
from durapool import CompletionConfig, ParallelConfig, durable_execution
from durapool.stores import MemoryStore

ALL = CompletionConfig.all_completed()


def run_batch(branches: list[Callable[..., Any]], executor: Any, completion: CompletionConfig = ALL) -> list[Any]:
    """Each branch's result, its error as (type, message), or None where it did not end."""

    @durable_execution
    def handler(event: Any, context: Any) -> Any:
        result = context.parallel(branches, config=ParallelConfig(executor=executor, completion_config=completion))
        return [(item.error.type, item.error.message) if item.error else item.result for item in result.all]

    outcome: list[Any] = durapool.run(handler, store=MemoryStore())
    return outcome


def wait_until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    """Until what others do has come to pass; the time is only for a test that fails."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def note(path: Path, line: str) -> None:
    """Add a line to a file that several processes write."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, f"{line}\n".encode())
    finally:
        os.close(handle)


def notes(path: Path) -> list[str]:
    """The lines so far."""
    return path.read_text().splitlines() if path.exists() else []


def is_gone(pid: int) -> bool:
    """Whether the process has ended; a zombie has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
