"""A pool on a cluster that is within this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fake_engine import FakeEngine

import durapool.cluster.engine
import durapool.executors
from durapool.executors import ClusterExecutor
from durapool.pool import registry


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    """What executors on a cluster connect to in this test."""
    made = FakeEngine()

    def connect(executor: ClusterExecutor) -> FakeEngine:
        return made

    registry.close_all()
    monkeypatch.setattr(durapool.cluster.engine, "open_engine", connect)
    monkeypatch.setattr(durapool.executors, "_with_extra", lambda executor, module, extra: executor)
    yield made
    registry.close_all()
