"""Everything together: start functions, wait for them, and look at what the service has recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Self
from urllib.request import Request, urlopen
from uuid import uuid4

from perf.harness import ROOT
from perf.local_lambda.endpoint import ACCOUNT, Endpoint, Function
from perf.local_lambda.proxy import Proxy
from perf.local_lambda.service import HOST, REGION

MODULE = "aws_durable_execution_sdk_python_testing"
PATIENCE = 60.0  # seconds for one execution
SHORTEST_PAUSE, LONGEST_PAUSE = 0.005, 0.2  # seconds between two looks at an execution


@dataclass(frozen=True)
class Execution:
    """How an execution has ended."""

    arn: str
    status: str
    result: Any
    error: dict[str, Any]


class LocalLambda:
    """The service, the endpoint and the proxy between functions and service.

    Args:
        folder: where the log of the functions is written, `functions.log`.
        skip_time: whether the service's timers are due at once.
        page: the most that an invocation is given of an execution's state, in bytes, and of the rest at once, in
            operations.
        invocable: names of functions that others may invoke, each with Lambda's configuration of it.
        direct: whether functions call the service itself, not the proxy.
        variables: of all environments.
    """

    def __init__(
        self,
        folder: Path,
        *,
        skip_time: bool = True,
        page: tuple[int, int] | None = None,
        invocable: Mapping[str, Mapping[str, Any]] | None = None,
        direct: bool = False,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.proxy = Proxy()
        self.endpoint = Endpoint(folder / "functions.log")
        self._service = self._started(skip_time, page, invocable or {})
        assert self._service.stdout is not None
        port = self._service.stdout.readline().strip()
        assert port, "AWS's local service did not start"
        self.proxy.target = self.url = f"http://{HOST}:{port}"
        self.endpoint.variables = {
            **_credentials(),
            "AWS_ENDPOINT_URL_LAMBDA": self.url if direct else self.proxy.url,
            **(variables or {}),
        }
        session = import_module("boto3").session.Session(
            aws_access_key_id="local", aws_secret_access_key="local", region_name=REGION
        )
        self.client: Any = session.client("lambda", endpoint_url=self.url)

    def _started(
        self, skip_time: bool, page: tuple[int, int] | None, invocable: Mapping[str, Mapping[str, Any]]
    ) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "perf.local_lambda.service", "--lambda-endpoint", self.endpoint.url]
        command += ["--functions", json.dumps(invocable)]
        command += ["--skip-time"] if skip_time else []
        command += [] if page is None else ["--page-bytes", str(page[0]), "--page-items", str(page[1])]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **_credentials()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def add(self, name: str, function: Function) -> None:
        """Make a function known by a name."""
        self.endpoint.functions[name] = function

    def start(self, name: str, event: Any = None) -> str:
        """Begin an execution of a function; its ARN. (AWS's local service has an address of its own for this.)"""
        body = {
            "AccountId": ACCOUNT,
            "FunctionName": name,
            "FunctionQualifier": "$LATEST",
            "ExecutionName": uuid4().hex,
            "ExecutionTimeoutSeconds": 600,
            "ExecutionRetentionPeriodDays": 1,
            "Input": json.dumps(event),
        }
        request = Request(f"{self.url}/start-durable-execution", json.dumps(body).encode(), method="POST")
        with urlopen(request, timeout=PATIENCE) as response:
            return str(json.loads(response.read())["ExecutionArn"])

    def wait(self, arn: str, patience: float = PATIENCE) -> Execution:
        """The end of an execution.

        Raises:
            TimeoutError: it has not ended in time.
        """
        found: dict[str, Any] = {}

        def has_ended() -> bool:
            found.update(self.client.get_durable_execution(DurableExecutionArn=arn))
            return bool(found["Status"] != "RUNNING")

        self.wait_until(has_ended, patience)
        result = json.loads(found["Result"]) if found.get("Result") else None
        return Execution(arn, found["Status"], result, found.get("Error") or {})

    def wait_until(self, condition: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Wait for something that functions do. Asked often right after an invocation has ended, else seldom.

        Raises:
            TimeoutError: they have not done it in time.
        """
        until, pause = time.monotonic() + patience, SHORTEST_PAUSE
        while not condition():
            if time.monotonic() > until:
                raise TimeoutError(f"not within {patience} s; the functions' log says\n{self.log[-4000:]}")
            if self.endpoint.answered.wait(pause):
                self.endpoint.answered.clear()
                pause = SHORTEST_PAUSE
            else:
                pause = min(2 * pause, LONGEST_PAUSE)

    def run(self, name: str, event: Any = None, patience: float = PATIENCE) -> Execution:
        """Start a function and wait for its end."""
        return self.wait(self.start(name, event), patience)

    def history(self, arn: str) -> list[dict[str, Any]]:
        """All events of an execution."""
        pages = self.client.get_paginator("get_durable_execution_history").paginate(
            DurableExecutionArn=arn, IncludeExecutionData=True
        )
        return [event for page in pages for event in page["Events"]]

    @property
    def log(self) -> str:
        """What functions have written to stdout and stderr."""
        return self.endpoint.log.read_text(encoding="utf-8", errors="replace") if self.endpoint.log.exists() else ""

    def close(self) -> None:
        """End all of it."""
        assert self._service.stdin is not None
        assert self._service.stdout is not None
        self.endpoint.close()
        self.proxy.close()
        self.client.close()
        self._service.stdin.close()
        self._service.stdout.close()
        self._service.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _credentials() -> dict[str, str]:
    """What boto3 wants to have, and the local service does not look at."""
    return {
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
