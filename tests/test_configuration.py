"""Where a choice comes from: the environment, then [tool.durapool] of the nearest pyproject.toml, then built in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import durapool
from durapool import DurableContext, MapConfig, durable_execution
from durapool.configuration import CHECKPOINT, DEBUG, EXECUTOR, OPTIONS, STORE, Configured, configured, is_true
from durapool.exceptions import ValidationError
from durapool.executors import ThreadExecutor
from durapool.settings import Choices
from durapool.stores import open_store


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory two folders below one that may have a pyproject.toml."""
    for name in [name for name in os.environ if name.startswith("DURAPOOL_")]:
        monkeypatch.delenv(name)
    below = tmp_path / "package" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "pyproject.toml"
    path.write_text(text)
    return path


@durable_execution
def plain(event: Any, context: DurableContext) -> Any:
    return event


def test_built_in_values_hold_where_nobody_says() -> None:
    assert {name: configured(option).value for name, option in OPTIONS.items()} == {
        "executor": "thread",
        "store": ".durapool/journal.db",
        "checkpoint": "sync",
        "progress": "auto",
        "debug": "false",
    }
    assert configured(EXECUTOR).source == "built in"


def test_each_source_comes_before_the_next(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(project, '[tool.durapool]\nexecutor = "process:2"\ncheckpoint = "async"\n')
    assert configured(EXECUTOR) == Configured("process:2", f"[tool.durapool] of {path}")
    assert (Choices.of(plain).executor, Choices.of(plain).checkpoint) == ("process:2", "async")
    monkeypatch.setenv("DURAPOOL_EXECUTOR", "process:3")
    monkeypatch.setenv("DURAPOOL_CHECKPOINT", "sync")
    assert configured(EXECUTOR) == Configured("process:3", "DURAPOOL_EXECUTOR")
    assert (Choices.of(plain).executor, Choices.of(plain).checkpoint) == ("process:3", "sync")
    assert Choices.of(plain, "process:4", "async").executor == "process:4"
    decorated = durable_execution(executor=ThreadExecutor(3))(plain.__wrapped__)
    assert Choices.of(decorated, "process:4").executor == ThreadExecutor(3)


@pytest.mark.parametrize(
    "text",
    [
        "[tool.durapool]\nexecutor = 'process:2'",
        "[project]\n  [ tool . 'durapool' ]\nexecutor = 'process:2'",
        "[tool]\ndurapool.executor = 'process:2'",
        "tool.durapool.executor = 'process:2'",
        "tool = {durapool = {executor = 'process:2'}}",
        '[tool.other]\r\n["tool"."durapool"]\r\nexecutor = "process:2"',
    ],
)
def test_the_table_is_found_however_it_is_written(project: Path, text: str) -> None:
    write(project, f"{text}\n")
    assert configured(EXECUTOR).value == "process:2"


def test_the_file_of_a_project_that_only_depends_on_durapool_is_none_of_our_business(project: Path) -> None:
    write(project, "[project]\ndependencies = ['durapool']\n[tool.other]\nthis is not TOML\n")
    assert configured(EXECUTOR).source == "built in"


def test_an_empty_variable_says_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, '[tool.durapool]\nexecutor = "process:2"\n')
    monkeypatch.setenv("DURAPOOL_EXECUTOR", "")
    assert configured(EXECUTOR).value == "process:2"


def test_the_call_comes_before_everything(project: Path) -> None:
    write(project, '[tool.durapool]\nexecutor = "process:2"\n')

    @durable_execution
    def handler(event: Any, context: DurableContext) -> list[bool]:
        def here(ctx: DurableContext, item: int, index: int, inputs: list[int]) -> bool:
            return os.getpid() == event

        config: MapConfig[bool] = MapConfig(executor="thread")
        chosen = context.map([0], here, config=config).get_results()
        return chosen + context.map([0], here).get_results()

    assert durapool.run(handler, os.getpid(), store="memory") == [True, False]


def test_the_nearest_file_counts_and_is_read_again_when_it_changes(project: Path) -> None:
    write(project, '[tool.durapool]\ncheckpoint = "async"\n')
    assert configured(CHECKPOINT).value == "async"
    nearer = write(project / "package", "[project]\nname = 'x'\n")
    assert configured(CHECKPOINT).source == "built in"
    nearer.write_text('[tool.durapool]\ncheckpoint = "async"\n# longer than before\n')
    assert configured(CHECKPOINT).source.endswith(str(nearer))


