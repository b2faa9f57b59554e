"""Measure every package of the standard library in three ways: a `parallel` inside each branch of a `map`.

    map over packages -> in each: parallel(size, complexity, imports) -> a line of the report

A branch that waits for its nested batch lends its worker, so four workers stay busy with nested branches and no more
than four run, however many packages there are.

    durapool run examples/nested.py:handler --executor process --id packages
    durapool show packages                                     # the tree: map, branches, parallel, steps
"""

from __future__ import annotations

import ast
import sysconfig
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from command_line import main
from durapool import DurableContext, MapConfig, ParallelBranch, durable_execution

SKIPPED = {"site-packages", "dist-packages", "test", "__pycache__", "lib2to3", "idlelib"}
BRANCHING = (ast.If, ast.For, ast.While, ast.Try, ast.With, ast.BoolOp, ast.IfExp, ast.comprehension)


@durable_execution
def handler(event: dict[str, Any] | None, context: DurableContext) -> dict[str, Any]:
    """Measure. Event keys, both optional: `root` (a folder with packages), `limit` (so many packages)."""
    event = event or {}
    root = Path(event.get("root") or sysconfig.get_paths()["stdlib"])
    packages = context.step(lambda _: list_packages(root)[: event.get("limit")], name="list")

    def measure(ctx: DurableContext, package: str, index: int, inputs: Any) -> dict[str, Any]:
        folder = root / package
        measured = ctx.parallel(
            [
                ParallelBranch(lambda c: c.step(lambda _: size(folder), name="count"), name="size"),
                ParallelBranch(lambda c: c.step(lambda _: complexity(folder), name="walk"), name="complexity"),
                ParallelBranch(lambda c: c.step(lambda _: imports(folder), name="collect"), name="imports"),
            ],
            name="measure",
        )
        measured.throw_if_error()
        lines, (worst, points), imported = measured.get_results()
        return {"package": package, "lines": lines, "most_complex": worst, "points": points, "imports": imported}

    report = context.map(packages, measure, name="packages", config=MapConfig(item_namer=lambda package, _: package))
    report.throw_if_error()
    rows = report.get_results()
    return {
        "packages": len(rows),
        "lines": sum(row["lines"] for row in rows),
        "most_complex": max(rows, key=lambda row: row["points"], default=None),
        "most_imported": Counter(name for row in rows for name in row["imports"]).most_common(5),
    }


def list_packages(root: Path) -> list[str]:
    """The folders of `root` that are packages."""
    return sorted(path.parent.name for path in root.glob("*/__init__.py") if path.parent.name not in SKIPPED)


def trees(folder: Path) -> Iterator[tuple[Path, ast.Module]]:
    """The syntax tree of each file of a package; files that do not parse are left out."""
    warnings.filterwarnings("ignore", module="<measured>")
    for path in sorted(folder.rglob("*.py")):
        try:
            with tokenize.open(path) as file:
                yield path, ast.parse(file.read(), "<measured>")
        except (SyntaxError, ValueError):
            continue


def size(folder: Path) -> int:
    """Lines that hold code."""
    return sum(len({node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt)}) for _, tree in trees(folder))


def complexity(folder: Path) -> tuple[str, int]:
    """The function with the most branching points, and how many it has."""
    worst = ("", 0)
    for path, tree in trees(folder):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                points = sum(isinstance(inner, BRANCHING) for inner in ast.walk(node))
                worst = max(
                    worst, (f"{path.relative_to(folder.parent)}:{node.lineno} {node.name}", points), key=points_of
                )
    return worst


def points_of(entry: tuple[str, int]) -> int:
    """The branching points of an entry."""
    return entry[1]


def imports(folder: Path) -> list[str]:
    """The top-level modules that a package imports."""
    found: set[str] = set()
    for _, tree in trees(folder):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.partition(".")[0])
    return sorted(found)


if __name__ == "__main__":
    main(handler, __doc__)
