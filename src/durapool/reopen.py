"""What goes back to STARTED when a finished execution is run again for what failed in it.

Reopened are failed branches, the failure that ended a failed context or the handler, and all that encloses them: an
enclosing batch or context that succeeded too, since its result changes. A failure that user code handled is kept: the
operation below a context that succeeded all the same, and one after which a failed context went on to another failure.
What was handled once would not be called again after a success, and the positions of all later calls would shift.

All that succeeded is kept, also what came after a batch with tolerated failures and may hold what it made of the
partial result: a step is an effect, and to run again what did not fail is not what was asked for. `warn_of_kept` tells.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import dropwhile, islice
from typing import Any, NamedTuple

from durapool.journal import EXECUTION_ID, Journal, update_of
from durapool.records import (
    DETAIL_HANDLER,
    DETAIL_REPLAY_CHILDREN,
    Action,
    Operation,
    OperationStatus,
    OperationSubType,
    OperationType,
    Payload,
    Update,
)

_ENCLOSING = (OperationType.CONTEXT, OperationType.CHAINED_INVOKE)
_BATCHES = frozenset({OperationSubType.PARALLEL, OperationSubType.MAP})
_BRANCHES = frozenset({OperationSubType.PARALLEL_BRANCH, OperationSubType.MAP_ITERATION})

_NAMED = 3  # operations that the warning names

_log = logging.getLogger("durapool")


class _Found(NamedTuple):
    updates: list[Update]
    failed: bool  # whether what encloses it must be reopened for it


def updates_to_reopen(journal: Journal, event: Payload, handler: str) -> list[Update]:
    """The updates that reopen a finished execution, parents before children; none if nothing failed in it.

    Args:
        journal: of the finished execution.
        event: its recorded event, for the START that reopens it.
        handler: the target of the handler that runs now.
    """
    execution = journal.execution
    assert execution is not None
    below = _below(journal, None, execution)
    if not below.failed and execution.status is OperationStatus.SUCCEEDED:
        return []
    start = Update(
        EXECUTION_ID, Action.START, OperationType.EXECUTION, payload=event, details={DETAIL_HANDLER: handler}
    )
    return [start, *below.updates]


def _below(journal: Journal, parent_id: str | None, parent: Operation) -> _Found:
    """What is to be reopened among the children of an operation, and below them."""
    children = journal.children(parent_id)
    culprits = _culprits(children, parent)
    updates: list[Update] = []
    failed = False
    for child in children:
        if child.status is OperationStatus.FAILED and child.id not in culprits:
            continue
        inner = _below(journal, child.id, child) if child.type in _ENCLOSING else _Found([], False)
        if not child.status.is_terminal:
            updates += inner.updates  # runs again with its parent, but is no reason for it
        elif inner.failed or child.id in culprits:
            updates += [*_restart(child), *inner.updates]
            failed = True
    return _Found(updates, failed)


def _culprits(children: list[Operation], parent: Operation) -> set[str]:
    """The failed children that are the failure of their parent, or of a branch."""
    failed = [
        child
        for child in children
        if child.status is OperationStatus.FAILED and child.type in (OperationType.STEP, *_ENCLOSING)
    ]
    if parent.sub_type in _BATCHES:
        last = {child.branch: child.id for child in children}  # of each branch, where the batch is FLAT
        return {child.id for child in failed if child.sub_type in _BRANCHES or last[child.branch] == child.id}
    if parent.status is OperationStatus.SUCCEEDED or not failed:
        return set()
    return {failed[-1].id}


def _restart(operation: Operation) -> list[Update]:
    start = update_of(operation, Action.START)._replace(details=_details(operation.details))
    if operation.type is OperationType.STEP:
        return [start, update_of(operation, Action.READY)]  # READY: the next attempt is a first one, not interrupted
    return [start]


def _details(details: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {key: value for key, value in (details or {}).items() if key != DETAIL_REPLAY_CHILDREN} or None


def warn_of_kept(journal: Journal, updates: Sequence[Update]) -> None:
    """Log which operations keep a result that they may have made of a partial batch. Before `updates` are applied."""
    reopened = {update.operation_id for update in updates}
    kept = {one.id: one for update in updates for one in _kept_after(journal, update.operation_id, reopened)}
    if not kept:
        return
    names = [operation.name or str(operation.sub_type or operation.type) for operation in kept.values()]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    _log.warning(
        "Execution %s runs again what failed. These came after a batch with failures, had succeeded, and keep their "
        "results: %s%s. What must follow the whole batch belongs in plain code after it.",
        journal.execution_id,
        ", ".join(names[:_NAMED]),
        more,
    )


def _kept_after(journal: Journal, operation_id: str, reopened: set[str]) -> Iterator[Operation]:
    """The steps and contexts after an operation that had succeeded, failures in it tolerated, and now changes."""
    operation = journal.get(operation_id)
    if operation is None or operation.status is not OperationStatus.SUCCEEDED or operation.sub_type in _BRANCHES:
        return
    siblings = dropwhile(lambda one: one.id != operation_id, journal.children(operation.parent_id))
    for sibling in islice(siblings, 1, None):
        if (
            sibling.status is OperationStatus.SUCCEEDED
            and sibling.type in (OperationType.STEP, OperationType.CONTEXT)
            and sibling.branch == operation.branch  # else it is of another branch of a FLAT batch, beside it
            and sibling.id not in reopened
        ):
            yield sibling
