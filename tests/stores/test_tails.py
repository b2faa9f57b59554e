"""The tails of executions that run: what is in them counts as recorded, and moves into the database."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from store_tools import end, in_database, python_process, seqs, start, step, tail_of

from durapool.exceptions import StoreError
from durapool.records import OperationStatus, Record
from durapool.stores import SQLiteStore, medium
from durapool.stores.rows import GROUP_BYTES, GROUP_RECORDS, decode, encode, joined


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


def test_a_write_of_several_rows_is_one_transaction(running: SQLiteStore, path: Path) -> None:
    running.write("x", [step(2)])
    running.write("x", [step(seq) for seq in range(3, 3 + GROUP_RECORDS * 2)])
    assert in_database(path)[-1] == 2 + GROUP_RECORDS * 2
    running.write("x", [step(3 + GROUP_RECORDS * 2, "p" * (GROUP_BYTES + 1))])
    assert in_database(path)[-1] == 3 + GROUP_RECORDS * 2


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
