"""What the tests of the Lambda service share: functions by the name of their handler, and views of what they did."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perf.local_lambda.endpoint import Function
from perf.local_lambda.local import PATIENCE, Execution, LocalLambda

SDK = "sdk"
"""Stands for an executor: the same handler under AWS's own SDK."""


@dataclass(frozen=True)
class Deployment:
    """Handlers of `aws_handlers`, and of other modules, as functions whose branches run on one executor."""

    local: LocalLambda
    executor: str
    command: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()

    def deploy(self, handler: str, timeout: float = 60.0) -> str:
        """Make a handler a function; its name. A handler "NAME" is that of `aws_handlers`, else "MODULE:NAME"."""
        kind = self.executor.partition(":")[0]
        name = f"{handler.replace(':', '-')}-{kind}"
        where = handler if ":" in handler else f"aws_handlers:{'sdk' if kind == SDK else 'durapool'}.{handler}"
        variables = (*self.variables, *(() if kind == SDK else (("DURAPOOL_EXECUTOR", self.executor),)))
        self.local.add(name, Function(where, variables, self.command, timeout))
        return name

    def start(self, handler: str, event: Any = None, timeout: float = 60.0) -> str:
        """Begin an execution; its ARN."""
        return self.local.start(self.deploy(handler, timeout), event)

    def run(self, handler: str, event: Any = None, timeout: float = 60.0, patience: float = PATIENCE) -> Execution:
        """An execution that has ended."""
        return self.local.wait(self.start(handler, event, timeout), patience)

    def returned(self, handler: str, event: Any = None) -> Any:
        """What a handler returned."""
        execution = self.run(handler, event)
        assert execution.status == "SUCCEEDED", f"{execution.error}\n{self.local.log[-4000:]}"
        return execution.result


def shape(history: list[dict[str, Any]]) -> Counter[tuple[str, ...]]:
    """How often each event of an operation is there: type, sub-type, name, and the name of the parent.

    Ids differ from one library to another, the order among branches from run to run, and how many invocations there
    are depends on timing.
    """
    names = {event["Id"]: event.get("Name", "") for event in history if "Id" in event}
    return Counter(
        (event["EventType"], event.get("SubType", ""), event.get("Name", ""), names.get(event.get("ParentId", ""), ""))
        for event in history
        if not event["EventType"].startswith(("Invocation", "Execution"))
    )


def payload(event: dict[str, Any], detail: str) -> Any:
    """The result that an event of the history holds."""
    return json.loads(event[detail]["Result"]["Payload"])


def wait_for_notes(folder: Path, count: int) -> list[str]:
    """The notes of a function, once there are so many.

    Raises:
        TimeoutError: they did not come.
    """
    until = time.monotonic() + PATIENCE
    path = folder / "notes"
    while time.monotonic() < until:
        notes = path.read_text().splitlines() if path.exists() else []
        if len(notes) >= count:
            return notes
        time.sleep(0.01)
    raise TimeoutError(f"{count} notes did not come")
