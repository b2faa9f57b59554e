"""`python -m perf.instructions`: how many instructions of the interpreter one branch takes, by stage and by function.

Where no function takes more than a few percent, what a change to one of them brings is less than the noise of a
machine. Instructions can be counted: each is some 13 ns of the parent's time, what it calls in C included. Only the
turns of the pool's loop are fewer than without counting: a program that is slow takes in more at once.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from durapool import MemoryStore, ProcessExecutor
from perf.counted import Counts, begin, collect, forget
from perf.profiled import WARM, Job, ask, run_job
from perf.stages import OTHER, stage_of


def counts_of(job: Job) -> tuple[Counts, Counts]:
    """Of the parent's thread that drives the batch, and of the worker."""
    executor = ProcessExecutor(workers=1, initializer=begin)
    run_job(job, executor, WARM)
    ask(executor, forget)
    begin()
    forget()
    run_job(job, executor, job.branches)
    return collect(), ask(executor, collect)


def stage_lines(title: str, counts: Counts, branches: int) -> list[str]:
    """A Markdown table, the stage with most first."""
    instructions: dict[str, int] = defaultdict(int)
    calls: dict[str, int] = defaultdict(int)
    for function, (count, called) in counts.items():
        stage = stage_of(function) or OTHER
        instructions[stage] += count
        calls[stage] += called
    rows = [(stage, instructions[stage], calls[stage]) for stage in instructions]
    rows.sort(key=lambda row: row[1], reverse=True)
    rows.append(("in all", sum(instructions.values()), sum(calls.values())))
    lines = [f"| {title:36} | instructions | calls |", f"| {'-' * 36} | -----------: | ----: |"]
    return [
        *lines,
        *(f"| {stage:36} | {count / branches:12.0f} | {called / branches:5.1f} |" for stage, count, called in rows),
        "",
    ]


def function_lines(counts: Counts, branches: int, most: int) -> list[str]:
    """The functions that take most."""
    ranked = sorted(counts.items(), key=lambda entry: entry[1], reverse=True)[:most]
    lines = ["instructions a branch   calls   function"]
    for (file, line, name), (count, called) in ranked:
        where = f"{'/'.join(Path(file).parts[-2:])}:{line} {name}"
        lines.append(f"{count / branches:21.1f} {called / branches:7.1f}   {where}")
    return [*lines, ""]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m perf.instructions", description=__doc__.partition("\n")[0])
    parser.add_argument("--branches", type=int, default=1_000, help="in the batch (default %(default)s)")
    parser.add_argument("--kind", choices=("parallel", "map"), default="parallel", help="lambdas with a step, or a map")
    parser.add_argument("--functions", type=int, default=0, help="show so many functions too, those that take most")
    options = parser.parse_args()
    parent, worker = counts_of(Job(options.branches, options.kind, MemoryStore, "sync"))
    for title, counts in (("parent", parent), ("worker", worker)):
        print("\n".join(stage_lines(title, counts, options.branches)))
        if options.functions:
            print("\n".join(function_lines(counts, options.branches, options.functions)))


if __name__ == "__main__":
    main()
