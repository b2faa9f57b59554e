"""Every example starts as examples/README.md says: as a script, and by the command line tool."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NOT_JOBS = {"command_line", "demo", "code_clones"}  # the last has a command line and tests of its own

SMALL: dict[str, dict[str, Any]] = {
    "etl": {},
    "hyperparameter_search": {"grid": {"C": [1.0], "gamma": [0.001]}, "folds": 2, "samples": 200},
    "lambda_alignment": {"queries": {"a": "ACGTTA", "b": "GGCC"}, "references": {"one": "TTACGTTAGG", "two": "AGGCCA"}},
    "monte_carlo": {"paths": 2000, "branches": 2},
    "nested": {"limit": 2},
    "racing_solvers": {"number": 10_403},
    "render": {"frames": 2, "width": 8, "height": 6, "limit": 20},
}
NEEDS = {"hyperparameter_search": "sklearn", "monte_carlo": "numpy"}


def test_every_example_is_started_here() -> None:
    assert sorted(SMALL) == sorted({path.stem for path in EXAMPLES.glob("*.py")} - NOT_JOBS)


def test_the_readme_lists_every_example() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    missing = {path.name for path in EXAMPLES.glob("*.py") if f"`{path.name}`" not in text}
    assert not missing


@pytest.mark.parametrize("name", sorted(SMALL))
def test_the_script_and_the_tool_give_the_same(name: str, executor: str, tmp_path: Path) -> None:
    pytest.importorskip("click")
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{name} needs {NEEDS[name]}: pip install 'durapool[examples]'")
    event = json.dumps(SMALL[name])
    script = [str(EXAMPLES / f"{name}.py"), "--input", event, "--executor", executor, "--id", "one"]
    tool = ["-m", "durapool", "run", f"{EXAMPLES / name}.py:handler", "--input", event, "--executor", executor]
    by_script = started(script, tmp_path)
    assert started([*tool, "--id", "one"], tmp_path) == by_script  # the same execution: only read
    if name != "racing_solvers":  # who wins depends on the moment
        assert started([*tool, "--id", "two"], tmp_path).keys() == by_script.keys()


def started(command: list[str], folder: Path) -> dict[str, Any]:
    """Run Python with these arguments; what it printed, as JSON."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result