def test_a_store_in_the_file_counts_from_its_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, '[tool.durapool]\nstore = "runs/journal.db"\n')
    durapool.run(plain, 1, id="x")
    assert (project / "runs" / "journal.db").exists()
    monkeypatch.chdir(project)
    store = open_store()
    assert [summary.id for summary in store.executions()] == ["x"]
    store.close()
    write(project, f'[tool.durapool]\nstore = "{project}/other.db"\n')
    assert configured(STORE).value == f"{project}/other.db"
    write(project, '[tool.durapool]\nstore = "memory"\n')
    assert open_store().label == "memory"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('exectuor = "process"', ["unknown key 'exectuor'", "did you mean 'executor'?", "executor, store, checkpoint"]),
        ("Check-Point = 1", ["unknown key 'Check-Point'", "did you mean 'checkpoint'?"]),
        ("workers = 8", ["unknown key 'workers'", "the keys are executor, store"]),
        ("executor = 8", ["executor", "must be text", "not 8"]),
        ('store = ""', ["store", "must be text"]),
        ('executor = "threads"', ["executor must be", "'threads'"]),
        ('checkpoint = "later"', ["checkpoint must be one of sync, async", "'later'"]),
        ("executor = ", ["is not TOML"]),
    ],
)
def test_a_wrong_table_is_one_error_that_names_file_and_key(project: Path, text: str, parts: list[str]) -> None:
    path = write(project, f"[tool.durapool]\n{text}\n")
    with pytest.raises(ValidationError) as caught:
        durapool.run(plain, store="memory")
    for part in [*parts, str(path)]:
        assert part in str(caught.value)


def test_durapool_must_be_a_table(project: Path) -> None:
    write(project, '[tool]\ndurapool = "process"\n')
    with pytest.raises(ValidationError, match=r"tool\.durapool in .* must be a table"):
        configured(EXECUTOR)


def test_a_file_that_does_not_speak_of_durapool_is_left_alone(project: Path) -> None:
    path = write(project, "this is [ no TOML")
    assert configured(EXECUTOR).source == "built in"
    path.write_bytes(b"\xff\xfe[tool.durapool]")
    with pytest.raises(ValidationError, match="is not TOML"):
        configured(EXECUTOR)


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DURAPOOL_EXECUTOR", "threads")
    with pytest.raises(ValidationError, match=r"'threads' \(DURAPOOL_EXECUTOR\)"):
        Choices.of(plain)


def test_a_deleted_working_directory_has_no_file(project: Path) -> None:
    (project / "package" / "deep").rmdir()
    assert configured(EXECUTOR).source == "built in"


@pytest.mark.parametrize(("text", "truth"), [("true", True), ("1", True), ("No", False), ("off", False)])
def test_flags_are_true_or_false(project: Path, text: str, truth: bool) -> None:
    assert is_true(Configured(text, "DURAPOOL_DEBUG"), DEBUG) is truth
    write(project, f"[tool.durapool]\ndebug = {str(truth).lower()}\n")
    assert is_true(configured(DEBUG), DEBUG) is truth
    with pytest.raises(ValidationError, match=r"debug must be true or false, not 'maybe' \(DURAPOOL_DEBUG\)"):
        is_true(Configured("maybe", "DURAPOOL_DEBUG"), DEBUG)


def test_workers_do_not_look(project: Path) -> None:
    """They are told with their branch, so a worker has not even imported the module."""
    code = "import sys, durapool.worker.entry, durapool.worker.nested; print('durapool.configuration' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    path = write(project, '[tool.durapool]\nexecutor = "process:1"\n')

    @durable_execution
    def handler(event: Any, context: DurableContext) -> list[Any]:
        def outer(ctx: DurableContext, item: int, index: int, inputs: list[int]) -> list[bool]:
            Path(event).write_text('[tool.durapool]\nexecutor = "nonsense"\n')
            mine = os.getpid()
            return ctx.map([0], lambda *_: os.getpid() != mine).get_results()

        return context.map([0], outer).get_results()

    assert durapool.run(handler, str(path), store="memory") == [[True]]
