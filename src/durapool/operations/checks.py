"""What users hand over, checked before anything is recorded: functions, and the collections of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from types import FunctionType
from typing import Any, TypeVar

from durapool.config import CompletionConfig, ParallelBranch
from durapool.exceptions import ValidationError
from durapool.operations.bound import BoundCall

C = TypeVar("C")
_ASYNC = 0x80 | 0x200  # inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def check_function(function: object, what: str, count: int, takes: str) -> None:
    """`function` can be called with `count` positional arguments, and is synchronous.

    Args:
        what: how the message calls it, such as ``"branch 2 of parallel 'load'"``.
        takes: the arguments in words, such as ``"ctx"``.

    Raises:
        ValidationError: not so.
    """
    if not callable(function):
        raise ValidationError(f"{what} is not callable: {function!r:.200}")
    target = _unwrapped(function)
    if _is_async(target):
        raise ValidationError(
            f"{what} is a coroutine function ({_name(target)}): "
            "durable functions are synchronous, call asyncio.run() inside one"
        )
    if not _accepts(function, count):
        raise ValidationError(f"{what} ({_name(target)}) must take {count} positional argument(s): {takes}")


def check_name(name: object, what: str) -> None:
    """Raises ValidationError for a name that is no text; None is no name."""
    if name is not None and not isinstance(name, str):
        raise ValidationError(f"the name of {what} must be text, not {name!r:.100}")


def checked_config(config: C | None, kind: type[C], what: str) -> C:
    """The config, or the default one for None.

    Raises:
        ValidationError: it is of another kind.
    """
    if config is None:
        return kind()
    if not isinstance(config, kind):
        raise ValidationError(f"the config of {what} must be a {kind.__name__}, not {config!r:.100}")
    return config


def check_branches(functions: object, what: str) -> Sequence[Any]:
    """The branches of a parallel as a tuple.

    Raises:
        ValidationError: not a sequence of callables of one argument.
    """
    branches = tuple(_sequence(functions, f"the functions of {what}"))
    for index, branch in enumerate(branches):
        if takes_plainly(branch, 1):
            continue
        function = branch.func if isinstance(branch, ParallelBranch) else branch
        if not takes_plainly(function, 1):
            check_function(function, f"branch {index} of {what}", 1, "ctx")
    return branches


def check_inputs(inputs: object, what: str) -> Sequence[Any]:
    """The inputs of a map as a sequence; an array becomes a list of its items.

    Raises:
        ValidationError: not a sequence.
    """
    if hasattr(inputs, "__array_interface__") and getattr(inputs, "ndim", 0) >= 1:
        return list(inputs)  # type: ignore[call-overload,no-any-return]  # numpy is optional, so it is known by its protocol
    return _sequence(inputs, f"the inputs of {what}")


def check_completion(config: CompletionConfig, total: int, what: str) -> None:
    """Raises ValidationError where `min_successful` can never be reached."""
    if config.min_successful is not None and config.min_successful > total:
        raise ValidationError(
            f"{what}: min_successful cannot be above the number of branches: {config.min_successful} > {total}"
        )


def _sequence(values: object, what: str) -> Sequence[Any]:
    if isinstance(values, Sequence) and not isinstance(values, str | bytes | bytearray | memoryview):
        return values
    kind = type(values).__name__
    if isinstance(values, Set | Mapping):
        advice = "it has no order that every run repeats: give a sorted list"
    else:
        advice = "give a list"
    raise ValidationError(f"{what} must be a sequence, such as a list, not a {kind}: {advice}")


def _unwrapped(function: Any) -> Any:
    while isinstance(function, partial):
        function = function.func
    return function


def _is_async(function: Any) -> bool:
    if isinstance(function, BoundCall):
        function = function.function
    import inspect  # only here, as below: plain functions need none of it, and it is slow to import

    called = inspect.getattr_static(type(function), "__call__", None)  # of an object that is not itself a function
    return any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in (function, called))


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def _accepts(function: Callable[..., Any], count: int) -> bool:
    import inspect

    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except (ValueError, TypeError):
        return True  # some builtins have none
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def takes_plainly(function: object, count: int) -> bool:
    """The short way to a yes, for the many lambdas of a batch; no means that `check_function` must look closer."""
    if type(function) is not FunctionType:
        return False
    code = function.__code__
    defaults = len(function.__defaults__ or ())
    return (
        code.co_argcount - defaults <= count <= code.co_argcount
        and not code.co_kwonlyargcount
        and not code.co_flags & _ASYNC
    )
