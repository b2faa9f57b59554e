"""The benchmarks run, say what they measured beside each target, and name what they leave out. No times are judged."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = {
    "cpu": ["(process / thread) / (raw fork / raw threads)"],
    "modes": [],
    "overhead": ["memory / PPE", "SQLite NORMAL / PPE", "SQLite FULL / PPE", "map, SQLite NORMAL, async / PPE"],
    "cold_start": ["durapool (fork server) / PPE (fork server)", "durapool (fork) / PPE (fork)"],
    "payload": ["out,", "in,", "shared by"],
    "checkpoint": [],
    "scale": [
        "process: time for a branch",
        "thread: time for a branch",
        "process: memory for a finished branch",
        "thread: memory for a finished branch",
    ],
    "resume": ["process: resume with", "thread: resume with"],
    "nested": [],
    "coordinator": ["alone: time for a branch", "journal: memory for a branch"],
    "lambda_service": [],
    "cluster": [],
    "progress": ["busy: live", "busy: json", "empty: live", "empty: json"],
    "faults": ["first_successful: from the decision to the return"],
    "consumer": ["arrays,", "bytes,"],
}
"""Of each benchmark, what the names of its figures with a target contain; those against the AWS SDK come on top."""

AGAINST_SDK = {"overhead": 2, "lambda_service": 1}

MODULES = {
    "Pebble": "pebble",
    "loky": "loky",
    "joblib (loky)": "joblib",
    "dask.distributed": "distributed",
    "AWS SDK": "aws_durable_execution_sdk_python_testing",
    "DBOS (SQLite)": "dbos",
    "Dask": "distributed",
    "Ray": "ray",
}
POOLS = ["Pebble", "loky", "joblib (loky)", "dask.distributed"]
CONTENDERS = {
    "cpu": POOLS,
    "overhead": [*POOLS, "AWS SDK"],
    "lambda_service": ["AWS SDK"],
    "cold_start": POOLS,
    "payload": POOLS,
    "checkpoint": ["DBOS (SQLite)"],
    "nested": ["joblib (loky)"],
    "cluster": ["Dask", "Ray"],
    "faults": POOLS,
}
"""Which libraries that may be missing each benchmark compares with."""


def perf(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`python -m perf`."""
    return subprocess.run(
        [sys.executable, "-m", "perf", *arguments],
        cwd=ROOT,
        env=os.environ | (environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )


def hiding(folder: Path, module: str) -> dict[str, str]:
    """An environment in which a module is not there."""
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules[{module!r}] = None\n")
    return {"PYTHONPATH": str(folder)}


def is_there(module: str) -> bool:
    """Asked in an interpreter that has imported nothing: a test may have."""
    program = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def in_tables(report: dict[str, Any]) -> str:
    """The names of all contenders that ran."""
    return "\n".join(name for table in report["tables"] for name in table["seconds"])


@pytest.mark.parametrize("name", TARGETS)
def test_a_benchmark_measures_every_contender_and_target(name: str, tmp_path: Path) -> None:
    if name == "lambda_service" and not is_there(MODULES["AWS SDK"]):
        pytest.skip("functions run on AWS's local service: aws-durable-execution-sdk-python-testing is not installed")
    done = perf(name, "--quick", "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / f"{name}.json").read_text())

    times = [seconds for table in report["tables"] for rounds in table["seconds"].values() for seconds in rounds]
    assert times
    assert all(math.isfinite(seconds) and seconds > 0 for seconds in times)
    assert report["figures"]
    assert all(math.isfinite(figure["value"]) for figure in report["figures"])

    with_target = [figure["name"] for figure in report["figures"] if figure["target"] is not None]
    theirs = [figure for figure in with_target if "AWS SDK" in figure]
    assert len(theirs) == (AGAINST_SDK.get(name, 0) if is_there(MODULES["AWS SDK"]) else 0)
    ours = [figure for figure in with_target if figure not in theirs]
    assert len(ours) == len(TARGETS[name])
    for figure, part in zip(ours, TARGETS[name], strict=True):
        assert part in figure
        assert f"{figure}: " in done.stdout

    missing = [peer for peer in CONTENDERS.get(name, []) if not is_there(MODULES[peer])]
    assert sorted(report["skipped"]) == sorted(missing)
    assert all(f"skipped, not installed: {peer}" in done.stdout for peer in missing)


@pytest.mark.parametrize(("name", "peer"), [("nested", "joblib (loky)"), ("checkpoint", "DBOS (SQLite)")])
def test_a_library_that_is_not_installed_is_skipped_by_name(name: str, peer: str, tmp_path: Path) -> None:
    done = perf(name, "--quick", "--results", str(tmp_path), environment=hiding(tmp_path, MODULES[peer]))
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / f"{name}.json").read_text())
    assert report["skipped"] == [peer]
    assert peer not in in_tables(report)
    assert f"skipped, not installed: {peer}" in done.stdout


def test_several_benchmarks_end_with_one_table_of_targets_and_write_no_results_of_the_project(tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in (ROOT / "perf" / "results").glob("*")}
    done = perf("resume", "checkpoint", "scale", "--quick")
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("| ")]
    assert rows == ["benchmark", "-" * len("benchmark"), "resume", "resume", *["scale"] * 4]
    assert before == {path: path.read_bytes() for path in (ROOT / "perf" / "results").glob("*")}


def test_a_benchmark_that_does_not_exist_is_an_error_that_lists_those_that_do() -> None:
    done = perf("overheads")
    assert done.returncode == 2
    assert "unknown: overheads" in done.stderr
    assert "cold_start" in done.stderr


def test_a_chart_is_drawn_where_matplotlib_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = perf("scale", "--quick", "--plot", "--results", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_a_chart_is_refused_before_anything_runs(tmp_path: Path) -> None:
    done = perf("scale", "--quick", "--plot", environment=hiding(tmp_path, "matplotlib"))
    assert done.returncode == 2
    assert "--plot needs matplotlib" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("program", "stage"), [("perf.profile_branch", "system calls"), ("perf.instructions", "frames and messages")]
)
def test_stages_of_parent_and_worker_are_shown(program: str, stage: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", program, "--branches", "40", "--functions", "3"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    tables = done.stdout.split("| worker ")
    assert len(tables) == 2
    for table in tables:
        assert "operations: step, context, batch" in table
        assert stage in table
        assert "in all" in table
