"""A store that fails under a batch of processes: a clear error, workers stopped, nothing lost that was acknowledged."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest
from store_fault_tools import (
    RESULT,
    FailingStore,
    Ledger,
    assert_gone,
    check_rerun,
    handler_for,
    hangs_last,
    recorded_steps,
)

import durapool
from durapool import durable_execution
from durapool.exceptions import StoreError
from durapool.executors import ProcessExecutor
from durapool.stores import MemoryStore, SQLiteStore, tail


# at least ITEMS * STEPS / workers writes, because each worker waits for the commit of its step
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("fails_at", [1, 2, 3, 4, 6, 9, 12])
def test_a_store_that_fails_in_the_middle_of_a_batch(fails_at, workers, tmp_path):
    ledger, store = Ledger(tmp_path / "ledger"), MemoryStore()
    with pytest.raises(StoreError, match="fetch water"):
        durapool.run(handler_for(ledger, workers), id="x", store=FailingStore(store, lambda write: write == fails_at))
    check_rerun(ledger, store, recorded_steps(store))


def test_workers_that_run_branches_are_stopped_when_the_store_fails(tmp_path):
    ledger, store = Ledger(tmp_path / "ledger"), MemoryStore()
    handler = handler_for(ledger, disturb=hangs_last(ledger))
    with pytest.raises(StoreError, match="fetch water"):
        durapool.run(handler, id="x", store=FailingStore(store, lambda _: bool(ledger.counts("hangs"))))
    assert_gone(map(int, ledger.counts("hangs")))
    check_rerun(ledger, store, recorded_steps(store))


def test_nested_batches_are_stopped_when_the_store_fails(tmp_path):
    ledger, store = Ledger(tmp_path / "ledger"), MemoryStore()

    def inner(ctx, item, index, inputs):
        if item == 0:
            ledger.note("hangs", os.getpid())
            signal.pause()
        while not ledger.counts("hangs"):
            os.sched_yield()
        return ctx.step(lambda _: item)

    @durable_execution(executor=ProcessExecutor(workers=2))
    def handler(event, context):
        def outer(ctx):
            ledger.note("waits", os.getpid())
            return ctx.map(range(2), inner).get_results()

        return context.parallel([outer, outer]).get_results()

    with pytest.raises(StoreError, match="fetch water"):
        durapool.run(handler, id="x", store=FailingStore(store, lambda _: bool(ledger.counts("hangs"))))
    assert ledger.counts("waits")
    assert_gone(map(int, ledger.counts("hangs") + ledger.counts("waits")))


def test_a_locked_database_stops_the_run_and_the_next_one_goes_on(tmp_path):
    """A branch itself locks the file and sits on it: the lock goes with its worker."""
    ledger, path = Ledger(tmp_path / "ledger"), tmp_path / "journal.db"

    def disturb(item: int, step: int) -> None:
        if (item, step) == (3, 1):
            browser = sqlite3.connect(path, isolation_level=None, timeout=60)
            browser.execute("BEGIN IMMEDIATE")
            ledger.note("hangs", os.getpid())
            (tmp_path / "held").touch()
            signal.pause()
        if item > 3:
            while not (tmp_path / "held").exists():
                os.sched_yield()

    store = SQLiteStore(path, synchronous="FULL", busy_timeout=0.05)
    with pytest.raises(StoreError, match="Another program keeps the file locked: close it"):
        durapool.run(handler_for(ledger, disturb=disturb), id="x", store=store)
    assert_gone(map(int, ledger.counts("hangs")))
    store.close()

    store = SQLiteStore(path)
    check_rerun(ledger, store, recorded_steps(store))
    store.close()


class LockedMeanwhile:
    """A store whose database another program keeps locked, from one write to another."""

    def __init__(self, store: SQLiteStore, first: int, last: int) -> None:
        self._store, self._first, self._last, self._writes = store, first, last, 0
        self._browser = sqlite3.connect(store.label, isolation_level=None)

    def __getattr__(self, name: str):
        return getattr(self._store, name)

    def write(self, execution_id, records) -> None:
        self._writes += 1
        if self._writes == self._first:
            self._browser.execute("BEGIN IMMEDIATE")
        self._store.write(execution_id, records)
        if self._writes == self._last:
            self._browser.close()


def test_a_database_that_is_locked_for_a_while_does_not_disturb_a_run(tmp_path, monkeypatch):
    """What is recorded meanwhile goes to the execution's tail."""
    monkeypatch.setattr(tail, "OLDEST", 1000.0)
    ledger, store = Ledger(tmp_path / "ledger"), SQLiteStore(tmp_path / "journal.db", busy_timeout=0.05)
    locked = LockedMeanwhile(store, 3, 10)
    assert durapool.run(handler_for(ledger), id="x", store=locked) == RESULT
    assert not os.listdir(f"{store.label}-tails")
    store.close()


def test_a_file_that_is_locked_from_the_start_is_a_clear_error_and_nothing_runs(tmp_path):
    ledger, path = Ledger(tmp_path / "ledger"), tmp_path / "journal.db"
    store = SQLiteStore(path, busy_timeout=0.05)
    browser = sqlite3.connect(path, isolation_level=None)
    browser.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="Another program keeps the file locked"):
        durapool.run(handler_for(ledger), id="x", store=store)
    assert not ledger.counts("began")
    browser.execute("ROLLBACK")
    browser.close()
    assert durapool.run(handler_for(ledger), id="x", store=store) == RESULT
    store.close()


class PowerCut:
    """A store whose files are copied at one write, as a power cut would leave them."""

    def __init__(self, store: SQLiteStore, at: int, copy: Path) -> None:
        self._store, self._at, self._copy, self._writes = store, at, copy, 0

    def __getattr__(self, name: str):
        return getattr(self._store, name)

    def write(self, execution_id, records) -> None:
        self._store.write(execution_id, records)
        self._writes += 1
        if self._writes == self._at:
            # by another process: to close a descriptor of the file here would drop SQLite's locks
            names = [self._store.label, f"{self._store.label}-wal", f"{self._store.label}-tails"]
            subprocess.run(["cp", "-r", *filter(os.path.exists, names), str(self._copy)], check=True)


@pytest.mark.parametrize("round_number", range(8))
def test_a_torn_file_opens_and_the_resumed_run_ends_right(round_number, tmp_path):
    chance = random.Random(f"power {round_number}")
    ledger, copy = Ledger(tmp_path / "ledger"), tmp_path / "copy"
    copy.mkdir()
    whole = SQLiteStore(tmp_path / "journal.db", synchronous=chance.choice(["NORMAL", "FULL"]))
    cut = PowerCut(whole, chance.randint(2, 12), copy)
    assert durapool.run(handler_for(ledger), id="x", store=cut) == RESULT
    whole.close()
    for torn in [copy / "journal.db-wal", *copy.glob("journal.db-tails/*")]:
        data = torn.read_bytes()
        place = chance.randint(1, len(data))
        noise = b"" if round_number % 2 else chance.randbytes(len(data) - place)
        torn.write_bytes(data[:place] + noise)

    store = SQLiteStore(copy / "journal.db")
    kept = recorded_steps(store)
    resumed = Ledger(tmp_path / "resumed")
    check_rerun(resumed, store, kept)
    assert [record.seq for record in store.read("x")] == list(range(1, len(list(store.read("x"))) + 1))
    store.close()
