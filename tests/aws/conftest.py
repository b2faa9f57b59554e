"""What the tests against the service share."""

from __future__ import annotations

import pytest

from durapool.stores import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()
