"""What the SQLite store holds after a failure: all that was acknowledged, in whole transactions."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from store_tools import fork, python_process, start, step

from durapool.exceptions import StoreError
from durapool.records import Record
from durapool.stores import SignalRecord, SQLiteStore
from durapool.stores.medium import database_failure
from durapool.stores.rows import GROUP_BYTES


def whole_batches(store: SQLiteStore, ends: list[int]) -> int:
    """The number of records, after checking that they are the first ones and end with a whole transaction."""
    seqs = [record.seq for record in store.read("x")]
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) in ends
    found = store.find("x")
    assert (found.records if found else 0) == len(seqs)
    return len(seqs)


def test_a_torn_log_opens_with_a_prefix_of_whole_transactions(sqlite_store: SQLiteStore, tmp_path: Path) -> None:
    chance = random.Random(20)
    sqlite_store.write("x", [start()])
    ends = [0, 1]
    for _ in range(30):
        first, last = ends[-1] + 1, ends[-1] + chance.randint(1, 40)
        sqlite_store.write("x", [step(seq, "p" * chance.randint(1, 300)) for seq in range(first, last + 1)])
        ends.append(last)
    log = Path(f"{sqlite_store.label}-wal").read_bytes()
    counts = set()
    for round_number in range(24):
        copy = tmp_path / f"copy-{round_number}" / "journal.db"
        copy.parent.mkdir()
        shutil.copy(sqlite_store.label, copy)
        cut = chance.randint(1, len(log))
        torn = log[:cut] if round_number % 2 else log[:cut] + chance.randbytes(len(log) - cut)
        Path(f"{copy}-wal").write_bytes(torn)
        store = SQLiteStore(copy)
        count = whole_batches(store, ends)
        counts.add(count)
        store.write("x", [start() if not count else step(count + 1)])
        store.close()
        again = SQLiteStore(copy)
        assert len(list(again.read("x"))) == count + 1
        again.close()
    assert len(counts) > 10  # the cuts were at different places indeed


def test_a_killed_writer_has_kept_all_that_was_acknowledged(tmp_path: Path) -> None:
    write = """
        import sys
        from store_tools import start, step
        from durapool.stores import SignalRecord, SQLiteStore
        store = SQLiteStore(sys.argv[1])
        store.write("x", [start()])
        last = 1
        while True:
            store.write("x", [step(seq, "p" * 200) for seq in range(last + 1, last + 26)])
            last += 25
            print(last, flush=True)
    """
    chance = random.Random(4)
    for round_number in range(5):
        path = tmp_path / f"{round_number}.db"
        with python_process(write, str(path)) as writer:
            assert writer.stdout is not None
            for _ in range(chance.randint(1, 150)):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout:
                acknowledged = int(line)
            writer.wait()
        store = SQLiteStore(path)
        count = len(list(store.read("x")))
        assert [record.seq for record in store.read("x")] == list(range(1, count + 1))
        assert count >= acknowledged
        assert count % 25 == 1
        store.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"payload": object()}, "type object cannot be recorded"),
        ({"details": {"k": {1, 2}}}, "type set cannot be recorded"),
        ({"attempt": 1 << 70}, "too big.*more than 64 bits"),
    ],
)
def test_a_batch_that_cannot_be_stored_leaves_nothing(
    sqlite_store: SQLiteStore, change: dict[str, Any], words: str
) -> None:
    sqlite_store.write("x", [start()])
    unstorable = step(3)
    unstorable = unstorable._replace(update=unstorable.update._replace(**change))
    with pytest.raises(StoreError, match=words):
        sqlite_store.write("x", [step(2), unstorable])
    assert len(list(sqlite_store.read("x"))) == 1
    sqlite_store.write("x", [step(2)])


def test_a_batch_that_fails_half_way_leaves_nothing(sqlite_store: SQLiteStore) -> None:
    """Of several rows the last one is too big for the database."""
    sqlite_store.write("x", [start()])
    connection = sqlite_store._opened()
    before = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, GROUP_BYTES << 1)
    with pytest.raises(StoreError, match=r"too big.*One value may have 1 GB"):
        sqlite_store.write("x", [*(step(seq) for seq in range(2, 1000)), step(1000, "p" * (GROUP_BYTES << 1))])
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, before)
    assert len(list(sqlite_store.read("x"))) == 1
    sqlite_store.write("x", [step(2)])


def test_an_interrupt_inside_a_write_leaves_nothing(sqlite_store: SQLiteStore) -> None:
    class Interrupted(list[Record]):
        def __iter__(self):  # type: ignore[no-untyped-def]
            raise KeyboardInterrupt

    sqlite_store.write("x", [start()])
    with pytest.raises(KeyboardInterrupt):
        sqlite_store.write("x", Interrupted([step(2)]))
    sqlite_store.write("x", [step(2)])
    assert len(list(sqlite_store.read("x"))) == 2


def test_a_locked_file_is_a_clear_error_and_works_when_it_is_free(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "journal.db", busy_timeout=0.05)
    store.write("x", [start()])
    browser = sqlite3.connect(store.label, isolation_level=None)
    browser.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="Another program keeps the file locked"):
        store.write("x", [step(2)])
    browser.execute("ROLLBACK")
    browser.close()
    store.write("x", [step(2)])
    assert len(list(store.read("x"))) == 2
    store.close()


def test_a_limit_on_file_sizes_is_a_clear_error_and_harms_nothing(sqlite_store: SQLiteStore) -> None:
    sqlite_store.write("x", [start()])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 10, hard))
    try:
        with pytest.raises(StoreError, match="Free disk space and run again"):
            sqlite_store.write("x", [step(2, "p" * (1 << 20))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(list(sqlite_store.read("x"))) == 1
    sqlite_store.write("x", [step(2, "p" * (1 << 20))])


def test_a_full_disk_is_told_by_its_code() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA max_page_count = 4")
    connection.execute("CREATE TABLE t(x)")
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
    connection.close()
    message = str(database_failure(Path("journal.db"), caught.value))
    assert "journal.db" in message
    assert "Free disk space and run again: what was recorded before is kept" in message


def test_a_value_that_no_database_takes_is_a_clear_error() -> None:
    assert "write it to a file" in str(database_failure(Path("journal.db"), OverflowError("too long")))


def test_two_processes_write_two_executions_of_one_file(sqlite_store: SQLiteStore) -> None:
    write = """
        import sys
        from store_tools import start, step
        from durapool.stores import SignalRecord, SQLiteStore
        store = SQLiteStore(sys.argv[1])
        store.write("other", [start()])
        for seq in range(2, 300):
            store.write("other", [step(seq)])
        store.close()
    """
    with python_process(write, sqlite_store.label) as other:
        sqlite_store.write("mine", [start()])
        for seq in range(2, 300):
            sqlite_store.write("mine", [step(seq)])
        other.communicate()
        assert other.returncode == 0
    for name in ("mine", "other"):
        assert [record.seq for record in sqlite_store.read(name)] == list(range(1, 300))


def test_a_second_writer_of_one_execution_is_found_out(sqlite_store: SQLiteStore) -> None:
    second = SQLiteStore(sqlite_store.label)
    sqlite_store.write("x", [start()])
    second.write("x", [step(2, "second")])
    with pytest.raises(StoreError, match="Another process wrote to this execution"):
        sqlite_store.write("x", [step(2, "first")])
    assert [record.update.payload for record in sqlite_store.read("x")][1] == "second"
    second.close()


def test_an_execution_that_another_connection_deleted_is_found_out(sqlite_store: SQLiteStore) -> None:
    second = SQLiteStore(sqlite_store.label)
    sqlite_store.write("x", [start()])
    sqlite_store.write("x", [step(2)])
    second.delete("x")
    with pytest.raises(StoreError, match="was deleted from the store while it ran"):
        sqlite_store.write("x", [step(3)])
    second.write("y", [start(), step(2, "y")])  # takes the key over, and is as long
    with pytest.raises(StoreError, match="was deleted from the store while it ran"):
        sqlite_store.write("x", [step(3)])
    assert [record.update.payload for record in sqlite_store.read("y")][1:] == ["y"]
    second.close()


def test_an_execution_that_another_connection_made_anew_is_found_out(sqlite_store: SQLiteStore) -> None:
    second = SQLiteStore(sqlite_store.label)
    sqlite_store.write("x", [start(), step(2)])
    second.delete("x")
    second.write("x", [start(), step(2), step(3, "second")])
    with pytest.raises(StoreError, match="record 3 is there already"):
        sqlite_store.write("x", [step(3, "first")])
    assert [record.update.payload for record in sqlite_store.read("x")][2] == "second"
    second.close()


def test_an_execution_that_this_connection_deleted_is_written_anew(sqlite_store: SQLiteStore) -> None:
    sqlite_store.write("x", [start(), step(2)])
    sqlite_store.delete("x")
    sqlite_store.write("y", [start(), step(2), step(3)])
    with pytest.raises(StoreError, match="was deleted from the store while it ran"):
        sqlite_store.write("x", [step(3)])
    sqlite_store.write("x", [start(event="again")])
    assert [record.update.payload for record in sqlite_store.read("x")] == ["again"]
    assert len(list(sqlite_store.read("y"))) == 3


def test_a_signal_of_another_connection_does_not_stop_the_writer(sqlite_store: SQLiteStore) -> None:
    second = SQLiteStore(sqlite_store.label)
    sqlite_store.write("x", [start()])
    for seq in range(2, 6):
        second.post("x", SignalRecord("stop"))
        sqlite_store.write("x", [step(seq)])
        sqlite_store.discard("x", 1)
        if seq == 3:  # the log is merged and begun anew
            second._opened().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert [record.seq for record in sqlite_store.read("x")] == [1, 2, 3, 4, 5]
    second.close()


@pytest.mark.parametrize("committed", [False, True])
def test_a_write_after_an_interrupted_commit_goes_on_from_what_is_there(
    sqlite_store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    class Interrupted:
        """The connection, whose COMMIT is interrupted."""

        def __init__(self, real: sqlite3.Connection) -> None:
            self.real = real

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if sql != "COMMIT":
                return self.real.execute(sql, *values)
            if committed:
                self.real.execute(sql)
            raise KeyboardInterrupt

    sqlite_store.write("x", [start(), step(2)])
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_store, "_connection", Interrupted(sqlite_store._opened()))
        with pytest.raises(KeyboardInterrupt):
            sqlite_store.write("x", [step(3, "interrupted")])
    if committed:
        with pytest.raises(StoreError, match="record 3 is there already"):
            sqlite_store.write("x", [step(3)])
    else:
        with pytest.raises(StoreError, match="do not follow"):
            sqlite_store.write("x", [step(4)])
    sqlite_store.write("x", [step(3 + committed)])
    assert [record.seq for record in sqlite_store.read("x")] == list(range(1, 4 + committed))


def test_a_forked_child_does_not_use_the_parents_store(sqlite_store: SQLiteStore) -> None:
    sqlite_store.write("x", [start()])
    reading, writing = os.pipe()
    child = fork()
    if not child:
        try:
            try:
                sqlite_store.find("x")
            except StoreError as error:
                os.write(writing, str(error).encode())
            sqlite_store.close()
            own = SQLiteStore(sqlite_store.label)
            own.write("x", [step(2)])
            own.close()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        assert "the parent of this process opened it: open it anew here" in answers.read()
    os.waitpid(child, 0)
    sqlite_store.write("x", [step(3)])
    assert len(list(sqlite_store.read("x"))) == 3
