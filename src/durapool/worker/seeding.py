"""Random numbers in workers: the same for a branch in every run of it, and other ones for every branch.

Forked workers otherwise all draw the same numbers from numpy. `random` and numpy are imported by the user's code,
perhaps only inside a branch, so their state is also seeded at the moment when they have been imported.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, cast

from durapool.operations.ownership import seed_of

if TYPE_CHECKING:
    from importlib.abc import Loader  # slow to import: it brings tempfile, shutil, pathlib and urllib


_SEEDED = ("random", "numpy.random")


class _Seeding:
    """Loads a module as its own loader would, then seeds it."""

    def __init__(self, loader: Loader, seeder: Seeder) -> None:
        self._loader = loader
        self._seeder = seeder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._seeder.seed(module)


class Seeder:
    """Seeds the global generators; installed once in each worker."""

    def __init__(self) -> None:
        self._branch: tuple[str, str] | None = None  # execution and operation; None before the first one

    def install(self) -> Seeder:
        """Watch for the imports."""
        sys.meta_path.insert(0, self)
        return self

    def begin(self, execution_id: str, operation_id: str) -> None:
        """A branch begins."""
        self._branch = execution_id, operation_id
        if sys.modules.keys().isdisjoint(_SEEDED):
            return
        for name in _SEEDED:
            module = sys.modules.get(name)
            if module is not None:
                self.seed(module)

    def seed(self, module: ModuleType) -> None:
        """Its global state, of numpy the legacy one."""
        if self._branch is not None and hasattr(module, "seed"):
            value = seed_of(*self._branch)
            module.seed(value if module.__name__ == "random" else value % 2**32)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Only for what is seeded: its own spec, with the loader wrapped."""
        if fullname not in _SEEDED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Loader", _Seeding(spec.loader, self))  # it is used by its two methods alone
        return spec
