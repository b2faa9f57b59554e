"""The stores that every contract test runs over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from store_tools import start

from durapool.records import Record
from durapool.stores import MemoryStore, SQLiteStore, Store, tail


class RunningStore(SQLiteStore):
    """As a run uses it: whoever writes to an execution holds its lock, until it is deleted or locked by the test."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._runs: dict[str, ExitStack] = {}

    def write(self, execution_id: str, records: Sequence[Record]) -> None:
        if execution_id not in self._runs:
            self._runs[execution_id] = ExitStack()
            self._runs[execution_id].enter_context(super().lock(execution_id))
        super().write(execution_id, records)

    def _end_run(self, execution_id: str) -> None:
        if execution_id in self._runs:
            self._runs.pop(execution_id).close()

    def lock(self, execution_id: str) -> AbstractContextManager[None]:
        self._end_run(execution_id)
        return super().lock(execution_id)

    def close(self) -> None:
        for execution_id in list(self._runs):
            self._end_run(execution_id)
        super().close()


@pytest.fixture(params=["sqlite", "running", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    makers = {"sqlite": SQLiteStore, "running": RunningStore, "memory": lambda _: MemoryStore()}
    opened: Store = makers[request.param](tmp_path / "journal.db")
    yield opened
    opened.close()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[SQLiteStore]:
    opened = SQLiteStore(tmp_path / "journal.db")
    yield opened
    opened.close()


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
