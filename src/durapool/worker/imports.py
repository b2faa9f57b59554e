"""What a worker does when a module is imported, at the start or only inside a branch: random numbers, logging."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from importlib.abc import Loader  # slow to import: it brings tempfile, shutil, pathlib and urllib

Action = Callable[[ModuleType], None]


class Imports:
    """Watches for imports; one in each worker, ahead of all that finds modules (`sys.meta_path`)."""

    def __init__(self) -> None:
        self._actions: dict[str, list[Action]] = {}

    def install(self) -> Imports:
        """Watch from now on."""
        sys.meta_path.insert(0, self)
        return self

    def when(self, name: str, action: Action) -> None:
        """Call `action` with the module each time that it is imported, and now if it is there."""
        self._actions.setdefault(name, []).append(action)
        if name in sys.modules:
            action(sys.modules[name])

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Only for what is watched for: its own spec, with the loader wrapped."""
        actions = self._actions.get(fullname)
        if actions is None:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Loader", _Watched(spec.loader, actions))  # it is used by its two methods alone
        return spec


class _Watched:
    """Loads a module as its own loader would, then calls the actions."""

    def __init__(self, loader: Loader, actions: Sequence[Action]) -> None:
        self._loader = loader
        self._actions = actions

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        for action in self._actions:
            action(module)
