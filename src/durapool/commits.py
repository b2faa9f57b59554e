"""Group commit: whoever commits first takes along all that has been staged, in one transaction of the store.

    journal ------> pending ----+--barrier / flush--> store.write(all pending) --> committed
                                +--flusher, 20 ms --^

Leader and follower: who gets the commit lock writes for all; who waited for it finds its own records committed. A
failed write breaks the log for good: nothing that was acknowledged is lost, and nothing is acknowledged any more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from durapool.exceptions import StoreError, StoreFailure
from durapool.flag import Flag
from durapool.records import Record, Update

if TYPE_CHECKING:
    from durapool.stores.base import Store

Mode = Literal["sync", "async"]

WINDOW_RECORDS = 1000  # mode async: so many may be pending before a flush waits
WINDOW_BYTES = 1 << 20
FLUSH_AGE = 0.02  # seconds that a record may stay pending when nobody flushes
_BASE_BYTES = 200  # what a record takes beside its payload, about


class CommitLog:
    """Writes records that are in line. `lock` is the journal's."""

    def __init__(self, store: Store, execution_id: str, mode: Mode, lock: threading.Lock) -> None:
        self._store = store
        self._execution_id = execution_id
        self._has_window = mode == "async"  # else whoever flushes waits, however little is pending
        self._lock = lock
        self._flush_age = getattr(store, "flush_age", FLUSH_AGE)  # a store with costly writes may have its own
        self._commit_lock = threading.Lock()  # one write at a time; taken before `lock`
        self._pending: list[Record] = []
        self._pending_bytes = 0  # of their payloads; counted where there is a window to fill
        self._pending_since = 0.0  # monotonic
        self._drained = 0  # seq of the last record that left _pending
        self._committed = 0  # seq of the last record that the store has
        self._broken: StoreError | None = None
        self._flusher: _Flusher | None = None

    def start_after(self, seq: int) -> None:
        """The store holds so many records already."""
        self._drained = self._committed = seq

    def check(self) -> None:
        """Raise StoreFailure if a write has failed."""
        if self._broken is not None:
            raise StoreFailure(self._broken)

    def line(self) -> tuple[list[Record], int]:
        """What is in line, and the number of the next one. The lock is held until all that comes now is behind it.

        To append one is the one step that Ctrl-C cannot split: a record is numbered and staged, or neither.
        """
        pending = self._pending
        if pending:
            return pending, pending[-1][0] + 1
        self._pending_since = time.monotonic()
        return pending, self._drained + 1

    def count_bytes(self, updates: Sequence[Update]) -> None:
        """What the payloads of those that were put in line take, where there is a window to fill."""
        if self._has_window:
            for update in updates:
                self._pending_bytes += len(update[7] or "")
                if (error := update[8]) is not None:
                    self._pending_bytes += len(error.pickled or "")

    @property
    def _is_full(self) -> bool:
        pending = len(self._pending)
        return pending > WINDOW_RECORDS or self._pending_bytes + pending * _BASE_BYTES > WINDOW_BYTES

    def wake_flusher(self) -> None:
        """Something was staged; the lock is held."""
        if self._flusher is None:
            self._flusher = _Flusher(self, self._flush_age)
            self._flusher.start()
        if not self._flusher.awake:
            self._flusher.wake()

    def flush(self) -> None:
        """Wait until all that was staged is committed; in mode async only when the window is full."""
        if not self._has_window or self._is_full:
            self.barrier()
        else:
            self.check()

    def barrier(self) -> None:
        """Wait until all that was staged is committed.

        Raises:
            StoreFailure: it could not be.
        """
        pending = self._pending  # once: whoever commits puts an empty one in its place, and has set _drained before
        staged = pending[-1][0] if pending else self._drained
        if self._committed < staged:
            with self._commit_lock:
                if self._committed < staged:
                    self._commit()
        else:
            self.check()

    def commit_older_than(self, age: float) -> bool:
        """Commit if something has been pending for `age` seconds; whether the flusher should look again."""
        if self._pending and time.monotonic() - self._pending_since >= age:
            self.barrier()
        with self._lock:
            if not self._pending and self._flusher is not None:
                self._flusher.rest()
            return bool(self._pending)

    def _commit(self) -> None:
        """Write all that is pending. The commit lock is held."""
        self.check()
        batch: list[Record] = []
        try:
            with self._lock:
                batch = self._pending
                self._drained = batch[-1].seq
                self._pending, self._pending_bytes = [], 0
            self._store.write(self._execution_id, batch)
        except StoreError as error:
            self._broken = error
            raise StoreFailure(error) from error
        except Exception as error:
            self._broken = StoreError(f"{self._store.label} cannot be written: {type(error).__name__}: {error}")
            raise StoreFailure(self._broken) from error
        except BaseException as interruption:
            interruption.__traceback__ = None  # its frames may hold the store's lock, and the store is asked next
            if batch and batch is not self._pending:
                self._after_interruption(batch)
            raise
        self._committed = batch[-1].seq

    def _after_interruption(self, batch: list[Record]) -> None:
        """Ctrl-C came while the store wrote: ask it whether it did; if not, the batch is pending again."""
        self._broken = StoreError(f"{self._store.label}: a write was interrupted")  # until that is known
        try:
            summary = self._store.find(self._execution_id)
        except StoreError as error:
            self._broken = error
            return
        if summary is not None and summary.records >= batch[-1].seq:
            self._committed = batch[-1].seq
        else:
            with self._lock:
                self._pending[:0] = batch
        self._broken = None

    def close(self) -> None:
        """Commit what is pending, if the store still takes it, and end the flusher."""
        try:
            self.barrier()
        except StoreFailure:
            pass  # whoever flushed has been told; what nobody flushed was promised to nobody
        finally:
            if self._flusher is not None:
                self._flusher.end()
                self._flusher = None  # it knows this log: a circle would keep all records until the collector comes


class _Flusher:
    """The thread that commits what nobody flushes, so that a step that runs for an hour is seen to have started.

    Started by the first update; it sleeps while nothing is pending and ends with its log.
    """

    def __init__(self, log: CommitLog, age: float) -> None:
        self._log = log
        self.awake = False  # written with the log's lock held
        self._age = age
        self._work = Flag()
        self._ended = Flag()
        self._thread = threading.Thread(target=self._run, name="durapool-flusher", daemon=True)

    def start(self) -> None:
        """Apart from the constructor, so that one whose start Ctrl-C cuts short can still be ended."""
        self._thread.start()

    def wake(self) -> None:
        """Something is pending. The log's lock is held, here and in `rest`."""
        self.awake = True
        self._work.set()

    def rest(self) -> None:
        """Nothing is pending."""
        self.awake = False

    def end(self) -> None:
        """Stop, and wait for it."""
        self._ended.set()
        self._work.set()
        if self._thread is not threading.current_thread() and self._thread.is_alive():
            self._thread.join(1.0)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._work.wait()
            self._work.clear()
            try:
                while not self._ended.wait(self._age) and self._log.commit_older_than(self._age):
                    pass
            except StoreFailure:
                return  # the next one who records or flushes is told
