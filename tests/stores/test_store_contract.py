"""What every store does."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from store_tools import ODD_TEXTS, end, every_field, start, step

from durapool import durable_execution
from durapool.exceptions import ExecutionAlreadyRunningError, ExecutionNotFoundError, StoreError
from durapool.records import Action, BlobRef, ErrorObject, OperationStatus, Record
from durapool.stores import MemoryStore, SignalRecord, SQLiteStore, Store
from durapool.stores.base import is_volatile
from durapool.testing import DurableFunctionTestRunner


def test_what_was_written_is_read_in_order(store: Store) -> None:
    store.write("x", [start(), step(2)])
    store.write("x", [step(3)])
    store.write("x", [step(4), step(5)])
    assert list(store.read("x")) == [start(), step(2), step(3), step(4), step(5)]


def test_every_field_of_an_update_comes_back_with_its_type(store: Store) -> None:
    written = [start(), *every_field()]
    store.write("x", written)
    read = list(store.read("x"))
    assert read == written
    assert [type(record.update.payload) for record in read] == [type(record.update.payload) for record in written]
    for record, original in zip(read, written, strict=True):
        assert type(record) is Record
        for value, wanted in zip(record.update, original.update, strict=True):
            assert type(value) is type(wanted)
        pickled = original.update.error.pickled if original.update.error else None
        assert (record.update.error.pickled if record.update.error else None) == pickled


def test_a_sub_type_of_the_users_own_comes_back(store: Store) -> None:
    record = step(2)
    record = record._replace(update=record.update._replace(sub_type="Custom"))  # type: ignore[arg-type]
    store.write("x", [start(), record])
    assert list(store.read("x"))[1].update.sub_type == "Custom"


def test_text_that_is_not_unicode_and_the_names_of_blobs_come_back(store: Store) -> None:
    update = step(2).update
    details = MappingProxyType({"odd \udcff": "\udcff", "blobs": ["b"]})
    written = [
        start(),
        Record(2, 1001.0, update._replace(payload=BlobRef("näme \udcff", 1 << 40))),
        Record(3, 1002.0, update._replace(name="odd \udcff", details=details)),
        step(4, "\udcff" * 1000),
    ]
    store.write("x", written)
    read = list(store.read("x"))
    assert read == written
    assert type(read[1].update.payload) is BlobRef


def test_more_records_than_one_page_are_all_read(store: Store) -> None:
    written = [start(), *(step(seq) for seq in range(2, 3502))]
    store.write("x", written)
    assert list(store.read("x")) == written


def test_a_reader_may_write_between_two_records(store: Store) -> None:
    store.write("x", [start(), *(step(seq) for seq in range(2, 1500))])
    seen = []
    for record in store.read("x"):
        if record.seq == 1:
            store.write("y", [start()])
        seen.append(record.seq)
    assert seen == list(range(1, 1500))


def test_an_unknown_id_has_no_records_summary_or_signals(store: Store) -> None:
    assert list(store.read("x")) == []
    assert store.find("x") is None
    assert store.signals("x") == []
    assert store.executions() == []
    store.discard("x", 1)


def test_writing_nothing_makes_no_execution(store: Store) -> None:
    store.write("x", [])
    assert store.find("x") is None


def test_the_first_record_makes_the_summary(store: Store) -> None:
    store.write("x", [start(at=50.0, event="[1]", handler="a.py:f"), step(2)])
    found = store.find("x")
    assert found is not None
    assert (found.id, found.handler, found.status) == ("x", "a.py:f", OperationStatus.STARTED)
    assert (found.started_at, found.ended_at, found.event, found.records) == (50.0, None, "[1]", 2)


@pytest.mark.parametrize(
    ("event", "kept"), [(b"\x80pickle", b"\x80pickle"), (None, "null"), ("odd \udcff", "odd \udcff")]
)
def test_the_event_of_the_summary_is_the_one_given(store: Store, event: Any, kept: Any) -> None:
    store.write("x", [start(event=event)])
    found = store.find("x")
    assert found is not None
    assert found.event == kept


@pytest.mark.parametrize(
    ("action", "status"),
    [
        (Action.SUCCEED, OperationStatus.SUCCEEDED),
        (Action.FAIL, OperationStatus.FAILED),
        (Action.STOP, OperationStatus.STOPPED),
    ],
)
def test_the_end_of_an_execution_and_its_reopening_show_in_the_summary(
    store: Store, action: Action, status: OperationStatus
) -> None:
    store.write("x", [start(at=50.0)])
    store.write("x", [step(2), end(3, 60.0, action)])
    found = store.find("x")
    assert found is not None
    assert (found.status, found.started_at, found.ended_at) == (status, 50.0, 60.0)
    store.write("x", [start(at=70.0, seq=4)])
    found = store.find("x")
    assert found is not None
    assert (found.status, found.started_at, found.ended_at) == (OperationStatus.STARTED, 50.0, None)


def test_the_last_change_of_a_batch_decides_the_status(store: Store) -> None:
    store.write("x", [start(), end(2, 60.0), end(3, 61.0, Action.INVOCATION)])
    found = store.find("x")
    assert found is not None
    assert (found.status, found.ended_at) == (OperationStatus.SUCCEEDED, 60.0)
    store.write("x", [start(seq=4), end(5, 70.0, Action.INVOCATION)])
    found = store.find("x")
    assert found is not None
    assert found.status is OperationStatus.STARTED


def test_executions_are_listed_newest_first(store: Store) -> None:
    for name, at in (("old", 1.0), ("new", 3.0), ("middle", 2.0), ("middle, later", 2.0)):
        store.write(name, [start(at=at)])
    assert [summary.id for summary in store.executions()] == ["new", "middle, later", "middle", "old"]


def test_two_executions_do_not_mix(store: Store) -> None:
    store.write("x", [start(event="1")])
    store.write("y", [start(event="2"), step(2, "y")])
    store.write("x", [step(2, "x"), end(3, 60.0)])
    assert [record.update.payload for record in store.read("x")] == ["1", "x", "1"]
    assert [record.update.payload for record in store.read("y")] == ["2", "y"]
    found = store.find("y")
    assert found is not None
    assert (found.status, found.records) == (OperationStatus.STARTED, 2)


def test_odd_ids_are_kept_apart(store: Store) -> None:
    for number, name in enumerate(ODD_TEXTS):
        store.write(name, [start(at=float(number), event=str(number), handler=name)])
    assert [summary.id for summary in store.executions()] == ODD_TEXTS[::-1]
    for number, name in enumerate(ODD_TEXTS):
        found = store.find(name)
        assert found is not None
        assert (found.event, found.handler) == (str(number), name)
        assert len(list(store.read(name))) == 1


@pytest.mark.parametrize(
    "records",
    [[start()], [step(2)], [step(1), step(2), step(3)], [step(2), step(3), step(4)]],
    ids=["first again", "second again", "overlap", "overlap at the start"],
)
def test_records_that_are_there_are_never_written_over(store: Store, records: list[Record]) -> None:
    store.write("x", [start(), step(2, "mine")])
    with pytest.raises(StoreError, match="Another process wrote to this execution"):
        store.write("x", records)
    assert list(store.read("x")) == [start(), step(2, "mine")]


@pytest.mark.parametrize("records", [[step(4)], [step(3), step(5)], [step(3), step(3)]], ids=["gap", "hole", "double"])
def test_records_without_the_one_before_are_refused_whole(store: Store, records: list[Record]) -> None:
    store.write("x", [start(), step(2)])
    with pytest.raises(StoreError):
        store.write("x", records)
    assert list(store.read("x")) == [start(), step(2)]
    store.write("x", [step(3)])
    assert len(list(store.read("x"))) == 3


def test_writing_to_a_deleted_execution_says_so(store: Store) -> None:
    store.write("x", [start()])
    store.delete("x")
    with pytest.raises(StoreError, match="was deleted"):
        store.write("x", [step(2)])


def test_deleting_forgets_one_execution_alone(store: Store) -> None:
    for name in ("x", "y", "z"):
        store.write(name, [start(), step(2)])
        store.post(name, SignalRecord("stop"))
    store.delete("y")
    assert store.find("y") is None
    assert store.signals("y") == []
    assert list(store.read("y")) == []
    for name in ("x", "z"):
        assert list(store.read(name)) == [start(), step(2)]
        assert len(store.signals(name)) == 1
    store.write("y", [start(event="again")])
    assert store.signals("y") == []
    assert len(list(store.read("y"))) == 1


def test_deleting_an_unknown_execution_is_an_error(store: Store) -> None:
    with pytest.raises(ExecutionNotFoundError, match="'x'"):
        store.delete("x")


def test_a_running_execution_is_not_deleted(store: Store) -> None:
    store.write("x", [start()])
    with store.lock("x"), pytest.raises(ExecutionAlreadyRunningError):
        store.delete("x")
    assert store.find("x") is not None
    store.delete("x")


def test_signals_are_kept_in_order_until_they_are_discarded(store: Store) -> None:
    store.write("x", [start()])
    store.write("y", [start()])
    error = ErrorObject("m\udcff", "T", "d", ("s",), b"p")
    posted = [
        SignalRecord("succeed", "callback", "1", at=5.0),
        SignalRecord("fail", "odd \udcff", None, error, 6.0),
        SignalRecord("succeed", "binary", b"\x80"),
        SignalRecord("stop"),
    ]
    for signal in posted:
        store.post("x", signal)
    store.post("y", SignalRecord("heartbeat"))
    assert store.signals("x") == posted
    assert store.signals("x") == posted
    assert store.signals("x")[1].error.pickled == b"p"  # type: ignore[union-attr]
    store.discard("x", 2)
    assert store.signals("x") == posted[2:]
    store.discard("x", 10)
    assert store.signals("x") == []
    assert len(store.signals("y")) == 1


def test_a_signal_for_an_unknown_execution_is_an_error(store: Store) -> None:
    with pytest.raises(ExecutionNotFoundError):
        store.post("x", SignalRecord("stop"))


def test_a_signal_with_text_that_is_not_unicode_is_kept(store: Store) -> None:
    store.write("x", [start()])
    store.post("x", SignalRecord("succeed", payload="odd \udcff"))
    assert store.signals("x") == [SignalRecord("succeed", payload="odd \udcff")]


def test_a_closed_store_says_so_and_closes_again(store: Store) -> None:
    store.write("x", [start()])
    store.close()
    store.close()
    for call in (
        lambda: store.find("x"),
        lambda: list(store.read("x")),
        lambda: store.write("x", [step(2)]),
        store.executions,
        lambda: store.delete("x"),
        lambda: store.post("x", SignalRecord("stop")),
        lambda: store.signals("x"),
        lambda: store.discard("x", 1),
        lambda: store.lock("x").__enter__(),
    ):
        with pytest.raises(StoreError, match="closed"):
            call()


def test_threads_may_use_a_store_at_once(store: Store) -> None:
    def work(name: str) -> None:
        store.write(name, [start()])
        for seq in range(2, 60):
            store.write(name, [step(seq)])
            list(store.read(name))

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(6):
        assert [record.seq for record in store.read(f"t{number}")] == list(range(1, 60))


def test_an_execution_is_locked_once(store: Store) -> None:
    with store.lock("x"):
        with (
            pytest.raises(ExecutionAlreadyRunningError, match=r"'x'.*this very process \(pid \d+ on host"),
            store.lock("x"),
        ):
            pass
        with store.lock("y"):
            pass
    with store.lock("x"):
        pass


def test_a_lock_is_freed_when_its_block_fails(store: Store) -> None:
    with pytest.raises(KeyError), store.lock("x"):
        raise KeyError
    with store.lock("x"):
        pass


def test_a_thread_of_the_same_process_is_excluded_too(store: Store) -> None:
    outcomes: list[BaseException | None] = []

    def contend() -> None:
        try:
            with store.lock("x"):
                outcomes.append(None)
        except ExecutionAlreadyRunningError as error:
            outcomes.append(error)

    with store.lock("x"):
        thread = threading.Thread(target=contend)
        thread.start()
        thread.join()
    assert len(outcomes) == 1
    assert isinstance(outcomes[0], ExecutionAlreadyRunningError)


@pytest.mark.parametrize("name", ODD_TEXTS, ids=range(len(ODD_TEXTS)))
def test_odd_ids_are_locked_apart_from_all_others(store: Store, name: str) -> None:
    with store.lock(name):
        with pytest.raises(ExecutionAlreadyRunningError), store.lock(name):
            pass
        for other in ODD_TEXTS:
            if other != name:
                with store.lock(other):
                    pass


def test_only_a_memory_store_itself_ends_with_the_process(tmp_path: Path) -> None:
    class Mirrored(MemoryStore):
        """Keeps more."""

    class Before:
        def __getattr__(self, name: str) -> object:
            return getattr(MemoryStore(), name)

    assert is_volatile(MemoryStore())
    assert not is_volatile(Mirrored())
    assert not is_volatile(Before())  # type: ignore[arg-type]  # it gets what it lacks
    with closing(SQLiteStore(tmp_path / "journal.db")) as store:
        assert not is_volatile(store)


def test_the_store_of_the_test_runner_outlives_the_crashes_that_it_plays() -> None:
    with DurableFunctionTestRunner(durable_execution(lambda event, context: event)) as runner:
        assert not is_volatile(runner._store)
