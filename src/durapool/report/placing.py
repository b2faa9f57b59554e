"""Where on the timeline each branch is drawn: bars on lanes.

A lane is a place, not a process: workers whose lives do not overlap share one, so that a pool that replaces its workers
does not need a lane for each. The handler's own operations have lanes above. A run that was not measured (it goes on,
was cut off, lost its worker, or is of a FLAT branch) takes a place that was free at its time.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from heapq import heappop, heappush

from durapool.records import OperationStatus, OperationType
from durapool.report.reading import Entry, InvocationEnd, Log

_SLACK = 1e-4  # seconds: two that touch do not overlap
_TOUCH = 0.005  # seconds that a run which was not measured may reach into its neighbours: its times are the parent's
LATE = 0.05  # seconds by which the parent may take up an end late
_WAITS = (OperationType.WAIT, OperationType.CALLBACK)
_CUT_SHORT = (InvocationEnd.KILLED, InvocationEnd.CRASHED)


class BarState(StrEnum):
    """How a bar looks."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RUNNING = "running"
    CUT_OFF = "cut off"
    EARLIER = "earlier"  # an earlier run of a branch that has run again since


class LaneKind(StrEnum):
    """What a lane stands for."""

    HANDLER = "handler"
    WORKER = "worker"
    THREAD = "thread"
    PLACE = "place"  # of branches where none was measured


@dataclass(frozen=True, slots=True)
class Lane:
    """One row of the timeline."""

    label: str
    kind: LaneKind


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time on a lane, in epoch seconds. `branch` is the index of a FLAT one, else -1."""

    lane: int
    entry: int
    began: float
    ended: float
    state: BarState
    branch: int = -1


@dataclass(frozen=True, slots=True)
class Placed:
    """All lanes from top to bottom, and their bars in the order of lanes and time."""

    lanes: list[Lane]
    bars: list[Bar]


@dataclass(frozen=True, slots=True)
class _Span:
    """A bar that has no lane yet."""

    entry: int
    began: float
    ended: float
    state: BarState
    branch: int = -1


def place(log: Log) -> Placed:
    """The bars of an execution."""
    workers: defaultdict[tuple[int, int | None], list[Entry]] = defaultdict(list)
    unmeasured: list[_Span] = []
    inside = _inside_branches(log.entries)
    for entry in log.entries:
        if entry.is_branch:
            if (usage := entry.usage) is None or entry.operation.ended_at is None:
                unmeasured.append(_Span(entry.index, entry.began, entry.end, _state(entry)))
            else:
                workers[usage.pid, usage.thread].append(entry)
    lives = {worker: _laid_out(entries) for worker, entries in workers.items()}
    for spans in lives.values():
        for span in spans:
            unmeasured += _earlier_runs(log, log.entries[span.entry], span.began)
    unmeasured += _flat_branches(log)
    own = [
        _Span(entry.index, entry.began, entry.end, _state(entry))
        for entry in log.entries[1:]
        if not inside[entry.index] and not entry.is_branch
    ]
    stacks = {
        LaneKind.HANDLER: [[span] for span in own],
        LaneKind.WORKER: [life for (_, thread), life in lives.items() if thread is None],
        LaneKind.THREAD: [life for (_, thread), life in lives.items() if thread is not None],
        LaneKind.PLACE: [],
    }
    rest = next((kind for kind in (LaneKind.WORKER, LaneKind.THREAD) if stacks[kind]), LaneKind.PLACE)
    placed = Placed([], [])
    for kind, groups in stacks.items():
        _stack(placed, kind, groups)
        if kind is rest:
            _fill_in(placed, kind, unmeasured)
    placed.bars.sort(key=lambda bar: (bar.lane, bar.began))
    return placed


def _inside_branches(entries: Sequence[Entry]) -> list[bool]:
    """For each entry whether a branch encloses it; operations of FLAT branches are inside one too."""
    inside: list[bool] = []
    for entry in entries:
        above = entries[entry.parent] if entry.parent >= 0 else None
        inside.append(above is not None and (inside[above.index] or above.is_branch or above.is_batch))
    return inside


def _state(entry: Entry) -> BarState:
    if entry.cut_off:
        return BarState.CUT_OFF
    match entry.operation.status:
        case OperationStatus.SUCCEEDED:
            return BarState.SUCCEEDED
        case status if status.is_terminal:
            return BarState.FAILED
        case _:
            return BarState.RUNNING


def _laid_out(entries: Iterable[Entry]) -> list[_Span]:
    """The runs of one worker, which runs one at a time: laid from the last backwards, each as long as was measured.

    The recorded ends are when the parent has committed them, several at once where branches are short.
    """
    spans: list[_Span] = []
    limit = float("inf")
    for entry in sorted(entries, key=lambda each: each.operation.ended_seq, reverse=True):
        usage = entry.usage
        assert usage is not None
        limit = min(entry.end, limit) - usage.seconds
        if 0 < limit - entry.began < LATE:
            limit = entry.began  # its end was taken up late: the start tells better
        spans.append(_Span(entry.index, limit, limit + usage.seconds, _state(entry)))
    return spans[::-1]


def _earlier_runs(log: Log, branch: Entry, began: float) -> list[_Span]:
    """The runs of a branch before its last one: in invocations that ended without it, or before it was suspended."""
    below = list(_below(log.entries, branch))
    suspends = any(entry.operation.type in _WAITS or len(entry.attempts) > 1 for entry in below)
    times = [(branch.began, branch.began), *(work for entry in below for work in _work(entry))]
    found = []
    for invocation in log.invocations:
        before = invocation.ended <= began
        if not before and not suspends:
            continue
        within = [
            (a, b) for a, b in times if invocation.began <= a <= invocation.ended and (before or b <= began - LATE)
        ]
        if within:
            ran_on = before and invocation.end in _CUT_SHORT
            ended = invocation.ended if ran_on else max(b for _, b in within)
            found.append(_Span(branch.index, within[0][0], min(ended, began, invocation.ended), BarState.EARLIER))
    return [span for span in found if span.ended - span.began > _SLACK]


def _work(entry: Entry) -> Iterable[tuple[float, float]]:
    """When an operation did something: neither waits nor the time between two attempts."""
    if entry.operation.type in _WAITS:
        return []
    if entry.attempts:
        return [(each.began, each.began if each.ended is None else each.ended) for each in entry.attempts]
    return [(entry.began, entry.end)]


def _below(entries: Sequence[Entry], top: Entry) -> Iterable[Entry]:
    """What a branch has recorded itself, in order of start: its nested branches have bars of their own."""
    for index in top.children:
        entry = entries[index]
        if not entry.is_branch:
            yield entry
            yield from _below(entries, entry)


def _flat_branches(log: Log) -> list[_Span]:
    """FLAT branches have no operation of their own: each is drawn from its first operation's start to its last end."""
    found = []
    for batch in log.entries:
        if not batch.is_batch:
            continue
        parts: defaultdict[int, list[Entry]] = defaultdict(list)
        for index in batch.children:
            entry = log.entries[index]
            if not entry.is_branch and entry.operation.branch is not None:
                parts[entry.operation.branch].append(entry)
        for branch, entries in parts.items():
            began, ended = min(entry.began for entry in entries), max(entry.end for entry in entries)
            found.append(_Span(entries[0].index, began, ended, _state(entries[-1]), branch))
    return found


