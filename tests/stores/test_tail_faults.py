"""The tails of executions under kills, interrupts, locks and lack of room: nothing that was written is lost."""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from store_tools import end, fork, in_database, python_process, seqs, start, step, tail_of

from durapool.exceptions import StoreError
from durapool.stores import SQLiteStore, tail
from durapool.stores.rows import GROUP_BYTES, MAX_RECORDS, encode


def test_a_killed_run_has_kept_all_that_was_acknowledged(path: Path) -> None:
    write = """
        import sys
        from store_tools import start, step
        from durapool.stores import SQLiteStore, tail
        tail.LONGEST, tail.OLDEST = 1 << 14, float(sys.argv[2])
        store = SQLiteStore(sys.argv[1])
        with store.lock("x"):
            last = len(list(store.read("x")))
            if not last:
                store.write("x", [start()])
                last = 1
            while True:
                store.write("x", [step(seq, "p" * 20) for seq in range(last + 1, last + 4)])
                last += 3
                print(last, flush=True)
    """
    chance = random.Random(4)
    acknowledged = 0
    for number in range(8):
        with python_process(write, str(path), str(1000.0 if number % 2 else 0.001)) as writer:
            assert writer.stdout is not None
            for _ in range(chance.randint(1, 300)):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout:
                acknowledged = int(line)
            writer.wait()
        store = SQLiteStore(path)
        count = len(seqs(store))
        assert count >= acknowledged
        assert count % 3 == 1
        if number == 4:
            with store.lock("x"):
                assert len(seqs(store)) == count
            assert not os.listdir(f"{path}-tails")
            assert in_database(path)[-1] == count
        store.close()


def test_a_torn_tail_counts_as_far_as_it_is_whole(running: SQLiteStore, path: Path, tmp_path: Path) -> None:
    chance = random.Random(7)
    ends = [1]
    for _ in range(12):
        first, last = ends[-1] + 1, ends[-1] + chance.randint(1, 5)
        running.write("x", [step(seq, "p" * chance.randint(1, 30)) for seq in range(first, last + 1)])
        ends.append(last)
    file = tail_of(path)
    content = file.read_bytes()
    counts = set()
    for cut in range(0, len(content), 7):
        noise = chance.randbytes(len(content) - cut) if cut % 2 else b""
        file.write_bytes(content[:cut] + noise)
        other = SQLiteStore(path)
        count = len(seqs(other))
        assert count in ends
        counts.add(count)
        other.close()
    assert counts >= set(ends[:-1])
    file.write_bytes(content)


def test_a_power_cut_that_took_the_database_back_makes_the_tail_void(running: SQLiteStore, path: Path) -> None:
    """NORMAL syncs neither; what is missing in between is not made up."""
    running.write("x", [step(2)])
    running.write("x", [step(3)])
    file = tail_of(path)
    content = tail.read_tail(file)
    assert content is not None
    assert [row[0] for row in content.following(1, content.owner)] == [2, 3]
    assert content.following(0, content.owner) == []
    assert [row[0] for row in content.following(2, content.owner)] == [3]
    assert content.following(1, content.owner._replace(key=99)) == []
    assert content.following(1, content.owner._replace(started_at=0.0)) == []


@pytest.mark.parametrize("content", [b"", b"duratail", b"x" * 100, b"duratail" + bytes(92)])
def test_a_file_that_is_no_tail_counts_for_nothing(content: bytes, path: Path) -> None:
    store = SQLiteStore(path)
    with store.lock("x"):
        store.write("x", [start()])
        file = tail_of(path)
    file.write_bytes(content)
    file.chmod(0o600)
    assert seqs(store) == [1]
    with store.lock("x"):
        store.write("x", [step(2)])
        assert seqs(store) == [1, 2]
    store.close()


def test_deleting_an_execution_that_was_killed_removes_its_tail(path: Path) -> None:
    code = """
        import os, sys
        from store_tools import start, step
        from durapool.stores import SQLiteStore
        store = SQLiteStore(sys.argv[1])
        with store.lock("x"):
            store.write("x", [start()])
            store.write("x", [step(2)])
            os._exit(0)
    """
    with python_process(code, str(path)) as killed:
        killed.wait()
    assert tail_of(path).exists()
    store = SQLiteStore(path)
    assert seqs(store) == [1, 2]
    store.delete("x")
    assert not os.listdir(f"{path}-tails")
    assert seqs(store) == []
    store.close()


