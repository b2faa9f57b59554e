"""Random numbers in workers: the same for a branch in every run of it, and other ones for every branch.

Forked workers otherwise all draw the same numbers from numpy. `random` and numpy are imported by the user's code,
perhaps only inside a branch, so their state is also seeded at the moment when they have been imported.
"""

from __future__ import annotations

import sys
from types import ModuleType

from durapool.operations.ownership import seed_of
from durapool.worker.imports import Imports

_SEEDED = ("random", "numpy.random")


class Seeder:
    """Seeds the global generators; one in each worker."""

    def __init__(self, imports: Imports) -> None:
        self._branch: tuple[str, str] | None = None  # execution and operation; None before the first one
        for name in _SEEDED:
            imports.when(name, self.seed)

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
