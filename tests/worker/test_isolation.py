"""A worker starts fast because it imports little; a test keeps it so."""

from __future__ import annotations

import subprocess
import sys

FORBIDDEN = ("durapool.stores", "durapool.coordinator", "durapool.journal", "durapool.execution", "durapool.pool.pool",
             "sqlite3", "click", "rich", "numpy", "asyncio", "multiprocessing", "psutil")  # fmt: skip


def test_a_worker_imports_no_store_no_coordinator_and_nothing_heavy():
    code = "import sys, durapool.worker.entry, durapool.worker.supervisor; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    found = {name for name in loaded for bad in FORBIDDEN if name == bad or name.startswith(bad + ".")}
    assert not found


def test_the_package_itself_imports_lazily():
    code = "import sys; before = set(sys.modules); import durapool; print('\\n'.join(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name for name in loaded if name.startswith("durapool")} == {"durapool"}
