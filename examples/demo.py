"""`make demo`: kill a real job half-way, run it again, and see what is not done twice.

The job is `code_clones.py` beside this file, over a part of the standard library. It runs in a process group of its
own, so that SIGKILL takes everything that it has started along, as a power cut would.

    1. process mode, killed about half-way      2. the same id again      3. fresh: threads, then processes
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

JOB = Path(__file__).with_name("code_clones.py")
CHUNK = 12  # files a branch
DEADLINE = 100.0  # seconds that one run may take


@dataclass(frozen=True)
class Job:
    """One way to start the job: the folder for its store and logs, and how many files it reads."""

    folder: Path
    files: int

    def start(self, run_id: str, executor: str, log: str = "steps.log") -> subprocess.Popen[str]:
        """Start a run as the leader of a new session."""
        command = [sys.executable, str(JOB), "--id", run_id, "--executor", executor]
        command += ["--store", str(self.folder / "journal.db"), "--log", str(self.folder / log)]
        command += ["--chunk", str(CHUNK), "--limit", str(self.files)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def finish(self, run_id: str, executor: str, log: str = "steps.log") -> tuple[dict[str, Any], float]:
        """Run to the end: the result, and the wall time of the whole command in seconds."""
        began = time.perf_counter()
        process = self.start(run_id, executor, log)
        try:
            output, _ = process.communicate(timeout=DEADLINE)
        finally:
            kill_group(process)
        if process.returncode:
            raise SystemExit(f"the run {run_id} ended with exit code {process.returncode}")
        return json.loads(output), time.perf_counter() - began

    def steps(self, log: str = "steps.log") -> list[str]:
        """The steps that were run, as "branch/step", in order; a step that ran twice is in it twice."""
        path = self.folder / log
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def kill_group(process: subprocess.Popen[str]) -> None:
    """SIGKILL to the process and all of its group, if any is left."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def kill_half_way(job: Job, run_id: str) -> float:
    """Start a run and kill it once half of the scanning steps have begun. Returns the seconds that it lived."""
    half = -(-job.files // CHUNK)  # every scanning branch has two steps
    began = time.perf_counter()
    process = job.start(run_id, "process")
    try:
        while len(job.steps()) < half:
            if process.poll() is not None:
                raise SystemExit(f"the run {run_id} ended before it could be killed")
            if time.perf_counter() - began > DEADLINE:
                raise SystemExit(f"the run {run_id} makes no progress")
            time.sleep(0.01)
    finally:
        kill_group(process)
        if process.stdout is not None:
            process.stdout.close()
    return time.perf_counter() - began


def branches(steps: list[str]) -> set[str]:
    """The branches among these steps; "main" is the handler itself."""
    return {step.split("/")[0] for step in steps} - {"main"}


def demo(job: Job) -> None:
    """The three acts."""
    print(f"Near-duplicate functions in {job.files} files of the standard library, {os.cpu_count()} CPUs.\n")
    print("1. Process mode, killed with SIGKILL (the whole process group) about half-way")
    lived = kill_half_way(job, "demo")
    before = job.steps()
    print(f"   killed after {lived:.1f} s: {len(before)} steps of {len(branches(before))} branches had begun\n")

    print("2. The same id again")
    resumed, seconds = job.finish("demo", "process")
    again = job.steps()[len(before) :]
    every = set(before) | set(again)
    kept = len(branches(list(every)) - branches(again))
    print(f"   done in {seconds:.1f} s")
    print(f"   {kept} of {len(branches(list(every)))} branches were not run again")
    print(f"   {len(every - set(again))} of {len(every)} steps were not run again\n")

    print("3. From the start, without a kill")
    threads, thread_seconds = job.finish("demo-threads", "thread", "threads.log")
    processes, process_seconds = job.finish("demo-processes", "process", "processes.log")
    print("   threads    processes   processes / threads")
    print(f"   {thread_seconds:5.1f} s    {process_seconds:5.1f} s     {process_seconds / thread_seconds:.2f}\n")

    if not resumed == threads == processes:
        raise SystemExit("the results differ: this is a bug, please report it")
    print(
        f"All three results are the same: {resumed['functions']} functions in {resumed['files']} files, "
        f"{resumed['cloned_functions']} of them in {resumed['clone_groups']} groups of near-duplicates. The largest:"
    )
    for pair in resumed["top_pairs"][:3]:
        print(f"   {pair['similarity']:.2f}  {'  ~  '.join(pair['functions'])}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", type=int, default=480, help="how many files to read (default %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="durapool-demo-") as folder:
        demo(Job(Path(folder), options.files))


if __name__ == "__main__":
    main()