def test_a_limit_on_file_sizes_is_a_clear_error_and_harms_nothing(running: SQLiteStore, path: Path) -> None:
    running.write("x", [step(2)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 10, hard))
    try:
        with pytest.raises(StoreError, match="Free disk space and run again"):
            running.write("x", [step(3, "p" * (1 << 20))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert seqs(running) == [1, 2]
    running.write("x", [step(3, "p" * (1 << 20))])
    running.write("x", [step(4)])
    assert seqs(running) == [1, 2, 3, 4]


@pytest.mark.parametrize("written", ["nothing", "a part", "all"])
def test_an_interrupt_inside_a_write_leaves_all_or_nothing(
    running: SQLiteStore, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    real = os.write

    def interrupted(descriptor: int, data: bytes) -> int:
        real(descriptor, {"nothing": b"", "a part": data[: len(data) // 2], "all": data}[written])
        raise KeyboardInterrupt

    running.write("x", [step(2)])
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            running.write("x", [step(3)])
    kept = 3 if written == "all" else 2
    assert len(seqs(running)) == kept
    with pytest.raises(StoreError):
        running.write("x", [step(kept)])
    for seq in (kept + 1, kept + 2):
        running.write("x", [step(seq)])
    assert len(seqs(running)) == kept + 2


class Interrupted:
    """The connection, whose COMMIT is interrupted."""

    def __init__(self, real: sqlite3.Connection, *, committed: bool) -> None:
        self.real, self.committed = real, committed

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if sql != "COMMIT":
            return self.real.execute(sql, *values)
        if self.committed:
            self.real.execute(sql)
        raise KeyboardInterrupt


@pytest.mark.parametrize("committed", [False, True])
def test_an_interrupt_inside_a_move_leaves_each_record_once(
    running: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    running.write("x", [step(2)])
    with monkeypatch.context() as patch:
        patch.setattr(running, "_connection", Interrupted(running._opened(), committed=committed))
        with pytest.raises(KeyboardInterrupt):
            running.write("x", [step(3), end(4, 60.0)])
    if not committed:
        assert seqs(running) == [1, 2]
        running.write("x", [step(3), end(4, 60.0)])
    assert in_database(path) == [1, 2, 4]
    running.write("x", [start(seq=5)])
    running.write("x", [step(6)])
    assert seqs(running) == [1, 2, 3, 4, 5, 6]


def test_a_database_that_is_locked_when_a_tail_moves_is_a_clear_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "OLDEST", 1000.0)
    store = SQLiteStore(path, busy_timeout=0.05)
    browser = sqlite3.connect(path, isolation_level=None)
    with store.lock("x"):
        store.write("x", [start()])
        browser.execute("BEGIN IMMEDIATE")
        store.write("x", [step(2)])
        with pytest.raises(StoreError, match="Another program keeps the file locked"):
            store.write("x", [end(3, 60.0)])
    assert seqs(store) == [1, 2]  # it could not move at the end of the run either
    with pytest.raises(StoreError, match="Another program keeps the file locked"), store.lock("x"):
        pass
    browser.close()
    with store.lock("x"):
        assert in_database(path) == [1, 2]
        store.write("x", [end(3, 60.0)])
    assert seqs(store) == [1, 2, 3]
    store.close()


def test_a_database_that_is_locked_when_a_tail_is_due_stops_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "OLDEST", 0.0)
    store = SQLiteStore(path, busy_timeout=0.01)
    browser = sqlite3.connect(path, isolation_level=None)
    with store.lock("x"):
        store.write("x", [start()])
        browser.execute("BEGIN IMMEDIATE")
        for seq in range(2, 6):
            store.write("x", [step(seq)])
        monkeypatch.setattr(tail, "MOST", 4000)

        def go_on() -> None:
            for seq in range(6, 100):
                monkeypatch.setattr("time.monotonic", lambda before=time.monotonic: before() + 100.0)
                store.write("x", [step(seq)])

        with pytest.raises(StoreError, match="Another program keeps the file locked"):
            go_on()
        assert 5 < len(seqs(store)) < 50
        browser.close()
        store.write("x", [step(len(seqs(store)) + 1)])
        assert in_database(path)[-1] == len(seqs(store))
    store.close()


def test_a_record_that_is_too_big_for_the_database_is_refused(running: SQLiteStore) -> None:
    running.write("x", [step(2)])
    connection = running._opened()
    before = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, GROUP_BYTES << 1)
    with pytest.raises(StoreError, match=r"too big.*One value may have 1 GB"):
        running.write("x", [step(3, "p" * (GROUP_BYTES << 1))])
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, before)
    running.write("x", [step(3)])
    assert seqs(running) == [1, 2, 3]


def test_a_tail_whose_file_was_removed_moves_from_memory(running: SQLiteStore, path: Path) -> None:
    running.write("x", [step(2)])
    tail_of(path).unlink()
    running.close()
    assert in_database(path) == [1, 2]


def test_closing_waits_for_a_write_and_loses_none(path: Path) -> None:
    for _ in range(20):
        store = SQLiteStore(path)
        written = []

        def write(store: SQLiteStore = store, written: list[int] = written) -> None:
            last = len(list(store.read("x")))
            while True:
                last += 1
                store.write("x", [start() if last == 1 else step(last)])
                written.append(last)

        with store.lock("x"):
            failures: list[StoreError] = []

            def until_closed(failures: list[StoreError] = failures) -> None:
                try:
                    write()
                except StoreError as error:
                    failures.append(error)

            thread = threading.Thread(target=until_closed)
            thread.start()
            while len(written) < 5:
                os.sched_yield()
            store.close()
            thread.join()
        assert "closed" in str(failures[0])
        again = SQLiteStore(path)
        assert seqs(again)[-1] == written[-1]
        again.close()


def test_what_is_known_from_an_earlier_lock_counts_for_nothing(running: SQLiteStore, path: Path) -> None:
    """As when Ctrl-C came between the end of a run and what follows it: another process has run meanwhile."""
    running.write("x", [step(2)])
    stale = running._tails
    file = tail_of(path)
    file.unlink()  # as the other one's lock did, after it had moved it
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executemany("INSERT INTO records VALUES (?, ?)", [(MAX_RECORDS + 2, encode([step(2)])[0][1])])
    theirs = tail.Tail(file, tail.Owner(1, 1000.0), 2)
    theirs.append(encode([step(3)])[0], 3)
    running.close()
    assert file.exists()
    assert not stale.running
    again = SQLiteStore(path)
    assert seqs(again) == [1, 2, 3]
    again._tails._live["x"] = tail.Tail(path.with_name("stale"), tail.Owner(1, 1000.0), 2)
    again._tails.hold("x")
    left = again._tails.left("x")
    assert left is not None
    assert left.span == (3, 3)
    theirs.close()
    again.close()


def test_a_disk_without_room_for_a_tail_costs_no_descriptors(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    store = SQLiteStore(path)
    with store.lock("x"):
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", refuse)
            before = len(os.listdir("/dev/fd"))
            for seq in range(1, 10):
                store.write("x", [start() if seq == 1 else step(seq)])
            assert len(os.listdir("/dev/fd")) == before
        assert in_database(path)[-1] == 9
    store.close()


def test_a_second_writer_is_found_out_when_the_tail_moves(running: SQLiteStore, path: Path) -> None:
    running.write("x", [step(2, "first")])
    second = SQLiteStore(path)
    second.write("x", [step(2, "second")])
    with pytest.raises(StoreError, match="Another process wrote to this execution"):
        running.write("x", [end(3, 60.0)])
    second.close()


def test_an_execution_that_was_deleted_is_found_out_when_the_tail_moves(running: SQLiteStore, path: Path) -> None:
    running.write("x", [step(2)])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM records")
        connection.execute("DELETE FROM executions")
    with pytest.raises(StoreError, match="was deleted from the store while it ran"):
        running.write("x", [end(3, 60.0)])


def test_a_forked_child_leaves_the_tail_to_its_parent(path: Path) -> None:
    store = SQLiteStore(path)
    with ExitStack() as stack:
        stack.enter_context(store.lock("x"))
        store.write("x", [start()])
        store.write("x", [step(2)])
        child = fork()
        if not child:
            try:
                stack.close()
                store.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert tail_of(path).exists()
        store.write("x", [step(3)])
        assert in_database(path) == [1]
        assert seqs(store) == [1, 2, 3]
    store.close()
