"""What `durapool doctor` finds out: about the machine, the surroundings and the configuration. Changes nothing.

Each check gives a `Finding`; the command prints them. A check that meets a problem says what to do about it.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from durapool.configuration import DEBUG, OPTIONS, STORE, configured
from durapool.exceptions import DurableExecutionsError
from durapool.executors import START_METHODS
from durapool.pool.machine import THREAD_VARIABLES, cgroup_quota, default_start_method, usable_cpus
from durapool.wording import counted, duration, size

_PACKAGES = ("cloudpickle", "msgpack", "psutil", "click", "rich", "numpy", "distributed", "ray", "boto3")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the diagnosis.

    Args:
        topic: what was looked at.
        text: what was found, for people.
        facts: the same for machines, plain JSON values.
        problem: what is wrong and what to do; empty if nothing is.
    """

    topic: str
    text: str
    facts: dict[str, Any]
    problem: str = ""


def diagnose() -> Iterator[Finding]:
    """All findings, in order; the last runs a branch on a worker."""
    yield from (_program(), _cpus(), _start_methods(), _memfd(), _semaphores(), _threads(), _memory(), _packages())
    yield from _configuration()
    yield _store()
    yield _plan()
    yield _trial()


def _program() -> Finding:
    facts = {
        "durapool": version("durapool"),
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": platform.system(),
        "machine": platform.machine(),
    }
    text = "durapool {durapool}, Python {python} ({executable}), {system} {machine}".format(**facts)
    supported = facts["system"] in ("Linux", "Darwin")
    return Finding("program", text, facts, "" if supported else "durapool runs on Linux and macOS")


def _cpus() -> Finding:
    total = os.cpu_count() or 1
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    quota = cgroup_quota()
    usable = usable_cpus()
    limit = "no cgroup quota" if quota is None else f"a cgroup quota of {quota:g}"
    text = f"{total} in the machine, {affinity} by affinity, {limit}: {usable} usable"
    return Finding("CPUs", text, {"total": total, "affinity": affinity, "cgroup_quota": quota, "usable": usable})


def _start_methods() -> Finding:
    here = [name for name in START_METHODS if name in multiprocessing.get_all_start_methods()]
    default = default_start_method()
    text = ", ".join(f"{name} (default)" if name == default else name for name in here)
    return Finding("start methods", text, {"available": here, "default": default})


def _memfd() -> Finding:
    works = _works(lambda: os.close(os.memfd_create("durapool-doctor")))
    return Finding("memfd", "works" if works else "does not work: temp files serve instead", {"works": works})


def _semaphores() -> Finding:
    works = _works(_make_semaphore)
    shared_memory = os.access("/dev/shm", os.W_OK)
    text = f"{'work' if works else 'do not work'}, /dev/shm is {'' if shared_memory else 'not '}writable"
    facts = {"semaphores": works, "dev_shm": shared_memory}
    return Finding("semaphores", f"{text}; durapool needs neither", facts)


def _make_semaphore() -> None:
    from _multiprocessing import SemLock  # type: ignore[import-not-found]  # typeshed has no stub of it

    SemLock(1, 1, 1, f"/durapool-doctor-{os.getpid()}", True)  # unlinked at once


def _works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (OSError, ImportError, AttributeError):
        return False
    return True


def _threads() -> Finding:
    mine = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
    cpus = usable_cpus()
    text = f"1 in each of {counted(cpus, 'worker')} unless the environment says otherwise"
    if mine:
        text = f"{', '.join(f'{name}={value}' for name, value in mine.items())} from the environment; others 1 a worker"
    return Finding("BLAS threads", text, {"environment": mine, "variables": list(THREAD_VARIABLES)})


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    limit = _cgroup_memory()
    text = f"{size(memory.total)}, {size(memory.available)} available"
    if limit is not None and limit < memory.total:
        text += f", a cgroup limit of {size(limit)}"
    return Finding("memory", text, {"total": memory.total, "available": memory.available, "cgroup_limit": limit})


def _cgroup_memory() -> int | None:
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = Path("/sys/fs/cgroup", name).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            return int(text)
    return None


def _packages() -> Finding:
    found: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    text = ", ".join(f"{name} {there or 'not installed'}" for name, there in found.items())
    return Finding("packages", text, found)


def _configuration() -> Iterator[Finding]:
    for option in OPTIONS.values():
        if option is STORE or option is DEBUG:
            continue
        try:
            found = configured(option)
        except DurableExecutionsError as error:
            yield Finding("configuration", "cannot be read", {"error": str(error)}, str(error))
            return
        yield Finding(option.name, f"{found.value} ({found.source})", {"value": found.value, "source": found.source})


def _store() -> Finding:
    from durapool.stores import open_store

    try:
        found = configured(STORE)
        facts: dict[str, Any] = {"value": found.value, "source": found.source}
        path = Path(found.value).expanduser()
        if found.value in ("memory", ":memory:"):
            return Finding("store", f"in memory ({found.source})", facts)
        if not os.path.lexists(path):
            return _new_store(path, found.source, facts)
        store = open_store(found.value)
        try:
            executions = len(store.executions())
        finally:
            store.close()
    except DurableExecutionsError as error:
        return Finding("store", "cannot be used", {"error": str(error)}, str(error))
    text = f"{found.value} ({found.source}): {counted(executions, 'execution')}"
    return Finding("store", text, facts | {"executions": executions})


def _new_store(path: Path, source: str, facts: dict[str, Any]) -> Finding:
    """Where there is none yet, the nearest folder that exists has to be writable."""
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    writable = os.access(folder, os.W_OK | os.X_OK)
    problem = "" if writable else f"{folder} is not writable: name another store with --store or {STORE.variable}"
    return Finding("store", f"{path} ({source}): not there yet", facts | {"writable": writable}, problem)


def _plan() -> Finding:
    cpus = usable_cpus()
    how = {"forkserver": "forked by a supervisor", "spawn": "each a fresh interpreter", "fork": "forked from here"}
    method = default_start_method()
    text = f'executor="process" runs {counted(cpus, "worker")}, {how[method]}, on pipes and sockets alone'
    if cpus == 1:
        text += "; with one CPU it isolates branches, but is no faster than threads"
    return Finding("therefore", text, {"workers": cpus, "start_method": method})


def _trial() -> Finding:
    """Run a branch on a worker, as any program does."""
    import durapool
    from durapool import MapConfig, durable_execution

    @durable_execution
    def handler(_event: Any, context: Any) -> int:
        config: MapConfig[int] = MapConfig(executor="process:1")
        result = context.map([1], lambda _ctx, _item, _index, _inputs: os.getpid(), config=config)
        result.throw_if_error()
        return int(result.get_results()[0])

    began = time.monotonic()
    try:
        durapool.run(handler, id="durapool-doctor", store="memory")
    except DurableExecutionsError as error:
        return Finding("trial", "no worker could run a branch", {"works": False}, str(error))
    seconds = time.monotonic() - began
    text = f"a worker came up and ran a branch in {duration(seconds)}"
    return Finding("trial", text, {"works": True, "seconds": round(seconds, 3)})
