"""Handlers by name: "module:name" or "path.py:name", on the command line and in the record of an execution.

A file is loaded as a module under a private name, so that it never hides an importable one; its folder comes first on
sys.path, as when Python runs the file.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

from durapool.decorator import DurableHandler
from durapool.digests import blake2b
from durapool.exceptions import HandlerImportError

_FORM = '"module:name" or "path.py:name"'


def load_handler(target: str) -> DurableHandler:
    """The handler that a target names.

    Args:
        target: "module:name" (the working directory is searched too) or "path.py:name".

    Raises:
        HandlerImportError: there is no such module, file or name, its import fails (`__cause__` is the error), or what
            is found is not a durable handler.

    Example:
        >>> load_handler("jobs.py:main")  # doctest: +SKIP
    """
    source, colon, name = target.rpartition(":")
    if not colon or not source or not name:
        raise HandlerImportError(f"a handler is named {_FORM}, not {target!r}")
    if source == "__main__":
        module = sys.modules["__main__"]
    elif source.endswith(".py") or os.sep in source:
        module = _load_file(source, target)
    else:
        module = _load_module(source, target)
    return _handler_in(module, source, name)


def target_of(handler: DurableHandler) -> str:
    """The target under which `load_handler` finds the handler again, in another process too where that can be."""
    module, name = handler.__module__ or "__main__", handler.__qualname__  # code that was run by exec may have none
    if module == "__main__" or module.startswith(_PRIVATE):
        file = getattr(sys.modules.get(module), "__file__", None)
        if file is not None:
            return f"{os.path.abspath(file)}:{name}"
    return f"{module}:{name}"


def absolute(target: str) -> str:
    """The target with the file's path made absolute, so that it is found from any working directory."""
    source, _, name = target.rpartition(":")
    return f"{os.path.abspath(source)}:{name}" if source.endswith(".py") else target


_PRIVATE = "_durapool_file_"


def _load_file(path: str, target: str) -> ModuleType:
    full = os.path.abspath(path)
    if not os.path.isfile(full):
        raise HandlerImportError(f"{target!r}: there is no file {path!r}")
    stem = os.path.splitext(os.path.basename(full))[0]
    name = f"{_PRIVATE}{stem}_{blake2b(full.encode('utf-8', 'surrogateescape'), digest_size=4).hexdigest()}"
    spec = importlib.util.spec_from_file_location(name, full)
    if spec is None or spec.loader is None:
        raise HandlerImportError(f"{target!r}: {path!r} is not a Python file")
    _search_first(os.path.dirname(full))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise HandlerImportError(f"{path!r} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _load_module(name: str, target: str) -> ModuleType:
    _search_first(os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise HandlerImportError(
                f"{target!r}: there is no module {error.name!r} in the working directory or on sys.path"
            ) from None
        raise _failed(name, error) from error
    except (Exception, SystemExit) as error:
        raise _failed(name, error) from error


def _failed(name: str, error: BaseException) -> HandlerImportError:
    return HandlerImportError(f"module {name!r} cannot be imported: {type(error).__name__}: {error}")


def _search_first(folder: str) -> None:
    if not sys.path or sys.path[0] != folder:
        sys.path.insert(0, folder)


def _handler_in(module: ModuleType, source: str, name: str) -> DurableHandler:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise HandlerImportError(f"{source!r} has no {name!r}; {_others(module)}")
        found = getattr(found, part)
    if isinstance(found, DurableHandler):
        return found
    if callable(found):
        raise HandlerImportError(f"{name!r} in {source!r} is no durable handler: put it under @durable_execution")
    raise HandlerImportError(f"{name!r} in {source!r} is a {type(found).__name__}, not a handler; {_others(module)}")


def _others(module: ModuleType) -> str:
    names = sorted(name for name, value in vars(module).items() if isinstance(value, DurableHandler))
    return f"its handlers are: {', '.join(names)}" if names else "it has no function under @durable_execution"
