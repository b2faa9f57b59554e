"""What a function finds around it: no semaphores and no /dev/shm, a deadline, a client of the user's own."""

from __future__ import annotations

import errno
from importlib import import_module
from pathlib import Path

import pytest
from aws_tools import Deployment, wait_for_notes

import durapool
from serverless import WHY_NOT


@pytest.mark.skipif(bool(WHY_NOT), reason=f"mount namespaces are not allowed here: {WHY_NOT}")
def test_functions_of_these_tests_have_neither_semaphores_nor_shared_memory(deployed: Deployment) -> None:
    missing = [f"semaphores: errno {errno.ENOSYS}", "shared memory"]
    branch = [missing, 200_000, [0, 1, 2]]
    assert deployed.returned("container") == [missing, [branch] * 3]


def test_at_the_deadline_what_runs_is_suspended_and_what_is_recorded_is_kept(
    deployed: Deployment, tmp_path: Path
) -> None:
    seen: list[str] = []
    deployed.local.endpoint.seen = lambda name, _event: seen.append(name)
    execution = deployed.run("overtime", {"folder": str(tmp_path)}, timeout=4.0)
    assert (execution.status, execution.result) == ("SUCCEEDED", [0, 1, 2]), execution.error
    assert sorted(wait_for_notes(tmp_path, 5)) == ["long", "long", "short 0", "short 1", "short 2"]
    completed = [event["EventType"] for event in deployed.local.history(execution.arn)].count("InvocationCompleted")
    assert completed == len(seen) == 2  # neither was killed


def test_a_client_of_the_users_own_is_the_one_that_is_used(deployed: Deployment) -> None:
    assert deployed.returned("own_client") == ["CheckpointDurableExecution"]


def test_the_example_runs_as_a_function_as_it_does_here(deployed: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "examples")
    handler = import_module("lambda_alignment").handler

    event = {"queries": {"a": "ACGTTA", "b": "GGACC"}, "references": {"one": "TTACGTTAGG", "two": "AGGCCA"}}
    here = durapool.run(handler, event, id="here", store="memory")
    assert deployed.returned("lambda_alignment:handler", event) == here
