"""Every public name is documented: meaning, parameters, units, errors, and an example that runs.

The examples run inside a durable handler, with `context` and some names that examples speak of; one that suspends is
invoked again, as any handler is.
"""

from __future__ import annotations

import dataclasses
import doctest
import enum
import importlib
import inspect
import logging
import random
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import durapool
from durapool import durable_execution
from durapool.exceptions import SuspendExecution
from durapool.testing import DurableFunctionTestRunner, InvocationStatus

MODULES = [
    "durapool",
    "durapool.aws",
    "durapool.concurrency.models",
    "durapool.config",
    "durapool.context",
    "durapool.exceptions",
    "durapool.execution",
    "durapool.executors",
    "durapool.lambda_service",
    "durapool.results",
    "durapool.retries",
    "durapool.serdes",
    "durapool.stores",
    "durapool.testing",
    "durapool.types",
    "durapool.waits",
]

GIVEN = {
    "Callback",
    "CallbackOperation",
    "ContextOperation",
    "DurableContext",
    "ExecutionContext",
    "ExecutionOperation",
    "ExecutionSummary",
    "InvokeOperation",
    "Operation",
    "SerDesContext",
    "SignalRecord",
    "StepContext",
    "StepOperation",
    "WaitForCallbackContext",
    "WaitForConditionCheckContext",
    "WaitOperation",
}
"""Classes whose objects users are handed; exceptions, enumerations and protocols are such by their kind."""

INTERNAL = {
    "durapool.exceptions.OrphanedBranch",
    "durapool.exceptions.Signal",
    "durapool.exceptions.ClusterFailure",
    "durapool.exceptions.StoreFailure",
    "durapool.execution.failure_of",
    "durapool.execution.new_execution_id",
    "durapool.executors.parse_size",
    "durapool.serdes.dump",
    "durapool.serdes.load",
}
"""What lives in a public module and is for other modules of the project."""


class Name(NamedTuple):
    """A public name."""

    label: str
    value: Any


def names() -> Iterator[Name]:
    """Classes and functions that public modules export, each once, and then the public members of the classes."""
    seen = set()
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        exported = getattr(module, "__all__", None) or [
            name for name, value in vars(module).items() if getattr(value, "__module__", None) == module_name
        ]
        for name in exported:
            value = getattr(module, name)
            if name.startswith("_") or not isinstance(value, (type, types.FunctionType)) or id(value) in seen:
                continue
            seen.add(id(value))
            if f"{module_name}.{name}" not in INTERNAL:
                yield Name(f"{module_name}.{name}", value)


def members(name: Name) -> Iterator[Name]:
    for member, value in vars(name.value).items():
        value = getattr(value, "__func__", value)
        if not member.startswith("_") and isinstance(value, (types.FunctionType, property)):
            yield Name(f"{name.label}.{member}", value)


NAMES = list(names())
CLASSES = [name for name in NAMES if isinstance(name.value, type)]
MEMBERS = [member for name in CLASSES for member in members(name)]

each_name = pytest.mark.parametrize("name", NAMES, ids=lambda name: name.label)


def text_of(value: Any) -> str:
    """The docstring; of a class also those of the classes that it extends."""
    if not isinstance(value, type):
        return value.__doc__ or ""
    ours = [kind for kind in value.__mro__ if kind.__module__.startswith("durapool")]
    return "\n".join(kind.__doc__ or "" for kind in ours)


def is_handed_out(value: Any) -> bool:
    kinds = (BaseException, enum.Enum)
    is_kind = isinstance(value, type) and (issubclass(value, kinds) or getattr(value, "_is_protocol", False))
    return is_kind or value.__name__ in GIVEN


def parameters(value: Any) -> list[inspect.Parameter]:
    if isinstance(value, type) and issubclass(value, (enum.Enum, BaseException)) and "__init__" not in vars(value):
        return []
    found = inspect.signature(value).parameters.values()
    return [each for each in found if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD) and each.name != "self"]


@pytest.mark.parametrize("name", [*NAMES, *MEMBERS], ids=lambda name: name.label)
def test_a_public_name_says_what_it_is(name):
    own = inspect.cleandoc(name.value.__doc__ or "")
    assert own
    assert not re.match(r"\w+\(", own), "dataclass's own text is no docstring"
    assert re.search(r"[.:)]$", own.splitlines()[0]), own


