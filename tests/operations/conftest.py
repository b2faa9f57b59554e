"""Fixtures of the operations' tests."""

from __future__ import annotations

import pytest
from operation_tools import World


@pytest.fixture
def world() -> World:
    """A new execution in a store without limits."""
    return World()
