"""``durapool doctor``: what it finds, and what it makes of trouble."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_tools import Cli

from durapool import diagnosis
from durapool.cli.exits import ExitCode
from durapool.pool.machine import default_start_method, usable_cpus


def findings(durapool: Cli, **environment: str) -> dict[str, Any]:
    result = durapool("doctor", "--json", **environment)
    return {finding["topic"]: finding for finding in json.loads(result.stdout)}


def test_it_finds_what_the_executor_goes_by_and_tries_a_worker(durapool: Cli, folder: Path) -> None:
    result = durapool("doctor")
    assert result.exit_code == 0, result.stderr
    for topic in ("CPUs", "start methods", "memfd", "semaphores", "BLAS threads", "store", "therefore"):
        assert any(line.startswith(topic) for line in result.stdout.splitlines())
    assert f"{usable_cpus()} usable" in result.stdout
    assert f"{default_start_method()} (default)" in result.stdout
    assert f'executor="process" runs {usable_cpus()} worker' in result.stdout
    assert "a worker came up and ran a branch in" in result.stdout
    assert not (folder / ".durapool").exists()


def test_machines_get_the_facts(durapool: Cli) -> None:
    found = findings(durapool, OMP_NUM_THREADS="3")
    assert found["CPUs"]["facts"]["usable"] == usable_cpus()
    assert found["BLAS threads"]["facts"]["environment"]["OMP_NUM_THREADS"] == "3"
    assert found["trial"]["facts"]["works"] is True
    assert found["packages"]["facts"]["click"]
    assert all(finding["problem"] == "" for finding in found.values())


def test_it_says_where_each_choice_comes_from(durapool: Cli, folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.durapool]\nexecutor = "process:2"\nstore = "here.db"\n')
    found = findings(durapool, DURAPOOL_CHECKPOINT="async")
    assert found["executor"]["text"] == f"process:2 ([tool.durapool] of {folder}/pyproject.toml)"
    assert found["checkpoint"]["text"] == "async (DURAPOOL_CHECKPOINT)"
    assert found["progress"]["text"] == "auto (built in)"
    assert str(folder / "here.db") in found["store"]["text"]


def test_it_counts_what_is_in_the_store(durapool: Cli) -> None:
    durapool("run", "jobs.py:echo")
    assert findings(durapool)["store"]["facts"]["executions"] == 1


@pytest.mark.parametrize(
    ("path", "content", "parts"),
    [
        ("pyproject.toml", '[tool.durapool]\nexectuor = "process"\n', ["configuration", "did you mean 'executor'?"]),
        (".durapool/journal.db", "no database" * 100, ["store", "journal.db"]),
    ],
)
def test_trouble_is_told_at_the_end_with_an_exit_code(
    durapool: Cli, folder: Path, path: str, content: str, parts: list[str]
) -> None:
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_text(content)
    result = durapool("doctor")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "Traceback" not in result.stderr
    assert all(part in result.stderr for part in parts)
    assert "CPUs" in result.stdout


def test_what_does_not_work_is_said_and_is_no_trouble(durapool: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(diagnosis, "_make_semaphore", refuse)
    monkeypatch.setattr(diagnosis.os, "memfd_create", refuse)
    result = durapool("doctor")
    assert result.exit_code == 0
    assert "semaphores     do not work" in result.stdout
    assert "memfd          does not work: temp files serve instead" in result.stdout


def test_a_pool_that_cannot_start_is_trouble(durapool: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import durapool as library
    from durapool.exceptions import PoolError

    def fail(*arguments: object, **options: object) -> None:
        raise PoolError("the process pool cannot start")

    monkeypatch.setattr(library, "run", fail)
    result = durapool("doctor")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "trial: the process pool cannot start" in result.stderr
