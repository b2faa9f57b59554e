"""The examples import each other by name, as they do when one of them is run."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports an example by name; skips the test where an extra that it needs is not installed."""

    def load(name: str) -> ModuleType:
        monkeypatch.syspath_prepend(str(EXAMPLES))
        monkeypatch.delitem(sys.modules, name, raising=False)
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name in ("numpy", "sklearn"):
                pytest.skip(f"{name} needs {error.name}: pip install 'durapool[examples]'")
            raise

    return load
