"""The examples in the docstrings run, each inside a handler with a context, with stand-ins for the user's own names."""

from __future__ import annotations

import doctest
import importlib
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doc_pages import ROOT

import durapool
from durapool import config, results, retries, serdes, stores, testing, waits
from durapool.executors import parse_executor
from durapool.history import history
from durapool.testing import DurableFunctionTestRunner, InvocationStatus

SOURCE = ROOT / "src" / "durapool"


def docstrings() -> Iterator[doctest.DocTest]:
    """Those with examples, by the name of what they belong to."""
    finder = doctest.DocTestFinder(exclude_empty=True, recurse=True)
    for path in sorted(SOURCE.rglob("*.py")):
        if ">>>" in path.read_text(encoding="utf-8"):
            name = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
            yield from (test for test in finder.find(importlib.import_module(name), name) if test.examples)


def stand_ins(context: durapool.DurableContext, folder: Path) -> dict[str, Any]:
    """What the examples use and do not define."""
    names: dict[str, Any] = {}
    for module in (durapool, config, results, retries, serdes, stores, testing, waits):
        names |= {name: getattr(module, name) for name in getattr(module, "__all__", dir(module)) if name[0] != "_"}
    own = {
        "durapool": durapool, "context": context, "event": {"n": 1}, "random": random, "parse_executor": parse_executor,
        "handler": plus_one, "my_handler": plus_one, "path": ROOT / "LICENSE", "files": ["a", "b"], "job": "done",
        "first": lambda step: 1, "second": lambda step: 2, "reserve": list, "pay": list, "parse": str,
        "poll": lambda job: job, "fetch": str, "list_files": lambda folder: [folder], "size_of": len,
        "send_mail": lambda *to: None, "strategy": lambda state, n: waits.WaitForConditionDecision.stop_polling(),
        "history": history, "store": stores.MemoryStore(),
    }  # fmt: skip
    return names | own


@durapool.durable_execution
def plus_one(event: dict[str, int], context: durapool.DurableContext) -> int:
    return context.step(lambda _: event["n"] + 1, name="task1")


@pytest.mark.parametrize("docstring", list(docstrings()), ids=lambda test: test.name.removeprefix("durapool."))
def test_the_example_of_a_docstring_runs(
    docstring: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown: list[tuple[str, str]] = []

    @durapool.durable_execution
    def handler(event: Any, context: durapool.DurableContext) -> None:
        names = stand_ins(context, tmp_path)
        for example in docstring.examples:
            if doctest.SKIP in example.options:
                continue
            if example.want:
                shown.append((repr(eval(example.source, names)) + "\n", example.want))
            else:
                exec(example.source, names)

    with DurableFunctionTestRunner(handler=handler) as runner:
        arn = runner.run_async()
        if re.search("send_mail", docstring.docstring):
            runner.send_callback_success(runner.wait_for_callback(arn), "yes")
        result = runner.wait_for_result(arn, timeout=60)
    assert result.status is InvocationStatus.SUCCEEDED, result.error
    for printed, promised in shown:
        assert printed == promised
