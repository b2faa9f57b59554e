"""The file of the SQLite store: who may use it, and what happens to one that cannot be used."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from store_tools import python_process, start, step

from durapool.exceptions import StoreError, StoreVersionError, ValidationError
from durapool.stores import MemoryStore, SQLiteStore, medium, open_store
from durapool.stores.rows import GROUP_BYTES, GROUP_RECORDS, MAX_RECORDS, pack

NOBODY = 65534


def mode_of(path: Path | str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def make_store(path: Path, records: int = 5) -> None:
    store = SQLiteStore(path)
    store.write("x", [start(), *(step(seq) for seq in range(2, records + 1))])
    store.close()


def alter(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of an ordinary user, as whom the test runs: permissions do not bind root."""
    folder = Path(tempfile.mkdtemp())
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o700)
        shutil.rmtree(folder)


def test_all_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = SQLiteStore(tmp_path / "a" / "b" / "journal.db")
        store.write("x", [start()])
        with store.lock("x"):
            for suffix in ("", "-wal", "-shm"):
                assert mode_of(store.label + suffix) == 0o600
            for folder in (tmp_path / "a", tmp_path / "a" / "b", f"{store.label}-locks"):
                assert mode_of(folder) == 0o700
    finally:
        os.umask(before)
    store.close()


def test_a_store_keeps_its_records_when_it_is_opened_again(tmp_path: Path) -> None:
    make_store(tmp_path / "journal.db")
    store = SQLiteStore(tmp_path / "journal.db", synchronous="FULL")
    assert len(list(store.read("x"))) == 5
    store.close()
    assert os.listdir(tmp_path) == ["journal.db"]


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "journal.db").touch(mode=0o600)
    make_store(tmp_path / "journal.db")
    make_store_again = SQLiteStore(tmp_path / "journal.db")
    assert make_store_again.find("x") is not None
    make_store_again.close()


def test_odd_characters_in_the_path_are_no_matter(tmp_path: Path) -> None:
    for name in ("a b?c#d%41&mode=memory.db", "日本", "odd\udcff"):
        make_store(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 0


def test_many_processes_may_make_one_store_at_once(tmp_path: Path) -> None:
    code = """
        import sys
        from store_tools import start
        from durapool.stores import SQLiteStore
        print("ready", flush=True)
        sys.stdin.readline()
        store = SQLiteStore(sys.argv[1])
        store.write(sys.argv[2], [start()])
        store.close()
        print("done")
    """
    outputs: list[str] = []
    ready = threading.Barrier(4)

    def run(name: str) -> None:
        with python_process(code, str(tmp_path / "journal.db"), name) as process:
            assert process.stdout is not None
            process.stdout.readline()
            ready.wait()
            outputs.append(process.communicate("go\n")[0])

    threads = [threading.Thread(target=run, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == ["done\n"] * 4
    store = SQLiteStore(tmp_path / "journal.db")
    assert len(store.executions()) == 4
    store.close()


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda path: path.write_bytes(b"not a database at all " * 500), StoreError, "damaged"),
        (lambda path: path.write_bytes(b"short"), StoreError, "damaged"),
        (lambda path: path.write_bytes(bytes(8192)), StoreError, "damaged"),
        (lambda path: alter(path, "PRAGMA user_version = 99"), StoreVersionError, "format 99.*install the durapool"),
        (lambda path: alter(path, "PRAGMA user_version = 1"), StoreVersionError, "format 1;.*install the durapool"),
        (lambda path: alter(path, "PRAGMA application_id = 7"), StoreError, "another program.*DURAPOOL_STORE"),
        (lambda path: alter(path, "PRAGMA application_id = 0"), StoreError, "another program"),
    ],
    ids=["text", "short", "zeros", "newer", "older", "foreign", "unmarked"],
)
def test_a_file_that_is_no_store_of_this_version_is_refused_and_left_as_it_was(
    tmp_path: Path, spoil: Callable[[Path], None], error: type[StoreError], words: str
) -> None:
    path = tmp_path / "journal.db"
    make_store(path)
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(error, match=words) as caught:
        SQLiteStore(path)
    assert type(caught.value) is error
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["journal.db"]