def _stack(placed: Placed, kind: LaneKind, groups: list[list[_Span]]) -> None:
    """Give each group the first lane that is free for all of its time; the longer first of those that begin at once."""
    free: list[int] = []  # a heap of lanes that nobody uses now
    busy: list[tuple[float, int]] = []  # a heap of (until, lane)
    first = len(placed.lanes)
    for group in sorted(groups, key=lambda spans: (spans[0].began, -spans[-1].ended)):
        while busy and busy[0][0] <= group[0].began + _SLACK:
            heappush(free, heappop(busy)[1])
        if free:
            lane = heappop(free)
        else:
            lane = len(placed.lanes)
            placed.lanes.append(Lane(_label(kind, lane - first + 1), kind))
        heappush(busy, (group[-1].ended, lane))
        placed.bars.extend(Bar(lane, span.entry, span.began, span.ended, span.state, span.branch) for span in group)


def _fill_in(placed: Placed, kind: LaneKind, spans: list[_Span]) -> None:
    """Give each span the first lane of this kind that has a gap there; a new one where none has."""
    lanes = [place for place, lane in enumerate(placed.lanes) if lane.kind is kind]
    if not lanes:
        _stack(placed, kind, [[span] for span in spans])
        return
    ends: dict[int, list[tuple[float, float]]] = {lane: [] for lane in lanes}  # (ended, began) in order of time
    for bar in placed.bars:
        if bar.lane in ends:
            ends[bar.lane].append((bar.ended, bar.began))
    for taken in ends.values():
        taken.sort()
    for span in sorted(spans, key=lambda each: (each.began, -each.ended)):
        lane = next((lane for lane, taken in ends.items() if _has_gap(taken, span)), len(placed.lanes))
        if lane not in ends:
            ends[lane] = []
            placed.lanes.append(Lane(_label(kind, len(ends)), kind))
        insort(ends[lane], (span.ended, span.began))
        placed.bars.append(Bar(lane, span.entry, span.began, span.ended, span.state, span.branch))


def _has_gap(taken: list[tuple[float, float]], span: _Span) -> bool:
    next_one = bisect(taken, (span.began + _TOUCH, float("inf")))
    return next_one == len(taken) or taken[next_one][1] >= span.ended - _TOUCH


def _label(kind: LaneKind, number: int) -> str:
    if kind is LaneKind.HANDLER:
        return "handler" if number == 1 else ""
    return f"{kind.value} {number}"
