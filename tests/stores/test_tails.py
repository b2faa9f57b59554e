"""The tails of executions that run: what is in them counts as recorded, whatever happens."""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from store_tools import end, fork, python_process, start, step

from durapool.exceptions import StoreError
from durapool.records import OperationStatus, Record
from durapool.stores import SQLiteStore, medium, tail
from durapool.stores.rows import GROUP_BYTES, GROUP_RECORDS, MAX_RECORDS, decode, encode, joined


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def running(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SQLiteStore]:
    """A store that runs the execution "x", which has one record; its tail moves for its size alone."""
    monkeypatch.setattr(tail, "OLDEST", 1000.0)
    store = SQLiteStore(path)
    with ExitStack() as stack:
        stack.enter_context(store.lock("x"))
        store.write("x", [start()])
        yield store
    store.close()


def in_database(path: Path) -> list[int]:
    """The seqs of the last records of the rows that are in the database itself."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT place FROM records ORDER BY place").fetchall()
    return [place % MAX_RECORDS for (place,) in found]


def tail_of(path: Path) -> Path:
    (found,) = Path(f"{path}-tails").iterdir()
    return found


def seqs(store: SQLiteStore, execution_id: str = "x") -> list[int]:
    found = [record.seq for record in store.read(execution_id)]
    summary = store.find(execution_id)
    assert (summary.records if summary else 0) == len(found)
    listed = [each.records for each in store.executions() if each.id == execution_id]
    assert listed == ([summary.records] if summary else [])
    assert found == list(range(1, len(found) + 1))
    return found


def test_what_runs_is_recorded_in_its_tail_and_read_by_all(running: SQLiteStore, path: Path) -> None:
    written = [step(2), step(3), step(4)]
    running.write("x", written[:1])
    running.write("x", written[1:])
    assert in_database(path) == [1]
    other = SQLiteStore(path)
    for store in (running, other):
        assert list(store.read("x")) == [start(), *written]
        assert len(seqs(store)) == 4
    other.close()


def test_a_change_of_the_status_moves_all(running: SQLiteStore, path: Path) -> None:
    running.write("x", [step(2)])
    running.write("x", [step(3), end(4, 60.0)])
    assert in_database(path) == [1, 2, 4]
    found = running.find("x")
    assert found is not None
    assert (found.status, found.records) == (OperationStatus.SUCCEEDED, 4)
    running.write("x", [start(seq=5)])
    running.write("x", [step(6)])
    assert in_database(path) == [1, 2, 4, 5]
    assert seqs(running)[-1] == 6


def test_a_long_tail_moves_in_large_rows(running: SQLiteStore, path: Path) -> None:
    last = 1
    while in_database(path) == [1]:
        running.write("x", [step(last + 1, "p" * 1000), step(last + 2)])
        last += 2
    rows = in_database(path)
    assert rows[-1] == last
    assert len(rows) < last / 100
    running.write("x", [step(last + 1)])
    assert in_database(path) == rows
    assert seqs(running)[-1] == last + 1


def test_an_old_tail_moves_with_what_is_written_next(
    running: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.write("x", [step(2)])
    assert in_database(path) == [1]
    monkeypatch.setattr("time.monotonic", lambda before=time.monotonic: before() + 2000.0)
    running.write("x", [step(3)])
    assert in_database(path) == [1, 3]
    assert seqs(running) == [1, 2, 3]


def test_the_end_of_a_run_moves_all_and_removes_the_file(path: Path) -> None:
    store = SQLiteStore(path)
    with store.lock("x"):
        store.write("x", [start()])
        store.write("x", [step(2)])
        assert tail_of(path).stat().st_mode & 0o777 == 0o600
        assert Path(f"{path}-tails").stat().st_mode & 0o777 == 0o700
    assert in_database(path) == [1, 2]
    assert not os.listdir(f"{path}-tails")
    store.write("x", [step(3)])  # whoever has no lock writes to the database
    assert in_database(path) == [1, 2, 3]
    store.close()


def test_a_store_that_is_closed_under_a_run_has_moved_all(path: Path) -> None:
    store = SQLiteStore(path)
    with store.lock("x"):
        store.write("x", [start()])
        store.write("x", [step(2)])
        store.close()
        assert in_database(path) == [1, 2]
    assert not os.listdir(f"{path}-tails")


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


def test_a_reader_sees_a_whole_beginning_at_any_moment(path: Path) -> None:
    write = """
        import sys
        from store_tools import start, step
        from durapool.stores import SQLiteStore, tail
        tail.LONGEST, tail.OLDEST = 1 << 12, 0.002
        store = SQLiteStore(sys.argv[1])
        with store.lock("x"):
            store.write("x", [start()])
            for seq in range(2, 6000, 2):
                store.write("x", [step(seq), step(seq + 1)])
        store.close()
    """
    store = SQLiteStore(path)
    with python_process(write, str(path)) as writer:
        before = 0
        while writer.poll() is None:
            found = [record.seq for record in store.read("x")]
            assert found == list(range(1, len(found) + 1))
            assert len(found) >= before
            summary = store.find("x")
            assert (summary.records if summary else 0) >= len(found)
            before = len(found)
        assert writer.returncode == 0
    assert len(seqs(store)) == 5999
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


def test_the_tail_of_a_deleted_execution_is_not_that_of_a_new_one(path: Path) -> None:
    store = SQLiteStore(path)
    with store.lock("x"):
        store.write("x", [start()])
        store.write("x", [step(2, "old")])
        file = tail_of(path)
        left = file.read_bytes()
    store.delete("x")
    store.write("x", [start(at=2000.0)])
    file.write_bytes(left)
    file.chmod(0o600)
    assert seqs(store) == [1]
    with store.lock("x"):
        assert seqs(store) == [1]
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


def test_a_write_of_several_rows_is_one_transaction(running: SQLiteStore, path: Path) -> None:
    running.write("x", [step(2)])
    running.write("x", [step(seq) for seq in range(3, 3 + GROUP_RECORDS * 2)])
    assert in_database(path)[-1] == 2 + GROUP_RECORDS * 2
    running.write("x", [step(3 + GROUP_RECORDS * 2, "p" * (GROUP_BYTES + 1))])
    assert in_database(path)[-1] == 3 + GROUP_RECORDS * 2


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
            last = store.find("x").records if store.find("x") else 0  # type: ignore[union-attr]  # asked just now
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


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_what_others_may_write_is_refused(mode: int, running: SQLiteStore, path: Path) -> None:
    tail_of(path).chmod(mode)
    with pytest.raises(StoreError, match="should be a file of this user alone"):
        list(running.read("x"))
    tail_of(path).chmod(0o600)
    folder = Path(f"{path}-tails")
    folder.chmod(0o777)
    with pytest.raises(StoreError, match="should be a folder of this user alone"), running.lock("y"):
        pass
    folder.chmod(0o700)
    with running.lock("y"):
        pass


def test_a_link_in_place_of_a_tail_is_refused(running: SQLiteStore, path: Path, tmp_path: Path) -> None:
    file = tail_of(path)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="cannot be read or written"):
        list(running.read("x"))
    file.unlink()


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


def test_a_synced_store_has_no_tails_and_moves_those_it_finds(path: Path) -> None:
    synced = SQLiteStore(path, synchronous="FULL")
    with synced.lock("x"):
        synced.write("x", [start()])
        synced.write("x", [step(2)])
        assert in_database(path) == [1, 2]
    assert not Path(f"{path}-tails").exists()
    code = """
        import os, sys
        from store_tools import step
        from durapool.stores import SQLiteStore
        store = SQLiteStore(sys.argv[1])
        with store.lock("x"):
            store.write("x", [step(3)])
            store.write("x", [step(4)])
            os._exit(0)
    """
    with python_process(code, str(path)) as killed:
        killed.wait()
    assert in_database(path) == [1, 2, 3]
    assert seqs(synced) == [1, 2, 3, 4]
    with synced.lock("x"):
        assert in_database(path) == [1, 2, 3, 4]
        synced.write("x", [step(5)])
    assert seqs(synced) == [1, 2, 3, 4, 5]
    assert not os.listdir(f"{path}-tails")
    synced.close()


def test_a_folder_in_which_nothing_can_be_made_costs_speed_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("durapool.stores.tails.make_private", refuse)
    store = SQLiteStore(path)
    with store.lock("x"):
        store.write("x", [start()])
        store.write("x", [step(2)])
        assert in_database(path) == [1, 2]
    store.close()


def test_executions_that_run_at_once_have_tails_of_their_own(path: Path) -> None:
    store = SQLiteStore(path)

    def work(name: str) -> None:
        with store.lock(name):
            store.write(name, [start()])
            for seq in range(2, 200):
                store.write(name, [step(seq)])
            assert len(list(store.read(name))) == 199

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not os.listdir(f"{path}-tails")
    for number in range(4):
        assert len(seqs(store, f"t{number}")) == 199
    store.close()


def test_a_store_of_the_format_before_is_taken_up(path: Path) -> None:
    SQLiteStore(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA user_version = 2")
    store = SQLiteStore(path)
    store.write("x", [start()])
    store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (medium.FORMAT,)


@pytest.mark.parametrize("sizes", [[1], [15, 1], [16, 16], [1] * 600, [255, 1, 1], [256, 256], [3, 200, 60, 16, 15]])
def test_joined_rows_hold_the_same_records(sizes: list[int]) -> None:
    records: list[Record] = []
    rows = []
    for size in sizes:
        more = [step(len(records) + 2 + number) for number in range(size)]
        rows += encode(more)
        records += more
    fewer = joined(rows)
    assert list(decode(fewer)) == records
    assert all(len(list(decode([row]))) <= GROUP_RECORDS for row in fewer)
    assert len(fewer) <= len(rows)


def test_joined_rows_are_bounded_in_bytes() -> None:
    rows = [row for seq in range(2, 12) for row in encode([step(seq, "p" * (GROUP_BYTES // 3))])]
    rows += encode([step(12, "p" * (GROUP_BYTES * 2))])
    fewer = joined(rows)
    assert [seq for seq, _ in fewer] == [3, 5, 7, 9, 11, 12]
    assert [record.seq for record in decode(fewer)] == list(range(2, 13))
    assert joined([]) == []
