"""Importing durapool is cheap: the imports of a handler load nothing heavy. `python -m perf.import_time` times them."""

from __future__ import annotations

import subprocess
import sys

import pytest

OTHERS = {"asyncio", "click", "cloudpickle", "concurrent", "email", "http", "msgpack", "multiprocessing", "numpy"}
OTHERS |= {
    "psutil",
    "pytest",
    "rich",
    "secrets",
    "shlex",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "urllib",
}
OWN = {
    "cli",
    "coordinator",
    "invocation",
    "journal",
    "pickling",
    "pool",
    "retries",
    "stores",
    "testing",
    "waits",
    "worker",
}
HEAVY = OTHERS | {f"durapool.{name}" for name in OWN}

HANDLER_FILE = "from durapool import DurableContext, MapConfig, ParallelConfig, ProcessExecutor, durable_execution, run"


def loaded_by(code: str) -> set[str]:
    """The modules that are there after this code and were not before; site packages left out."""
    command = f"import sys; before = set(sys.modules); {code}; print('\\n'.join(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-c", command], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("code", ["import durapool", HANDLER_FILE])
def test_the_imports_of_a_handler_load_nothing_heavy(code: str) -> None:
    loaded = loaded_by(code)
    assert "durapool" in loaded
    heavy = {name for name in loaded if any(name == bad or name.startswith(f"{bad}.") for bad in HEAVY)}
    assert not heavy


def test_the_package_alone_loads_nothing_of_itself() -> None:
    assert {name for name in loaded_by("import durapool") if name.startswith("durapool")} == {"durapool"}


def test_the_pytest_plugin_loads_nothing_but_pytest() -> None:
    loaded = loaded_by("import pytest; before = set(sys.modules); import durapool.testing.plugin")
    assert {name for name in loaded if name.startswith("durapool.")} == {"durapool.testing", "durapool.testing.plugin"}


def test_every_public_name_is_found_where_it_lives() -> None:
    code = "import durapool; print(sorted(name for name in durapool.__all__ if not hasattr(durapool, name)))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
