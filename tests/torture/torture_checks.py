"""What must hold for the effects and the history of an execution, however often it was killed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torture_interpreter import Effect
from torture_nodes import Asked, Batch, Body, Callback, Child, Retried, Step, Try
from torture_runs import Run

from durapool.history import Event, history
from durapool.records import Action, OperationType, Record

_ATTEMPT_ENDS = (Action.SUCCEED, Action.FAIL, Action.RETRY)
_EXECUTION_ENDS = ("ExecutionSucceeded", "ExecutionFailed")


def check_effects(runs: Sequence[Run]) -> None:
    """No attempt whose end was committed before a kill runs again; no attempt runs twice in one run."""
    ended: set[Effect] = set()
    for number, run in enumerate(runs):
        repeated = ended.intersection(run.effects)
        assert not repeated, f"run {number} ran again what had ended before: {sorted(repeated)}"
        twice = [effect for effect, count in Counter(run.effects).items() if count > 1]
        assert not twice, f"run {number} ran twice: {twice}"
        ended = {
            Effect(record.update.name or "", record.update.attempt)
            for record in run.records
            if record.update.type is OperationType.STEP and record.update.action in _ATTEMPT_ENDS
        }
    missing = ended.difference(*[run.effects for run in runs])
    interrupted = {effect for effect in missing if _was_interrupted(effect, runs[-1].records)}
    assert missing == interrupted, f"recorded as run, but never ran: {sorted(missing - interrupted)}"


def _was_interrupted(effect: Effect, records: Sequence[Record]) -> bool:
    """Whether a kill struck between the START of an at-most-once attempt and its first line."""
    return any(
        record.update.error is not None
        and record.update.error.type == "StepInterruptedError"
        and effect == (record.update.name, record.update.attempt)
        for record in records
    )


def check_at_most_once(program: Body, runs: Sequence[Run]) -> None:
    """No attempt of an at-most-once step runs twice, in all runs together."""
    places = _at_most_once_places(program, "p")
    counts = Counter(effect for run in runs for effect in run.effects)
    twice = [effect for effect, count in counts.items() if count > 1 and effect.place in places]
    assert not twice, f"at-most-once attempts ran again: {twice}"


def _at_most_once_places(body: Body, place: str) -> set[str]:
    found: set[str] = set()
    for position, node in enumerate(body):
        here = f"{place}.{position}"
        match node:
            case Step(at_most_once=True):
                found.add(here)
            case Try(body=inner) | Child(body=inner):
                found |= _at_most_once_places(inner, here)
            case Retried(body=inner, failures=failures):
                for attempt in range(1, failures + 2):
                    found |= _at_most_once_places(inner, f"{here}.attempt{attempt}")
            case Callback(meanwhile=inner):
                found |= _at_most_once_places(inner, f"{here}.meanwhile")
            case Batch(branches=branches):
                for index, inner in enumerate(branches):
                    found |= _at_most_once_places(inner, f"{here}[{index}]")
            case Asked() | _:
                pass
    return found


def check_history(runs: Sequence[Run]) -> None:
    """The history of an execution that has ended is valid."""
    events = history(runs[-1].records)
    assert [event["EventId"] for event in events] == list(range(1, len(events) + 1))
    kinds = [event["EventType"] for event in events]
    assert kinds[0] == "ExecutionStarted"
    assert kinds[-1] in _EXECUTION_ENDS
    assert [kind for kind in kinds if kind.startswith("Execution")] == [kinds[0], kinds[-1]]
    assert kinds[-2] == "InvocationCompleted"
    assert all(one["EventTimestamp"] <= other["EventTimestamp"] for one, other in pairwise(events)), "time went back"
    _check_invocations(runs)
    of_operation: defaultdict[str, list[Event]] = defaultdict(list)
    for event in events:
        if "Id" in event:
            of_operation[event["Id"]].append(event)
    for found in of_operation.values():
        _check_operation(found)
        _check_inside_parent(found, of_operation)


def _check_invocations(runs: Sequence[Run]) -> None:
    """One InvocationCompleted for each invocation that completed; a killed one may have been cut off before it."""
    before = 0
    for run in runs:
        now = sum(record.update.action is Action.INVOCATION for record in run.records)
        completed = run.handler_calls if run.ending is not None else {run.handler_calls, run.handler_calls - 1}
        assert now - before == completed if isinstance(completed, int) else now - before in completed
        before = now


def _check_operation(events: list[Event]) -> None:
    """It starts, tries again only after a failed attempt, ends once, and stays what it was."""
    identities = {(event.get("Name"), event["SubType"], event.get("ParentId")) for event in events}
    assert len(identities) == 1, f"an operation changed: {identities}"
    moves = [_move(event) for event in events]
    expected = ["start", "end"]
    attempts = moves.count("retry")
    assert moves == ["start", "retry"] * attempts + expected, f"{identities}: {moves}"
    numbers = [event[f"{event['EventType']}Details"].get("RetryDetails", {}).get("CurrentAttempt") for event in events]
    found = [number for number in numbers if number is not None]
    assert found == list(range(1, len(found) + 1)), f"{identities}: attempts {found}"


def _move(event: Event) -> str:
    if event["EventType"].endswith("Started"):
        return "start"
    details: dict[str, Any] = event[f"{event['EventType']}Details"]
    return "retry" if "NextAttemptDelaySeconds" in details.get("RetryDetails", {}) else "end"


def _check_inside_parent(events: list[Event], of_operation: dict[str, list[Event]]) -> None:
    parent_id = events[0].get("ParentId")
    if parent_id is None:
        return
    parent = of_operation[parent_id]
    assert parent[0]["EventId"] < events[0]["EventId"], "started before its parent"
    assert events[-1]["EventId"] < parent[-1]["EventId"], "ended after its parent"


def ends_of_operations(records: Sequence[Record]) -> dict[str, tuple[Any, ...]]:
    """How each operation ended, by id: what a kill must not change."""
    return {
        update.operation_id: (update.name, update.sub_type, update.parent_id, update.branch, update.action)
        for _, _, update in records
        if update.action is not Action.READY and update.type is not OperationType.EXECUTION
    }
