"""What a serverless container takes away, taken away here: POSIX semaphores and /dev/shm."""

from __future__ import annotations

import subprocess
import sys

ISOLATE = ("unshare", "--map-root-user", "--mount")
SHADOWS = {
    "read-only": "mount -t tmpfs -o ro,size=4k tmpfs /dev/shm",
    "without room": "mount -t tmpfs -o size=4k,mode=000,nr_inodes=1 tmpfs /dev/shm",
}

SITE = """
import _multiprocessing

class SemLock:
    SEM_VALUE_MAX = 1

    def __new__(cls, *arguments, **keywords):
        raise OSError(38, "Function not implemented")

    @staticmethod
    def _rebuild(*arguments):
        raise OSError(38, "Function not implemented")

_multiprocessing.SemLock = SemLock
"""
"""A sitecustomize.py that takes away the semaphores."""


def shadowed(shadow: str) -> tuple[str, ...]:
    """What stands before a command that is to run without a usable /dev/shm."""
    return (*ISOLATE, "sh", "-c", f'{SHADOWS[shadow]} && exec "$@"', "sh")


def _namespaces() -> str:
    """Why there are no mount namespaces here; empty where there are."""
    if not sys.platform.startswith("linux"):
        return "Linux alone has mount namespaces"
    try:
        tried = subprocess.run(
            [*shadowed("read-only"), "true"], capture_output=True, text=True, check=False, timeout=30
        )
    except OSError as error:
        return str(error)
    return "" if tried.returncode == 0 else tried.stderr.strip() or "unshare failed"


WHY_NOT = _namespaces()
"""Why /dev/shm cannot be taken away here; empty where it can."""
