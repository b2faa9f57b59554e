"""The generators of a worker are seeded for each branch, whenever they come to be imported."""

from __future__ import annotations

import importlib
import random
import sys
from importlib.machinery import SourceFileLoader

import pytest

from durapool.operations.ownership import seed_of
from durapool.worker.imports import Imports
from durapool.worker.seeding import Seeder

EXPECTED = random.Random(seed_of("nightly", "branch")).random()


def test_a_module_that_a_branch_imports_is_seeded_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "random")
    imports = Imports()
    monkeypatch.setattr(sys, "meta_path", [imports, *sys.meta_path])
    Seeder(imports).begin("nightly", "branch")
    imported = importlib.import_module("random")
    assert imported is not random
    assert imported.random() == EXPECTED
    assert imported.__spec__ is not None
    assert isinstance(imported.__spec__.loader, SourceFileLoader)  # as if nobody had watched


def test_a_module_that_is_there_is_seeded_when_a_branch_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "random")
    fresh = importlib.import_module("random")
    seeder = Seeder(Imports())
    for _ in range(2):
        seeder.begin("nightly", "branch")
        assert fresh.random() == EXPECTED
