"""From nothing to the first result: each run is a fresh interpreter that makes a pool of two workers and asks it once.

durapool's time includes the whole execution with its records in memory, up to the return of `durapool.run`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from perf.first_result import DURAPOOL
from perf.harness import Contender, call_afresh, measure
from perf.peers import ConcurrentFuturesFork, ConcurrentFuturesForkServer, installed
from perf.report import Figure, Report

ROUNDS = 9


@dataclass(frozen=True)
class Sizes:
    """Which contenders run, at most."""

    contenders: int


FULL = Sizes(contenders=100)
QUICK = Sizes(contenders=4)


def seconds_of(name: str) -> float:
    """In an interpreter of its own."""
    return float(call_afresh("perf.first_result", "seconds_of", name))


def run(rounds: int, sizes: Sizes = FULL) -> Report:
    """Time all start methods of durapool, and all pools."""
    report = Report("cold_start", settings={"workers": 2})
    peers, missing = installed()
    report.skip(missing)
    server, fork = ConcurrentFuturesForkServer.name, ConcurrentFuturesFork.name
    ours_server, ours_fork, ours_spawn = DURAPOOL
    names = [server, ours_server, fork, ours_fork, ours_spawn]
    names += [peer.name for peer in peers if peer.name not in names]
    contenders = [Contender(name, partial(seconds_of, name)) for name in names[: sizes.contenders]]
    table = measure("to the first result", contenders, rounds, baseline=server)
    report.tables = [table]
    report.figures = [
        Figure(f"{ours_server} / {server}", table.ratio(ours_server, server), 1.0),
        Figure(f"{ours_fork} / {fork}", table.ratio(ours_fork, fork), 1.5),
    ]
    return report
