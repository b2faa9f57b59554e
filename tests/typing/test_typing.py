"""The types that users see: their handlers check under mypy --strict, and their mistakes are found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src" / "durapool"


def mypy(file: str, cache: Path) -> tuple[int, str]:
    """Check one file as a user would: with durapool as it is installed, and no configuration."""
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", file]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=115, check=False)
    assert not done.stderr
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def test_the_package_says_that_it_is_typed() -> None:
    assert (SOURCE / "py.typed").is_file()


def test_a_typed_handler_checks(cache: Path) -> None:
    assert mypy("user_handler.py", cache) == (0, "Success: no issues found in 1 source file\n")


def test_each_mistake_is_found(cache: Path) -> None:
    lines = (HERE / "user_mistakes.py").read_text(encoding="utf-8").splitlines()
    wrong = {number for number, line in enumerate(lines, start=1) if line.endswith("# wrong")}
    code, output = mypy("user_mistakes.py", cache)
    assert code == 1
    assert {int(number) for number in re.findall(r"^user_mistakes\.py:(\d+): error", output, re.MULTILINE)} == wrong
