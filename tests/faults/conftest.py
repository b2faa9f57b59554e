"""What tests of the process executor's faults share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from durapool.pool import registry


@pytest.fixture
def fresh_pools() -> Iterator[None]:
    """No pool of an earlier test, and none left for a later one."""
    registry.close_all()
    yield
    registry.close_all()
