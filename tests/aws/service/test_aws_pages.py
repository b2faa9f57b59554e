"""A state that comes in pages: asked for, also when a page fails, and nothing of it is run again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from aws_tools import Deployment, wait_for_notes
from perf.local_lambda.local import LocalLambda
from perf.local_lambda.proxy import Action, Answer, Call, Drop, Forward, forward

STEPS = 40
BEFORE = [f"{number}" for number in range(STEPS)]
AFTER = [f"of {number}" for number in range(3)]
PAGE = (12, 10)  # bytes of payloads that an invocation is given, operations that are in a page

FAULTS: dict[str, Action] = {"none": Forward(), "a 500": Answer(500, "ServiceException"), "a broken one": Drop()}


@pytest.fixture(scope="module")
def paged(
    _session_lambda: LocalLambda, variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalLambda]:
    """Another service, which gives small pages."""
    with LocalLambda(tmp_path_factory.mktemp("paged"), page=PAGE, variables=variables) as local:
        yield local


@pytest.fixture
def small_pages(paged: LocalLambda, executor: str) -> Iterator[Deployment]:
    """Runs handlers on the executor; their state comes in pages."""
    yield Deployment(paged, executor)
    paged.proxy.rule = forward


def second_page(deployment: Deployment, action: Action, times: int) -> None:
    """Let the calls for the second page go wrong."""
    seen: list[Call] = []

    def rule(call: Call) -> Action:
        if call.api != "state":
            return Forward()
        seen.append(call)
        return action if 2 <= len(seen) < 2 + times else Forward()

    deployment.local.proxy.rule = rule


@pytest.mark.parametrize("fault", FAULTS)
def test_pages_are_asked_for_until_the_last(fault: str, small_pages: Deployment, tmp_path: Path) -> None:
    second_page(small_pages, FAULTS[fault], times=2)
    execution = small_pages.run("long_history", {"steps": STEPS, "folder": str(tmp_path)})
    assert (execution.status, execution.result) == ("SUCCEEDED", [STEPS, 3]), execution.error
    assert sorted(wait_for_notes(tmp_path, STEPS + 3)) == sorted(BEFORE + AFTER)
    assert len([call for call in small_pages.local.proxy.of(execution.arn) if call.api == "state"]) >= 3


def test_a_page_that_is_refused_fails_the_execution_and_runs_nothing(small_pages: Deployment, tmp_path: Path) -> None:
    message = "not authorized to perform: lambda:GetDurableExecutionState"
    second_page(small_pages, Answer(403, "AccessDeniedException", message), times=1)
    execution = small_pages.run("long_history", {"steps": STEPS, "folder": str(tmp_path)})
    assert execution.status == "FAILED"
    assert message in execution.error["ErrorMessage"]
    assert wait_for_notes(tmp_path, STEPS) == BEFORE
