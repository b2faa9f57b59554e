"""The journal: numbering, rules of change, group commit, leases, timers, signals."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from durapool.clock import SkippingClock, SystemClock
from durapool.commits import FLUSH_AGE, WINDOW_RECORDS, Mode
from durapool.exceptions import InvalidStateError, OrphanedBranch, StoreError, StoreFailure
from durapool.journal import EXECUTION_ID, POLL, Journal
from durapool.records import (
    DETAIL_CALLBACK_ID,
    DETAIL_HANDLER,
    DETAIL_HEARTBEAT,
    Action,
    ErrorObject,
    OperationStatus,
    OperationSubType,
    OperationType,
    Record,
    Update,
)
from durapool.stores.base import SignalRecord
from durapool.stores.memory import MemoryStore

BEGIN = Update(EXECUTION_ID, Action.START, OperationType.EXECUTION, payload="{}", details={DETAIL_HANDLER: "m:h"})


class ManualClock(SystemClock):
    """Stands still until it is told."""

    def __init__(self, time: float = 1000.0) -> None:
        self.time = time

    def now(self) -> float:
        return self.time


class WatchedStore(MemoryStore):
    """Counts writes, and can hold them back or let them fail. Nothing is written but by who flushes, unless told."""

    def __init__(self) -> None:
        super().__init__()
        self.flush_age = 3600.0
        self.sizes: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.writing = threading.Event()
        self.error: BaseException | None = None
        self.error_after: BaseException | None = None

    def write(self, execution_id: str, records: Sequence[Record]) -> None:
        self.writing.set()
        self.gate.wait(30)
        if self.error is not None:
            raise self.error
        self.sizes.append(len(records))
        super().write(execution_id, records)
        if self.error_after is not None:
            raise self.error_after


def step(id_: str, action: Action = Action.START, **fields: Any) -> Update:
    return Update(id_, action, OperationType.STEP, OperationSubType.STEP, attempt=1, name=id_)._replace(**fields)


def operation(id_: str, kind: OperationType, action: Action = Action.START, **fields: Any) -> Update:
    return Update(id_, action, kind)._replace(**fields)


def begun(store: MemoryStore, clock: Any = None, mode: Mode = "sync") -> Journal:
    journal = Journal.open(store, "x", clock or ManualClock(), mode)
    journal.append((BEGIN,))
    journal.barrier()
    return journal


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def store() -> WatchedStore:
    return WatchedStore()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def journal(store: WatchedStore, clock: ManualClock) -> Iterator[Journal]:
    opened = begun(store, clock)
    yield opened
    opened.close()


def test_records_are_numbered_without_gaps_and_times_never_go_back(store: WatchedStore, clock: ManualClock) -> None:
    journal = begun(store, clock)
    view = journal.view("v")
    for index, now in enumerate([1005.0, 1001.0, 1007.0]):
        clock.time = now
        view.record(step(str(index)))
    journal.close()
    assert [(record.seq, record.at) for record in store.read("x")] == [(1, 1000), (2, 1005), (3, 1005), (4, 1007)]


def test_what_was_recorded_is_loaded_again(store: WatchedStore) -> None:
    journal = begun(store)
    view = journal.view("v")
    view.record_all([operation("c", OperationType.CONTEXT), step("s", parent_id="c"), step("t", parent_id="c")])
    view.record(step("s", Action.SUCCEED, parent_id="c", payload="1"))
    journal.close()
    again = Journal.open(store, "x", ManualClock())
    assert [op.id for op in again.operations()] == [EXECUTION_ID, "c", "s", "t"]
    assert [op.id for op in again.children(None)] == ["c"]
    assert [op.id for op in again.subtree("c")] == ["s", "t"]
    loaded = again.get("s")
    assert loaded is not None
    assert (loaded.status, loaded.payload) == (OperationStatus.SUCCEEDED, "1")
    again.append((step("u"),))
    again.close()
    assert [record.seq for record in store.read("x")] == list(range(1, 7))


def test_a_missing_record_is_noticed(store: WatchedStore) -> None:
    class Holey(WatchedStore):
        def read(self, execution_id: str) -> Iterator[Record]:
            return (record for record in super().read(execution_id) if record.seq != 2)

    holey = Holey()
    journal = begun(holey)
    journal.append((step("a"), step("b")))
    journal.close()
    with pytest.raises(StoreError, match="record 2"):
        Journal.open(holey, "x", ManualClock())


@pytest.mark.parametrize(
    ("updates", "message"),
    [
        ([step("s", Action.SUCCEED)], "never started"),
        ([step("s"), step("s")], "started twice"),
        ([step("s"), step("s", Action.SUCCEED), step("s", Action.FAIL)], "has ended as SUCCEEDED"),
        ([step("s"), step("s", Action.FAIL), step("s")], "has ended as FAILED"),
    ],
)
def test_an_operation_starts_once_and_ends_once(
    store: WatchedStore, updates: list[Update], message: str, journal: Journal
) -> None:
    with pytest.raises(InvalidStateError, match=message):
        journal.view("v").record_all(updates)
    journal.barrier()
    assert len(list(store.read("x"))) == len(updates)  # the start of the execution, and all but the last


def test_a_step_starts_again_for_its_next_attempt(journal: Journal, clock: ManualClock) -> None:
    view = journal.view("v")
    view.record_all([step("s"), step("s", Action.RETRY, delay=10.0)])
    view.settle()
    assert not view.is_due("s")
    assert view.next_due() == 10
    clock.time += 10
    view.settle()
    assert view.is_due("s")
    view.record(step("s", attempt=2))
    found = view.get("s")
    assert found is not None
    assert (found.status, found.attempt) == (OperationStatus.STARTED, 2)


def test_a_revoked_view_and_its_forks_record_nothing(store: WatchedStore, journal: Journal) -> None:
    outer = journal.view("outer")
    inner = outer.fork().fork()
    other = journal.view("other")
    inner.record(step("a"))
    outer.revoke()
    for call in (lambda: inner.record(step("b")), inner.flush, inner.barrier, outer.flush, inner.settle):
        with pytest.raises(OrphanedBranch):
            call()
    other.record(step("c"))
    other.flush()
    assert [record.update.operation_id for record in store.read("x")] == [EXECUTION_ID, "a", "c"]


def test_all_that_has_arrived_is_written_in_one_transaction(store: WatchedStore, journal: Journal) -> None:
    store.gate.clear()
    store.writing.clear()
    view = journal.view("v")

    def work(name: str) -> None:
        view.record(step(name))
        view.flush()

    leader = threading.Thread(target=work, args=("leader",))
    leader.start()
    assert store.writing.wait(30)
    followers = [threading.Thread(target=work, args=(str(index),)) for index in range(8)]
    for thread in followers:
        thread.start()
    wait_for(lambda: len(journal.operations()) == 10)
    store.gate.set()
    for thread in (leader, *followers):
        thread.join(30)
    assert store.sizes == [1, 1, 8]


def test_threads_that_record_at_once_leave_a_valid_log(store: WatchedStore, journal: Journal) -> None:
    def work(name: str) -> None:
        view = journal.view(name)
        for index in range(50):
            view.record(step(f"{name}-{index}"))
            view.flush()
            view.record(step(f"{name}-{index}", Action.SUCCEED))
            view.flush()

    threads = [threading.Thread(target=work, args=(str(index),)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [record.seq for record in store.read("x")] == list(range(1, 602))


def test_a_failed_write_breaks_the_journal_for_good(store: WatchedStore, journal: Journal) -> None:
    view = journal.view("v")
    view.record(step("a"))
    store.error = StoreError("disk full")
    for call in (view.flush, view.flush, lambda: view.record(step("b")), view.barrier, view.settle):
        with pytest.raises(StoreFailure, match="disk full") as caught:
            call()
        assert caught.value.error is store.error
    store.error = None
    with pytest.raises(StoreFailure):
        view.flush()
    assert len(list(store.read("x"))) == 1


@pytest.mark.parametrize("written", [True, False])
def test_an_interrupted_write_leaves_no_gap(store: WatchedStore, journal: Journal, written: bool) -> None:
    view = journal.view("v")
    view.record(step("a"))
    store.error_after, store.error = (KeyboardInterrupt(), None) if written else (None, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        view.flush()
    store.error = store.error_after = None
    view.record(step("b"))
    view.flush()
    assert [record.update.operation_id for record in store.read("x")] == [EXECUTION_ID, "a", "b"]


def test_what_nobody_flushes_is_committed_soon(store: WatchedStore) -> None:
    store.flush_age = FLUSH_AGE
    journal = begun(store)
    for name in ("a", "b"):
        journal.view("v").record(step(name))
        wait_for(lambda name=name: any(record.update.operation_id == name for record in store.read("x")))
    journal.close()


def test_the_flusher_ends_with_the_journal(store: WatchedStore) -> None:
    before = set(threading.enumerate())
    journal = begun(store)
    assert set(threading.enumerate()) > before
    journal.append((step("a"),))
    journal.close()
    assert set(threading.enumerate()) == before
    assert len(list(store.read("x"))) == 2
    with pytest.raises(OrphanedBranch):
        journal.append((step("b"),))


def test_async_flushes_wait_only_for_a_full_window(store: WatchedStore) -> None:
    journal = begun(store, mode="async")
    view = journal.view("v")
    store.gate.clear()
    store.writing.clear()
    for index in range(WINDOW_RECORDS):
        view.record(step(str(index)))
    view.flush()
    assert not store.writing.is_set()
    view.record(step("one more"))
    flushing = threading.Thread(target=view.flush)
    flushing.start()
    assert store.writing.wait(30)
    assert flushing.is_alive()
    store.gate.set()
    flushing.join(30)
    assert len(list(store.read("x"))) == WINDOW_RECORDS + 2
    view.record(step("large", payload="x" * (1 << 21)))
    view.flush()
    assert len(list(store.read("x"))) == WINDOW_RECORDS + 3
    view.record(step("last"))
    view.barrier()
    assert len(list(store.read("x"))) == WINDOW_RECORDS + 4
    journal.close()


# --- time


def test_a_wait_ends_when_it_is_due_and_only_the_rest_after_a_restart(
    store: WatchedStore, journal: Journal, clock: ManualClock
) -> None:
    journal.append((operation("w", OperationType.WAIT, delay=60.0),))
    journal.close()
    clock.time += 45
    again = Journal.open(store, "x", clock)
    assert again.next_due() == 15
    clock.time += 15
    assert again.next_due() == 0
    again.settle()
    assert again.is_due("w")
    assert again.next_due() is None
    again.close()
    assert [record.update.action for record in store.read("x")][-1] is Action.SUCCEED


def test_a_timer_below_what_has_ended_is_left_alone(journal: Journal, clock: ManualClock) -> None:
    context = operation("c", OperationType.CONTEXT)
    journal.append((context, operation("w", OperationType.WAIT, delay=60.0, parent_id="c")))
    journal.append((context._replace(action=Action.SUCCEED),))
    assert journal.next_due() is None
    clock.time += 100
    journal.settle()
    assert not journal.is_due("w")


def test_what_one_view_has_settled_wakes_those_who_wait_behind_another(journal: Journal, clock: ManualClock) -> None:
    one, other = journal.view("one"), journal.view("other")
    journal.append((operation("w", OperationType.WAIT, delay=60.0),))
    clock.time += 60
    one.settle()
    assert one.next_due() is None
    assert other.next_due() == 0
    other.settle()
    assert other.is_due("w")
    assert other.next_due() is None


def test_pause_skips_to_the_next_due_time(store: WatchedStore) -> None:
    journal = begun(store, SkippingClock())
    journal.append((operation("w", OperationType.WAIT, delay=3600.0),))
    before = time.monotonic()
    while not journal.is_due("w"):
        assert journal.pause(threading.Event())
        journal.settle()
    assert time.monotonic() - before < 60
    assert not journal.pause(threading.Event())
    journal.close()


# --- callbacks


def callback(id_: str = "c", **fields: Any) -> Update:
    details = {DETAIL_CALLBACK_ID: f"{id_}-callback"} | fields.pop("details", {})
    return operation(id_, OperationType.CALLBACK, details=details, **fields)


@pytest.mark.parametrize(
    ("signal", "status"),
    [
        (SignalRecord("succeed", "c-callback", payload="yes"), OperationStatus.SUCCEEDED),
        (SignalRecord("fail", "c-callback", error=ErrorObject("no")), OperationStatus.FAILED),
        (SignalRecord("heartbeat", "c-callback"), OperationStatus.STARTED),
        (SignalRecord("succeed", "unknown"), OperationStatus.STARTED),
    ],
)
def test_signals_are_taken_up_and_discarded(
    store: WatchedStore, journal: Journal, signal: SignalRecord, status: OperationStatus
) -> None:
    journal.append((callback(),))
    store.post("x", signal)
    journal.look_now()
    journal.settle()
    found = journal.get("c")
    assert found is not None
    assert (found.status, found.payload, found.error) == (
        status,
        signal.payload if status.is_terminal else None,
        signal.error,
    )
    assert store.signals("x") == []


def test_the_first_of_two_answers_counts(store: WatchedStore, journal: Journal) -> None:
    journal.append((callback(),))
    for payload in ("first", "second"):
        store.post("x", SignalRecord("succeed", "c-callback", payload=payload))
    journal.look_now()
    journal.settle()
    found = journal.get("c")
    assert found is not None
    assert found.payload == "first"
    assert store.signals("x") == []


def test_signals_stay_in_the_store_until_what_they_said_is_committed(store: WatchedStore, journal: Journal) -> None:
    journal.append((callback(),))
    journal.barrier()
    store.post("x", SignalRecord("succeed", "c-callback"))
    store.error = StoreError("disk full")
    journal.look_now()
    with pytest.raises(StoreFailure):
        journal.settle()
    assert len(store.signals("x")) == 1


def test_while_a_callback_is_open_the_store_is_asked_often(journal: Journal) -> None:
    assert journal.next_due() is None
    journal.append((callback(delay=3600.0),))
    assert journal.next_due() == POLL


def test_a_callback_times_out(journal: Journal, clock: ManualClock) -> None:
    journal.append((callback(delay=30.0),))
    clock.time += 30
    journal.settle()
    found = journal.get("c")
    assert found is not None
    assert found.status is OperationStatus.TIMED_OUT
    assert found.error is not None
    assert "timed out" in str(found.error.message)


def test_a_heartbeat_gives_a_whole_interval_more(store: WatchedStore, journal: Journal, clock: ManualClock) -> None:
    journal.append((callback(delay=100.0, details={DETAIL_HEARTBEAT: 30}),))
    clock.time += 29
    store.post("x", SignalRecord("heartbeat", "c-callback"))
    journal.look_now()
    journal.settle()
    clock.time += 29
    journal.settle()
    assert not journal.is_due("c")
    clock.time += 1
    journal.settle()
    found = journal.get("c")
    assert found is not None
    assert found.error is not None
    assert "heartbeat" in str(found.error.message)


def test_a_request_to_stop_ends_the_runs_of_all_views(store: WatchedStore, journal: Journal) -> None:
    view = journal.view("v")
    store.post("x", SignalRecord("stop"))
    journal.look_now()
    with pytest.raises(OrphanedBranch):
        view.settle()
    assert journal.stop_requested is not None


# --- clocks


def test_a_skipping_clock_skips_waits() -> None:
    clock = SkippingClock()
    before = clock.now()
    clock.wait(3600, threading.Event())
    assert 3600 <= clock.now() - before < 3660


def test_a_skipping_clock_does_not_skip_when_there_is_news() -> None:
    clock = SkippingClock()
    news = threading.Event()
    news.set()
    before = clock.now()
    clock.wait(3600, news)
    clock.listen(None, 3600, 0.2, news)
    assert clock.now() - before < 60


def test_a_skipping_clock_skips_to_a_timeout_once_its_patience_is_over() -> None:
    before = SkippingClock().now()
    for patience, skipped in ((0.0, 3600), (None, 0)):
        clock = SkippingClock(patience)
        clock.listen(None, 3600, 0.001, threading.Event())
        assert skipped <= clock.now() - before < skipped + 60
