"""What this machine gives: CPUs, thread counts for the libraries in workers, how processes may be started."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""Read once when the library loads, so they must be set before the worker starts."""


def usable_cpus() -> int:
    """The CPUs this process may use: the smaller of its affinity and its cgroup quota, at least 1."""
    has_affinity = hasattr(os, "sched_getaffinity")
    affinity = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    quota = cgroup_quota()
    return affinity if quota is None else max(1, min(affinity, round(quota)))


def cgroup_quota(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """The CPU quota in CPUs that holds for this process, by version 2 or 1 of cgroups; None without one.

    Every cgroup around this process's own may have one, and the smallest holds.
    """
    folders = _cgroup_folders(str(root), _read(str(membership)).splitlines())
    return min((quota for folder in folders if (quota := _read_quota(folder)) is not None), default=None)


def _cgroup_folders(root: str, membership: list[str]) -> set[str]:
    """This process's cgroups and those around them. A container may see none but the root."""
    folders = {root, f"{root}/cpu", f"{root}/cpu,cpuacct"}
    for line in membership:
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "cpu" in controllers.split(","):
            top = f"{root}/{controllers}".rstrip("/")
            folder = f"{top}/{path.lstrip('/')}".rstrip("/")
            while len(folder) >= len(top):
                folders.add(folder)
                folder = os.path.dirname(folder)
    return folders


def _read_quota(folder: str) -> float | None:
    match _read(f"{folder}/cpu.max").split():
        case ["max", _]:
            return None
        case [quota, period] if quota.isdigit():
            return int(quota) / int(period)
    quota, period = _read(f"{folder}/cpu.cfs_quota_us").strip(), _read(f"{folder}/cpu.cfs_period_us").strip()
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _read(path: str) -> str:
    """Its text; empty where there is none. Plainly: whoever waits for a pool waits for this."""
    try:
        with open(path) as file:
            return file.read()
    except (OSError, ValueError):
        return ""


def worker_environment(workers: int, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of the supervisor and so of its workers.

    Hashes are the same in every worker, and BLAS and OpenMP get their share of the CPUs unless the user has said.
    """
    shares = dict.fromkeys(THREAD_VARIABLES, _threads_of_each(workers))
    return {"PYTHONHASHSEED": "0"} | shares | dict(environment)


@cache
def _threads_of_each(workers: int) -> str:
    """Asked of the system once: like the size of a pool it stays as it was, and every batch asks for it."""
    return str(max(1, usable_cpus() // workers))


def default_start_method() -> str:
    """The fork server where the platform forks well, else spawn."""
    return "forkserver" if sys.platform.startswith("linux") else "spawn"
