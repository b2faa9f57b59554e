"""The way back from what `pickling` makes. Light: most workers need no more, and `pickling` brings cloudpickle."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterable
from typing import Any

from durapool.exceptions import SerDesError


def load_function(data: bytes | memoryview, buffers: Iterable[memoryview] = ()) -> Any:
    """What `dump_function` dumped. Only ever called on bytes from our own parent."""
    return pickle.loads(data, buffers=buffers)


def load_value(data: bytes | memoryview, buffers: Iterable[memoryview] = ()) -> Any:
    """What `dump_value` dumped. Only for bytes from the user's own store or our own children."""
    return pickle.loads(data, buffers=buffers)


by_value: dict[tuple[str, str], type] = {}
"""Classes that `pickling` has sent by value, by module and qualified name."""


_in_worker = False


def enter_worker() -> None:
    """From now on this process is a worker: its functions came by value, and their classes with them."""
    global _in_worker
    _in_worker = True


def find_class(module_name: str, qualname: str) -> type:
    """The class of that name: the module's own where it has it, else the one that came by value with a function.

    In a worker it is the other way round: a forked one has the parent's modules too, but its functions came with
    classes of their own, and must meet these.
    """
    places = (_travelled_class, _class_of_module) if _in_worker else (_class_of_module, _travelled_class)
    for find in places:
        found = find(module_name, qualname)
        if found is not None:
            return found
    raise SerDesError(
        f"a recorded value is of class {module_name}.{qualname}, which this program does not define. "
        "Define it at module level under the same name, or record plain values"
    )


def _class_of_module(module_name: str, qualname: str) -> type | None:
    import importlib.util  # only here: most runs record no value of a class

    found: Any = sys.modules.get(module_name)
    if found is None and importlib.util.find_spec(module_name.partition(".")[0]) is not None:
        found = importlib.import_module(module_name)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) else None


def _travelled_class(module_name: str, qualname: str) -> type | None:
    """The last that came, for a notebook may have defined it anew."""
    cloudpickle = sys.modules.get("cloudpickle.cloudpickle")  # no class has come by value before it was needed
    for candidate in reversed(list(cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS if cloudpickle else ())):
        if candidate.__module__ == module_name and candidate.__qualname__ == qualname:
            return candidate  # type: ignore[no-any-return]  # cloudpickle has no types
    return by_value.get((module_name, qualname))
