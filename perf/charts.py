"""Charts of a report, one PNG for each benchmark: its curves, or else the median of each contender as bars."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from perf.report import Curve, Report, Table

WIDTH = 9.0  # inches
BAR = 0.32  # inches
CURVE = 3.2  # inches


def draw(report: Report, folder: Path) -> Path:
    """Draw FOLDER/NAME.png. Needs matplotlib (extra `perf`)."""
    import_module("matplotlib").use("Agg")
    pyplot = import_module("matplotlib.pyplot")
    parts: list[Curve | Table] = [*report.curves] if report.curves else [*report.tables]
    heights = [CURVE if isinstance(part, Curve) else 1.2 + BAR * len(part.seconds) for part in parts]
    figure, axes = pyplot.subplots(
        len(parts), figsize=(WIDTH, sum(heights)), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for axis, part in zip(axes[:, 0], parts, strict=True):
        match part:
            case Curve():
                draw_curve(axis, part)
            case Table():
                draw_bars(axis, part)
    path = folder / f"{report.name}.png"
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path


def draw_curve(axis: Any, curve: Curve) -> None:
    """Lines over a common axis."""
    for name, points in curve.lines.items():
        axis.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name)
    axis.set(xscale="log", yscale="log", title=curve.title, xlabel=curve.across, ylabel=curve.upwards)
    axis.grid(visible=True, which="major", alpha=0.3)
    axis.legend()


def draw_bars(axis: Any, table: Table) -> None:
    """A bar for each contender, from the top down, with the range of the rounds."""
    names = list(table.seconds)
    scale, unit = (1e6, "us") if min(map(table.each, names)) < 1e-3 else (1e3, "ms")
    for place, name in enumerate(names):
        times = [seconds / table.tasks[name] * scale for seconds in table.seconds[name]]
        middle = median(times)
        color = "tab:blue" if name.startswith(("durapool", "process", "thread", "map")) else "tab:gray"
        axis.barh(place, middle, color=color, xerr=[[middle - min(times)], [max(times) - middle]], capsize=2)
        axis.text(middle, place, f" {middle:,.0f}" if middle >= 100 else f" {middle:.3g}", va="bottom", fontsize=8)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.set(title=table.title, xlabel=f"{unit} for a task, median and range")
