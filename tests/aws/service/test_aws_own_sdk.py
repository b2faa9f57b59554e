"""That what stands in for Lambda here is sound: handlers of AWS's own SDK run on it, are killed, and go on."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from aws_tools import SDK, Deployment
from perf.local_lambda.local import LocalLambda
from perf.local_lambda.proxy import Call, Forward, Lose


@pytest.fixture
def sdk(local: LocalLambda) -> Deployment:
    """Runs handlers under AWS's own SDK."""
    return Deployment(local, SDK)


def test_a_handler_runs_and_waits(sdk: Deployment, tmp_path: Path) -> None:
    execution = sdk.run("waiting", {"folder": str(tmp_path)})
    assert (execution.status, execution.result) == ("SUCCEEDED", 2)
    types = [event["EventType"] for event in sdk.local.history(execution.arn)]
    assert types.count("InvocationCompleted") == 2
    assert types.index("WaitStarted") < types.index("InvocationCompleted") < types.index("ExecutionSucceeded")


def test_an_error_of_the_handler_is_that_of_the_execution(sdk: Deployment) -> None:
    execution = sdk.run("fails")
    assert (execution.status, execution.error["ErrorType"]) == ("FAILED", "ValueError")


def test_an_environment_that_is_killed_is_replaced_and_the_execution_goes_on(sdk: Deployment, tmp_path: Path) -> None:
    killed = []

    def kill() -> None:
        killed.extend(environment.pid for environment in sdk.local.endpoint.busy)
        os.kill(killed[-1], signal.SIGKILL)

    sdk.local.proxy.rule = lambda call: Forward() if killed or call.api != "checkpoint" else Lose(kill)
    execution = sdk.run("squares", {"count": 3})
    assert (execution.status, execution.result) == ("SUCCEEDED", 5)
    assert len(killed) == 1


def test_an_environment_that_takes_too_long_is_killed(sdk: Deployment, tmp_path: Path) -> None:
    execution = sdk.run("aws_stuck:handler", {"folder": str(tmp_path)}, timeout=0.3)
    assert execution.status == "FAILED"  # after five attempts
    assert "Sandbox.Timedout" in json.dumps(execution.error)
    assert (tmp_path / "notes").read_text().splitlines() == ["called"] * 5


def test_the_proxy_sees_every_call(sdk: Deployment) -> None:
    def rule(call: Call) -> Forward:
        seen.append(call)
        return Forward()

    seen: list[Call] = []
    sdk.local.proxy.rule = rule
    execution = sdk.run("squares", {"count": 2})
    recorded = [update for call in seen for update in call.updates if update["Type"] == "STEP"]
    assert len([update for update in recorded if update["Action"] == "SUCCEED"]) == 4
    assert seen == sdk.local.proxy.of(execution.arn)
