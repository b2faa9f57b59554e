"""Pickling of functions that go to workers and of values that are recorded.

Functions travel by cloudpickle: by reference when the worker will find the same module at the same place, by value
otherwise (`__main__`, notebooks, a file given to the command line). Values are recorded by plain pickle, classes by
reference, so that a replay in another process meets the same class; a worker that has the class only by value
finds it by module and qualified name among those that came with its functions.
"""

from __future__ import annotations

import copyreg
import io
import os
import pickle
import sys
import types
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import cloudpickle
import cloudpickle.cloudpickle as cloudpickle_internals

from durapool.exceptions import SerDesError
from durapool.executors import PooledExecutor, ProcessExecutor
from durapool.functions import marshalled, read_marshal
from durapool.unpickling import by_value, find_class
from durapool.values import dataclass

PROTOCOL = 5
APART = 64 * 1024  # bytes of a buffer from which it goes beside the pickle


@dataclass(frozen=True, slots=True)
class Pickled:
    """A pickle that was not copied together: its stream in pieces, and the large buffers of the objects beside it.

    Both are memory of the objects themselves: to be written somewhere before they change.
    """

    stream: Sequence[bytes]
    buffers: Sequence[memoryview]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self.stream)) + sum(buffer.nbytes for buffer in self.buffers)


def dump_function(function: Any, what: str, pickler: type[FunctionPickler] | None = None) -> bytes:
    """A function, or another object that goes to a worker, with all that it captures.

    Args:
        function: the object.
        what: what errors call it.
        pickler: None for workers on this machine.

    Raises:
        SerDesError: something captured cannot be pickled; the message names variable, type and function.
    """
    buffer = io.BytesIO()
    try:
        (pickler or FunctionPickler)(buffer, protocol=PROTOCOL).dump(function)
    except Exception as error:
        raise SerDesError(f"{what} cannot be sent to a worker: {_blame_safely(function) or error}") from error
    return buffer.getvalue()


def dump_function_apart(function: Any, what: str, pickler: type[FunctionPickler] | None = None) -> Pickled:
    """As `dump_function`, with the large buffers of arrays beside the pickle."""
    try:
        return _dump_apart(pickler or FunctionPickler, function)
    except Exception as error:
        raise SerDesError(f"{what} cannot be sent to a worker: {_blame_safely(function) or error}") from error


def _dump_apart(pickler: Callable[..., Any], value: Any) -> Pickled:
    stream: list[bytes] = []
    buffers: list[memoryview] = []

    def stays_inside(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:
            return True  # not contiguous: the pickler says what it thinks of it
        if raw.nbytes < APART:
            return True
        buffers.append(raw)
        return False

    pickler(SimpleNamespace(write=stream.append), PROTOCOL, stays_inside).dump(value)
    return Pickled(stream, buffers)


class FunctionPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """cloudpickle, and by value whatever a worker could not import from the same place.

    Code travels as marshal writes it; see `functions`.
    """

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, types.CodeType):
            return _reduced_code(obj)
        if isinstance(obj, types.FunctionType):
            if obj in _HELPERS:
                return NotImplemented
            if not self.finds(obj.__module__):
                return self._dynamic_function_reduce(obj)
        elif isinstance(obj, type) and not self.finds(obj.__module__):
            return cloudpickle_internals._dynamic_class_reduce(obj)
        return super().reducer_override(obj)

    @staticmethod
    def finds(module_name: str | None) -> bool:
        """Whether the worker will import the same module, so that what is of it goes by reference."""
        return is_importable(module_name)


