"""The durable libraries that durapool is compared with: both run steps on threads and record each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

AWS_SDK = "AWS SDK"
DBOS = "DBOS (SQLite)"
MODULES = {AWS_SDK: "aws_durable_execution_sdk_python_testing", DBOS: "dbos"}
"""Without which one is left out."""

LIMIT = 600  # seconds for one execution


def run_aws(branches: int) -> int:
    """One `parallel` of branches with one empty step each, on the SDK's local runner in memory; the sum of results."""
    sdk = import_module("aws_durable_execution_sdk_python")
    testing = import_module("aws_durable_execution_sdk_python_testing")

    def handler(_event: Any, context: Any) -> int:
        functions = [lambda ctx, i=i: ctx.step(lambda _: i) for i in range(branches)]
        return sum(context.parallel(functions).get_results())

    with testing.DurableFunctionTestRunner(handler=sdk.durable_execution(handler)) as runner:
        result = runner.run(input="{}", execution_timeout=LIMIT)
    assert result.status.value == "SUCCEEDED", result
    return int(result.result)


class Dbos:
    """A workflow of DBOS that runs steps one after the other: the least that it can do for each."""

    def __init__(self, workflow: Any) -> None:
        self._workflow = workflow

    def run(self, steps: int) -> int:
        """Run steps that do nothing; the sum of their results."""
        return int(self._workflow(steps))


@contextmanager
def launched_dbos(folder: Path) -> Iterator[Dbos]:
    """DBOS with its records in a folder. One process can launch it once at a time."""
    dbos = import_module("dbos").DBOS
    dbos(
        config={
            "name": "perf",
            "system_database_url": f"sqlite:///{folder / 'dbos.db'}",
            "run_admin_server": False,
            "log_level": "ERROR",
        }
    )

    def step(number: int) -> int:
        return number

    recorded = dbos.step()(step)

    def workflow(steps: int) -> int:
        return sum(recorded(number) for number in range(steps))

    try:
        registered = dbos.workflow()(workflow)
        dbos.launch()
        yield Dbos(registered)
    finally:
        dbos.destroy()
