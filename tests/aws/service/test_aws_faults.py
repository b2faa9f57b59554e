"""Calls of the service fail or are lost: never a lost or doubled checkpoint, and errors that say what happened."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aws_tools import Deployment, wait_for_notes
from perf.local_lambda.invocations import Raised, Returned
from perf.local_lambda.proxy import Action, Answer, Call, Drop, Forward, Lose

BRANCHES, STEPS = 4, 3
EVENT = {"branches": BRANCHES, "steps": STEPS}
NOTES = sorted([f"{branch}.{step}" for branch in range(BRANCHES) for step in range(STEPS)] + ["first", "last"])

PASSING: dict[str, Action] = {
    "throttled": Answer(429, "TooManyRequestsException"),
    "a 500": Answer(500, "ServiceException"),
    "a 503": Answer(503, "ServiceUnavailable"),
    "a connection that breaks": Drop(),
    "an answer that is lost": Lose(),
}
"""What another attempt puts right."""


def failing(numbers: set[int], action: Action) -> Callable[[Call], Action]:
    """A rule under which the calls of these numbers go wrong."""
    return lambda call: action if call.number in numbers else Forward()


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_tried_again_and_nothing_is_lost_or_doubled(
    fault: str, deployed: Deployment, tmp_path: Path
) -> None:
    seen: list[str] = []
    deployed.local.endpoint.seen = lambda name, _event: seen.append(name)
    deployed.local.proxy.rule = failing({0, 2, 3}, PASSING[fault])
    execution = deployed.run("many", {**EVENT, "folder": str(tmp_path)})
    assert (execution.status, execution.result) == ("SUCCEEDED", sum(range(BRANCHES))), execution.error
    assert sorted(wait_for_notes(tmp_path, len(NOTES))) == NOTES  # each step ran once
    assert len(seen) == 2  # there is one wait; no invocation has failed


def test_calls_that_are_tried_again_carry_the_same_client_token(deployed: Deployment, tmp_path: Path) -> None:
    deployed.local.proxy.rule = failing({1}, Lose())
    execution = deployed.run("many", {**EVENT, "folder": str(tmp_path)})
    lost, again = [call for call in deployed.local.proxy.of(execution.arn) if call.api == "checkpoint"][1:3]
    assert lost.body["ClientToken"]
    assert (again.body["ClientToken"], again.updates) == (lost.body["ClientToken"], lost.updates)
    tokens = Counter(call.body["ClientToken"] for call in deployed.local.proxy.of(execution.arn) if call.updates)
    assert sorted(tokens.values())[-2:] == [1, 2]


def test_what_is_refused_is_not_tried_again_and_fails_the_execution(deployed: Deployment, tmp_path: Path) -> None:
    refusal = Answer(403, "AccessDeniedException", "not authorized to perform: lambda:CheckpointDurableExecution")
    deployed.local.proxy.rule = lambda call: refusal
    execution = deployed.run("many", {**EVENT, "folder": str(tmp_path)})
    assert execution.status == "FAILED"
    assert "CheckpointDurableExecution" in execution.error["ErrorMessage"]
    assert len(deployed.local.proxy.of(execution.arn)) == 1


def test_a_service_that_stays_away_ends_the_invocation_and_the_next_one_goes_on(
    deployed: Deployment, tmp_path: Path
) -> None:
    seen: list[str] = []
    deployed.local.endpoint.seen = lambda name, _event: seen.append(name)
    away: tuple[Action, Action] = (Answer(500, "ServiceException"), Drop())
    deployed.local.proxy.rule = lambda call: away[call.number % 2] if len(seen) == 1 and call.number >= 1 else Forward()
    execution = deployed.run("many", {**EVENT, "folder": str(tmp_path)})
    assert (execution.status, execution.result) == ("SUCCEEDED", sum(range(BRANCHES))), execution.error
    assert len(seen) == 3  # the one that failed, and those before and after the wait
    assert sorted(Counter(wait_for_notes(tmp_path, len(NOTES)))) == NOTES


def test_an_invocation_that_another_has_replaced_records_nothing(deployed: Deployment, tmp_path: Path) -> None:
    name = deployed.deploy("many")
    events: list[bytes] = []
    deployed.local.endpoint.seen = lambda _name, event: events.append(event)
    execution = deployed.run("many", {**EVENT, "folder": str(tmp_path)})
    before = deployed.local.history(execution.arn)
    answer = deployed.local.endpoint.invoke(name, events[0])  # as if it had been asleep since
    assert isinstance(answer, Raised) or json.loads(answer.payload)["Status"] == "FAILED"
    assert b"token" in answer.payload.lower()
    assert deployed.local.history(execution.arn) == before
    assert Counter(wait_for_notes(tmp_path, 1))["last"] == 1  # it did not get to the end


@pytest.mark.parametrize("event", [{"branches": 1}, [], None, {"DurableExecutionArn": "arn"}])
def test_an_event_without_durable_fields_says_that_durability_is_not_switched_on(
    event: Any, deployed: Deployment
) -> None:
    answer = deployed.local.endpoint.invoke(deployed.deploy("many"), json.dumps(event).encode())
    assert not isinstance(answer, Returned), answer
    error = json.loads(answer.payload)
    assert "durab" in error["errorMessage"].lower()
    assert "switched on" in error["errorMessage"] or "DurableConfig" in error["errorMessage"]
