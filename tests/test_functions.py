"""Plain functions arrive whole, and whatever is not plain takes the long way."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from durapool.functions import LARGEST, PlainFunction, plain_function, plain_parts
from durapool.pickling import dump_function
from durapool.unpickling import load_function

SOME_GLOBAL = 1


def capturing(value: Any) -> Callable[[], Any]:
    return lambda: value


def travelled(parts: PlainFunction) -> types.FunctionType:
    """Through a message, as to a worker."""
    return plain_function(*msgpack.unpackb(msgpack.packb(parts), strict_map_key=False))


@pytest.mark.parametrize("value", [0, -(2**63), 2**64 - 1, 1.5, True, None, "text", b"bytes", ""])
def test_a_plain_function_arrives_with_what_it_captures(value: object) -> None:
    parts = plain_parts(capturing(value))
    assert parts is not None
    found = travelled(parts)()
    assert found == value
    assert type(found) is type(value)


def test_defaults_and_nested_functions_arrive() -> None:
    parts = plain_parts(lambda x, i=3, text="a": lambda y: [x, i, text, y, len(text)])
    assert parts is not None
    assert travelled(parts)(1)(2) == [1, 3, "a", 2, 1]


def test_a_plain_function_is_what_its_pickle_would_be() -> None:
    function = capturing(7)
    parts = plain_parts(function)
    assert parts is not None
    short, long = travelled(parts), load_function(dump_function(function, "it"))
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__defaults__", "__kwdefaults__", "__dict__"):
        assert getattr(short, name) == getattr(long, name)
    assert short.__code__ == long.__code__
    assert short.__code__.co_filename == __file__
    assert {**short.__globals__, "__builtins__": None} == {**long.__globals__, "__builtins__": None}


def test_each_arrival_has_globals_of_its_own() -> None:
    parts = plain_parts(lambda: None)
    assert parts is not None
    assert travelled(parts).__globals__ is not travelled(parts).__globals__


def a_documented() -> Callable[[], None]:
    def function() -> None:
        """Documented, and annotated."""

    return function


def an_own_attribute() -> Callable[[], Any]:
    function = capturing(1)
    function.mark = 1  # type: ignore[attr-defined]
    return function


def a_renamed() -> Callable[[], Any]:
    function = capturing(1)
    function.__name__ = "other"
    return function


def a_recursive() -> Callable[[int], int]:
    def function(n):  # type: ignore[no-untyped-def]  # with annotations it would not be plain anyway
        return n and n * function(n - 1)  # type: ignore[no-untyped-call]

    return function


def one_that_sees_an_unset_variable() -> Callable[[], Any]:
    late: int
    function = lambda: late  # noqa: E731
    if SOME_GLOBAL == 0:
        late = 1
    return function


@pytest.mark.parametrize(
    "function",
    [
        capturing([1]),
        capturing(2**64),
        capturing("x" * (LARGEST + 1)),
        capturing(capturing(1)),
        lambda: SOME_GLOBAL,
        lambda: lambda: SOME_GLOBAL,
        lambda *, key=1: key,
        functools.partial(capturing, 1),
        test_each_arrival_has_globals_of_its_own,
        len,
        a_documented(),
        an_own_attribute(),
        a_renamed(),
        a_recursive(),
        one_that_sees_an_unset_variable(),
    ],
)
def test_what_is_not_plain_takes_the_long_way(function: Callable[..., Any]) -> None:
    assert plain_parts(function) is None


def test_a_variable_counts_as_it_is_when_the_function_is_sent() -> None:
    value = 1
    function = lambda: value  # noqa: E731
    assert travelled(_parts(function))() == 1
    value = 2
    assert travelled(_parts(function))() == 2


def _parts(function: Callable[[], Any]) -> PlainFunction:
    parts = plain_parts(function)
    assert parts is not None
    return parts
