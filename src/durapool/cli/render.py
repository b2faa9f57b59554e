"""How executions look on a terminal and in a pipe.

In a pipe lines are as long as they need to be; on a terminal they fit its width, 40 columns included. Names and
messages come from users and errors: control characters in them are shown escaped, and nothing in them is markup.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from durapool.cli.tree import Folded, Node, branch_counts, visible
from durapool.records import DETAIL_CALLBACK_ID, DETAIL_TOTAL, Operation, OperationStatus, OperationType
from durapool.wording import clean, duration

if TYPE_CHECKING:
    from durapool.stores.base import ExecutionSummary

_UNLIMITED = 100_000
_NARROW = 72
_STYLES = {
    OperationStatus.SUCCEEDED: "green",
    OperationStatus.FAILED: "bold red",
    OperationStatus.TIMED_OUT: "bold red",
    OperationStatus.CANCELLED: "yellow",
    OperationStatus.STOPPED: "yellow",
    OperationStatus.PENDING: "cyan",
    OperationStatus.READY: "cyan",
    OperationStatus.STARTED: "blue",
}


class _Console(Console):
    """rich's console, but a closed pipe is an exception like any other."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """Stdout as rich sees it; NO_COLOR, TERM and COLUMNS are honoured."""
    fixed = sys.stdout.isatty() or "COLUMNS" in os.environ
    return _Console(file=sys.stdout, width=None if fixed else _UNLIMITED, highlight=False, markup=False, emoji=False)


def moment(at: float) -> str:
    """An epoch time as local time: today's without the date."""
    then = time.localtime(at)
    today = then[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", then)


def iso(at: float | None) -> str | None:
    """An epoch time as ISO 8601 text in UTC."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()


def executions_table(summaries: list[ExecutionSummary]) -> Table:
    """What ``durapool ls`` prints; on a narrow terminal without the handler and the duration."""
    narrow = console().width < _NARROW
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("ID", overflow="fold")
    table.add_column("STATUS", no_wrap=True)
    table.add_column("STARTED", overflow="fold")
    if not narrow:
        table.add_column("TOOK", no_wrap=True)
        table.add_column("HANDLER", overflow="fold")
    for summary in summaries:
        took = "" if summary.ended_at is None else duration(summary.ended_at - summary.started_at)
        row = [Text(clean(summary.id)), _status(summary.status), Text(moment(summary.started_at))]
        table.add_row(*row, *([] if narrow else [Text(took), Text(clean(summary.handler))]))
    return table


def events_table(events: list[dict[str, Any]]) -> Table:
    """What ``durapool history`` prints."""
    narrow = console().width < _NARROW
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("#", justify="right", no_wrap=True)
    if not narrow:
        table.add_column("TIME", overflow="fold")
    table.add_column("EVENT", no_wrap=True)
    table.add_column("NAME", overflow="fold")
    if not narrow:
        table.add_column("OPERATION", overflow="fold")
    table.add_column("ERROR", overflow="fold")
    for event in events:
        row = [str(event["EventId"]), _event_time(event["EventTimestamp"]), event["EventType"], event.get("Name") or ""]
        row += [event.get("Id") or "", _event_error(event)]
        if narrow:
            row = [row[0], *row[2:4], row[5]]
        table.add_row(*(Text(clean(cell)) for cell in row))
    return table


def _event_time(at: Any) -> str:
    return moment(at.timestamp() if isinstance(at, datetime) else float(at))


def _event_error(event: dict[str, Any]) -> str:
    """Type and message of the error in an event's details; empty where there is none."""
    error = event.get(f"{event['EventType']}Details", {}).get("Error", {}).get("Payload") or {}
    return _error_text(error.get("ErrorType"), error.get("ErrorMessage")) if error else ""


def _error_text(kind: str | None, message: str | None) -> str:
    lines = (message or "").splitlines() or [""]
    return f"{clean(kind or 'error')}: {clean(lines[0])}" + (" ..." if len(lines) > 1 else "")


def operation_tree(summary: ExecutionSummary, root: Node, everything: bool) -> Tree:
    """What ``durapool show`` prints."""
    head = Text.assemble((clean(summary.id), "bold"), "  ", _status(summary.status))
    if summary.ended_at is not None:
        head.append(f"  {duration(summary.ended_at - summary.started_at)}")
    else:
        head.append(f"  since {moment(summary.started_at)}")
    head.append(f"  {clean(summary.handler)}", "dim")
    _append_error(head, root.operation)
    tree = Tree(head, guide_style="dim")
    open_branches = [(tree, root)]
    while open_branches:
        limb, node = open_branches.pop()
        for child in visible(node.children, everything):
            if isinstance(child, Folded):
                limb.add(Text(f"... {child.count} more {child.status.value.lower().replace('_', ' ')}", "dim"))
            else:
                below = limb.add(_label(child, under_ended=node.operation.status.is_terminal))
                open_branches.append((below, child))
    return tree


def _label(node: Node, under_ended: bool) -> Text:
    operation = node.operation
    kind = str(operation.sub_type or operation.type)
    text = Text(clean(operation.name) if operation.name else kind)
    if operation.name:
        text.append(f"  {kind}", "dim")
    text.append("  ").append_text(_status(operation.status))
    if operation.ended_at is not None:
        text.append(f"  {duration(operation.ended_at - operation.started_at)}")
    elif under_ended:
        text.append("  cut off", "dim")
    else:
        text.append(f"  since {moment(operation.started_at)}")
        if operation.due_at is not None:
            text.append(f", due {moment(operation.due_at)}")
    if operation.attempt > 1:
        text.append(f"  {operation.attempt} attempts")
    total = (operation.details or {}).get(DETAIL_TOTAL)
    if total is not None:
        text.append(f"  {_batch(total, node)}")
    callback_id = (operation.details or {}).get(DETAIL_CALLBACK_ID)
    if callback_id is not None and operation.ended_at is None:
        text.append(f"  callback id {clean(str(callback_id))}")
    _append_error(text, operation)
    return text


def _batch(total: int, node: Node) -> str:
    counts = [f"{count} {status.value.lower()}" for status, count in sorted(branch_counts(node).items())]
    return f"{total} branches" + (f": {', '.join(counts)}" if counts else "")


def _append_error(text: Text, operation: Operation) -> None:
    if operation.error is not None:
        text.append(f"\n{_error_text(operation.error.type, operation.error.message)}", "red")


def _status(status: OperationStatus) -> Text:
    return Text(status.value, _STYLES[status])


def operation_dict(operation: Operation) -> dict[str, Any]:
    """An operation for ``--json``; absent fields are None."""
    details = operation.details or {}
    return {
        "id": operation.id,
        "parent_id": operation.parent_id,
        "type": operation.type.value,
        "sub_type": operation.sub_type and operation.sub_type.value,
        "name": operation.name,
        "branch": operation.branch,
        "status": operation.status.value,
        "attempt": operation.attempt if operation.type is OperationType.STEP else None,
        "started_at": iso(operation.started_at),
        "ended_at": iso(operation.ended_at),
        "due_at": iso(operation.due_at),
        "total": details.get(DETAIL_TOTAL),
        "callback_id": details.get(DETAIL_CALLBACK_ID),
        "error": operation.error and operation.error.to_dict(),
    }


def summary_dict(summary: ExecutionSummary) -> dict[str, Any]:
    """An execution for ``--json``; the input as recorded, where it is text."""
    return {
        "id": summary.id,
        "handler": summary.handler,
        "status": summary.status.value,
        "started_at": iso(summary.started_at),
        "ended_at": iso(summary.ended_at),
        "records": summary.records,
    }
