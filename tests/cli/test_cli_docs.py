"""The pages on the command line and on configuration say what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_tools import Cli

from durapool.cli.app import cli
from durapool.cli.exits import MEANINGS
from durapool.configuration import OPTIONS, configured

DOCS = Path(__file__).parents[2] / "docs"


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table that begins with this row, without the two rows of its head."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    start = lines.index(heading)
    table: list[str] = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        table.append(line)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_every_exit_code_is_documented() -> None:
    assert rows("cli.md", "| code | meaning |") == [[str(code.value), text] for code, text in MEANINGS.items()]


def test_every_command_is_documented() -> None:
    named = [re.match(r"`durapool (\w+)", row[0]) for row in rows("cli.md", "| command | what it does |")]
    documented = {match[1] for match in named if match}
    assert documented >= set(cli.commands)


def test_every_key_is_documented_with_its_variable_and_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = rows("configuration.md", "| key | variable | built in | values |")
    assert [row[:3] for row in table] == [
        [f"`{option.name}`", f"`{option.variable}`", f"`{configured(option).value}`"] for option in OPTIONS.values()
    ]


def test_the_example_of_the_file_is_right(durapool: Cli, folder: Path) -> None:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    example = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert example is not None
    (folder / "pyproject.toml").write_text(example[1])
    assert durapool("run", "jobs.py:batch", "--input", "2").stdout == '"done"\n'
    assert (folder / "runs" / "journal.db").exists()
