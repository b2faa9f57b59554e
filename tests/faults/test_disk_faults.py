"""Disks that are full or read-only under a batch of processes: a clear error, and the next run loses nothing.

Each program runs in a process of its own, where it can be given a namespace, a limit or fewer rights.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import psutil
import pytest
from program_tools import in_namespace, still_running, works
from store_fault_tools import FailingStore, Ledger, check_rerun, handler_for, recorded_steps

import durapool
from durapool.exceptions import StoreError
from durapool.stores import SQLiteStore

PROGRAM = """
    import contextlib, json, os, resource, subprocess, sys
    from pathlib import Path
    sys.path.insert(0, os.environ["TESTS"])
    import durapool
    from durapool.stores import SQLiteStore
    from store_fault_tools import Ledger, assert_gone, hangs_last, handler_for

    ledger, folder = Ledger(Path(os.environ["LEDGER"])), Path(os.environ["FOLDER"])
    disturb = lambda item, step: None
    def run(store=folder / "journal.db"):
        try:
            print(json.dumps(durapool.run(handler_for(ledger, disturb=disturb), id="x", store=store)))
        except durapool.StoreError as error:
            print(json.dumps(str(error)))
"""


def run_job(text: str, folder: Path, ledger: Ledger, wrapper: tuple[str, ...] = ()) -> str | list[list[int]]:
    """Run code after PROGRAM's, behind the command `wrapper`; what it printed."""
    program = textwrap.dedent(PROGRAM) + textwrap.dedent(text)
    mark = f"{ledger.path}"
    environment = {**os.environ, "TESTS": os.path.dirname(__file__), "LEDGER": mark, "FOLDER": str(folder)}
    command = [*wrapper, sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    left = [process for process in psutil.process_iter() if _environment(process).get("LEDGER") == mark]
    assert not still_running(left)  # what was killed may still be on its way out
    found: str | list[list[int]] = json.loads(done.stdout.splitlines()[-1])
    return found


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


needs_namespaces = pytest.mark.skipif(
    not works(*in_namespace(f"mount -t tmpfs tmpfs {tempfile.gettempdir()}"), "true"),
    reason="mount namespaces are not allowed here",
)
BOUND_BY_PERMISSIONS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


@needs_namespaces
def test_a_full_disk(tmp_path):
    """A tmpfs of 1 MiB in which a branch leaves no room; what is in it afterwards is copied out and resumed."""
    ledger, folder, after = Ledger(tmp_path / "ledger"), tmp_path / "disk", tmp_path / "after"
    folder.mkdir()
    after.mkdir()
    text = f"""
        def disturb(item, step):
            if (item, step) == (4, 1):
                ledger.note("fills", os.getpid())  # before: a commit that finds no room ends this worker
                descriptor = os.open(folder / "ballast", os.O_CREAT | os.O_WRONLY)
                with contextlib.suppress(OSError):
                    while True:
                        os.write(descriptor, bytes(4096))
        run()
        assert (folder / "ballast").stat().st_size > 1 << 19  # most of the disk: so it was this that filled it
        for path in folder.iterdir():
            if path.name in ("journal.db", "journal.db-wal", "journal.db-tails"):
                subprocess.run(["cp", "-r", path, {str(after)!r}], check=True)
    """
    message = run_job(text, folder, ledger, in_namespace(f"mount -t tmpfs -o size=1m tmpfs '{folder}'"))
    assert "Free disk space and run again: what was recorded before is kept" in message
    assert ledger.counts("fills")
    store = SQLiteStore(after / "journal.db")
    kept = recorded_steps(store)
    assert kept
    check_rerun(ledger, store, kept)
    store.close()


def test_a_limit_on_file_sizes(tmp_path):
    """Where a disk cannot be filled the limit of ulimit -f does the same; branches hang meanwhile."""
    ledger = Ledger(tmp_path / "ledger")
    text = """
        store = SQLiteStore(folder / "journal.db", synchronous="FULL")  # whose log grows faster than a tail
        size = (folder / "journal.db").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (max(size, 40_000), resource.RLIM_INFINITY))
        disturb = hangs_last(ledger)
        run(store)
        assert_gone(map(int, ledger.counts("hangs")))
    """
    message = run_job(text, tmp_path, ledger)
    assert "Free disk space and run again: what was recorded before is kept" in message
    store = SQLiteStore(tmp_path / "journal.db")
    kept = recorded_steps(store)
    assert kept
    check_rerun(ledger, store, kept)
    store.close()


@pytest.fixture
def half_done(tmp_path):
    """A ledger, and a folder with the journal of a run that a failing store has ended half-way."""
    ledger, folder = Ledger(tmp_path / "ledger"), tmp_path / "folder"
    store = SQLiteStore(folder / "journal.db")
    with pytest.raises(StoreError, match="fetch water"):
        durapool.run(handler_for(ledger), id="x", store=FailingStore(store, lambda write: write == 6))
    store.close()
    return ledger, folder


def steps_in(folder: Path) -> set[str]:
    """The names of the steps whose results are in the folder's journal."""
    store = SQLiteStore(folder / "journal.db")
    try:
        return recorded_steps(store)
    finally:
        store.close()


@needs_namespaces
def test_a_read_only_file_system(half_done):
    ledger, folder = half_done
    before = ledger.path.read_text()
    mount = f"mount --bind '{folder}' '{folder}'; mount -o remount,bind,ro '{folder}'"
    message = run_job("run()", folder, ledger, in_namespace(mount))
    assert "journal.db" in message
    assert "writable" in message or "You may not write to the file: chmod u+w it" in message
    assert ledger.path.read_text() == before
    store = SQLiteStore(folder / "journal.db")
    check_rerun(ledger, store, recorded_steps(store))
    store.close()


@pytest.mark.skipif(
    bool(BOUND_BY_PERMISSIONS) and not works(*BOUND_BY_PERMISSIONS, "true"), reason="permissions do not bind root"
)
def test_a_read_only_file(half_done):
    ledger, folder = half_done
    before = steps_in(folder)
    (folder / "journal.db").chmod(0o400)
    message = run_job("run()", folder, ledger, BOUND_BY_PERMISSIONS)
    assert "You may not write to the file: chmod u+w it" in message
    (folder / "journal.db").chmod(0o600)
    assert steps_in(folder) == before  # the file can be read, so a step may have begun, but in vain
    store = SQLiteStore(folder / "journal.db")
    check_rerun(ledger, store, before)
    store.close()
