"""``durapool callback`` and ``durapool rm``: they change what is in the store from outside."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import click

from durapool.cli.errors import say
from durapool.cli.options import known, open_existing, store_option
from durapool.cli.tree import fold
from durapool.exceptions import InvalidStateError, ValidationError
from durapool.records import DETAIL_CALLBACK_ID, ErrorObject, Operation, OperationType

if TYPE_CHECKING:
    from durapool.stores.base import SignalRecord, Store

_SUCCEED, _FAIL, _HEARTBEAT = "succeed", "fail", "heartbeat"


@click.command(no_args_is_help=True, short_help="Answer an open callback.")
@click.argument("callback_id")
@click.argument("answer", type=click.Choice([_SUCCEED, _FAIL, _HEARTBEAT]))
@click.option("--result", metavar="TEXT", help="With succeed: the callback's result, handed to its serdes.")
@click.option("--error", metavar="TEXT", help="With fail: what went wrong.")
@store_option
def callback(callback_id: str, answer: str, result: str | None, error: str | None, store: str | None) -> None:
    """Answer the open callback CALLBACK_ID.

    A running execution takes the answer up by itself; one that does not run takes it up when it is resumed.
    `durapool show` lists the ids of open callbacks.

    \b
    Examples:
      durapool callback 3f2a... succeed --result '{"approved": true}'
      durapool callback 3f2a... fail --error "rejected by finance"
      durapool callback 3f2a... heartbeat
    """
    from durapool.stores.base import SignalRecord

    if result is not None and answer != _SUCCEED:
        raise ValidationError(f"--result goes with succeed, not with {answer}")
    if error is not None and answer != _FAIL:
        raise ValidationError(f"--error goes with fail, not with {answer}")
    signal = SignalRecord(
        kind=answer,
        callback_id=callback_id,
        payload=result,
        error=ErrorObject(message=error or "the callback was reported as failed") if answer == _FAIL else None,
        at=time.time(),
    )
    with closing(open_existing(store)) as opened:
        execution_id = _holder(opened, signal)
        opened.post(execution_id, signal)
    say(f"{answer} noted for {execution_id}")


def _holder(store: Store, signal: SignalRecord) -> str:
    """The execution that waits for this callback.

    Raises:
        InvalidStateError: it has ended, or an answer to it is under way.
        ValidationError: nobody knows it.
    """
    for execution_id, operation in _callbacks(store, signal.callback_id):
        name = f"callback {signal.callback_id!r} of {execution_id}"
        if operation.status.is_terminal:
            raise InvalidStateError(f"{name} has already ended: {operation.status.value}")
        for earlier in store.signals(execution_id):
            if earlier.callback_id == signal.callback_id and earlier.kind in (_SUCCEED, _FAIL):
                raise InvalidStateError(f"{name} is already answered ({earlier.kind}); the next run takes it up")
        summary = store.find(execution_id)
        if summary is None or summary.status.is_terminal:
            raise InvalidStateError(f"{name} waits no longer: its execution has ended")
        return execution_id
    raise ValidationError(
        f"no callback {signal.callback_id!r} in {store.label}; `durapool show ID` lists those of an execution"
    )


def _callbacks(store: Store, callback_id: str | None) -> Iterator[tuple[str, Operation]]:
    """Every callback of this id; those of executions that have not ended come first."""
    for summary in sorted(store.executions(), key=lambda summary: summary.status.is_terminal):
        for operation in fold(store.read(summary.id)):
            if operation.type is OperationType.CALLBACK and callback_id == (operation.details or {}).get(
                DETAIL_CALLBACK_ID
            ):
                yield summary.id, operation


@click.command(no_args_is_help=True, short_help="Forget an execution.")
@click.argument("execution_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_option
def rm(execution_id: str, yes: bool, store: str | None) -> None:
    """Forget the execution ID: its results and its history are deleted.

    \b
    Examples:
      durapool rm nightly
      durapool rm nightly --yes
    """
    from durapool.wording import clean

    with closing(open_existing(store)) as opened:
        summary = known(opened, execution_id)
        question = f"Delete {clean(execution_id)} ({summary.status.value}, {summary.records} records)?"
        if not yes and not _confirmed(question):
            say(f"kept {clean(execution_id)}")
            return
        opened.delete(execution_id)
    say(f"deleted {clean(execution_id)}")


def _confirmed(question: str) -> bool:
    try:
        return click.confirm(question, err=True)
    except click.Abort as abort:
        click.echo(err=True)
        if isinstance(abort.__context__, EOFError):
            raise ValidationError("nobody answered, so nothing was deleted; --yes deletes without asking") from None
        raise