def test_a_foreign_file_with_a_log_is_left_as_it_was(tmp_path: Path) -> None:
    living, path = tmp_path / "living.db", tmp_path / "copy.db"
    connection = sqlite3.connect(living, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t(x)")
    connection.execute("INSERT INTO t VALUES (1)")
    before = {}
    for suffix in ("", "-wal"):
        shutil.copy(f"{living}{suffix}", f"{path}{suffix}")
        before[suffix] = Path(f"{path}{suffix}").read_bytes()
    connection.close()
    with pytest.raises(StoreError, match="another program"):
        SQLiteStore(path)
    assert {suffix: Path(f"{path}{suffix}").read_bytes() for suffix in before} == before


def test_a_truncated_store_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    make_store(path, records=500)
    with open(path, "r+b") as file:
        file.truncate(3 * 4096)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"damaged.*take a backup"):
        SQLiteStore(path)
    assert path.read_bytes() == before


def test_a_damaged_page_is_an_error_and_no_wrong_record(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    make_store(path, records=500)
    with open(path, "r+b") as file:
        file.seek(8 * 4096)
        file.write(b"\xa5" * 4096)
    store = SQLiteStore(path)
    with pytest.raises(StoreError, match="damaged"):
        list(store.read("x"))
    store.close()


FIELDS = ["a", "START", "STEP", None, None, None, None, None, None, 0, None, None]


@pytest.mark.parametrize(
    "data",
    [
        None,
        "text",
        b"",
        b"\xc1",
        pack([]),
        pack(7),
        pack([[1, 1000.0]]),
        pack([[2, 1000.0, FIELDS]]),
        pack([[1, 1000.0, FIELDS[1:]]]),
        pack([[1, 1000.0, ["a", "EXPLODE", *FIELDS[2:]]]]),
        pack([[1, 1000.0, [*FIELDS[:8], [1, 2, 3], *FIELDS[9:]]]]),
        pack([[1, 1000.0, FIELDS]])[:-1],
        pack([[1, 1000.0, FIELDS]]) + b"\0",
    ],
)
def test_a_record_that_makes_no_sense_is_an_error(tmp_path: Path, data: object) -> None:
    path = tmp_path / "journal.db"
    make_store(path, records=1)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE records SET data = ?", (data,))
    store = SQLiteStore(path)
    with pytest.raises(StoreError, match=r"'x'.*cannot be read"):
        list(store.read("x"))
    with pytest.raises(StoreError, match="cannot be read"):
        store.executions()
    store.close()


def rows_of(path: Path) -> list[tuple[int, int]]:
    """Of each row the seq of its last record, and its bytes."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT place, length(data) FROM records ORDER BY place").fetchall()
    return [(place % MAX_RECORDS, size) for place, size in found]


def test_a_write_is_one_row_after_the_first_record(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "journal.db")
    store.write("x", [start(), *(step(seq) for seq in range(2, 9))])
    store.write("x", [step(9), step(10)])
    store.write("x", [step(seq) for seq in range(11, 11 + GROUP_RECORDS)])
    assert [last for last, _ in rows_of(store.path)] == [1, 8, 10, 10 + GROUP_RECORDS]
    store.close()


def test_a_row_is_bounded_in_records_and_in_bytes(tmp_path: Path) -> None:
    written = [start(), *(step(seq, "p" * (300_000 if 2000 <= seq < 2010 else 3)) for seq in range(2, 2500))]
    written[2004] = step(2005, "p" * (3 << 20))
    store = SQLiteStore(tmp_path / "journal.db")
    store.write("x", written)
    rows = rows_of(store.path)
    lasts = [last for last, _ in rows]
    assert max(last - before for before, last in pairwise(lasts)) <= GROUP_RECORDS
    assert [last for last, size in rows if size > GROUP_BYTES] == [2005]
    assert len(rows) < 50
    assert list(store.read("x")) == written
    store.close()


def test_an_unwritable_place_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (
        tmp_path / "file" / "journal.db",
        tmp_path / "file" / "a" / "journal.db",
        Path("/proc/none/journal.db"),
    ):
        with pytest.raises(StoreError, match="Make its folder writable"):
            SQLiteStore(path)


def test_an_unwritable_folder_says_what_to_do(unprivileged: Path) -> None:
    unprivileged.chmod(0o500)
    with pytest.raises(StoreError, match=r"Permission denied.*Make its folder writable"):
        SQLiteStore(unprivileged / "journal.db")


def test_a_read_only_file_says_what_to_do_and_is_still_read(unprivileged: Path) -> None:
    path = unprivileged / "journal.db"
    make_store(path)
    path.chmod(0o400)
    store = SQLiteStore(path)
    with pytest.raises(StoreError, match="chmod u"):
        store.write("x", [step(6)])
    assert len(list(store.read("x"))) == 5
    store.close()


def test_the_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path / "journal.db")
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(StoreError, match=f"belongs to another user .uid {mine}.*name another store"):
        SQLiteStore(tmp_path / "journal.db")


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    make_store(tmp_path / "journal.db")
    (tmp_path / "journal.db").chmod(mode)
    with pytest.raises(StoreError, match=r"Other users may write.*chmod 600"):
        SQLiteStore(tmp_path / "journal.db")
    (tmp_path / "journal.db").chmod(0o644)
    SQLiteStore(tmp_path / "journal.db").close()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(StoreError, match="not a regular file"):
            SQLiteStore(path)
    with pytest.raises(StoreError, match="null"):
        SQLiteStore("nul\0inside")


def test_only_two_ways_of_syncing_are_known(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="NORMAL"):
        SQLiteStore(tmp_path / "journal.db", synchronous="OFF")  # type: ignore[arg-type]


def test_a_network_file_system_gets_a_rollback_journal_and_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.db"
    make_store(path)  # with a write-ahead log, before the file came to the network
    monkeypatch.setattr(medium, "network_file_system", lambda folder: "nfs4")
    with pytest.warns(RuntimeWarning, match="network file system .nfs4") as caught:
        store = SQLiteStore(path)
    assert len(caught) == 1
    store.write("x", [step(6)])
    assert not Path(f"{path}-wal").exists()
    assert len(list(store.read("x"))) == 6
    store.close()
    monkeypatch.undo()
    store = SQLiteStore(path)
    store.write("x", [step(7)])
    assert Path(f"{path}-wal").exists()
    store.close()


@pytest.mark.parametrize(
    ("kind", "network"),
    [
        ("ext4", False),
        ("overlay", False),
        ("tmpfs", False),
        ("nfs", True),
        ("nfs4", True),
        ("cifs", True),
        ("fuse.sshfs", True),
        ("fuse", True),
        ("fuseblk", False),
        ("fuse.fuse-overlayfs", False),
    ],
)
def test_network_file_systems_are_known_by_their_type(kind: str, network: bool) -> None:
    assert medium.is_network(kind) is network


def test_the_file_system_of_the_tests_is_looked_up(tmp_path: Path) -> None:
    assert medium.network_file_system(tmp_path) in (None, "nfs", "nfs4", "9p", "fuse")


def test_a_store_is_chosen_by_path_word_variable_or_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DURAPOOL_STORE", raising=False)
    for given, label in (
        (None, ".durapool/journal.db"),
        ("a.db", "a.db"),
        (tmp_path / "b.db", "b.db"),
        ("~/c.db", "c.db"),
    ):
        store = open_store(given)
        assert store.label == os.path.realpath(tmp_path / label)
        store.close()
    monkeypatch.setenv("DURAPOOL_STORE", "d.db")
    store = open_store()
    assert store.label.endswith("d.db")
    assert open_store(store) is store
    store.close()
    for word in ("memory", ":memory:"):
        assert isinstance(open_store(word), MemoryStore)
    monkeypatch.setenv("DURAPOOL_STORE", "memory")
    assert isinstance(open_store(), MemoryStore)
    with pytest.raises(ValidationError, match="store must be"):
        open_store(7)  # type: ignore[arg-type]
