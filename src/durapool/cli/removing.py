"""``durapool rm`` and ``durapool gc``: executions are forgotten, after a question."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import click

from durapool.cli.ages import METAVAR, age
from durapool.cli.errors import say
from durapool.cli.options import as_json, id_argument, json_option, known, open_existing, store_option
from durapool.exceptions import ExecutionAlreadyRunningError, ExecutionNotFoundError, ValidationError
from durapool.records import TERMINAL, OperationStatus
from durapool.wording import clean, counted

if TYPE_CHECKING:
    from durapool.stores.base import ExecutionSummary, Store

_ENDS = sorted(status.value.lower() for status in TERMINAL - {OperationStatus.CANCELLED})
_NAMED = 10  # executions that a question names


@click.command(no_args_is_help=True, short_help="Forget an execution.")
@id_argument
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@store_option
def rm(execution_id: str, yes: bool, store: str | None) -> None:
    """Forget the execution ID: its results and its history are deleted.

    It asks first; where nobody can be asked (stdin is no terminal) it wants --yes.

    \b
    Examples:
      durapool rm nightly
      durapool rm nightly --yes
    """
    with closing(open_existing(store)) as opened:
        summary = known(opened, execution_id)
        question = f"Delete {clean(execution_id)} ({summary.status.value}, {summary.records} records)?"
        if not yes and not _confirmed(question):
            say(f"kept {clean(execution_id)}")
            return
        opened.delete(execution_id)
    say(f"deleted {clean(execution_id)}")


@click.command(no_args_is_help=True, short_help="Forget executions that ended long ago.")
@click.option(
    "--older-than", type=age, metavar=METAVAR, required=True, help="Of those that ended so long ago: 30d, 12h, 2w."
)
@click.option("--status", type=click.Choice(_ENDS, case_sensitive=False), help="Only those that ended so.")
@click.option("--dry-run", is_flag=True, help="Only list them.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option("The ids that were deleted (with --dry-run: that would be), as a JSON list.")
@store_option
def gc(older_than: float, status: str | None, dry_run: bool, yes: bool, json_output: bool, store: str | None) -> None:
    """Forget all executions that ended longer ago than an age. Those that have not ended are never touched.

    It asks first; where nobody can be asked (stdin is no terminal) it wants --yes.

    \b
    Examples:
      durapool gc --older-than 30d
      durapool gc --older-than 12h --status succeeded --yes
      durapool gc --older-than 2w --dry-run
    """
    before = time.time() - older_than
    with closing(open_existing(store)) as opened:
        found = [each for each in opened.executions() if _has_ended(each, before, status)]
        if not found or dry_run:
            _tell([summary.id for summary in found], json_output, "would delete", opened.label)
            return
        if not yes and not _confirmed(_question(found)):
            say(f"kept {counted(len(found), 'execution')}")
            return
        deleted = [summary.id for summary in found if _delete(opened, summary.id)]
        _tell(deleted, json_output, "deleted", opened.label)


def _has_ended(summary: ExecutionSummary, before: float, status: str | None) -> bool:
    if not summary.status.is_terminal or summary.ended_at is None or summary.ended_at > before:
        return False
    return status is None or summary.status.value == status.upper()


def _question(found: list[ExecutionSummary]) -> str:
    names = ", ".join(clean(summary.id) for summary in found[:_NAMED])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"Delete {counted(len(found), 'execution')}: {names}{more}?"


def _delete(store: Store, execution_id: str) -> bool:
    """False where it was reopened meanwhile and runs, or somebody else was faster."""
    try:
        store.delete(execution_id)
    except ExecutionAlreadyRunningError as error:
        say(f"kept {clean(execution_id)}: {error}")
        return False
    except ExecutionNotFoundError:
        return False
    return True


def _tell(ids: list[str], json_output: bool, what: str, label: str) -> None:
    if json_output:
        click.echo(as_json(ids, pretty=True))
        return
    for execution_id in ids:
        click.echo(clean(execution_id))
    say(f"{what} {counted(len(ids), 'execution')} of {label}")


def _confirmed(question: str) -> bool:
    """Ask, on stderr; only somebody at a terminal is asked."""
    if not _somebody_is_there():
        raise ValidationError("stdin is no terminal, so nobody can be asked; nothing was deleted. --yes does not ask")
    try:
        return click.confirm(question, err=True)
    except click.Abort as abort:
        click.echo(err=True)
        if isinstance(abort.__context__, EOFError):
            raise ValidationError("nobody answered, so nothing was deleted. --yes does not ask") from None
        raise


def _somebody_is_there() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()
