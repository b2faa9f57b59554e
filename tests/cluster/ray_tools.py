"""What tests on Ray share: programs of their own, and the processes behind a branch."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from durapool.records import Action, OperationType
from durapool.stores.sqlite import SQLiteStore

LONGEST = 60.0  # seconds that anything here may take

TOKEN = {"RAY_AUTH_MODE": "token"}  # who connects to a cluster that asks for a token says so

HEAD = """
import sys, ray
ray.init(num_cpus=2, num_gpus=1, resources={"licence": 1}, include_dashboard=False, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""

JOB = """
import os, sys, threading
import psutil
import durapool
from durapool import MapConfig, durable_execution
from durapool.stores.sqlite import SQLiteStore

def note(line):
    with open("notes", "a") as notes:
        notes.write(line + "\\n")

def actor():
    "The process that holds the slot: a worker's grandparent."
    return psutil.Process(os.getppid()).parent()

def execute(branch, executor, count=6):
    @durable_execution
    def handler(event, context):
        result = context.map(range(count), branch, name="batch")
        result.throw_if_error()
        return result.get_results()
    print(durapool.run(handler, id="x", store=SQLiteStore("journal.db"), executor=executor))
"""


def actor() -> psutil.Process:
    """In a branch: the Ray actor that holds its slot, which is the parent of the worker's supervisor."""
    found = psutil.Process(os.getppid()).parent()
    assert found is not None
    return found


def actors() -> list[psutil.Process]:
    """Those of this process that are alive."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::AgentHolder"):
                found.append(process)
        except psutil.Error:
            continue  # it has ended meanwhile
    return found


def start_program(folder: Path, source: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A program in a folder, with `JOB` ahead of it."""
    (folder / "program.py").write_text(JOB + textwrap.dedent(source))
    return subprocess.Popen(
        [sys.executable, "program.py", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def noted(folder: Path) -> Counter[str]:
    """How often each line was noted by the branches of a program."""
    path = folder / "notes"
    return Counter(path.read_text().splitlines() if path.exists() else [])


def recorded_steps(folder: Path) -> set[str]:
    """The names of the steps whose success is in the store of a program."""
    store = SQLiteStore(folder / "journal.db")
    try:
        updates = [record.update for record in store.read("x")]
    finally:
        store.close()
    steps = [update for update in updates if update.type is OperationType.STEP and update.action is Action.SUCCEED]
    return {str(update.name) for update in steps}


@contextmanager
def ray_head() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A Ray cluster that is not durapool's: its address, and the process that it ends with."""
    head = subprocess.Popen(
        [sys.executable, "-c", HEAD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **TOKEN, "RAY_USAGE_STATS_ENABLED": "0"},
        start_new_session=True,
    )
    assert head.stdout is not None
    assert head.stdin is not None
    try:
        yield head.stdout.readline().strip(), head
    finally:
        head.stdin.close()
        try:
            head.wait(LONGEST)
        except subprocess.TimeoutExpired:
            head.kill()
            head.wait()
        head.stdout.close()


def still_running(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that have not ended in time. A zombie has: whoever it fell to has not asked for it yet."""
    _, alive = psutil.wait_procs(processes, seconds)
    return [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
