"""The lock files of the SQLite store, between processes."""

from __future__ import annotations

import json
import os
import signal
import stat
import threading
from pathlib import Path

import pytest
from store_tools import ODD_TEXTS, fork, python_process, start

from durapool.exceptions import ExecutionAlreadyRunningError, StoreError
from durapool.stores import SQLiteStore
from durapool.stores.locks import lock_name

HOLD = """
    import sys
    from durapool.stores import SQLiteStore
    store = SQLiteStore(sys.argv[1])
    with store.lock("x"):
        print("held", flush=True)
        sys.stdin.read()
"""


def try_lock(store: SQLiteStore) -> None:
    with store.lock("x"):
        pass


def test_another_process_is_named_by_pid_and_host(sqlite_store: SQLiteStore) -> None:
    with python_process(HOLD, sqlite_store.label) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ExecutionAlreadyRunningError) as caught:
            try_lock(sqlite_store)
        assert f"process {holder.pid} on host {os.uname().nodename} (started 2" in str(caught.value)
        assert "this very process" not in str(caught.value)
        sqlite_store.write("x", [start()])
        with pytest.raises(ExecutionAlreadyRunningError):
            sqlite_store.delete("x")


def test_the_lock_of_a_killed_holder_is_free(sqlite_store: SQLiteStore) -> None:
    with python_process(HOLD, sqlite_store.label) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert os.listdir(f"{sqlite_store.label}-locks") == [lock_name("x")]
        try_lock(sqlite_store)
    assert os.listdir(f"{sqlite_store.label}-locks") == []


def test_this_process_excludes_others_also_after_it_was_asked_twice(sqlite_store: SQLiteStore) -> None:
    contend = """
        import sys
        from durapool.exceptions import ExecutionAlreadyRunningError
        from durapool.stores import SQLiteStore
        try:
            with SQLiteStore(sys.argv[1]).lock("x"):
                print("got it")
        except ExecutionAlreadyRunningError as error:
            print(error)
    """
    with sqlite_store.lock("x"):
        with pytest.raises(ExecutionAlreadyRunningError):
            try_lock(sqlite_store)
        with python_process(contend, sqlite_store.label) as other:
            assert f"process {os.getpid()} on" in other.communicate()[0]
    with python_process(contend, sqlite_store.label) as other:
        assert other.communicate()[0] == "got it\n"


def test_the_same_file_by_another_path_is_the_same_lock(sqlite_store: SQLiteStore, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "other.db").symlink_to(tmp_path / "journal.db")
    for path in (tmp_path / "link" / "journal.db", tmp_path / "other.db"):
        again = SQLiteStore(path)
        with sqlite_store.lock("x"), pytest.raises(ExecutionAlreadyRunningError, match="this very process"):
            try_lock(again)
        again.close()


def test_a_lock_file_is_private_and_says_who_holds_it(sqlite_store: SQLiteStore) -> None:
    folder = Path(f"{sqlite_store.label}-locks")
    with sqlite_store.lock("x"):
        (file,) = folder.iterdir()
        # Read in a child: closing a descriptor of the file here would drop the lock.
        with python_process("import sys; print(open(sys.argv[1]).read())", str(file)) as reader:
            holder = json.loads(reader.communicate()[0])
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (holder["pid"], holder["host"]) == (os.getpid(), os.uname().nodename)
    assert holder["started"] > 0
    assert list(folder.iterdir()) == []


def test_lock_names_stay_in_their_folder_and_differ() -> None:
    names = [lock_name(text) for text in ODD_TEXTS]
    assert len({name.lower() for name in names}) == len(names)
    for name in names:
        assert os.path.basename(name) == name
        assert name.isascii()
        assert len(name) < 200


def test_a_forked_child_neither_holds_nor_frees_the_lock(sqlite_store: SQLiteStore) -> None:
    reading, writing = os.pipe()
    lock = sqlite_store.lock("x")
    lock.__enter__()
    child = fork()
    if not child:
        try:
            lock.__exit__(None, None, None)
            try:
                with SQLiteStore(sqlite_store.label).lock("x"):
                    os.write(writing, b"got it")
            except ExecutionAlreadyRunningError as error:
                os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        assert f"process {os.getpid()} on" in answers.read()
    assert os.waitpid(child, 0)[1] == 0
    assert len(os.listdir(f"{sqlite_store.label}-locks")) == 1
    lock.__exit__(None, None, None)


def test_many_contenders_never_hold_one_lock_at_once(sqlite_store: SQLiteStore, tmp_path: Path) -> None:
    contend = """
        import os, sys
        from durapool.exceptions import ExecutionAlreadyRunningError
        from durapool.stores import SQLiteStore
        store, mark, got = SQLiteStore(sys.argv[1]), sys.argv[2], 0
        while got < 100:
            try:
                with store.lock("x"):
                    os.close(os.open(mark, os.O_CREAT | os.O_EXCL))  # fails if another is inside
                    os.unlink(mark)
                    got += 1
            except ExecutionAlreadyRunningError:
                pass
        print("fair")
    """
    outputs: list[str] = []

    def run() -> None:
        with python_process(contend, sqlite_store.label, str(tmp_path / "mark")) as process:
            outputs.append(process.communicate()[0])

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == ["fair\n"] * 3


def test_something_in_the_place_of_the_lock_folder_is_a_clear_error(sqlite_store: SQLiteStore, tmp_path: Path) -> None:
    Path(f"{sqlite_store.label}-locks").write_text("not a folder")
    with pytest.raises(StoreError, match="not a folder: move it away"):
        try_lock(sqlite_store)


def test_a_link_in_the_place_of_a_lock_file_is_not_followed(sqlite_store: SQLiteStore, tmp_path: Path) -> None:
    try_lock(sqlite_store)
    precious = tmp_path / "precious"
    precious.write_text("text")
    (Path(f"{sqlite_store.label}-locks") / lock_name("x")).symlink_to(precious)
    with pytest.raises(StoreError, match="cannot be used"):
        try_lock(sqlite_store)
    assert precious.read_text() == "text"
    try:
        with sqlite_store.lock("y"):
            pass
    finally:
        assert precious.exists()