class TravellingPickler(FunctionPickler):
    """For workers on other machines, which have what is installed here, but not the program's own modules."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, types.ModuleType) and not self.finds(obj.__name__):
            # made first and filled then: its functions may refer to it
            state = {name: value for name, value in vars(obj).items() if name not in _OF_IMPORT}
            return types.ModuleType, (obj.__name__,), state
        return super().reducer_override(obj)

    @staticmethod
    def finds(module_name: str | None) -> bool:
        """See `FunctionPickler.finds`. Whether the module is part of Python or of an installed package.

        What this process's path would find under its name now is no matter: Ray puts its own psutil ahead of another.
        """
        return module_name not in (None, "__main__") and _is_installed(module_name or "")


def pickler_for(executor: PooledExecutor) -> type[FunctionPickler]:
    """How functions travel."""
    return FunctionPickler if isinstance(executor, ProcessExecutor) else TravellingPickler


_OF_IMPORT = frozenset({"__builtins__", "__cached__", "__loader__", "__spec__"})  # of a module: the import system's
_SITES = frozenset({"site-packages", "dist-packages"})


def _is_installed(module_name: str) -> bool:
    top = module_name.partition(".")[0]
    if top in sys.stdlib_module_names or top == "durapool":
        return True
    spec = getattr(sys.modules.get(module_name), "__spec__", None)
    places = [] if spec is None else [spec.origin or "", *(spec.submodule_search_locations or ())]
    return any(_SITES.intersection(place.split(os.sep)) for place in places)


_HELPERS = frozenset(
    [read_marshal, *(each for each in vars(cloudpickle_internals).values() if isinstance(each, types.FunctionType))]
)
"""What a pickled function is made with; it goes by name, and almost every branch has several."""


def _reduced_code(code: types.CodeType) -> tuple[Any, ...]:
    try:
        return read_marshal, (marshalled(code),)
    except ValueError:  # somebody has put an object of their own among its constants
        return cloudpickle_internals._code_reduce(code)  # type: ignore[no-any-return]  # cloudpickle has no types


_importable: dict[tuple[str, tuple[str, ...]], bool] = {}


def is_importable(module_name: str | None) -> bool:
    """Whether a worker with this process's sys.path will import the same module from the same place."""
    if module_name is None or module_name == "__main__":
        return False
    key = (module_name, tuple(sys.path))
    known = _importable.get(key)
    if known is None:
        known = _importable[key] = _find(module_name)
    return known


def _find(module_name: str) -> bool:
    module = sys.modules.get(module_name)
    spec = getattr(module, "__spec__", None)
    if spec is None:
        return False
    parent = module_name.rpartition(".")[0]
    if parent and not is_importable(parent):
        return False
    path = getattr(sys.modules.get(parent), "__path__", None) if parent else None
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        try:
            found = find(module_name, path) if find is not None else None
        except Exception:  # noqa: BLE001  # a finder of the user's may raise anything; then it has not found it
            found = None
        if found is not None:
            return bool(found.origin == spec.origin)
    return False


def blame(function: Any) -> str | None:
    """Which captured object cannot be pickled, in words; None if no single one is found."""
    return _blame(function, getattr(function, "__qualname__", repr(function)), set())


def _blame_safely(function: Any) -> str | None:
    try:
        return blame(function)
    except Exception:  # noqa: BLE001  # it looks into objects of the user's, which may raise anything
        return None


def _blame(obj: Any, owner: str, seen: set[int]) -> str | None:
    for name, value, holder in _captured(obj, owner):
        if id(value) in seen:
            continue
        seen.add(id(value))
        reason = _why_not(value)
        if reason is None:
            continue
        return _blame(value, holder, seen) or (
            f"{name} in {holder} holds a {type(value).__module__}.{type(value).__qualname__}, "
            f"which cannot be pickled ({reason}). Make it inside the branch, or pass what it is made from"
        )
    return None


