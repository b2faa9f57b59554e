"""A working directory with handlers, and the command line in it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from cli_tools import Cli
from click.testing import CliRunner, Result

from durapool.cli.app import cli


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with jobs.py, and none of the caller's settings."""
    for name in [name for name in os.environ if name.startswith("DURAPOOL_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copy(Path(__file__).with_name("cli_jobs.py"), tmp_path / "jobs.py")
    return tmp_path


@pytest.fixture
def durapool(folder: Path) -> Cli:
    """Run a command in this process."""

    def call(*arguments: str, stdin: str | bytes | None = None, **environment: str) -> Result:
        return CliRunner(env=environment).invoke(cli, arguments, input=stdin)

    return call
