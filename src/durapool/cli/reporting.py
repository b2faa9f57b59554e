"""``durapool report``: an execution as a page for people, or as a trace for Perfetto. It reads the store alone."""

from __future__ import annotations

import json
import re
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import click

from durapool.cli.errors import say
from durapool.cli.options import known, open_existing, store_option
from durapool.exceptions import StoreError, ValidationError

if TYPE_CHECKING:
    from durapool.report import Report


@click.command(no_args_is_help=True, short_help="Make a page that shows where the time went.")
@click.argument("execution_id", metavar="ID")
@click.option("-o", "--output", metavar="FILE", help="The page; - for stdout. [default: report-ID.html]")
@click.option("--trace", "trace_path", metavar="FILE", help="A trace for https://ui.perfetto.dev; alone, no page.")
@store_option
def report(execution_id: str, output: str | None, trace_path: str | None, store: str | None) -> None:
    """Make one HTML page of the execution ID: timeline, operations, errors, CPU use, what was replayed.

    The page needs no network and holds no inputs and no results. Of an execution that still runs it shows what was
    recorded so far.

    \b
    Examples:
      durapool report nightly
      durapool report nightly -o nightly.html --trace nightly.json
      durapool report nightly -o - | ssh desk 'cat > nightly.html'
    """
    from durapool.report import chrome_trace, render

    made = _report(execution_id, store)
    if trace_path is not None:
        _write(trace_path, json.dumps(chrome_trace(made), allow_nan=False, separators=(",", ":")))
    if output is not None or trace_path is None:
        _write(output or f"report-{re.sub(r'[^A-Za-z0-9._-]', '_', execution_id)[:100]}.html", render(made))


def _report(execution_id: str, store: str | None) -> Report:
    from durapool.pool.machine import usable_cpus
    from durapool.report import build

    with closing(open_existing(store)) as opened:
        summary = known(opened, execution_id)
        records = list(opened.read(execution_id))
        label = opened.label
    if not records:
        raise StoreError(f"{label} lists {execution_id!r} but holds no records of it")
    return build(summary.id, summary.handler, records, made_at=time.time(), cpus=usable_cpus())


def _write(path: str, text: str) -> None:
    if path == "-":
        rest = memoryview(text.encode())
        while rest:  # with PYTHONUNBUFFERED a pipe takes a part at a time
            rest = rest[sys.stdout.buffer.write(rest) :]
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValidationError(f"cannot write {path!r}: {reason}; name another file with -o or --trace") from error
    say(f"wrote {path}")