def _captured(obj: Any, owner: str) -> list[tuple[str, Any, str]]:
    """(variable, value, the function or object that holds it) for all that pickling `obj` would visit next."""
    if isinstance(obj, types.MethodType):
        return [("self", obj.__self__, owner), *_captured(obj.__func__, owner)]
    if isinstance(obj, types.FunctionType):
        holder = f"function {obj.__qualname__}"
        found: list[tuple[str, Any, str]] = []
        for name, cell in zip(obj.__code__.co_freevars, obj.__closure__ or (), strict=True):
            try:
                found.append((f"captured variable {name!r}", cell.cell_contents, holder))
            except ValueError:
                continue
        found += [(f"default argument #{i}", value, holder) for i, value in enumerate(obj.__defaults__ or ())]
        if not is_importable(obj.__module__):
            names = _global_names(obj.__code__)
            found += [
                (f"global variable {name!r}", obj.__globals__[name], holder)
                for name in sorted(names)
                if name in obj.__globals__
            ]
        return found
    if isinstance(obj, dict):
        return [(f"key {key!r}", value, owner) for key, value in obj.items()]
    if isinstance(obj, (list, tuple, set, frozenset)):
        return [(f"element {i}", value, owner) for i, value in enumerate(obj)]
    if hasattr(obj, "__dict__") and not isinstance(obj, (type, types.ModuleType)):
        holder = f"a {type(obj).__qualname__} in {owner}"
        return [(f"attribute {name!r}", value, holder) for name, value in vars(obj).items()]
    return []


def _global_names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names


def _why_not(value: Any) -> str | None:
    try:
        FunctionPickler(io.BytesIO(), protocol=PROTOCOL).dump(value)
    except Exception as error:  # noqa: BLE001  # user classes may raise anything while they are pickled
        return f"{type(error).__name__}: {error}"
    return None


def dump_value(value: Any) -> bytes:
    """A recorded value by pickle protocol 5: functions and local classes by value, all else by reference."""
    buffer = io.BytesIO()
    ValuePickler(buffer, protocol=PROTOCOL).dump(value)
    return buffer.getvalue()


def dump_value_apart(value: Any) -> Pickled:
    """As `dump_value`, with the large buffers of arrays beside the pickle."""
    return _dump_apart(ValuePickler, value)


class ValuePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """cloudpickle, but module-level classes always by reference: a replay must meet the same class."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type) and "<locals>" not in obj.__qualname__ and not is_importable(obj.__module__):
            by_value[obj.__module__, obj.__qualname__] = obj
            return find_class, (obj.__module__, obj.__qualname__)
        return super().reducer_override(obj)


def dump_exceptions(value: Any) -> bytes:
    """Values that hold exceptions, pickled; `load_value` reads them.

    Raises:
        Exception: whatever user classes raise while they are pickled.
    """
    buffer = io.BytesIO()
    _ExceptionPickler(buffer, protocol=PROTOCOL).dump(value)
    return buffer.getvalue()


class _ExceptionPickler(ValuePickler):
    """Rebuilds exceptions whose `__init__` takes other arguments than those that BaseException would pass again."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, BaseException) and _reduces_by_default(type(obj)):
            return _rebuild, (type(obj), obj.args), obj.__dict__ or None
        if isinstance(obj, BaseException) and _is_of_tblib(copyreg.dispatch_table.get(type(obj))):
            return obj.__reduce_ex__(PROTOCOL)
        return super().reducer_override(obj)


def _is_of_tblib(reducer: Any) -> bool:
    """Whether it is what `distributed` installs for all exceptions: it ties them to causes and tracebacks, which are
    recorded beside them, and drops what a class keeps elsewhere, such as the code of SystemExit."""
    return reducer is not None and str(getattr(reducer, "__module__", "")).startswith("tblib.")


def _reduces_by_default(cls: type[BaseException]) -> bool:
    plain = cls.__reduce__ is BaseException.__reduce__ and cls.__reduce_ex__ is object.__reduce_ex__
    return plain and isinstance(cls.__init__, types.FunctionType) and cls.__setstate__ is BaseException.__setstate__


def _rebuild(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """As pickle would, but past the class's own `__init__`: its work is in `args` and in the state."""
    exception = cls.__new__(cls, *args)
    for base in cls.__mro__:
        init = base.__dict__.get("__init__")
        if init is not None and not isinstance(init, types.FunctionType):
            init(exception, *args)
            break
    exception.args = args
    return exception
