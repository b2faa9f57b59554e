"""Functions that `context.invoke` calls in a local run, by the names under which Lambda would know them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from durapool.exceptions import ValidationError

_functions: dict[str, Callable[[Any, Any], Any]] = {}


def register_function(name: str, function: Callable[[Any, Any], Any]) -> None:
    """Let `context.invoke(name, payload)` call this function in local runs. On Lambda, the service finds its own.

    Args:
        name: of the function, without account, region and version. A later call under the same name replaces it.
        function: called with (event, context): a durable handler, whose operations become part of the execution, or a
            plain Lambda function, which gets None for a context and runs again if the program is killed meanwhile.

    Raises:
        ValidationError: the name is no text, or the function cannot be called.

    Example:
        >>> durapool.register_function("price", lambda event, context: event["n"] * 2)
        >>> context.invoke("price", {"n": 21})
        42
    """
    if not isinstance(name, str) or not name:
        raise ValidationError(f"a function is registered under a name, not {name!r:.100}")
    if not callable(function):
        raise ValidationError(f"the function {name!r} cannot be called: {function!r:.100}")
    _functions[name] = function


def registered_functions() -> Mapping[str, Callable[[Any, Any], Any]]:
    """All functions, by name; those that are registered later appear in it."""
    return _functions


def bare_name(function_name: str) -> str:
    """The name in an ARN or a qualified name: ``arn:aws:lambda:eu-west-1:123456789012:function:price:7`` is price."""
    parts = function_name.split(":")
    if "function" in parts[:-1]:
        return parts[parts.index("function") + 1]
    return parts[0]
