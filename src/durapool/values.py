"""The standard library's `dataclass`, cheaper to define: what is the same for every class is not made anew for each.

`dataclasses` compiles six methods a frozen class, 0.4 ms, and who starts a pool waits while the supervisor defines all
classes of a worker. Here `__repr__`, `__eq__` and `__hash__` are three functions that all classes share, which halves
that. In all else the classes are what `dataclasses` makes.
"""

from __future__ import annotations

import dataclasses
import reprlib
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]


@reprlib.recursive_repr()
def _repr(self: Any) -> str:
    shown = (field.name for field in dataclasses.fields(self) if field.repr)
    return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


def _compared(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, field.name) for field in dataclasses.fields(self) if field.compare)


def _eq(self: Any, other: object) -> Any:
    return _compared(self) == _compared(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(_compared(self))


if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls=None, /, *, frozen=False, repr=True, eq=True, order=False, **options):
        """As `dataclasses.dataclass`, without its `unsafe_hash`."""
        if cls is None:
            return lambda cls: dataclass(cls, frozen=frozen, repr=repr, eq=eq, order=order, **options)
        own = set(vars(cls))
        made = dataclasses.dataclass(frozen=frozen, repr=False, eq=order, order=order, **options)(cls)
        if repr and "__repr__" not in own:
            made.__repr__ = _repr
        if eq and not order:
            if "__eq__" not in own:
                made.__eq__ = _eq
            if vars(cls).get("__hash__") is None:  # a class with an __eq__ of its own has None there
                made.__hash__ = _hash if frozen else None
        return made
