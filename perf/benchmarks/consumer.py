"""Whether the parent's memory stays bounded while it consumes large results: a map of 1,000 branches of 8 MiB each.

The handler takes the results one at a time and keeps none. The parent's anonymous memory is looked at after the map and
with each result at hand (mapped files can be dropped by the kernel at any time); its peak of all resident memory is the
kernel's own count. The run writes as many bytes to the disk as the results have.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from durapool import DurableContext, SQLiteStore, durable_execution
from durapool.stores.base import Store
from perf.durable import PROCESSES, run_anew
from perf.harness import Contender, call_afresh, measure_cold
from perf.peer import WORKERS
from perf.report import Figure, Report

ROUNDS = 1
KINDS: dict[str, Callable[[int, int], Any]] = {
    "arrays": lambda mebibytes, number: np.full(mebibytes << 17, float(number)),
    "bytes": lambda mebibytes, number: bytes([number % 256]) * (mebibytes << 20),
}


@dataclass(frozen=True)
class Sizes:
    """One batch; sizes in MiB."""

    branches: int
    each: int


FULL = Sizes(branches=1_000, each=8)
QUICK = Sizes(branches=8, each=1)


@durable_execution
def handler(event: dict[str, Any], context: DurableContext) -> dict[str, float]:
    """Seconds, and by how many MiB the anonymous memory had grown at most."""
    make, mebibytes = KINDS[event["kind"]], event["each"]

    def branch(_ctx: DurableContext, number: int, _index: int, _inputs: Sequence[int]) -> Any:
        return make(mebibytes, number)

    began, before = time.perf_counter(), anonymous()
    result = context.map(range(event["branches"]), branch)
    most = anonymous()
    for item in result.all:
        value = item.result
        assert value is not None
        assert value[0] == value[-1] == (item.index if event["kind"] == "arrays" else item.index % 256)
        most = max(most, anonymous())
        del value
    return {"seconds": time.perf_counter() - began, "held": most - before}


def anonymous() -> float:
    """Memory of this process that no file backs, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("/proc/self/status has no RssAnon")


def consume(kind: str, branches: int, mebibytes: int) -> dict[str, float]:
    """In an interpreter of its own: what the handler found, and the peak of all resident memory in MiB."""
    with tempfile.TemporaryDirectory(prefix="durapool-perf-") as folder:
        store: Store = SQLiteStore(Path(folder) / "journal.db")
        event = {"kind": kind, "branches": branches, "each": mebibytes}
        found: dict[str, float] = run_anew(handler, event, PROCESSES, store)
        store.close()
    return found | {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def run(rounds: int, sizes: Sizes = FULL) -> Report:
    """Each kind of result."""
    report = Report("consumer", settings={**asdict(sizes), "workers": WORKERS, "store": "sqlite"})
    total = sizes.branches * sizes.each
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}

    def seconds_of(kind: str) -> float:
        found[kind].append(call_afresh("perf.benchmarks.consumer", "consume", kind, sizes.branches, sizes.each))
        return found[kind][-1]["seconds"]

    contenders = [Contender(kind, lambda kind=kind: seconds_of(kind), sizes.branches) for kind in KINDS]  # type: ignore[misc]
    report.tables = [measure_cold("results", contenders, rounds)]
    for kind, runs in found.items():
        held = max(run["held"] for run in runs)
        peak = max(run["peak"] for run in runs)
        report.figures += [
            Figure(f"{kind}, {total:,} MiB in all: memory held while consuming", held, total, unit="MiB"),
            Figure(f"{kind}, {total:,} MiB in all: peak of resident memory, mapped files too", peak, unit="MiB"),
        ]
    return report
