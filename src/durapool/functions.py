"""Functions that no worker can import, as they travel: their code, and a short way for plain ones.

Code travels as marshal writes it, made once for all functions that share it, and read once by each worker. So it also
keeps the name of its file, which cloudpickle drops: tracebacks, warnings and coverage.py go by it.

A function is plain where it captures nothing but numbers, text and bytes, and uses no global of its module: most of the
lambdas that a batch is made of. It is its code and these values, and no other object can be reached from it. So it
needs none of the care that cloudpickle takes, nor a pickle: its parts travel as they are.
"""

from __future__ import annotations

import builtins
import marshal
from operator import attrgetter
from types import CellType, CodeType, FunctionType
from typing import Any, NamedTuple, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MOST_CODES = 512  # that are remembered, here and in a worker
LARGEST = 4096  # bytes or characters of a captured value; what is larger goes the way of large data
_PLAIN = frozenset({int, str, float, bool, bytes, type(None)})
_INTEGERS = range(-(2**63), 2**64)  # that msgpack takes

_new = tuple.__new__  # twice as fast as to call a NamedTuple, which goes through a function

_codes: dict[bytes, Any] = {}  # what marshal has read, in a worker
_marshalled: dict[int, tuple[CodeType, bytes]] = {}  # by id; the code is kept, so that its id is not used again
_templates: dict[int, _Template] = {}  # as well


class PlainFunction(NamedTuple):
    """A plain function on its way. Its parts are what msgpack takes."""

    template: bytes  # its code and what its globals say of its module, by marshal
    defaults: tuple[Any, ...]
    captured: list[Any]


class _Template(NamedTuple):
    """What the plain functions of one code have in common."""

    code: CodeType
    home: dict[str, Any]  # the globals of their module
    names: tuple[str, ...]  # of the globals and builtins that they use, functions within them too
    traits: tuple[Any, ...]  # what `_traits` finds on them: what their code says, and nothing else
    data: bytes


_TRAITS = "__qualname__", "__name__", "__module__", "__kwdefaults__", "__doc__", "__annotations__", "__dict__"
_traits = attrgetter(*_TRAITS)  # of a function, in one step


def marshalled(code: CodeType) -> bytes:
    """The code as bytes, for `read_marshal`. Raises ValueError where an object of another kind is in it."""
    known = _marshalled.get(id(code))
    if known is None:
        known = _remember(_marshalled, id(code), (code, marshal.dumps(code)))
    return known[1]


def read_marshal(data: bytes) -> Any:
    """What marshal wrote, by the same interpreter. Code never changes, so branches may share it."""
    found = _codes.get(data)
    return _remember(_codes, data, marshal.loads(data)) if found is None else found


def plain_parts(function: Any) -> PlainFunction | None:
    """The parts of a plain function; None for any other object."""
    if type(function) is not FunctionType or "<" not in function.__qualname__:
        return None  # it may be one that a worker can import
    code, home, defaults = function.__code__, function.__globals__, function.__defaults__ or ()
    try:
        template = _templates.get(id(code)) or _remember(_templates, id(code), _template(code, home))
        captured = [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # a constant that marshal does not take, or a variable that is not set yet
        return None
    _, its_home, names, traits, data = template
    if (
        its_home is home
        and home.keys().isdisjoint(names)
        and all(map(_is_plain, captured))
        and all(map(_is_plain, defaults))
        and _traits(function) == traits
    ):
        return _new(PlainFunction, (data, defaults, captured))
    return None


def is_plain_parts(part: Any) -> bool:
    """Whether what has arrived is a plain function: making it imports nothing."""
    return isinstance(part, list) and len(part) == len(PlainFunction._fields)


def _template(code: CodeType, home: dict[str, Any]) -> _Template:
    from cloudpickle.cloudpickle import _extract_code_globals  # no public name; only here, where functions are sent

    place = home.get("__name__"), home.get("__package__"), home.get("__file__")
    traits: tuple[Any, ...] = code.co_qualname, code.co_name, place[0], None, None, {}, {}
    return _Template(code, home, tuple(_extract_code_globals(code)), traits, marshal.dumps((code, place)))


def _is_plain(value: Any) -> bool:
    kind = type(value)
    if kind is int:
        return value in _INTEGERS
    return kind in _PLAIN and (kind not in (str, bytes) or len(value) <= LARGEST)


def plain_function(template: bytes, defaults: list[Any], captured: list[Any]) -> FunctionType:
    """A plain function from its parts. Its globals are its own, as those of every function that comes by value."""
    code, (name, package, file) = read_marshal(template)
    home = {"__builtins__": builtins, "__name__": name, "__package__": package, "__file__": file}
    return FunctionType(code, home, None, tuple(defaults) or None, tuple(map(CellType, captured)) or None)


def _remember(cache: dict[K, V], key: K, value: V) -> V:
    if len(cache) >= MOST_CODES:
        cache.clear()
    cache[key] = value
    return value
