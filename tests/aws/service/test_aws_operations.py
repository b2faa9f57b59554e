"""What operations do against the service: on every executor as under AWS's own SDK, in results and in the history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aws_tools import SDK, Deployment, shape, wait_for_notes
from perf.local_lambda.local import Execution, LocalLambda

HANDLERS: dict[str, dict[str, Any]] = {
    "squares": {"count": 4},
    "waiting": {},
    "waiting_branches": {},
    "deep_waits": {},
    "flaky": {},
    "flaky_branches": {},
    "failures": {},
    "fails": {},
    "first_of": {},
    "children": {},
    "flat": {},
    "condition": {},
    "large_step": {},
    "large_branches": {},
    "large_result": {},
    "many": {"branches": 5, "steps": 3},
}
"""Each with its event."""


@dataclass(frozen=True)
class Outcome:
    """What came of one execution."""

    execution: Execution
    notes: list[str]
    shape: Counter[tuple[str, ...]]

    @property
    def said(self) -> tuple[Any, ...]:
        """What a caller sees."""
        return self.execution.status, self.execution.result, self.execution.error.get("ErrorType")


def outcome(deployment: Deployment, handler: str, event: dict[str, Any], folder: Path) -> Outcome:
    """Run a handler to its end."""
    folder.mkdir()
    execution = deployment.run(handler, {**event, "folder": str(folder)})
    path = folder / "notes"
    notes = sorted(path.read_text().splitlines()) if path.exists() else []
    return Outcome(execution, notes, shape(deployment.local.history(execution.arn)))


@pytest.fixture(scope="module")
def under_sdk(_session_lambda: LocalLambda, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Outcome]:
    """What comes of a handler under AWS's own SDK; each is run once."""
    folder, known = tmp_path_factory.mktemp("sdk"), dict[str, Outcome]()

    def look_up(handler: str) -> Outcome:
        if handler not in known:
            sdk = Deployment(_session_lambda, SDK)
            known[handler] = outcome(sdk, handler, HANDLERS[handler], folder / handler)
        return known[handler]

    return look_up


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_handler_does_the_same_as_under_the_sdk_that_it_came_from(
    handler: str, deployed: Deployment, under_sdk: Callable[[str], Outcome], tmp_path: Path
) -> None:
    theirs = under_sdk(handler)
    ours = outcome(deployed, handler, HANDLERS[handler], tmp_path / "here")
    assert ours.said == theirs.said
    assert ours.notes == theirs.notes
    assert ours.shape == theirs.shape


def test_a_callback_is_answered_from_outside(deployed: Deployment, tmp_path: Path) -> None:
    arn = deployed.start("callback", {"folder": str(tmp_path)})
    [callback_id] = wait_for_notes(tmp_path, 1)
    deployed.local.client.send_durable_execution_callback_success(CallbackId=callback_id, Result=b"yes")
    assert deployed.local.wait(arn).result == ["answered", "yes"]


def test_a_callback_is_refused_from_outside(deployed: Deployment, tmp_path: Path) -> None:
    arn = deployed.start("callback", {"folder": str(tmp_path)})
    [callback_id] = wait_for_notes(tmp_path, 1)
    deployed.local.client.send_durable_execution_callback_failure(
        CallbackId=callback_id, Error={"ErrorType": "Refused", "ErrorMessage": "not today"}
    )
    assert deployed.local.wait(arn).result == ["refused", "CallbackExternalError", "not today"]


def test_branches_wait_for_callbacks_of_their_own(deployed: Deployment, tmp_path: Path) -> None:
    arn = deployed.start("callback_branches", {"folder": str(tmp_path)})
    ids = dict(note.split(" ", 1) for note in wait_for_notes(tmp_path, 2))
    client = deployed.local.client
    client.send_durable_execution_callback_failure(CallbackId=ids["a"], Error={"ErrorMessage": "no"})
    client.send_durable_execution_callback_success(CallbackId=ids["b"], Result=b"yes")
    result = deployed.local.wait(arn)
    assert result.status == "SUCCEEDED", result.error
    succeeded, failed, results = result.result
    assert (failed, results) in [(1, ["yes"]), (1, [])]  # the batch may be decided by the failure alone
    assert succeeded == len(results)
    assert sorted(note.split(" ")[0] for note in wait_for_notes(tmp_path, 2)) == ["a", "b"]  # asked for once


def test_another_function_is_invoked(deployed: Deployment, tmp_path: Path) -> None:
    event = {"folder": str(tmp_path), "target": deployed.deploy("double"), "payload": 21}
    assert deployed.returned("invoking", event) == {"found": 42, "after": 1}


def test_branches_invoke_other_functions(deployed: Deployment, tmp_path: Path) -> None:
    event = {"folder": str(tmp_path), "target": deployed.deploy("double")}
    assert deployed.returned("invoking_branches", event) == [2, 4, 6]
    assert sorted(wait_for_notes(tmp_path, 3)) == ["before 1", "before 2", "before 3"]


def test_the_failure_of_an_invoked_function_is_an_invoke_error(deployed: Deployment, tmp_path: Path) -> None:
    execution = deployed.run("invoking", {"folder": str(tmp_path), "target": deployed.deploy("fails")})
    assert execution.status == "FAILED"
    assert "the handler failed" in execution.error["ErrorMessage"]


def test_a_function_that_does_not_exist_is_an_invoke_error(deployed: Deployment, tmp_path: Path) -> None:
    execution = deployed.run("invoking", {"folder": str(tmp_path), "target": "missing"})
    assert execution.status == "FAILED"
    assert "missing" in str(execution.error) or "not found" in str(execution.error)
    assert not (tmp_path / "notes").exists()


def test_a_value_that_json_does_not_hold_is_an_error_that_names_its_type(deployed: Deployment) -> None:
    execution = deployed.run("foreign_type")
    assert execution.status == "FAILED"
    assert execution.error["ErrorType"].endswith("SerDesError")
    assert "set" in execution.error["ErrorMessage"]
    assert "serdes" in execution.error["ErrorMessage"].lower()
