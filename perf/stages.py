"""Which stage of a branch's way a profiled function belongs to, and the time of each stage.

A function of durapool belongs to the stage of its module. What is called from many stages (most of the standard
library) counts for its callers, each by the time that it caused. Some calls are stages of their own wherever they
stand: pickling, packing, sockets, the database, waiting.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

Function = tuple[str, int, str]
"""As cProfile names it: file, line, name. The file of what is written in C is "~"."""
Stats = dict[Function, tuple[int, int, float, float, dict[Function, tuple[int, int, float, float]]]]
"""As cProfile keeps it: primitive calls, calls, own seconds, seconds with what it called, and the same by caller."""

KERNEL = "system calls: sockets, waking, files"
OTHER = "everything else"

STAGES: tuple[tuple[str, str], ...] = (
    (KERNEL, r"~:.*('(poll|select|wait|acquire|send|sendall|sendmsg|recv|recv_into|recvmsg)'|select\.select)"),
    (KERNEL, r"~:.*posix\.(read|write|writev|readv)\b"),
    ("the database (C)", r"~:.*sqlite3"),
    ("msgpack", r"~?:?.*msgpack"),
    ("pickle and cloudpickle", r"~:.*_pickle|.*/cloudpickle/|.*/durapool/(pickling|unpickling|pool/cargo)\.py"),
    ("frames and messages", r".*/durapool/pool/(wire|messages|transfer)\.py|.*/durapool/worker/channel\.py"),
    ("pool: dispatch and bookkeeping", r".*/durapool/pool/|.*/durapool/executors/(process|runtime)\.py"),
    ("coordinator", r".*/durapool/(coordinator|executors/(open_batch|base|thread))\.py"),
    ("journal and group commit", r".*/durapool/(journal|commits|leases|records|clock|timers|history)\.py"),
    ("store (Python)", r".*/durapool/stores/"),
    ("streaming updates", r".*/durapool/worker/journal\.py"),
    (
        "worker: surroundings, logs, seeds",
        r".*/durapool/worker/(surroundings|logs|log_records|imports|seeding|supervisor)\.py",
    ),
    ("worker: orders", r".*/durapool/worker/"),
    ("serdes and results", r".*/durapool/(serdes|envelope|results)\.py"),
    ("operations: step, context, batch", r".*/durapool/"),
    ("the benchmark's own functions", r".*/perf/"),
)
"""The first pattern that matches "FILE:NAME" decides."""

_PATTERNS = [(stage, re.compile(pattern)) for stage, pattern in STAGES]


@dataclass(frozen=True)
class Share:
    """What one stage took of one branch."""

    stage: str
    seconds: float  # as the profiler saw it
    calls: float


def stage_of(function: Function) -> str | None:
    """The stage of the function itself; None where its callers' stages count."""
    file, _, name = function
    text = f"{file}:{name}"
    return next((stage for stage, pattern in _PATTERNS if pattern.match(text)), None)


def shares(stats: Stats, branches: int) -> list[Share]:
    """The stages of a profile, the longest first, each for one branch."""
    seconds: dict[str, float] = defaultdict(float)
    calls: dict[str, float] = defaultdict(float)
    for function, (_, count, own, _, _) in stats.items():
        for stage, part in _parts(stats, function, frozenset()).items():
            seconds[stage] += own * part
            calls[stage] += count * part
    found = [Share(stage, seconds[stage] / branches, calls[stage] / branches) for stage in seconds]
    return sorted(found, key=lambda share: share.seconds, reverse=True)


def _parts(stats: Stats, function: Function, seen: frozenset[Function]) -> dict[str, float]:
    """Which stages a function counts for, and how much of it for each; the parts add up to 1."""
    own = stage_of(function)
    if own is not None:
        return {own: 1.0}
    callers: dict[Function, Any] = stats[function][4] if function in stats and function not in seen else {}
    weights = {caller: timing[2] for caller, timing in callers.items()}
    total = sum(weights.values())
    if not total:
        return {OTHER: 1.0}
    parts: dict[str, float] = defaultdict(float)
    for caller, weight in weights.items():
        for stage, part in _parts(stats, caller, seen | {function}).items():
            parts[stage] += part * weight / total
    return parts
