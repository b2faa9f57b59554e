"""The main example: the parts of the clone finder, its result on both executors, and the demo as users start it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import durapool

EXAMPLES = Path(__file__).parents[2] / "examples"

ORIGINAL = '''
def total(prices, rates):
    """Sums up."""
    result = 0
    for price, rate in zip(prices, rates):
        if price.amount > 100 and rate is not None:  # large ones only
            result += price.amount * rate.factor
        elif rate is None:
            result += price.amount
        else:
            result -= 1
    if result < 0:
        raise ValueError("negative")
    return {"result": result, "count": len(prices), "rates": len(rates)}
'''
RENAMED = ORIGINAL.replace("result", "acc").replace("prices", "items").replace("Sums up", "Adds").replace("100", "7")
OTHER = '''
def render(tree, out):
    """Something else."""
    stack = [(tree, 0)]
    while stack:
        node, depth = stack.pop()
        out.write(" " * depth + node.label + "\\n")
        try:
            children = sorted(node.children, key=lambda child: child.label)
        except AttributeError as error:
            out.write(str(error))
            continue
        finally:
            out.flush()
        stack.extend((child, depth + 2) for child in reversed(children))
    return out.getvalue().strip().splitlines()
'''


@pytest.fixture(scope="module")
def clones() -> ModuleType:
    spec = importlib.util.spec_from_file_location("code_clones", EXAMPLES / "code_clones.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small project: a copy with other names, a function of its own, a file that does not parse, a package."""
    root = tmp_path / "tree"
    (root / "package").mkdir(parents=True)
    (root / "site-packages").mkdir()
    (root / "original.py").write_text(ORIGINAL)
    (root / "package" / "renamed.py").write_text("import os\n\n\nclass Shop:" + RENAMED.replace("\n", "\n    "))
    (root / "package" / "other.py").write_text(OTHER)
    (root / "package" / "broken.py").write_text("def f(:\n")
    (root / "site-packages" / "installed.py").write_text(ORIGINAL)
    return root


def shingles_of(clones: ModuleType, source: str) -> bytes:
    [(_, shingles)] = clones.functions_of(source, "file.py")
    return bytes(shingles)


def test_a_renamed_function_has_the_same_shingles(clones: ModuleType) -> None:
    assert shingles_of(clones, ORIGINAL) == shingles_of(clones, RENAMED)
    assert shingles_of(clones, ORIGINAL) != shingles_of(clones, OTHER)


def test_methods_are_found_and_inner_functions_belong_to_the_outer_one(clones: ModuleType) -> None:
    inner = "def outer():\n    def inner():\n        pass\n    " + OTHER.strip().replace("\n", "\n    ")
    method = "class A:\n    " + ORIGINAL.strip().replace("\n", "\n    ")
    labels = [label for label, _ in clones.functions_of(f"{inner}\n\n{method}\n", "file.py")]
    assert [label.split()[1] for label in labels] == ["outer", "total"]


def test_minhash_estimates_the_similarity_of_two_sets(clones: ModuleType) -> None:
    left, right = clones.minhash(range(1000, 1900)), clones.minhash(range(1100, 2000))  # Jaccard 0.8
    agreeing = sum(a == b for a, b in zip(left, right, strict=True)) / len(left)
    assert abs(agreeing - 0.8) < 0.12


def test_no_pair_is_a_candidate_twice(clones: ModuleType) -> None:
    keys = [clones.band_keys(clones.minhash(range(first, first + 400))) for first in (0, 5, 10, 15, 5000)]
    found = [
        pair
        for first in range(0, clones.BANDS, clones.BANDS_A_BRANCH)
        for pair in clones.find_candidates(range(first, first + clones.BANDS_A_BRANCH), keys, "", None)
    ]
    assert sorted(found) == sorted(set(found))
    assert {(0, 1), (1, 2), (2, 3)} <= set(found)
    assert not any(4 in pair for pair in found)


def test_a_limit_spreads_the_files_evenly_and_installed_packages_are_left_out(clones: ModuleType, tree: Path) -> None:
    every = clones.list_files(str(tree), None, None)
    assert every == ["original.py", "package/broken.py", "package/other.py", "package/renamed.py"]
    assert clones.list_files(str(tree), 2, None) == ["original.py", "package/other.py"]


@pytest.mark.parametrize("executor", ["thread", "process:2"])
def test_the_copy_is_found_on_every_executor(clones: ModuleType, tree: Path, tmp_path: Path, executor: str) -> None:
    log = tmp_path / "steps.log"
    event = {"root": str(tree), "chunk": 1, "log": str(log)}
    result = durapool.run(clones.handler, event, id="tree", store=str(tmp_path / "journal.db"), executor=executor)
    copies = ["original.py:2 total", "package/renamed.py:5 total"]
    assert result == {
        "files": 4,
        "skipped_files": 1,
        "functions": 3,
        "clone_groups": 1,
        "cloned_functions": 2,
        "largest_group": copies,
        "top_pairs": [{"similarity": 1.0, "functions": copies}],
    }
    counts = Counter(line.split()[0] for line in log.read_text().splitlines())
    expected = {"main/list", "main/summary"}
    expected |= {f"scan-{i}/{step}" for i in range(4) for step in ("read", "sign")}
    expected |= {f"compare-{i}/{step}" for i in range(4) for step in ("candidates", "confirm")}
    assert counts == dict.fromkeys(expected, 1)


def test_an_empty_folder_has_no_clones(clones: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = durapool.run(clones.handler, {"root": str(tmp_path / "empty")}, store=str(tmp_path / "journal.db"))
    assert result["functions"] == result["clone_groups"] == 0


def run_script(*command: str, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_runs_as_a_script(tree: Path, tmp_path: Path) -> None:
    output = run_script(str(EXAMPLES / "code_clones.py"), str(tree), "--executor", "process", cwd=tmp_path)
    result: dict[str, Any] = json.loads(output[output.index("{") :])
    assert result["cloned_functions"] == 2


def test_the_example_runs_from_the_command_line_tool(tree: Path, tmp_path: Path) -> None:
    pytest.importorskip("click")
    handler = f"{EXAMPLES / 'code_clones.py'}:handler"
    event = json.dumps({"root": str(tree), "chunk": 2})
    command = ["-m", "durapool", "run", handler, "--input", event, "--id", "cli", "--executor", "process"]
    first = run_script(*command, cwd=tmp_path)
    assert json.loads(first[first.index("{") :])["cloned_functions"] == 2
    assert run_script(*command, cwd=tmp_path) == first


def test_the_demo_does_not_repeat_what_was_done_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, str(EXAMPLES / "demo.py"), "--files", "96"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "All three results are the same" in done.stdout
    [line] = [line for line in done.stdout.splitlines() if line.endswith("branches were not run again")]
    assert int(line.split()[0]) >= 1
    assert list((tmp_path / "tmp").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]
