"""The tree of operations that ``durapool show`` prints. Pure: records in, nodes out; rich is not known here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from durapool.records import Operation, OperationStatus, OperationType, Record

SHOWN = 12
"""So many siblings of one status are shown before the rest is folded."""


@dataclass(slots=True)
class Node:
    """An operation and those below it, branches in index order, others in order of start."""

    operation: Operation
    children: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Folded:
    """What stands for siblings that are not shown."""

    count: int
    status: OperationStatus


def fold(records: Iterable[Record]) -> list[Operation]:
    """All operations of a log in their present state, in order of start; the EXECUTION is the first."""
    operations: dict[str, Operation] = {}
    for record in records:
        update = record.update
        operation = operations.get(update.operation_id)
        if operation is None:
            operation = operations[update.operation_id] = Operation.begin(update)
        operation.apply(record)
    return list(operations.values())


def grow(operations: Iterable[Operation]) -> Node | None:
    """The tree under the EXECUTION; None for an empty log. What has no known parent hangs under the EXECUTION."""
    nodes = {operation.id: Node(operation) for operation in operations}
    root = next((node for node in nodes.values() if node.operation.type is OperationType.EXECUTION), None)
    if root is None:
        return None
    for node in nodes.values():
        if node is root:
            continue
        parent = nodes.get(node.operation.parent_id or "", root)
        parent.children.append(node)
    for node in nodes.values():
        node.children.sort(key=lambda child: -1 if child.operation.branch is None else child.operation.branch)
    return root


def visible(children: list[Node], everything: bool) -> Iterator[Node | Folded]:
    """The children to show; of long runs of siblings the first few of each status, then what was left out."""
    left_out: Counter[OperationStatus] = Counter()
    seen: Counter[OperationStatus] = Counter()
    for child in children:
        status = child.operation.status
        seen[status] += 1
        if everything or len(children) <= SHOWN or seen[status] <= _quota(status):
            yield child
        else:
            left_out[status] += 1
    for status, count in left_out.items():
        yield Folded(count, status)


def _quota(status: OperationStatus) -> int:
    return SHOWN // 4 if status is OperationStatus.SUCCEEDED else SHOWN


def branch_counts(node: Node) -> Counter[OperationStatus]:
    """How many branches of a batch have which status; empty where branches have no operation of their own (FLAT)."""
    return Counter(
        child.operation.status
        for child in node.children
        if child.operation.branch is not None and child.operation.type is OperationType.CONTEXT
    )
