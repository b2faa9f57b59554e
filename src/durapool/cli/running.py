"""``durapool run`` and ``durapool resume``: run a handler until its execution ends, or until a signal says stop."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from durapool.cli.errors import Terminated, say
from durapool.cli.options import (
    as_json,
    checked_executor,
    executor_option,
    no_retry_option,
    open_existing,
    read_input,
    store_option,
)
from durapool.exceptions import ExecutionFailedError

if TYPE_CHECKING:
    from durapool.config import RetryStrategy


@click.command(no_args_is_help=True, short_help="Run a handler, or go on with it.")
@click.argument("target")
@click.option("--input", "input_text", metavar="JSON|@FILE|-", help="The event: JSON text, a file, or stdin.")
@click.option("--id", "execution_id", metavar="ID", help="The execution's id; a known one goes on. [default: new]")
@store_option
@executor_option
@click.option(
    "--checkpoint",
    type=click.Choice(["sync", "async"]),
    help="sync: a step counts once it is on disk; async: faster, a crash may repeat the last few steps."
    " [default: DURAPOOL_CHECKPOINT, else sync]",
)
@no_retry_option
@click.option("--retry-failed", is_flag=True, help="Reopen a finished execution: only what failed runs again.")
def run(
    target: str,
    input_text: str | None,
    execution_id: str | None,
    store: str | None,
    executor: str | None,
    checkpoint: str | None,
    no_retry: bool,
    retry_failed: bool,
) -> None:
    """Run the handler TARGET (module:name or file.py:name) and print its result as JSON.

    The result is the last thing on stdout; messages go to stderr. Run again with the same --id, it goes on from the
    last checkpoint; a finished execution only prints what was recorded.

    \b
    Examples:
      durapool run jobs.py:main
      durapool run jobs.py:main --id nightly --executor process:4 --input '{"days": 3}'
      durapool run package.jobs:main --input @event.json
      generate-event | durapool run jobs.py:main --input -
    """
    event = read_input(input_text)
    checked_executor(executor)
    from durapool import execution
    from durapool.handlers import load_handler

    handler = load_handler(target)
    if execution_id is None:
        execution_id = execution.new_execution_id()
        say(f"execution {execution_id}")
    with _explained(execution_id, store):
        result = execution.run(
            handler,
            event,
            id=execution_id,
            store=store,
            executor=executor,
            checkpoint=checkpoint,
            retry_failed=retry_failed,
            default_retry=_default_retry(no_retry),
            handler_name=target,
        )
    _print_result(result)


@click.command(no_args_is_help=True, short_help="Go on with an execution.")
@click.argument("execution_id", metavar="ID")
@click.option("--failed", is_flag=True, help="Reopen a finished execution: only what failed runs again.")
@store_option
@executor_option
@no_retry_option
def resume(execution_id: str, failed: bool, store: str | None, executor: str | None, no_retry: bool) -> None:
    """Go on with the execution ID: the recorded handler, with the recorded event.

    \b
    Examples:
      durapool resume nightly
      durapool resume nightly --failed      # after the bug is fixed
    """
    checked_executor(executor)
    open_existing(store).close()
    from durapool import execution

    with _explained(execution_id, store):
        result = execution.resume(
            execution_id,
            store=store,
            executor=executor,
            retry_failed=failed,
            default_retry=_default_retry(no_retry),
        )
    _print_result(result)


def _default_retry(no_retry: bool) -> RetryStrategy | None:
    if not no_retry:
        return None
    from durapool.retries import RetryPresets

    return RetryPresets.none()


def _print_result(result: Any) -> None:
    click.echo(as_json(result, pretty=sys.stdout.isatty()))


@contextmanager
def _explained(execution_id: str, store: str | None) -> Iterator[None]:
    """Turn signals into exceptions, and say how to go on after one and after a failure."""
    go_on = shlex.join(["durapool", "resume", execution_id, *(["--store", store] if store else [])])
    try:
        with _stoppable():
            yield
    except Terminated as stop:
        say(f"{execution_id} stopped by {signal.Signals(stop.signal_number).name}; go on with: {go_on}")
        raise
    except ExecutionFailedError as error:
        error.add_note(f"after a fix, run only what failed again: {go_on} --failed")
        raise


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and SIGHUP raise `Terminated` in the main thread; a second one ends the process at once.

    A signal that is ignored stays ignored: that is how nohup works.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Terminated(number)

    before = {
        number: signal.signal(number, stop)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
