"""What showing progress costs: the same job with and without, on a terminal that nobody reads fast.

Two jobs: branches that compute for a while (what people run), and branches that do nothing, where all of the parent's
time counts. Each is timed without progress, with the live view on a pseudo-terminal, and with JSON lines.
"""

from __future__ import annotations

import io
import os
import pty
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from functools import partial
from unittest.mock import patch

from durapool import DurableContext, durable_execution
from durapool.stores.memory import MemoryStore
from perf.durable import PROCESSES, run_anew
from perf.harness import Contender, measure, timed
from perf.peer import WORKERS
from perf.report import Figure, Report

ROUNDS = 7
LOOPS = 200_000
TARGET = 1.02
SHOWN: dict[str, bool | str] = {"quiet": False, "live": True, "json": "json"}


@dataclass(frozen=True)
class Sizes:
    """Branches of each job."""

    busy: int
    empty: int


FULL = Sizes(busy=1_000, empty=10_000)
QUICK = Sizes(busy=4, empty=20)


@durable_execution
def busy(event: int, context: DurableContext) -> int:
    """Branches of some ten milliseconds of pure Python."""

    def compute(ctx: DurableContext, _item: int, _index: int, _inputs: Sequence[int]) -> int:
        return ctx.step(lambda _: sum(range(LOOPS)) % 2)

    return len(context.map(list(range(event)), compute).get_results())


@durable_execution
def empty(event: int, context: DurableContext) -> int:
    """Branches with one step that does nothing."""

    def nothing(ctx: DurableContext, item: int, _index: int, _inputs: Sequence[int]) -> int:
        return ctx.step(lambda _: item)

    return len(context.map(list(range(event)), nothing).get_results())


def run(rounds: int, sizes: Sizes = FULL) -> Report:
    """Time both jobs without progress and with each way of showing it."""
    report = Report("progress", settings={**asdict(sizes), "workers": WORKERS, "store": "memory"})
    jobs = {"busy": (busy, sizes.busy), "empty": (empty, sizes.empty)}
    with _terminal() as terminal:

        def once(job: str, progress: bool | str) -> None:
            handler, branches = jobs[job]
            with redirect_stderr(terminal), redirect_stdout(io.StringIO()):
                assert run_anew(handler, branches, PROCESSES, MemoryStore(), progress=progress) == branches

        for job, (_, branches) in jobs.items():
            contenders = [
                Contender(f"{job}, {name}", timed(partial(once, job, way)), branches) for name, way in SHOWN.items()
            ]
            report.tables.append(measure(job, contenders, rounds))
    report.figures = [
        Figure(f"{job}: {name} / quiet", table.ratio(f"{job}, {name}", f"{job}, quiet"), TARGET)
        for job, table in zip(jobs, report.tables, strict=True)
        for name in ("live", "json")
    ]
    return report


@contextmanager
def _terminal() -> Iterator[io.TextIOWrapper]:
    """A stream that leads to a terminal of its own, read by a thread."""
    master, slave = pty.openpty()

    def drain() -> None:
        try:
            while os.read(master, 65536):
                continue
        except OSError:
            return  # the other end was closed

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    try:
        with (
            patch.dict(os.environ, TERM="xterm-256color"),
            os.fdopen(slave, "w", encoding=sys.stdout.encoding) as stream,
        ):
            yield stream
    finally:
        reader.join(1.0)
        os.close(master)
