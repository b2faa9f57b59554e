"""``durapool callback`` and ``durapool stop``: messages from outside to an execution."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import click

from durapool.cli.ages import METAVAR, age
from durapool.cli.errors import say
from durapool.cli.options import id_argument, known, open_existing, store_option
from durapool.cli.tree import fold
from durapool.exceptions import InvalidStateError, ValidationError
from durapool.records import DETAIL_CALLBACK_ID, ErrorObject, Operation, OperationStatus, OperationType
from durapool.wording import clean

if TYPE_CHECKING:
    from durapool.stores.base import SignalRecord, Store

_SUCCEED, _FAIL, _HEARTBEAT = "succeed", "fail", "heartbeat"
_LOOK_SECONDS = 0.1  # between two looks for the end of an execution that was asked to stop


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


@click.command(no_args_is_help=True, short_help="Stop an execution.")
@id_argument
@click.option("--reason", metavar="TEXT", help="Recorded with the end. [default: stopped by `durapool stop`]")
@click.option(
    "--wait",
    "patience",
    type=age,
    metavar=METAVAR,
    default="10s",
    show_default=True,
    help="How long to wait for a run to take it up.",
)
@store_option
def stop(execution_id: str, reason: str | None, patience: float, store: str | None) -> None:
    """Stop the execution ID, wherever on this machine it runs: it ends as STOPPED, and what was recorded stays.

    Branches in worker processes are ended at once. Threads cannot be: what they record later is rejected, and a step of
    the handler itself (outside of any batch) comes to its end first. `durapool resume ID --failed` goes on with it.

    \b
    Examples:
      durapool stop nightly
      durapool stop nightly --reason "wrong input" --wait 1min
    """
    from durapool.stopping import stop_execution

    with closing(open_existing(store)) as opened:
        known(opened, execution_id)
        name = clean(execution_id)
        if stop_execution(opened, execution_id, reason or "stopped by `durapool stop`"):
            say(f"stopped {name}, which did not run")
            return
        status = _await_end(opened, execution_id, patience)
    if status is None:
        say(f"asked {name} to stop; it has not yet: a step of the handler itself ends first")
    else:
        say(f"{name} has ended: {status.value}")


def _await_end(store: Store, execution_id: str, patience: float) -> OperationStatus | None:
    """How a running execution ended; None if it did not in so many seconds."""
    deadline = time.monotonic() + patience
    while True:
        summary = known(store, execution_id)
        if summary.status.is_terminal:
            return summary.status
        if time.monotonic() >= deadline:
            return None
        time.sleep(_LOOK_SECONDS)
