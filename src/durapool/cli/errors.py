"""Errors as messages: one ``durapool: ...`` on stderr and an exit code, never a traceback of durapool's own.

What is shown of a traceback are the user's lines: of the handler that failed, or of the module that could not be
imported. ``--debug`` (or DURAPOOL_DEBUG=1) lets everything through as it was raised.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from durapool.cli.exits import ExitCode, exit_code_of
from durapool.exceptions import DurableExecutionsError, ExecutionFailedError, HandlerImportError, ValidationError

_OWN_CODE = str(Path(__file__).resolve().parents[1]) + os.sep
_HEADER = "Traceback (most recent call last):"


class Terminated(BaseException):
    """SIGTERM or SIGHUP. No SystemExit: user code could take one for its own, and a branch would record it."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by signal {signal_number}")
        self.signal_number = signal_number


class Group(click.Group):
    """A group whose commands end in an exit code and a message, whatever they raise."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; see the module's text for what becomes of its errors."""
        try:
            try:
                value = super().invoke(ctx)
                sys.stdout.flush()
            except (click.ClickException, click.exceptions.Exit, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001  (every error ends in a message and an exit code)
                if _wants_traceback(ctx):
                    traceback.print_exc()
                else:
                    _explain(error)
                ctx.exit(_code_of(error))
        except BrokenPipeError:
            _close_quietly()
            ctx.exit(ExitCode.CLOSED_PIPE)
        return value


def _wants_traceback(ctx: click.Context) -> bool:
    if ctx.params.get("debug"):
        return True
    from durapool.configuration import DEBUG, configured, is_true

    try:
        return is_true(configured(DEBUG), DEBUG)
    except ValidationError:
        return False  # it cannot be told, and what went wrong first is what is told


def say(message: str) -> None:
    """One message to the person at the terminal, on stderr."""
    click.echo(f"durapool: {message}", err=True)


def _code_of(error: BaseException) -> ExitCode:
    match error:
        case BrokenPipeError():
            raise error
        case KeyboardInterrupt() | click.Abort():
            return ExitCode.INTERRUPTED
        case Terminated():
            return ExitCode(128 + error.signal_number)
        case DurableExecutionsError():
            return exit_code_of(error)
        case Exception():
            return ExitCode.BUG
        case _:
            return ExitCode.HANDLER_FAILED


def _explain(error: BaseException) -> None:
    match error:
        case BrokenPipeError() | KeyboardInterrupt() | click.Abort() | Terminated():
            pass
        case DurableExecutionsError():
            _explain_ours(error)
        case Exception():
            traceback.print_exception(error)
            say("this is an error in durapool itself; what was recorded is kept")
        case _:
            _show_user_traceback(error)
            say(f"the handler was ended by {type(error).__name__}")


def _explain_ours(error: DurableExecutionsError) -> None:
    match error:
        case ExecutionFailedError(stack_trace=list(lines)) if lines:
            text = "\n".join(line.rstrip("\n") for line in lines)
            click.echo(text if text.startswith(_HEADER) else f"{_HEADER}\n{text}", err=True)
        case HandlerImportError(__cause__=BaseException() as cause):
            _show_user_traceback(cause)
    say(str(error))
    for note in getattr(error, "__notes__", ()):
        click.echo(note, err=True)


def _show_user_traceback(error: BaseException) -> None:
    """The frames that are neither durapool's nor the import system's, and the error; nothing where there are none."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((_OWN_CODE, "<frozen importlib")) and "/importlib/" not in frame.filename
    ]
    if frames or isinstance(error, SyntaxError):
        text = traceback.format_list(frames) + traceback.format_exception_only(error)
        click.echo(f"{_HEADER}\n{''.join(text)}", err=True, nl=False)


def _close_quietly() -> None:
    """Let the interpreter's last flush go nowhere: the pipe's reader has left and nobody wants to hear of it."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(devnull, stream.fileno())
        except (OSError, ValueError):
            pass
    os.close(devnull)
