"""Timing contenders fairly: in turn within one run, so that what the machine does meanwhile hits all of them.

    warm-up: A B C    round 1: A B C    round 2: A B C    ...    -> median, min-max, ratio

The harness knows nothing of what it times. A benchmark gives it contenders and derives its figures from the report.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).with_name("results")
LOAD_BEFORE = os.getloadavg()[0]
"""Others' load: taken when this process starts, before the benchmarks make their own."""


@dataclass(frozen=True)
class Contender:
    """Something to time. `run` does the whole work once and checks its own result."""

    name: str
    run: Callable[[], None]


@dataclass(frozen=True)
class Figure:
    """A number derived from the timings, with the target that it should not exceed, if there is one."""

    name: str
    value: float
    target: float | None = None

    def __str__(self) -> str:
        if self.target is None:
            return f"{self.name}: {self.value:.3f}"
        verdict = "met" if self.value <= self.target else "missed"
        return f"{self.name}: {self.value:.3f} (target at most {self.target:g}: {verdict})"


@dataclass
class Report:
    """The seconds of each contender, one for each round, in the order of the rounds."""

    name: str
    baseline: str
    tasks: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    def median(self, contender: str) -> float:
        """The median seconds of a contender."""
        return median(self.seconds[contender])

    def ratio(self, contender: str, other: str) -> float:
        """The median over the rounds of contender / other, each pair from the same round."""
        pairs = zip(self.seconds[contender], self.seconds[other], strict=True)
        return median(mine / theirs for mine, theirs in pairs)

    def lines(self) -> list[str]:
        """The table and the figures as text."""
        width = max(map(len, self.seconds))
        lines = [f"{'':{width}}   median s     min-max s      us/task   x {self.baseline}"]
        for name, times in self.seconds.items():
            spread = f"{min(times):.3f}-{max(times):.3f}"
            each = self.median(name) / self.tasks * 1e6
            ratio = self.ratio(name, self.baseline)
            lines.append(f"{name:{width}}   {self.median(name):8.3f}  {spread:>13}  {each:11.1f}   {ratio:.2f}")
        lines += [str(figure) for figure in self.figures]
        load, cpus = LOAD_BEFORE, describe_machine()["cpus"]
        if load > cpus / 4:
            lines.append(f"load was {load:.1f} on {cpus} CPUs before the start: do not trust these figures")
        return lines

    def write(self) -> Path:
        """Write everything to perf/results/NAME.json."""
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.name}.json"
        content = {
            "benchmark": self.name,
            "machine": describe_machine(),
            "load_before": round(LOAD_BEFORE, 2),
            "settings": self.settings,
            "tasks": self.tasks,
            "figures": [vars(figure) for figure in self.figures],
            "seconds": {name: [round(value, 5) for value in times] for name, times in self.seconds.items()},
        }
        path.write_text(json.dumps(content, indent=2) + "\n")
        return path


def describe_machine() -> dict[str, Any]:
    """What the figures depend on, without a name that tells whose machine it is."""
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def measure(report: Report, contenders: Sequence[Contender], rounds: int) -> None:
    """One warm-up round, which is not counted, then `rounds` rounds, the contenders in turn in each."""
    for contender in contenders:
        contender.run()
    for number in range(1, rounds + 1):
        for contender in contenders:
            began = time.perf_counter()
            contender.run()
            report.seconds.setdefault(contender.name, []).append(time.perf_counter() - began)
        print(f"  round {number} of {rounds}", flush=True)