@each_name
def test_every_parameter_is_explained(name):
    if name.value.__name__ in ("Callback", "DurableContext"):  # made by the project alone
        return
    text = text_of(name.value)
    missing = [each.name for each in parameters(name.value) if not re.search(rf"\b{each.name}\b", text)]
    assert not missing


@each_name
def test_numbers_have_units(name):
    for each in parameters(name.value):
        if re.search("timeout|interval|patience", each.name) and "float" in str(each.annotation):
            assert re.search(rf"{each.name}: [^\n]*seconds", text_of(name.value)), each.name
        if "memory" in each.name:
            assert re.search(rf"{each.name}: [^\n]*bytes", text_of(name.value)), each.name


@each_name
def test_what_is_checked_says_what_it_raises(name):
    checks = isinstance(name.value, type) and dataclasses.is_dataclass(name.value) and _raises(name.value)
    if checks or (isinstance(name.value, types.FunctionType) and "raise " in inspect.getsource(name.value)):
        assert "Raises:" in text_of(name.value)


def _raises(kind: type) -> bool:
    check = getattr(kind, "__post_init__", None)
    return check is not None and "ValidationError" in inspect.getsource(inspect.getmodule(check))


@each_name
def test_what_users_call_has_an_example(name):
    assert is_handed_out(name.value) or "Example:" in (name.value.__doc__ or "")


@pytest.mark.parametrize(
    "name",
    [each for each in MEMBERS if each.label.rsplit(".", 2)[1] in ("DurableContext", "DurableFunctionTestRunner")],
    ids=lambda name: name.label,
)
def test_what_a_context_and_a_runner_do_has_an_example(name):
    takes = isinstance(name.value, types.FunctionType) and len(inspect.signature(name.value).parameters) > 1
    for_operations_alone = ("claim", "call_of", "logger_to", "operation_logger")
    assert not takes or name.label.rsplit(".", 1)[1] in for_operations_alone or "Example:" in name.value.__doc__


@durable_execution
def handler(event, context):
    return context.step(lambda _: event["n"] + 1, name="add")


@durable_execution
def asks(event, context):
    return context.create_callback("approval").result()


def examples() -> Iterator[doctest.DocTest]:
    finder = doctest.DocTestFinder(recurse=False)
    for name in [*NAMES, *MEMBERS]:
        yield from finder.find(name.value, name.label, module=False, globs={})
    yield from finder.find(durapool, "durapool", module=False, globs={})


class Examples(doctest.DocTestRunner):
    """Lets a suspension through: the handler around the example is invoked again when it is due."""

    def report_unexpected_exception(self, out, test, example, exc_info):
        if isinstance(exc_info[1], SuspendExecution):
            raise exc_info[1]
        super().report_unexpected_exception(out, test, example, exc_info)


def vocabulary(folder: Path) -> dict[str, Any]:
    """What examples speak of without defining it."""
    public = {name.value.__name__: name.value for name in NAMES}
    return public | {
        "arn": "arn:aws:lambda:us-east-1:123456789012:function:job:1/durable-execution/nightly/1",
        "asks": asks,
        "client": types.SimpleNamespace(checkpoint_durable_execution=None, get_durable_execution_state=None),
        "durapool": durapool,
        "first": lambda _: "first",
        "folder": folder,
        "handler": handler,
        "list_files": lambda folder: ["a", "b"],
        "logging": logging,
        "parse": str.upper,
        "pay": lambda: "paid",
        "poll": lambda state: {"new": "running", "running": "done"}[state],
        "random": random,
        "reserve": lambda: None,
        "second": lambda _: "second",
        "store": durapool.MemoryStore(),
        "token": "1",
    }


@pytest.mark.parametrize("example", [each for each in examples() if each.examples], ids=lambda each: each.name)
def test_an_example_gives_what_it_says(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = vocabulary(tmp_path)
    output: list[str] = []

    def play(**more: Any) -> int:
        example.globs = words | more
        return Examples().run(example, out=output.append, clear_globs=False).failed

    @durable_execution
    def around(event, context):
        return play(context=context, send_mail=send_mail)

    with DurableFunctionTestRunner(around) as runner:

        def send_mail(callback_id, address=None):
            runner.send_callback_success(callback_id, "approved")

        if any("context" in each.source for each in example.examples):
            result = runner.run(timeout=30)
            assert result.status is InvocationStatus.SUCCEEDED, result.error
            failed = result.result
        else:
            failed = play()
    assert failed == 0, "".join(output)
