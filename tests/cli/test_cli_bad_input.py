"""Bad input on the command line: one message, an exit code, and nothing recorded."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import Cli, one_message

from durapool.cli.exits import ExitCode


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("jobs.py:nobody", ["nobody"]),
        ("missing.py:main", ["missing.py"]),
        ("no_such_module_here:main", ["no_such_module_here"]),
        ("jobs.py", ["jobs.py"]),
        (":", []),
        ("", []),
        ("jobs.py:not_a_handler", ["not_a_handler"]),
        ("jobs.py:plain", ["plain", "durable_execution"]),
    ],
)
def test_a_handler_that_cannot_be_had_is_one_message(durapool: Cli, target: str, parts: list[str]) -> None:
    result = durapool("run", target)
    assert result.exit_code == ExitCode.USAGE
    one_message(result, *parts)


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("import json\n\nimport not_there_at_all\n", ["line 3", "import not_there_at_all", "ModuleNotFoundError"]),
        ("def helper():\n    return 1 / 0\n\nhelper()\n", ["line 2", "in helper", "ZeroDivisionError"]),
        ("def broken(:\n", ["line 1", "def broken(:", "SyntaxError"]),
    ],
)
def test_an_error_inside_the_users_module_shows_the_users_lines(
    durapool: Cli, folder: Path, source: str, parts: list[str]
) -> None:
    (folder / "bad.py").write_text(source)
    result = durapool("run", "bad.py:main")
    assert result.exit_code == ExitCode.USAGE
    for part in [*parts, "bad.py", "\ndurapool: "]:
        assert part in result.stderr
    assert f"{os.sep}durapool{os.sep}" not in result.stderr


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("{'a': 1}", ["--input is not JSON", "line 1, column 2", "{'a': 1}\n   ^"]),
        ("", ["line 1, column 1"]),
        ("[1,\n 2,,]", ["line 2, column 4"]),
        ("[NaN]", ["NaN"]),
        ("[" * 100_000, ["nested too deeply"]),
        ("@missing.json", ["missing.json", "No such file"]),
        ("@.", ["Is a directory"]),
        ("@", ["cannot read"]),
        ("@nul\0.json", ["cannot read"]),
        ("@latin.json", ["latin.json is not UTF-8 text", "byte 1"]),
    ],
)
def test_input_that_cannot_be_read_says_why_and_where(durapool: Cli, folder: Path, text: str, parts: list[str]) -> None:
    (folder / "latin.json").write_bytes('"é"'.encode("latin-1"))
    result = durapool("run", "jobs.py:echo", "--id", "a", "--input", text)
    assert result.exit_code == ExitCode.USAGE
    one_message(result, *parts)
    assert not (folder / ".durapool").exists()


def test_binary_on_stdin_is_refused(durapool: Cli) -> None:
    result = durapool("run", "jobs.py:echo", "--input", "-", stdin=b"\x80\x05")
    assert result.exit_code == ExitCode.USAGE
    one_message(result, "standard input is not UTF-8 text")


@pytest.mark.parametrize("command", [("resume",), ("show",), ("history",), ("rm", "--yes"), ("stop",)])
def test_an_unknown_id_is_told_with_ids_that_look_alike(durapool: Cli, command: tuple[str, ...]) -> None:
    durapool("run", "jobs.py:echo", "--id", "nightly-2024")
    result = durapool(*command, "nightly-2042")
    assert result.exit_code == ExitCode.USAGE
    one_message(result, "nightly-2042")
    if command != ("resume",):
        assert "did you mean 'nightly-2024'" in result.stderr


@pytest.mark.parametrize("odd", ["", " ", "a b", "../up", "[red]x[/red]", "\x1b[31m", "ä", "x" * 3000, "-x", "a\nb"])
def test_odd_ids_are_one_message_or_work(durapool: Cli, odd: str) -> None:
    ran = durapool("run", "jobs.py:echo", f"--id={odd}")
    assert ran.exit_code in (ExitCode.OK, ExitCode.USAGE), ran.stderr
    assert "Traceback" not in ran.stderr
    assert "\x1b" not in ran.stderr
    looked = durapool("show", "--", odd)
    assert looked.exit_code == ran.exit_code, looked.stderr
    assert "\x1b" not in looked.output


def test_another_event_for_a_known_id_shows_both(durapool: Cli) -> None:
    durapool("run", "jobs.py:echo", "--id", "a", "--input", '"first"')
    result = durapool("run", "jobs.py:echo", "--id", "a", "--input", '"second"')
    assert result.exit_code == ExitCode.USAGE
    one_message(result, "first", "second")


@pytest.mark.parametrize("executor", ["", "threads", "process:", "process:0", "process:-1", "process:x"])
def test_an_unknown_executor_is_refused_before_anything_runs(durapool: Cli, folder: Path, executor: str) -> None:
    result = durapool("run", "jobs.py:echo", "--executor", executor)
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr.startswith("durapool: ")
    assert not (folder / ".durapool").exists()


def test_a_damaged_store_is_trouble_with_the_store(durapool: Cli, folder: Path) -> None:
    (folder / "bad.db").write_bytes(b"this is no database at all" * 100)
    for command in (["ls"], ["show", "a"], ["run", "jobs.py:echo", "--id", "a"]):
        result = durapool(*command, "--store", "bad.db")
        assert result.exit_code == ExitCode.UNAVAILABLE
        one_message(result, "bad.db")


def test_debug_shows_the_traceback(durapool: Cli) -> None:
    plain = durapool("show", "nobody", DURAPOOL_DEBUG="0")
    assert "Traceback" not in plain.stderr
    for result in (durapool("--debug", "show", "nobody"), durapool("show", "nobody", DURAPOOL_DEBUG="1")):
        assert result.exit_code == ExitCode.USAGE
        assert "Traceback" in result.stderr
        assert "ExecutionNotFoundError" in result.stderr


@pytest.mark.parametrize("command", [("run", "jobs.py:echo"), ("ls",), ("show", "a"), ("gc", "--older-than", "1d")])
def test_an_unknown_key_in_pyproject_is_named_with_its_file(
    durapool: Cli, folder: Path, command: tuple[str, ...]
) -> None:
    (folder / "pyproject.toml").write_text('[tool.durapool]\nexectuor = "process"\n')
    result = durapool(*command)
    assert result.exit_code == ExitCode.USAGE
    one_message(result, "unknown key 'exectuor'", str(folder / "pyproject.toml"), "did you mean 'executor'?")
    assert not (folder / ".durapool").exists()


def test_a_store_on_a_read_only_disk_says_so(durapool: Cli, folder: Path) -> None:
    (folder / "disk").mkdir()
    durapool("run", "jobs.py:echo", "--id", "a", "--store", "disk/j.db")
    read_only = "mount --bind disk disk && mount -o remount,ro,bind disk"
    if subprocess.run(["unshare", "-m", "bash", "-c", read_only], check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount")
    for command in ("ls", "show a", "history a"):
        script = f"{read_only} && exec {sys.executable} -m durapool {command} --store disk/j.db"
        done = subprocess.run(["unshare", "-m", "bash", "-c", script], check=False, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    for command in ("run jobs.py:echo --id b", "stop a", "rm a --yes", "gc --older-than 0s --yes"):
        script = f"{read_only} && exec {sys.executable} -m durapool {command} --store disk/j.db"
        done = subprocess.run(["unshare", "-m", "bash", "-c", script], check=False, capture_output=True, text=True)
        assert done.returncode == ExitCode.UNAVAILABLE
        assert "ead-only" in done.stderr
        assert "disk/j.db" in done.stderr
        assert re.search(r"name (a|another) store", done.stderr)
        assert done.stderr.count("\n") == 1
