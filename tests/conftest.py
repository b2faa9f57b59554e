"""What all tests share: the executors that semantics are checked under."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

EXECUTORS = ("thread", "process:2")


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> str:
    """Each executor in turn: whatever uses this fixture must not see a difference."""
    return str(request.param)
