"""``durapool report``: a page or a trace of what is recorded, or one message."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_tools import Cli, eventually, one_message, started

from durapool.cli.exits import ExitCode


def data_of(page: str) -> dict[str, Any]:
    """The data inside a page."""
    data: dict[str, Any] = json.loads(re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)[0])
    return data


def test_a_page_is_written_where_it_is_wanted(durapool: Cli, folder: Path) -> None:
    durapool("run", "jobs.py:batch", "--id", "b", "--input", "9")
    result = durapool("report", "b", "-o", "page.html")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "wrote page.html" in result.stderr
    data = data_of((folder / "page.html").read_text())
    assert data["execution"]["branches"] == {"succeeded": 8, "failed": 1}
    assert data["execution"]["cpusRecorded"]
    assert data["groups"][0]["message"] == "boom [red]not markup[/red]"


def test_without_a_name_the_page_is_called_after_the_execution(durapool: Cli, folder: Path) -> None:
    durapool("run", "jobs.py:echo", "--id", "a")
    assert durapool("report", "a").exit_code == 0
    assert (folder / "report-a.html").exists()


def test_a_page_goes_into_a_pipe(durapool: Cli) -> None:
    durapool("run", "jobs.py:echo", "--id", "a")
    assert data_of(durapool("report", "a", "-o", "-").stdout)["execution"]["status"] == "SUCCEEDED"


def test_a_trace_alone_and_with_a_page(durapool: Cli, folder: Path) -> None:
    durapool("run", "jobs.py:batch", "--id", "b", "--input", "3")
    assert durapool("report", "b", "--trace", "trace.json").exit_code == 0
    names = {event["name"] for event in json.loads((folder / "trace.json").read_text())["traceEvents"]}
    assert {"many", "parallel-branch-0", "step-2"} <= names
    assert list(folder.glob("*.html")) == []
    assert durapool("report", "b", "--trace", "trace.json", "-o", "page.html").exit_code == 0
    assert (folder / "page.html").exists()


def test_on_processes_every_branch_has_its_worker(durapool: Cli) -> None:
    durapool("run", "jobs.py:batch", "--id", "b", "--input", "3", "--executor", "process:2")
    data = data_of(durapool("report", "b", "-o", "-").stdout)
    assert {kind for _, kind in data["lanes"]} == {"handler", "worker"}
    assert len([each for each in data["operations"]["where"] if each and each[1] is None]) == 3


def test_a_failed_execution_has_a_page(durapool: Cli) -> None:
    durapool("run", "jobs.py:fails", "--id", "f")
    data = data_of(durapool("report", "f", "-o", "-").stdout)
    assert data["execution"]["status"] == "FAILED"
    assert [group["type"] for group in data["groups"]] == ["ValueError"]
    assert "in explode" in data["groups"][0]["trace"]


def test_a_running_execution_has_a_page_of_what_there_is_so_far(durapool: Cli, folder: Path) -> None:
    process = started("run", "jobs.py:slow", "--id", "s")
    eventually((folder / "lingering").exists, process)
    data = data_of(durapool("report", "s", "-o", "-").stdout)
    assert not data["execution"]["ended"]
    assert data["operations"]["name"][:2] == ["EXECUTION", "kept"]
    (folder / "go").touch()
    process.communicate(timeout=60)
    assert data_of(durapool("report", "s", "-o", "-").stdout)["execution"]["ended"]


def test_an_unknown_execution_is_one_message(durapool: Cli, folder: Path) -> None:
    durapool("run", "jobs.py:echo", "--id", "nightly")
    result = durapool("report", "nightyl", "-o", "page.html")
    assert result.exit_code == ExitCode.USAGE
    one_message(result, "nightyl", "did you mean 'nightly'")
    assert not (folder / "page.html").exists()


@pytest.mark.parametrize("option", ["-o", "--trace"])
@pytest.mark.parametrize("path", ["missing/page.html", ".", "nul\0.html", "/dev/full"])
def test_a_file_that_cannot_be_written_is_one_message(durapool: Cli, option: str, path: str) -> None:
    durapool("run", "jobs.py:echo", "--id", "a")
    result = durapool("report", "a", option, path)
    assert result.exit_code == ExitCode.USAGE
    one_message(result, "cannot write", "-o")


@pytest.mark.parametrize("odd", ["a b", "</title><script>x()</script>", "ä", "../up"])
def test_odd_ids_make_a_page_here(durapool: Cli, folder: Path, odd: str) -> None:
    if durapool("run", "jobs.py:echo", f"--id={odd}").exit_code:
        pytest.skip("no id")
    assert durapool("report", "--", odd).exit_code == 0
    [page] = folder.glob("report-*.html")
    assert "<script>x()" not in page.read_text()


def test_a_closed_pipe_ends_it_quietly(durapool: Cli, folder: Path) -> None:
    durapool("run", "jobs.py:echo", "--id", "a")
    line = f"{sys.executable} -m durapool report a -o - | head -c 10"
    ended = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, text=True, timeout=60)
    assert ended.stderr == ""
    assert ended.returncode == ExitCode.CLOSED_PIPE


class TestOnAReadOnlyDisk:
    """In a mount namespace of its own, where this machine lets us have one."""

    @staticmethod
    def run(folder: Path, commands: str) -> subprocess.CompletedProcess[str]:
        script = (
            f"mount -t tmpfs none disk && cp -r journal.db* disk && mount -o remount,ro disk && {{ {commands} }}"
        ).replace("durapool ", f"{sys.executable} -m durapool ")
        options = [] if os.geteuid() == 0 else ["--map-root-user"]
        command = ["unshare", *options, "--mount", "sh", "-c", script]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)

    @pytest.fixture
    def store(self, durapool: Cli, folder: Path) -> Path:
        (folder / "disk").mkdir()
        durapool("run", "jobs.py:batch", "--id", "b", "--input", "9", "--store", "journal.db")
        if shutil.which("unshare") is None or self.run(folder, "true;").returncode:
            pytest.skip("this machine gives us no mount namespace")
        return folder

    def test_a_store_can_be_looked_at(self, store: Path) -> None:
        ended = self.run(store, "export DURAPOOL_STORE=disk/journal.db; durapool ls >&2 && durapool report b -o -;")
        assert ended.returncode == 0, ended.stderr
        assert data_of(ended.stdout)["execution"]["branches"] == {"succeeded": 8, "failed": 1}

    def test_a_page_cannot_be_written_there(self, store: Path) -> None:
        ended = self.run(store, "durapool report b --store disk/journal.db -o disk/page.html;")
        assert ended.returncode == ExitCode.USAGE
        assert "cannot write 'disk/page.html': Read-only file system" in ended.stderr
        assert "Traceback" not in ended.stderr

    def test_a_run_says_why_it_cannot(self, store: Path) -> None:
        ended = self.run(store, "durapool run jobs.py:echo --id new --store disk/journal.db;")
        assert ended.returncode == ExitCode.UNAVAILABLE
        assert "Read-only file system" in ended.stderr
        assert "Traceback" not in ended.stderr

    def test_records_that_are_still_in_the_log_are_not_passed_over(self, store: Path) -> None:
        (store / "journal.db-wal").write_bytes(b"x" * 100)
        ended = self.run(store, "durapool report b --store disk/journal.db;")
        assert ended.returncode == ExitCode.UNAVAILABLE
        assert "journal.db-wal" in ended.stderr
        assert "Copy both" in ended.stderr
