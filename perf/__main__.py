"""`python -m perf [NAME ...]`: run benchmarks, print them, write perf/results/NAME.json, and end with the targets.

Each benchmark runs in a process of its own: none sees the threads, the memory or the warm pools of another.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from perf.harness import ROOT
from perf.report import LOAD_BEFORE, LOAD_VARIABLE, RESULTS, targets_in, targets_table

BENCHMARKS = {
    "cpu": "equal CPU-bound branches on 2 workers, against a bare fork and other pools",
    "modes": "threads against processes, by the length of a branch and by what it does",
    "overhead": "a branch that does nothing, against pools and durable libraries",
    "cold_start": "from nothing to the first result",
    "payload": "large arrays out of workers, into them, and shared by many branches",
    "checkpoint": "records a second, by store and mode",
    "scale": "time and memory for a branch, from 100 to 100,000 branches",
    "resume": "time to go on with a half-finished execution of 100,000 branches",
    "nested": "batches within batches, on one pool",
    "cluster": "branches on Dask, against its plain futures: overhead, and 1 against 2 workers",
    "faults": "time to notice a lost worker, to replace it, to stop losers",
    "coordinator": "how far one coordinator goes: 1,000,000 branches on 10,000 simulated workers",
    "lambda_service": "CPU-bound branches as a Lambda function, against AWS's own SDK; calls of the service",
    "progress": "showing what goes on, against showing nothing",
}
LONG = {"consumer": "memory of the parent while it consumes 1,000 results of 8 MiB"}
QUICK_ROUNDS = 1


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m perf", description="The benchmarks of durapool.")
    listed = "; ".join(f"{name}: {about}" for name, about in (BENCHMARKS | LONG).items())
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which (default: all). {listed}")
    parser.add_argument("--rounds", type=int, help="rounds that count (default: each benchmark's own)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round: shows that all runs, no figures")
    parser.add_argument(
        "--long", action="store_true", help=f"larger sizes, and those that take long: {', '.join(LONG)}"
    )
    parser.add_argument("--plot", action="store_true", help="draw NAME.png beside NAME.json")
    parser.add_argument("--results", type=Path, help="the folder to write to (default: perf/results; none for --quick)")
    options = parser.parse_args()
    names = options.names or [*BENCHMARKS, *(LONG if options.long else ())]
    if unknown := set(names) - set(BENCHMARKS | LONG):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(BENCHMARKS | LONG)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.plot and find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install 'durapool[perf]'")
    with tempfile.TemporaryDirectory(prefix="durapool-perf-") as scratch:
        folder = options.results or (Path(scratch) if options.quick else RESULTS)
        folder.mkdir(parents=True, exist_ok=True)
        if len(names) == 1:
            run_here(names[0], options, folder)
            return 0
        failed = [name for name in names if not run_apart(name, options, folder)]
        print("\n".join(targets_table(targets_in(folder, names))))
    for name in failed:
        print(f"{name} FAILED, see above")
    return 1 if failed else 0


def run_apart(name: str, options: argparse.Namespace, folder: Path) -> bool:
    """Run one in a process of its own; whether it came to its end."""
    command = [sys.executable, "-m", "perf", name, "--results", str(folder.resolve())]
    command += [f"--{flag}" for flag in ("quick", "long", "plot") if getattr(options, flag)]
    command += [] if options.rounds is None else ["--rounds", str(options.rounds)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {LOAD_VARIABLE: str(LOAD_BEFORE)}, check=False)
    return done.returncode == 0


def run_here(name: str, options: argparse.Namespace, folder: Path) -> None:
    """Run one, print it and write it."""
    print(f"{name}: {(BENCHMARKS | LONG)[name]}", flush=True)
    began = time.monotonic()
    benchmark = import_module(f"perf.benchmarks.{name}")
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else benchmark.ROUNDS)
    report = benchmark.run(rounds, sizes_of(benchmark, options))
    report.settings["rounds"] = rounds
    if options.quick:
        report.notes.append("tiny sizes (--quick): this shows that the benchmark runs, and no more")
    print("\n".join(report.lines()))
    written = [report.write(folder)]
    if options.plot:
        from perf.charts import draw

        written.append(draw(report, folder))
    print(f"{time.monotonic() - began:.0f} s; written: {', '.join(path.name for path in written)}\n", flush=True)


def sizes_of(benchmark: ModuleType, options: argparse.Namespace) -> Any:
    """What to run it at; few have sizes that take long."""
    if options.quick:
        return benchmark.QUICK
    return getattr(benchmark, "LONG", benchmark.FULL) if options.long else benchmark.FULL


if __name__ == "__main__":
    sys.exit(main())
