"""Completion in shells: commands, options, choices, ids and files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import Cli


def complete(line: str, shell: str = "bash") -> str:
    """What a shell is told when Tab is pressed at the end of the line."""
    words = line.split(" ")
    variables = {
        "_DURAPOOL_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": line if shell != "fish" else " ".join(words[:-1]),
        "COMP_CWORD": str(len(words) - 1) if shell != "fish" else words[-1],
    }
    done = subprocess.run(
        [sys.executable, "-m", "durapool"], capture_output=True, text=True, timeout=60, env=os.environ | variables
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("durapool res", {"plain,resume"}),
        ("durapool s", {"plain,show", "plain,stop"}),
        ("durapool run --ch", {"plain,--checkpoint"}),
        ("durapool run jobs.py:main --checkpoint a", {"plain,async"}),
        ("durapool ls --status fai", {"plain,failed"}),
        ("durapool show --store jo", {"file,jo"}),
        ("durapool show ni", set()),
    ],
)
def test_commands_options_and_choices_are_completed(line: str, expected: set[str]) -> None:
    assert set(complete(line).split()) == expected


def test_ids_are_completed_from_the_store(durapool: Cli, folder: Path) -> None:
    for execution_id in ("nightly-1", "nightly-2", "other"):
        durapool("run", "jobs.py:echo", "--id", execution_id)
    assert complete("durapool show night").split() == ["plain,nightly-2", "plain,nightly-1"]
    assert complete("durapool rm oth", "zsh").split() == ["plain", "other", "SUCCEEDED"]
    assert "other" in complete("durapool stop oth", "fish")
    durapool("run", "jobs.py:echo", "--id", "elsewhere", "--store", "other.db")
    assert complete("durapool show --store other.db else").split() == ["plain,elsewhere"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_printed(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "durapool"],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"_DURAPOOL_COMPLETE": f"{shell}_source"},
    )
    assert f"_DURAPOOL_COMPLETE={shell}_complete" in done.stdout
