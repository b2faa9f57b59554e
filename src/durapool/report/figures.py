"""What the numbers of a report come from: CPU and memory over time, and how well each batch used its workers.

CPU and memory are known per run of a branch and per invocation, not sampled: a run's CPU seconds are spread evenly over
its time, and a process's memory is the most that it has had by then.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median

from durapool.records import DETAIL_TOTAL, OperationStatus
from durapool.report.folding import Fold
from durapool.report.placing import Bar, BarState, LaneKind, Placed
from durapool.report.reading import Entry, Log

BINS = 2000
"""Steps of the curves over the folded time."""

_SHORTEST = 1e-6  # seconds that a measured run is taken to have lasted at least


@dataclass(frozen=True, slots=True)
class Curves:
    """Values in equal steps over the folded time: CPUs in use by branches and by the handler, bytes of memory."""

    branches: list[float]
    handler: list[float]
    memory: list[int]


@dataclass(frozen=True, slots=True)
class BatchFigures:
    """How a batch went. Times in seconds, folded pauses left out."""

    entry: int
    total: int  # branches given
    counts: dict[str, int]  # branches by status
    seconds: float
    lanes: int  # workers that ran at once, at most
    busy: float  # part of the lanes' time in which a branch ran
    cpu: float | None  # CPU seconds of its branches; None where none was measured
    busy_cpu: float | None  # part of the branches' own time in which they used a CPU
    median: float
    longest: float
    longest_entry: int  # -1 where nothing ran
    tail: float  # at the end: how long fewer than half of the lanes were busy
    on_threads: bool


@dataclass(frozen=True, slots=True)
class Use:
    """A stretch of epoch seconds in which so much CPU was used."""

    began: float
    ended: float
    cpu: float


def branch_uses(log: Log, placed: Placed) -> list[Use]:
    """The CPU of each measured run of a branch. Threads inside a measured worker are part of what it used."""
    whole = {entry.usage.pid for entry in log.entries if entry.usage is not None and entry.usage.thread is None}
    found = []
    for bar in placed.bars:
        usage = log.entries[bar.entry].usage
        if usage is None or bar.state is BarState.EARLIER:
            continue
        if usage.thread is None or usage.pid not in whole:
            found.append(Use(bar.began, bar.ended, usage.cpu))
    return found


def handler_uses(log: Log) -> list[Use]:
    """The CPU of each invocation beyond that of its branches on threads."""
    threads = [entry for entry in log.entries if entry.usage is not None and entry.usage.thread is not None]
    found = []
    for invocation in log.invocations:
        if (own := invocation.usage) is None:
            continue
        inside = [
            entry.usage.cpu
            for entry in threads
            if entry.usage is not None
            and entry.usage.pid == own.pid
            and invocation.began <= entry.end <= invocation.ended
        ]
        found.append(Use(invocation.began, invocation.ended, max(0.0, own.cpu - sum(inside))))
    return found


def curves(log: Log, placed: Placed, fold: Fold) -> Curves:
    """CPU and memory over the folded time."""
    return Curves(_spread(branch_uses(log, placed), fold), _spread(handler_uses(log), fold), _memory(log, placed, fold))


def _spread(uses: Sequence[Use], fold: Fold) -> list[float]:
    """CPUs in use, on average, in each step. Differences are added up, so long runs cost no more than short ones."""
    width = max(fold.total, _SHORTEST) / BINS
    steps, parts = [0.0] * (BINS + 1), [0.0] * (BINS + 1)
    for use in uses:
        began, ended = fold.folded(use.began) / width, fold.folded(use.ended) / width
        if ended - began < _SHORTEST:
            began, ended = max(0.0, ended - _SHORTEST), max(ended, _SHORTEST)
        rate = use.cpu / ((ended - began) * width)
        first, last = min(int(began), BINS - 1), min(int(ended), BINS - 1)
        if first == last:
            parts[first] += rate * (ended - began)
            continue
        parts[first] += rate * (first + 1 - began)
        parts[last] += rate * (ended - last)
        steps[first + 1] += rate
        steps[last] -= rate
    return [max(0.0, whole + part) for whole, part in zip(accumulate(steps[:BINS]), parts, strict=False)]


def _memory(log: Log, placed: Placed, fold: Fold) -> list[int]:
    """The sum over the processes that are at work; each counts from its first run's begin to its last run's end."""
    peaks: defaultdict[int, list[tuple[float, float, int]]] = defaultdict(list)
    for bar in placed.bars:
        usage = log.entries[bar.entry].usage
        if usage is not None and bar.state is not BarState.EARLIER:
            peaks[usage.pid].append((bar.ended, bar.began, usage.peak_rss))
    for invocation in log.invocations:
        if invocation.usage is not None:
            peaks[invocation.usage.pid].append((invocation.ended, invocation.began, invocation.usage.peak_rss))
    width = max(fold.total, _SHORTEST) / BINS
    steps = [0] * (BINS + 1)
    for samples in peaks.values():
        samples.sort()
        place = min(int(fold.folded(min(began for _, began, _ in samples)) / width), BINS - 1)
        before = 0
        for ended, _, peak in samples:
            if (
                peak > before
            ):  # by the end of this run it was so much: from the end of the one before, as far as is known
                steps[place] += peak - before
                before = peak
            place = min(int(fold.folded(ended) / width), BINS - 1)
        steps[place + 1] -= before
    return list(accumulate(steps[:BINS]))


def batches(log: Log, placed: Placed, fold: Fold) -> Iterator[BatchFigures]:
    """The figures of each parallel and map, in order of start."""
    bars: defaultdict[int, list[Bar]] = defaultdict(list)
    for bar in placed.bars:
        entry = log.entries[bar.entry]
        if placed.lanes[bar.lane].kind is not LaneKind.HANDLER:
            bars[entry.parent].append(bar)
    for entry in log.entries:
        if entry.is_batch:
            yield _batch(log, entry, bars[entry.index], fold)


def _batch(log: Log, batch: Entry, bars: list[Bar], fold: Fold) -> BatchFigures:
    spans = sorted((fold.folded(bar.began), fold.folded(bar.ended)) for bar in bars)
    runs = [bar for bar in bars if bar.state is not BarState.EARLIER]
    lanes = _most_at_once(sorted((fold.folded(bar.began), fold.folded(bar.ended)) for bar in runs or bars))
    began, ended = fold.folded(batch.began), fold.folded(batch.end)
    seconds = max(ended - began, 0.0)
    lengths = [fold.folded(bar.ended) - fold.folded(bar.began) for bar in runs]
    longest = max(range(len(runs)), key=lengths.__getitem__, default=-1)
    usages = [usage for bar in runs if (usage := log.entries[bar.entry].usage) is not None]
    cpu = sum(usage.cpu for usage in usages) if usages else None
    measured = sum(usage.seconds for usage in usages)
    statuses = Counter(
        "CUT OFF" if log.entries[bar.entry].cut_off else log.entries[bar.entry].operation.status.value for bar in runs
    )
    return BatchFigures(
        entry=batch.index,
        total=int((batch.operation.details or {}).get(DETAIL_TOTAL, len(runs))),
        counts=dict(statuses),
        seconds=seconds,
        lanes=lanes,
        busy=min(1.0, sum(b - a for a, b in spans) / (lanes * seconds)) if lanes and seconds else 0.0,
        cpu=cpu,
        busy_cpu=None if cpu is None or not measured else cpu / measured,
        median=median(lengths) if lengths else 0.0,
        longest=lengths[longest] if runs else 0.0,
        longest_entry=runs[longest].entry if runs else -1,
        tail=max(0.0, min(seconds, ended - _last_time_at(spans, lanes / 2))) if lanes > 1 else 0.0,
        on_threads=any(usage.thread is not None for usage in usages),
    )


def _changes(spans: Sequence[tuple[float, float]]) -> list[tuple[float, int]]:
    """When the number of running branches changes, and by how much; ends before begins."""
    return sorted([(a, 1) for a, _ in spans] + [(b, -1) for _, b in spans])


def _most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    return max(accumulate(change for _, change in _changes(spans)), default=0)


def _last_time_at(spans: Sequence[tuple[float, float]], wanted: float) -> float:
    """The last moment at which at least so many ran."""
    running, last = 0, 0.0
    for at, change in _changes(spans):
        if change < 0 and running >= wanted:
            last = at
        running += change
    return last


def counted(log: Log, began: float, ended: float) -> tuple[int, int, float]:
    """Of an invocation: how many steps and branches it took from the record, how many it ended, and seconds spared."""
    ends = sorted((entry.end, entry.end - entry.began, bool(entry.children)) for entry in _finished(log))
    times = [end for end, _, _ in ends]
    taken, reached = bisect_left(times, began), bisect_right(times, ended)
    spared = sum(seconds for _, seconds, is_outer in ends[:taken] if not is_outer)
    return taken, reached - taken, spared


def _finished(log: Log) -> Iterator[Entry]:
    for entry in log.entries[1:]:
        if entry.operation.status is OperationStatus.SUCCEEDED and (entry.is_branch or entry.attempts):
            yield entry
