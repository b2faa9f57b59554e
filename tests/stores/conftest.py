"""The stores that every contract test runs over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from durapool.stores import MemoryStore, SQLiteStore, Store


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened: Store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "journal.db")
    yield opened
    opened.close()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[SQLiteStore]:
    opened = SQLiteStore(tmp_path / "journal.db")
    yield opened
    opened.close()
