"""``durapool run`` and ``durapool resume``: run a handler until its execution ends, or until a signal says stop."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from durapool.cli.errors import Terminated, say
from durapool.cli.options import (
    as_json,
    checked_executor,
    checkpoint_option,
    executor_option,
    id_argument,
    json_option,
    jsonable,
    no_retry_option,
    open_existing,
    progress_mode,
    quiet_option,
    read_input,
    store_option,
)
from durapool.exceptions import ExecutionFailedError, ExecutionStoppedError
from durapool.progress.views import JSON

if TYPE_CHECKING:
    from durapool.config import RetryStrategy

_run_json = json_option("One JSON object a line on stdout, progress included; prints go to stderr.")


@click.command(no_args_is_help=True, short_help="Run a handler, or go on with it.")
@click.argument("target")
@click.option("--input", "input_text", metavar="JSON|@FILE|-", help="The event: JSON text, a file, or stdin.")
@click.option("--id", "execution_id", metavar="ID", help="The execution's id; a known one goes on. [default: new]")
@store_option
@executor_option
@checkpoint_option
@no_retry_option
@click.option("--retry-failed", is_flag=True, help="Reopen a finished execution: only what failed runs again.")
@quiet_option
@_run_json
def run(
    target: str,
    input_text: str | None,
    execution_id: str | None,
    store: str | None,
    executor: str | None,
    checkpoint: str | None,
    no_retry: bool,
    retry_failed: bool,
    quiet: bool,
    json_output: bool,
) -> None:
    """Run the handler TARGET (module:name or file.py:name) and print its result as JSON.

    The result is the last thing on stdout; messages and progress go to stderr: a live view on a terminal, else a line
    every few seconds. Run again with the same --id, it goes on from the last checkpoint; a finished execution only
    prints what was recorded.

    \b
    Examples:
      durapool run jobs.py:main
      durapool run jobs.py:main --id nightly --executor process:4 --input '{"days": 3}'
      durapool run package.jobs:main --input @event.json --quiet
      durapool run jobs.py:main --json | jq -c 'select(.event == "progress") | .batches[0].rate'
      generate-event | durapool run jobs.py:main --input -
    """
    event = read_input(input_text)
    checked_executor(executor)
    mode = progress_mode(quiet, json_output)
    from durapool import execution
    from durapool.handlers import load_handler

    with redirect_stdout(sys.stderr) if mode == JSON else nullcontext():
        handler = load_handler(target)
    if execution_id is None:
        execution_id = execution.new_execution_id()
        say(f"execution {execution_id}")
    with _explained(execution_id, store):
        _print_outcome(
            execution_id,
            mode,
            lambda: execution.run(
                handler,
                event,
                id=execution_id,
                store=store,
                executor=executor,
                checkpoint=checkpoint,
                retry_failed=retry_failed,
                progress=mode,
                default_retry=_default_retry(no_retry),
                handler_name=target,
            ),
        )


@click.command(no_args_is_help=True, short_help="Go on with an execution.")
@id_argument
@click.option("--failed", is_flag=True, help="Reopen a finished execution: only what failed runs again.")
@store_option
@executor_option
@checkpoint_option
@no_retry_option
@quiet_option
@_run_json
def resume(
    execution_id: str,
    failed: bool,
    store: str | None,
    executor: str | None,
    checkpoint: str | None,
    no_retry: bool,
    quiet: bool,
    json_output: bool,
) -> None:
    """Go on with the execution ID: the recorded handler, with the recorded event.

    \b
    Examples:
      durapool resume nightly
      durapool resume nightly --failed      # after the bug is fixed, or after `durapool stop`
    """
    checked_executor(executor)
    mode = progress_mode(quiet, json_output)
    open_existing(store).close()
    from durapool import execution

    with _explained(execution_id, store):
        _print_outcome(
            execution_id,
            mode,
            lambda: execution.resume(
                execution_id,
                store=store,
                executor=executor,
                checkpoint=checkpoint,
                retry_failed=failed,
                progress=mode,
                default_retry=_default_retry(no_retry),
            ),
        )


def _default_retry(no_retry: bool) -> RetryStrategy | None:
    if not no_retry:
        return None
    from durapool.retries import RetryPresets

    return RetryPresets.none()


def _print_outcome(execution_id: str, mode: str, call: Callable[[], Any]) -> None:
    """Run, and print the result; with --json as the last of the lines, "ended", whatever the execution ended with."""
    if mode != JSON:
        click.echo(as_json(call(), pretty=sys.stdout.isatty()))
        return
    from durapool.progress.lines import write_event

    write_event(sys.stdout, "started", execution_id, {})
    try:
        result = call()
    except (ExecutionFailedError, ExecutionStoppedError) as error:
        status = "STOPPED" if isinstance(error, ExecutionStoppedError) else "FAILED"
        write_event(sys.stdout, "ended", execution_id, {"status": status, "error": str(error)})
        raise
    write_event(sys.stdout, "ended", execution_id, {"status": "SUCCEEDED", "result": jsonable(result)})


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
    except ExecutionStoppedError as error:
        error.add_note(f"go on with: {go_on} --failed")
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
