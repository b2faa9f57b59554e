"""`python -m perf.faults_table`: what happens to whom when a task dies, measured, as a Markdown table.

    each pool x each probe --subprocess with a time-out--> one cell

Two workers each. Nothing here is taken from documentation: what a cell says was seen in this run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from perf.faults.tasks import pids_in
from perf.peers import FAULT_PEERS, is_installed
from perf.report import describe_machine

LIMIT = 90.0  # seconds for one probe
SOON = 10.0  # seconds for a program to end after a signal
OUTPUT = "output"  # name of the file in a probe's folder
ORPHANS = 2.0  # seconds for children to leave after SIGKILL of their parent

HEADINGS = [
    "",
    "other 7 results",
    "error of the dead one",
    "pool usable after",
    "timeout stops it",
    "cancel stops it",
    "Ctrl-C",
    "SIGINT to the parent",
    "orphans of a killed parent",
    "no semaphores",
]


def start(name: str, probe: str, folder: str) -> subprocess.Popen[bytes]:
    """One probe, as the leader of a process group of its own. It writes to a file: a pipe ends with the last orphan."""
    command = [sys.executable, "-m", "perf.faults.probes", name, probe, folder]
    with (Path(folder) / OUTPUT).open("w") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def family(pid: int) -> list[psutil.Process]:
    """The process and all its descendants."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def clear_away(processes: list[psutil.Process]) -> None:
    """Kill what a probe has left."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            pass


def ask(name: str, probe: str) -> dict[str, Any]:
    """What a probe has found."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = start(name, probe, folder)
        known: list[psutil.Process] = []
        deadline = time.monotonic() + LIMIT
        while process.poll() is None and time.monotonic() < deadline:
            known = list({each.pid: each for each in [*known, *family(process.pid)]}.values())
            time.sleep(0.1)
        clear_away(known)
        process.wait()
        lines = (Path(folder) / OUTPUT).read_text().splitlines()
    if not lines:
        return {"hung": True}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def disturb(name: str, send: Callable[[int], None], seconds: float) -> tuple[float | None, int, int]:
    """Signal a program whose workers are all busy: seconds until it has ended, children left then, children before."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = start(name, "stay", folder)
        deadline = time.monotonic() + LIMIT
        while len(pids_in(folder)) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        parent, *children = family(process.pid) or [psutil.Process()]
        began = time.monotonic()
        send(process.pid)
        while time.monotonic() < began + seconds and (process.poll() is None or any(map(is_alive, children))):
            time.sleep(0.01)
        ended = None if process.poll() is None else time.monotonic() - began
        left = sum(map(is_alive, children))
        clear_away([parent, *children])
        process.wait()
    return ended, left, len(children)


def died(exit_found: dict[str, Any], kill_found: dict[str, Any]) -> list[str]:
    """The three cells about the death of a task: the worse of the two ways to die."""
    both = [exit_found, kill_found]
    if any("kept" not in found for found in both):
        return ["hangs" if any("hung" in found for found in both) else "fails", "", ""]
    worst = min(both, key=lambda found: int(found["kept"]))
    slowest = max(float(found["seconds"]) for found in both)
    kept = f"{worst['kept']}" + (f", after {slowest:.0f} s" if slowest > 2 else "")
    error = str(kill_found["error"]) + (", says how" if all(found["tells"] for found in both) else "")
    return [kept, error, yes_or_no(all(found["usable"] for found in both))]


def yes_or_no(answer: object) -> str:
    """Of a cell."""
    return "yes" if answer else "no"


def stopped(found: dict[str, Any]) -> str:
    """Of the probes that stop a running task."""
    return "hangs" if "hung" in found else str(found.get("raised") or yes_or_no(found["stopped"]))


def interrupted(ended: float | None, left: int, children: int) -> str:
    """Of the probes that signal the program."""
    if ended is None:
        return f"goes on, over {SOON:.0f} s"
    if left:
        return f"{left} of {children} live on"
    return f"clean, {ended:.1f} s"


def orphaned(_ended: float | None, left: int, children: int) -> str:
    """Of SIGKILL to the parent."""
    return f"{left} of {children}"


def semaphores(found: dict[str, Any]) -> str:
    """Of the probe without semaphores."""
    if "hung" in found:
        return "hangs"
    if "raised" in found or found["errors"]:
        return "fails"
    return "works" if found["elsewhere"] else "runs serially"


def row(name: str) -> list[str]:
    """All cells of one pool."""
    print(f"  {name} ...", file=sys.stderr, flush=True)
    label = name
    try:
        distribution = FAULT_PEERS[name].distribution
        label += f" {version(distribution)}" if distribution and distribution != "durapool" else ""
    except PackageNotFoundError:
        pass
    return [
        label,
        *died(ask(name, "exit"), ask(name, "kill")),
        stopped(ask(name, "timeout")),
        stopped(ask(name, "cancel")),
        interrupted(*disturb(name, lambda pid: os.killpg(pid, signal.SIGINT), SOON)),
        interrupted(*disturb(name, lambda pid: os.kill(pid, signal.SIGINT), SOON)),
        orphaned(*disturb(name, lambda pid: os.kill(pid, signal.SIGKILL), ORPHANS)),
        semaphores(ask(name, "semaphores")),
    ]


def markdown(rows: list[list[str]]) -> str:
    """A table whose columns are aligned."""
    table = [HEADINGS, *rows]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEADINGS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in table
    ]
    lines.insert(1, "| " + " | ".join("-" * max(3, width) for width in widths) + " |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m perf.faults_table", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FAULT_PEERS)} (default: all)")
    names = parser.parse_args().names or list(FAULT_PEERS)
    if unknown := set(names) - set(FAULT_PEERS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    os.chdir(Path(__file__).parents[1])
    missing = [name for name in names if not is_installed(FAULT_PEERS[name].module)]
    rows = [row(name) for name in names if name not in missing]
    print(markdown(rows))
    machine = describe_machine()
    print(f"\nPython {machine['python']}, {machine['system']}, {machine['cpus']} CPUs.")
    if missing:
        print(f"Not installed, and so left out: {', '.join(missing)} (pip install '.[perf]').")


if __name__ == "__main__":
    main()
