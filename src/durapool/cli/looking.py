"""``durapool ls``, ``show`` and ``history``: they read the store and change nothing."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

import click

from durapool.cli.ages import METAVAR, age
from durapool.cli.errors import say
from durapool.cli.options import as_json, id_argument, json_option, known, open_existing, store_option
from durapool.exceptions import ExecutionNotFoundError, StoreError, ValidationError
from durapool.records import OperationStatus

if TYPE_CHECKING:
    from rich.tree import Tree

    from durapool.stores.base import ExecutionSummary, Store

_NEVER = {OperationStatus.READY, OperationStatus.CANCELLED}  # only operations have these
_STATUSES = [status.value.lower() for status in OperationStatus if status not in _NEVER]
_json = json_option("JSON, for machines.")


@click.command()
@click.option("--status", type=click.Choice(_STATUSES, case_sensitive=False), help="Only executions of this status.")
@click.option("--newer-than", type=age, metavar=METAVAR, help="Only executions that began since: 1d, 12h, 45min.")
@click.option("--older-than", type=age, metavar=METAVAR, help="Only executions that began before: 30d, 2w.")
@_json
@store_option
def ls(
    status: str | None, newer_than: float | None, older_than: float | None, json_output: bool, store: str | None
) -> None:
    """List the executions, newest first.

    \b
    Examples:
      durapool ls
      durapool ls --status failed --newer-than 1d
      durapool ls --json | jq -r '.[].id'
    """
    from durapool.cli import render

    try:
        with closing(open_existing(store)) as opened:
            found, place = opened.executions(), opened.label
    except ExecutionNotFoundError:
        if store is not None:
            raise
        found, place = [], "this folder"
    now = time.time()
    summaries = [
        each
        for each in found
        if (status is None or each.status.value == status.upper())
        and (newer_than is None or each.started_at >= now - newer_than)
        and (older_than is None or each.started_at < now - older_than)
    ]
    if json_output:
        click.echo(as_json([render.summary_dict(summary) for summary in summaries], pretty=True))
    elif summaries:
        render.console().print(render.executions_table(summaries))
    else:
        kind = " such" if found else ""
        say(f"no{kind} executions in {place}")


@click.command(no_args_is_help=True, short_help="Show an execution's operations as a tree.")
@id_argument
@click.option("--all", "everything", is_flag=True, help="Every operation: long batches are not folded.")
@click.option("--watch", is_flag=True, help="Show it again as it changes, until the execution has ended.")
@_json
@store_option
def show(execution_id: str, everything: bool, watch: bool, json_output: bool, store: str | None) -> None:
    """Show the operations of the execution ID as a tree, with status, duration, attempts and errors.

    \b
    Examples:
      durapool show nightly
      durapool show nightly --watch
      durapool show nightly --all | less
      durapool show nightly --json | jq '.operations[] | select(.status == "FAILED")'
    """
    from durapool.cli import render
    from durapool.cli.tree import fold

    if watch and json_output:
        raise ValidationError("--watch is for people; machines run `durapool history ID --json` as often as they like")
    with closing(open_existing(store)) as opened:
        summary = known(opened, execution_id)
        if json_output:
            operations = [render.operation_dict(one) for one in fold(opened.read(execution_id))]
            click.echo(as_json(render.summary_dict(summary) | {"operations": operations}, pretty=True))
        elif watch:
            from durapool.cli.watching import watch_tree

            watch_tree(lambda: known(opened, execution_id), lambda summary: _tree(opened, summary, everything))
        else:
            render.console().print(_tree(opened, summary, everything))


def _tree(store: Store, summary: ExecutionSummary, everything: bool) -> Tree:
    from durapool.cli import render
    from durapool.cli.tree import fold, grow

    root = grow(fold(store.read(summary.id)))
    if root is None:
        raise StoreError(f"{store.label} lists {summary.id!r} but holds no records of it")
    return render.operation_tree(summary, root, everything)


@click.command(no_args_is_help=True, short_help="Show an execution's events in order.")
@id_argument
@_json
@store_option
def history(execution_id: str, json_output: bool, store: str | None) -> None:
    """Show all that happened in the execution ID, in order.

    With --json the events have the shape of Lambda's GetDurableExecutionHistory.

    \b
    Examples:
      durapool history nightly
      durapool history nightly --json | jq '.Events[-1]'
    """
    from durapool import history as rendering
    from durapool.cli import render

    with closing(open_existing(store)) as opened:
        known(opened, execution_id)
        events = rendering.history(opened.read(execution_id))
    if json_output:
        click.echo(as_json({"Events": events}, pretty=True))
    else:
        render.console().print(render.events_table(events))
