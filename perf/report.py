"""What a benchmark found: tables of timings, figures derived from them, curves, and how they are printed and kept.

A figure with a target is a row of the table that `make perf` ends with.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

RESULTS = Path(__file__).with_name("results")
LOAD_VARIABLE = "DURAPOOL_PERF_LOAD"
"""Others' load, handed on to the processes that a run of several benchmarks starts: they would see each other's."""
LOAD_BEFORE = float(os.environ.get(LOAD_VARIABLE) or os.getloadavg()[0])
"""Others' load: taken when this process starts, before the benchmarks make their own."""


@dataclass(frozen=True)
class Figure:
    """A number derived from the timings, with the target that it should meet, if there is one."""

    name: str
    value: float
    target: float | None = None
    sense: Literal["at most", "at least"] = "at most"
    unit: str = ""

    @property
    def verdict(self) -> str:
        """ "met" or "missed"; empty without a target."""
        if self.target is None:
            return ""
        met = self.value >= self.target if self.sense == "at least" else self.value <= self.target
        return "met" if met else "missed"

    @property
    def measured(self) -> str:
        """The value as text."""
        return (
            f"{self.value:.3g} {self.unit}".rstrip() if self.value < 1000 else f"{self.value:,.0f} {self.unit}".rstrip()
        )

    @property
    def aim(self) -> str:
        """The target as text."""
        return "" if self.target is None else f"{self.sense} {self.target:,g} {self.unit}".rstrip()

    def __str__(self) -> str:
        return f"{self.name}: {self.measured}" + (f" (target {self.aim}: {self.verdict})" if self.aim else "")


@dataclass(frozen=True)
class Curve:
    """Points for a chart: each line's values over a common axis. Both axes are logarithmic."""

    title: str
    across: str
    upwards: str
    lines: dict[str, list[tuple[float, float]]]


@dataclass
class Table:
    """The seconds of each contender, one for each round, in the order of the rounds."""

    title: str
    baseline: str
    tasks: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def each(self, contender: str) -> float:
        """The median seconds of one task."""
        return median(self.seconds[contender]) / self.tasks[contender]

    def ratio(self, contender: str, other: str) -> float:
        """The median over the rounds of contender / other for one task, each pair from the same round."""
        pairs = zip(self.seconds[contender], self.seconds[other], strict=True)
        return median(mine / theirs for mine, theirs in pairs) * self.tasks[other] / self.tasks[contender]

    def lines(self) -> list[str]:
        """The table as text."""
        width = max(map(len, [self.title, *self.seconds]))
        lines = [f"{self.title:{width}}   median s     min-max s        us/task   x {self.baseline}"]
        for name, times in self.seconds.items():
            spread = f"{min(times):.3f}-{max(times):.3f}"
            ratio = self.ratio(name, self.baseline)
            lines.append(
                f"{name:{width}}   {median(times):8.3f}  {spread:>14}  {self.each(name) * 1e6:12.1f}   {ratio:.2f}"
            )
        return lines


@dataclass
class Report:
    """Everything that one benchmark found."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def skip(self, names: Sequence[str]) -> None:
        """Remember contenders that are not installed, each once."""
        self.skipped += [name for name in names if name not in self.skipped]

    def lines(self) -> list[str]:
        """Tables, figures and notes as text."""
        lines = [line for table in self.tables for line in [*table.lines(), ""]]
        lines += [*map(str, self.figures), *self.notes]
        lines += [f"skipped, not installed: {name}" for name in self.skipped]
        load, cpus = LOAD_BEFORE, describe_machine()["cpus"]
        if load > cpus / 4:
            lines.append(f"load was {load:.1f} on {cpus} CPUs before the start: do not trust these figures")
        return lines

    def write(self, folder: Path = RESULTS) -> Path:
        """Write everything to FOLDER/NAME.json."""
        folder.mkdir(exist_ok=True)
        path = folder / f"{self.name}.json"
        content = {
            "benchmark": self.name,
            "machine": describe_machine(),
            "load_before": round(LOAD_BEFORE, 2),
            "settings": self.settings,
            "figures": [asdict(figure) for figure in self.figures],
            "notes": self.notes,
            "skipped": self.skipped,
            "curves": [asdict(curve) for curve in self.curves],
            "tables": [asdict(table) for table in self.tables],
        }
        path.write_text(json.dumps(content, indent=2) + "\n")
        return path


def targets_in(folder: Path, names: Sequence[str]) -> list[tuple[str, Figure]]:
    """The figures with a target in these benchmarks' files: (benchmark, figure)."""
    found = []
    for name in names:
        path = folder / f"{name}.json"
        if path.exists():
            figures = [Figure(**fields) for fields in json.loads(path.read_text())["figures"]]
            found += [(name, figure) for figure in figures if figure.target is not None]
    return found


def targets_table(rows: Sequence[tuple[str, Figure]]) -> list[str]:
    """A Markdown table of targets and what was measured."""
    cells = [("benchmark", "what", "target", "measured", "")]
    cells += [(name, figure.name, figure.aim, figure.measured, figure.verdict) for name, figure in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(5)]
    lines = [
        "| " + " | ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "| " + " | ".join("-" * max(3, width) for width in widths) + " |")
    return lines


def describe_machine() -> dict[str, Any]:
    """What the figures depend on, without a name that tells whose machine it is."""
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
