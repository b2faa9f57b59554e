"""``durapool ls``, ``show`` and ``history``: they read the store and change nothing."""

from __future__ import annotations

from contextlib import closing

import click

from durapool.cli.errors import say
from durapool.cli.options import as_json, known, open_existing, store_option
from durapool.exceptions import ExecutionNotFoundError, StoreError
from durapool.records import OperationStatus

_NEVER = {OperationStatus.READY, OperationStatus.CANCELLED}  # only operations have these
_STATUSES = [status.value.lower() for status in OperationStatus if status not in _NEVER]
_json_option = click.option("--json", "json_output", is_flag=True, help="JSON, for machines.")


@click.command()
@click.option("--status", type=click.Choice(_STATUSES, case_sensitive=False), help="Only executions of this status.")
@_json_option
@store_option
def ls(status: str | None, json_output: bool, store: str | None) -> None:
    """List the executions, newest first.

    \b
    Examples:
      durapool ls
      durapool ls --status failed
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
    summaries = [summary for summary in found if status is None or summary.status.value == status.upper()]
    if json_output:
        click.echo(as_json([render.summary_dict(summary) for summary in summaries], pretty=True))
    elif summaries:
        render.console().print(render.executions_table(summaries))
    else:
        say(f"no {f'{status} ' if status else ''}executions in {place}")


@click.command(no_args_is_help=True, short_help="Show an execution's operations as a tree.")
@click.argument("execution_id", metavar="ID")
@click.option("--all", "everything", is_flag=True, help="Every operation: long batches are not folded.")
@_json_option
@store_option
def show(execution_id: str, everything: bool, json_output: bool, store: str | None) -> None:
    """Show the operations of the execution ID as a tree, with status, duration, attempts and errors.

    \b
    Examples:
      durapool show nightly
      durapool show nightly --all | less
      durapool show nightly --json | jq '.operations[] | select(.status == "FAILED")'
    """
    from durapool.cli import render
    from durapool.cli.tree import fold, grow

    with closing(open_existing(store)) as opened:
        summary = known(opened, execution_id)
        operations = fold(opened.read(execution_id))
        label = opened.label
    if json_output:
        document = render.summary_dict(summary) | {"operations": [render.operation_dict(one) for one in operations]}
        click.echo(as_json(document, pretty=True))
        return
    root = grow(operations)
    if root is None:
        raise StoreError(f"{label} lists {execution_id!r} but holds no records of it")
    render.console().print(render.operation_tree(summary, root, everything))


@click.command(no_args_is_help=True, short_help="Show an execution's events in order.")
@click.argument("execution_id", metavar="ID")
@_json_option
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
