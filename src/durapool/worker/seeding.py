"""Random numbers in workers: the same for a branch in every run of it, and other ones for every branch.

Forked workers otherwise all draw the same numbers from numpy. numpy is imported by the user's code, perhaps only
inside a branch, so its state is also seeded at the moment when `numpy.random` has been imported.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from importlib.abc import Loader  # slow to import: it brings tempfile, shutil, pathlib and urllib


class _Seeding:
    """Loads `numpy.random` as its own loader would, then seeds it."""

    def __init__(self, loader: Loader, finder: NumpySeeder) -> None:
        self._loader = loader
        self._finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._finder.seed_numpy()


class NumpySeeder:
    """Seeds the global generators; installed once in each worker."""

    def __init__(self) -> None:
        self._seed = 0

    def install(self) -> NumpySeeder:
        """Watch for the import of numpy."""
        sys.meta_path.insert(0, self)
        return self

    def seed(self, value: int) -> None:
        """A branch begins."""
        self._seed = value
        random.seed(value)
        self.seed_numpy()

    def seed_numpy(self) -> None:
        """numpy's legacy global state, if numpy is there."""
        numpy_random = sys.modules.get("numpy.random")
        if numpy_random is not None and hasattr(numpy_random, "seed"):
            numpy_random.seed(self._seed % 2**32)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Only for `numpy.random`: its own spec, with the loader wrapped."""
        if fullname != "numpy.random":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Loader", _Seeding(spec.loader, self))  # it is used by its two methods alone
        return spec
