"""What the semantic tests share: one way to run a handler, and views of what was recorded."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from durapool import durable_execution
from durapool.retries import RetryPresets
from durapool.testing import DurableFunctionTestResult, DurableFunctionTestRunner, InvocationStatus

LONGEST = 60  # seconds that any one run of these tests may take


class Crash(BaseException):
    """Stands for the death of the program: no `except Exception` sees it."""


def execute(
    handler: Callable[..., Any], executor: str, event: Any = None, status: InvocationStatus | None = None
) -> DurableFunctionTestResult:
    """Run to the end under the testing kit, failed steps tried once unless they say otherwise."""
    durable = durable_execution(default_retry=RetryPresets.none())(handler)
    with DurableFunctionTestRunner(handler=durable, executor=executor) as runner:
        result = runner.run(input=event, timeout=LONGEST)
    assert result.status is (status or InvocationStatus.SUCCEEDED), result.error
    compare_executors(executor, result.history)
    return result


_earlier: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
_calls: Counter[str] = Counter()


def compare_executors(executor: str, history: list[dict[str, Any]]) -> None:
    """Every executor must record the same operations with the same ends; their order may differ (rule 1).

    The run is told apart by the test and by how many runs of that test came before it under this executor.
    """
    test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
    _calls[test] += 1
    key = (test.replace(executor, "any executor"), _calls[test])
    events = sorted(_shape(history), key=repr)
    events = [event for event in events if event[0] != "InvocationCompleted"]  # how many depends on timing
    assert _earlier.setdefault(key, events) == events


def returned(handler: Callable[..., Any], executor: str, event: Any = None) -> Any:
    """What the handler returned under the testing kit."""
    return execute(handler, executor, event).result


def note(path: Path, line: str) -> None:
    """Add a line to a log that branches in any process write: one write, so lines never mix."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, f"{line}\n".encode())
    finally:
        os.close(handle)


def notes(path: Path) -> list[str]:
    """The lines written so far."""
    return path.read_text().splitlines() if path.exists() else []


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that another branch makes true.

    Raises:
        TimeoutError: it did not become true.
    """
    deadline = time.monotonic() + LONGEST / 2
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the condition did not become true")
        time.sleep(0.005)


def shape(result: DurableFunctionTestResult) -> list[tuple[Any, ...]]:
    """The history without times: type, sub-type, name, id and parent of each event."""
    return _shape(result.history)


def _shape(history: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    keys = ("EventType", "SubType", "Name", "Id", "ParentId")
    return [
        tuple(event.get(key) for key in keys)
        if not event["EventType"].startswith(("Execution", "Invocation"))
        else (event["EventType"],)
        for event in history
    ]


def events(result: DurableFunctionTestResult, name: str) -> list[str]:
    """The types of the events of the operations of this name."""
    return [event["EventType"] for event in result.history if event.get("Name") == name]


def most_in_flight(result: DurableFunctionTestResult, sub_type: str) -> int:
    """How many contexts of this sub-type were open at once at most."""
    now = most = 0
    for event in result.history:
        if event.get("SubType") != sub_type:
            continue
        now += 1 if event["EventType"].endswith("Started") else -1
        most = max(most, now)
    return most
