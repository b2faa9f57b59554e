"""Options and arguments that several commands share, and how their text is read."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
from click.shell_completion import CompletionItem

from durapool.exceptions import DurableExecutionsError, ExecutionNotFoundError, ValidationError

if TYPE_CHECKING:
    from durapool.stores.base import ExecutionSummary, Store

F = TypeVar("F", bound=Callable[..., Any])


def store_option(command: F) -> F:
    """``--store``: where the journals are."""
    return click.option(
        "--store",
        metavar="PATH",
        shell_complete=_complete_file,
        help="The journal's file. [default: as configured, else .durapool/journal.db]",
    )(command)


def id_argument(command: F) -> F:
    """``ID``: of an execution; shells complete it from the store."""
    return click.argument("execution_id", metavar="ID", shell_complete=_complete_id)(command)


def json_option(meaning: str) -> Callable[[F], F]:
    """``--json``: output for machines."""
    return click.option("--json", "json_output", is_flag=True, help=meaning)


def quiet_option(command: F) -> F:
    """``--quiet``: no progress."""
    return click.option("--quiet", "-q", is_flag=True, help="Show no progress.")(command)


def checkpoint_option(command: F) -> F:
    """``--checkpoint``: when a step counts."""
    return click.option(
        "--checkpoint",
        type=click.Choice(["sync", "async"]),
        help="sync: a step counts once it is on disk; async: faster, a crash may repeat the last few steps."
        " [default: as configured, else sync]",
    )(command)


def executor_option(command: F) -> F:
    """``--executor``: where branches run."""
    return click.option(
        "--executor",
        metavar="NAME",
        help="Where branches run: thread, process, process:N (workers), dask, dask:ADDRESS, ray or ray:ADDRESS."
        " The code's own choice comes first.",
    )(command)


def no_retry_option(command: F) -> F:
    """``--no-retry``: switch the default retry strategy of steps off."""
    return click.option("--no-retry", is_flag=True, help="Steps without a retry strategy of their own run once.")(
        command
    )


def checked_executor(text: str | None) -> str | None:
    """The executor's text, if it names one.

    Raises:
        ValidationError: it does not.
    """
    if text is not None:
        from durapool.executors import parse_executor

        parse_executor(text)
    return text


def progress_mode(quiet: bool, json_output: bool) -> str:
    """What the flags say of progress, else what is configured, else "auto".

    Raises:
        ValidationError: both flags, or a configured mode that does not exist.
    """
    from durapool.configuration import PROGRESS, configured
    from durapool.progress.views import JSON, MODES, QUIET

    if quiet and json_output:
        raise ValidationError("--quiet and --json exclude each other: --json is there to tell of progress")
    if quiet or json_output:
        return QUIET if quiet else JSON
    found = configured(PROGRESS)
    if found.value not in MODES:
        raise ValidationError(f"progress must be one of {', '.join(MODES)}, not {found.value!r} ({found.source})")
    return found.value


def _complete_file(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


def _complete_id(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids that begin so; none where the store cannot be read: a shell has no place for messages."""
    try:
        with closing(open_existing(context.params.get("store"))) as store:
            found = store.executions()
    except DurableExecutionsError:
        return []
    alike = [summary for summary in found if summary.id.startswith(incomplete)]
    return [CompletionItem(summary.id, help=summary.status.value) for summary in alike[:100]]


def open_existing(path: str | None) -> Store:
    """The store at `path`, else where `open_store` looks: to look into, so it is not made.

    Raises:
        ExecutionNotFoundError: there is none.
        StoreError: it cannot be used.
    """
    from durapool.configuration import STORE, configured
    from durapool.stores import open_store

    path = path or configured(STORE).value
    if not os.path.lexists(os.path.expanduser(path)):
        raise ExecutionNotFoundError(
            f"no store at {path!r}; name the one that you mean with --store or {STORE.variable}"
        )
    return open_store(path)


def known(store: Store, execution_id: str) -> ExecutionSummary:
    """The execution's row.

    Raises:
        ExecutionNotFoundError: there is none; the message names ids that look alike.
    """
    summary = store.find(execution_id)
    if summary is None:
        hint = _look_alikes(store, execution_id)
        raise ExecutionNotFoundError(f"no execution {execution_id!r} in {store.label}; {hint}")
    return summary


def _look_alikes(store: Store, execution_id: str) -> str:
    from difflib import get_close_matches

    ids = [summary.id for summary in store.executions()[:1000]]
    alike = [name for name in ids if name.startswith(execution_id)] if execution_id else []
    alike = (alike or get_close_matches(execution_id, ids))[:3]
    return f"did you mean {' or '.join(map(repr, alike))}?" if alike else "`durapool ls` lists them"


def read_input(text: str | None) -> Any:
    """The event that ``--input`` gives: JSON text, @file, or - for stdin; None when it is not given.

    Raises:
        ValidationError: the file cannot be read, or what it holds is not JSON.
    """
    if text is None:
        return None
    if text == "-":
        return _parse(_decode(sys.stdin.buffer.read(), "standard input"), "standard input")
    if text.startswith("@"):
        path = Path(text[1:])
        try:
            data = path.read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValidationError(f"--input: cannot read {str(path)!r}: {reason}") from error
        return _parse(_decode(data, str(path)), str(path))
    return _parse(text, "--input")


def _decode(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValidationError(f"{source} is not UTF-8 text: byte {error.start} is 0x{data[error.start]:02x}") from error


def _parse(text: str, source: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ValidationError(f"{source} is not JSON: {error.msg} at {place}{_pointer(text, error)}") from error
    except RecursionError as error:
        raise ValidationError(f"{source} is nested too deeply") from error
    except ValueError as error:
        raise ValidationError(f"{source} is not JSON: {error}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _pointer(text: str, error: json.JSONDecodeError) -> str:
    """The part of the line around the place, and a caret below it."""
    line = (text.splitlines() or [""])[error.lineno - 1 :][:1]
    if not line or not line[0].isprintable():
        return ""
    start = max(0, error.colno - 1 - 30)
    return f"\n  {line[0][start : start + 60]}\n  {' ' * (error.colno - 1 - start)}^"


def as_json(value: Any, pretty: bool) -> str:
    """The value as JSON text; what JSON does not have becomes its repr, so the text always parses."""
    try:
        plain = jsonable(value)
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False, indent=2 if pretty else None)
    except RecursionError:
        text = json.dumps(repr(value))
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), indent=2 if pretty else None)
    return text


def jsonable(value: Any) -> Any:
    """Plain JSON values, equal to `value` where JSON has its type, else its repr."""
    from datetime import datetime

    from durapool.results import BatchResult

    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else repr(value)
        case dict():
            return {key if isinstance(key, str) else repr(key): jsonable(item) for key, item in value.items()}
        case list() | tuple():
            return [jsonable(item) for item in value]
        case datetime():
            return value.isoformat()
        case BatchResult():
            return jsonable(value.to_dict())
        case _:
            return repr(value)
