"""Blobs of the stores: kept, found again, swept, and refused where there is no room."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from store_tools import end, fork, start

from durapool.blobs import BlobStore, MappedPickle, read, stowed, stowed_pickle
from durapool.exceptions import SerDesError, StoreFailure
from durapool.pickling import APART, dump_value_apart
from durapool.records import BlobRef
from durapool.stores import MemoryStore, SQLiteStore, Store
from durapool.stores import blobs as file_blobs
from durapool.stores.base import blobs_of
from durapool.unpickling import load_value

LARGE = b"large" * 100_000


def files(store: SQLiteStore) -> list[Path]:
    return sorted(Path(f"{store.label}-blobs").glob("*/*"))


def some_blobs(store: Store, execution_id: str = "x") -> BlobStore:
    blobs = blobs_of(store, execution_id)
    assert blobs is not None
    return blobs


def test_text_and_bytes_come_back(store: Store) -> None:
    blobs = some_blobs(store)
    text, data = stowed("snö\0" * 100_000, blobs), stowed(LARGE, blobs)
    assert read(text, blobs) == "snö\0" * 100_000
    assert read(data, some_blobs(store)) == LARGE


def test_buffers_come_back_beside_their_pickle_and_may_be_written(store: Store) -> None:
    numpy = pytest.importorskip("numpy")
    blobs = some_blobs(store)
    value = [numpy.arange(APART), numpy.zeros(3), numpy.ones(APART + 1, dtype="u1"), LARGE]
    ref = stowed_pickle(dump_value_apart(value), blobs)
    found = read(ref, blobs)
    assert isinstance(found, MappedPickle)
    assert len(found.buffers) == 2
    loaded = load_value(found.stream, found.buffers)
    assert all(numpy.array_equal(one, other) for one, other in zip(value[:3], loaded[:3], strict=True))
    assert loaded[3] == LARGE
    loaded[0][0] = 77  # this mapping's alone
    again = read(ref, blobs)
    assert isinstance(again, MappedPickle)
    assert load_value(again.stream, again.buffers)[0][0] == 0


def test_the_same_content_saved_again_is_the_same_blob(store: Store) -> None:
    blobs = some_blobs(store)
    one = stowed(LARGE, blobs)
    assert stowed(bytes(LARGE), blobs) == one
    assert stowed(LARGE[:-1] + b"!", blobs) != one


def test_a_blob_that_was_not_written_whole_is_refused(store: Store) -> None:
    blobs = some_blobs(store)
    blob = blobs.create(100)
    os.write(blob.source.descriptor, b"x" * 99)
    with pytest.raises(ValueError, match="100 bytes"):
        blobs.keep(blob, 100)
    assert not blobs.has(BlobRef(blob.name, 100))


def test_only_kept_blobs_are_there(store: Store) -> None:
    blobs = some_blobs(store)
    assert blobs.has(stowed(LARGE, blobs))
    assert not blobs.has(BlobRef("0" * 32, 5))
    assert not blobs.has(BlobRef("../../journal", 5))


def test_a_sweep_leaves_what_is_referred_to(store: Store) -> None:
    blobs = some_blobs(store)
    kept, orphan = stowed(LARGE, blobs), stowed(LARGE * 2, blobs)
    some_blobs(store).sweep({kept.name})
    assert read(kept, blobs) == LARGE
    with pytest.raises(SerDesError, match=r"deleted|cannot be opened"):
        read(orphan, blobs)


def test_deleting_an_execution_deletes_its_blobs_alone(store: Store) -> None:
    for name in "xy":
        store.write(name, [start(), end(2, 1001.0)])
    ours, others = (some_blobs(store, name) for name in "xy")
    ref, other = stowed(LARGE, ours), stowed(LARGE, others)
    store.delete("x")
    with pytest.raises(SerDesError):
        read(ref, some_blobs(store))
    assert read(other, others) == LARGE


def test_stores_that_are_remote_or_limited_have_none() -> None:
    assert blobs_of(MemoryStore(payload_limit=1000), "x") is None
    assert blobs_of(MemoryStore(local=False), "x") is None


def test_files_and_folders_are_for_the_user_alone(sqlite_store: SQLiteStore) -> None:
    stowed(LARGE, some_blobs(sqlite_store))
    [file] = files(sqlite_store)
    modes = [stat.S_IMODE(os.stat(path).st_mode) for path in (file, file.parent, file.parent.parent)]
    assert modes == [0o600, 0o700, 0o700]


@pytest.mark.parametrize("named", [False, True])
def test_a_blob_has_no_name_before_it_is_kept(
    sqlite_store: SQLiteStore, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if named:
        monkeypatch.setattr(file_blobs, "_UNNAMED", 0)
    blobs = some_blobs(sqlite_store)
    blob = blobs.create(5)
    assert [file.suffix for file in files(sqlite_store)] == ([".part"] if named else [])
    os.write(blob.source.descriptor, b"12345")
    ref = blobs.keep(blob, 5)
    assert [file.name for file in files(sqlite_store)] == [ref.name]
    given_up = blobs.create(5)
    del given_up
    assert [file.name for file in files(sqlite_store)] == [ref.name]


def test_a_folder_that_others_may_write_to_is_refused(sqlite_store: SQLiteStore) -> None:
    folder = Path(f"{sqlite_store.label}-blobs")
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(StoreFailure, match="this user alone"):
        stowed(LARGE, some_blobs(sqlite_store))


@contextmanager
def a_limit_on_files(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_room_is_told_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    with (
        a_limit_on_files(100_000),
        pytest.raises(StoreFailure, match=r"500\d\d\d bytes cannot be written .* Make room"),
    ):
        stowed(LARGE, some_blobs(store))
    assert list(tmp_path.glob("*-blobs/*/*")) == []
    blobs = some_blobs(store)
    assert read(stowed(LARGE, blobs), blobs) == LARGE


@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
def test_a_full_store_has_the_blob_on_the_disk_before_it_is_recorded(
    synchronous: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    store = SQLiteStore(tmp_path / "journal.db", synchronous=synchronous)  # type: ignore[arg-type]  # a parameter
    stowed(LARGE, some_blobs(store))
    [file] = files(store)
    store.close()
    content, *folders = synced or [""]
    assert folders == ([str(file.parent), str(file.parent.parent)] if synchronous == "FULL" else [])
    assert content.startswith(str(file.parent)) == (synchronous == "FULL")


def test_a_truncated_or_changed_file_is_refused(sqlite_store: SQLiteStore) -> None:
    blobs = some_blobs(sqlite_store)
    ref, other = stowed(LARGE, blobs), stowed(LARGE * 2, blobs)
    short, changed = (Path(f"{sqlite_store.label}-blobs").glob(f"*/{name}") for name in (ref.name, other.name))
    os.truncate(next(short), ref.size - 1)
    with next(changed).open("r+b") as file:
        file.write(b"\0" * 16)
    with pytest.raises(SerDesError, match="instead of"):
        read(ref, blobs)
    with pytest.raises(SerDesError, match="damaged"):
        read(other, blobs)


def test_what_a_deletion_that_was_cut_short_has_left_goes_when_the_store_is_opened(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "journal.db")
    store.write("kept", [start()])
    stowed(LARGE, some_blobs(store, "kept"))
    stowed(LARGE, some_blobs(store, "deleted"))  # no such execution
    stowed(LARGE, some_blobs(store, "running"))
    assert len(files(store)) == 3
    with store.lock("running"):
        ready, go = os.pipe()
        if (pid := fork()) == 0:
            os.close(go)
            SQLiteStore(store.path).close()  # another process
            os._exit(0)
        os.close(ready)
        os.close(go)
        assert os.waitpid(pid, 0)[1] == 0
        assert sorted(file.parent.name[:4] for file in files(store)) == ["kept", "runn"]
    store.close()


def test_memory_holds_no_more_descriptors_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    from durapool import segments

    already = len(segments._live)
    monkeypatch.setattr(segments, "_MOST_DESCRIPTORS", already + 3)
    blobs = some_blobs(MemoryStore())
    texts = [f"{number:07}" * 100_000 for number in range(10)]
    saved = [stowed(text, blobs) for text in texts]
    assert len(segments._live) <= already + 3
    found = [read(ref, blobs) for ref in saved]
    assert found == texts
