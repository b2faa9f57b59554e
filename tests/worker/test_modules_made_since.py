"""Modules that were made since their directory was looked at are found by a worker."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

from durapool.worker.surroundings import look_anew


def test_a_module_that_was_made_since_is_found_by_a_look_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("made_since")
    before = tmp_path.stat().st_mtime_ns
    (tmp_path / "made_since.py").write_text("value = 7\n")
    os.utime(tmp_path, ns=(before, before))  # as within one tick of the file system's clock
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("made_since")
    look_anew()
    assert importlib.import_module("made_since").value == 7
    del sys.modules["made_since"]
