"""`python -m perf.profile_branch`: where the time of one branch goes, as a table of microseconds a stage.

A profiler makes small functions look long, and cannot tell work from waiting in a system call. So the table has each
stage's share of the profile, taken of the user time that a branch costs without a profiler; system calls are left out
of the profile and stand with the kernel's own count of its time. Time that is spent waiting is in no row.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from durapool import MemoryStore, SQLiteStore
from durapool.stores.base import Store
from perf.profiled import Cost, Job, plain_costs, profiles
from perf.stages import KERNEL, Stats, shares


def stage_lines(title: str, stats: Stats, branches: int, cost: Cost) -> list[str]:
    """A Markdown table whose rows add up to the cost."""
    found = shares(stats, branches)
    profiled = sum(share.seconds for share in found if share.stage != KERNEL)
    rows = [
        (share.stage, cost.kernel if share.stage == KERNEL else share.seconds / profiled * cost.user, share.calls)
        for share in found
    ]
    rows.sort(key=lambda row: row[1], reverse=True)
    rows.append(("in all", cost.total, sum(calls for _, _, calls in rows)))
    lines = [f"| {title:36} | us a branch | calls a branch |", f"| {'-' * 36} | ----------: | -------------: |"]
    return [*lines, *(f"| {stage:36} | {seconds * 1e6:11.1f} | {calls:14.1f} |" for stage, seconds, calls in rows), ""]


def function_lines(stats: Stats, branches: int, count: int) -> list[str]:
    """The functions that take the most time by themselves, as the profiler saw it."""
    ranked = sorted(stats.items(), key=lambda entry: entry[1][2], reverse=True)[:count]
    lines = ["us a branch, profiled   calls   function"]
    for (file, line, name), (_, calls, own, _, _) in ranked:
        where = name if file == "~" else f"{'/'.join(Path(file).parts[-2:])}:{line} {name}"
        lines.append(f"{own / branches * 1e6:21.1f} {calls / branches:7.1f}   {where}")
    return [*lines, ""]


def store_opener(kind: str, folder: str) -> Callable[[], Store]:
    """What makes or gives the store of each execution."""
    if kind == "memory":
        return MemoryStore
    store = SQLiteStore(Path(folder) / "journal.db")
    return lambda: store


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m perf.profile_branch", description=__doc__.partition("\n")[0])
    parser.add_argument("--branches", type=int, default=3_000, help="in the batch (default %(default)s)")
    parser.add_argument("--kind", choices=("parallel", "map"), default="parallel", help="lambdas with a step, or a map")
    parser.add_argument("--store", choices=("memory", "sqlite"), default="sqlite", help="default %(default)s")
    parser.add_argument("--checkpoint", choices=("sync", "async"), default="sync", help="default %(default)s")
    parser.add_argument("--functions", type=int, default=0, help="show so many functions too, those with most time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="durapool-perf-") as folder:
        opener = store_opener(options.store, folder)
        job = Job(options.branches, options.kind, opener, options.checkpoint)
        costs = plain_costs(job)
        parent, worker = profiles(job)
    print(f"{options.kind}, {options.store}, {options.checkpoint}: {costs.wall * 1e6:.0f} us a branch on one worker\n")
    for title, stats, cost in (("parent", parent, costs.parent), ("worker", worker, costs.worker)):
        print("\n".join(stage_lines(title, stats, options.branches, cost)))
        if options.functions:
            print("\n".join(function_lines(stats, options.branches, options.functions)))


if __name__ == "__main__":
    main()
