"""What the pools are given to run: functions that every pool can import, bound to their arguments by `partial`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Task = Callable[[], Any]

SECONDS = 0.05  # of a healthy task, so that several are in flight when one dies
FOREVER = 600.0  # seconds


def healthy(value: int) -> int:
    """A task that works for a moment."""
    time.sleep(SECONDS)
    return value


def exits(code: int) -> None:
    """A task that ends its process behind Python's back."""
    time.sleep(SECONDS)
    os._exit(code)


def is_killed() -> None:
    """A task that the OOM killer picks."""
    time.sleep(SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def stays(folder: str) -> None:
    """A task that says its pid and then takes long, in Python code that an exception can end."""
    name = Path(folder) / f"pid-{os.getpid()}"
    name.touch()
    end = time.monotonic() + FOREVER
    while time.monotonic() < end:
        time.sleep(0.01)


def waits_for(folder: str) -> str:
    """A task that ends when another one has said its pid."""
    while not any(Path(folder).glob("pid-*")):
        time.sleep(0.01)
    return "won"


def own_pid() -> int:
    """A task that tells where it runs."""
    time.sleep(SECONDS)
    return os.getpid()


def pids_in(folder: str) -> list[int]:
    """The pids that tasks have said."""
    return [int(path.name[4:]) for path in Path(folder).glob("pid-*")]
