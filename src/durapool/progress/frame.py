"""A snapshot as lines of styled text, as wide and as high as there is room. Needs rich."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.text import Text

from durapool.progress.lines import state_of
from durapool.progress.model import BatchProgress, Load, Snapshot, WorkerRow
from durapool.wording import clean, counted, duration, rate, size

_NARROW = 96  # columns below which a batch takes two lines
_TIGHT = 60  # columns below which what can be missed is left out
_LEAST_NAME = 28  # cells that a longer name may always have
_LONGEST_BAR = 40
_GAP = "  "


@dataclass(frozen=True, slots=True)
class Room:
    """What there is to draw on: columns, lines, and whether there is more than ASCII."""

    width: int
    height: int
    ascii_only: bool = False

    @property
    def overflow(self) -> Literal["crop", "ellipsis"]:
        """How text that is too long ends."""
        return "crop" if self.ascii_only else "ellipsis"


def frame(snapshot: Snapshot, room: Room) -> list[Text]:
    """The lines: the execution, its batches, its workers. What does not fit is counted."""
    lines = [_header(snapshot, room)]
    left = room.height - len(lines)
    for_batches = max(left - min(len(snapshot.workers), left // 2), 1)
    batches = _batches(snapshot.batches[:for_batches], room)
    lines += _fitted(batches, len(snapshot.batches), for_batches, "batch", "batches")
    left = room.height - len(lines)
    busy_first = sorted(snapshot.workers, key=lambda row: not row.branch)
    workers = [[_worker(row, room)] for row in busy_first[: max(left, 0)]]
    lines += _fitted(workers, len(snapshot.workers), left, "worker", "workers")
    for line in lines:
        line.truncate(room.width, overflow=room.overflow)
    return lines[: room.height]


def _header(snapshot: Snapshot, room: Room) -> Text:
    line = Text(clean(snapshot.execution_id), "bold")
    line.append(f"{_GAP}{duration(snapshot.seconds)}", "default")
    loads = [load for load in (snapshot.load, *(row.load for row in snapshot.workers)) if load is not None]
    if snapshot.workers:
        busy = sum(1 for row in snapshot.workers if row.branch and not row.lent)
        line.append(f"{_GAP}{busy}/{len(snapshot.workers)} workers busy")
    if snapshot.on_threads:
        line.append(f"{_GAP}{snapshot.on_threads} on threads")
    if loads:
        line.append(f"{_GAP}{_load(_sum(loads), room)}", "dim")
    return line


def _sum(loads: Sequence[Load]) -> Load:
    return Load(sum(load.cpu_percent for load in loads), sum(load.rss for load in loads))


def _load(load: Load, room: Room) -> str:
    cpu, rss = f"{load.cpu_percent:.0f} %", size(load.rss)
    return f"{cpu} {rss}" if room.width < _TIGHT else f"{cpu:>6} {rss:>8}"


def _fitted(groups: Sequence[list[Text]], total: int, room: int, one: str, several: str) -> list[Text]:
    """As many of the groups as fit into `room` lines; where those are not all, the last line counts the others."""
    if total == len(groups) and sum(map(len, groups)) <= room:
        return [line for group in groups for line in group]
    lines: list[Text] = []
    shown = 0
    for group in groups:
        if len(lines) + len(group) > room - 1:
            break
        lines += group
        shown += 1
    return [*lines, Text(f"... {counted(total - shown, f'more {one}', f'more {several}')}", "dim")] if room > 0 else []


def _batches(batches: Sequence[BatchProgress], room: Room) -> list[list[Text]]:
    names = [_name(batch) for batch in batches]
    counts = [f"{batch.ended}/{batch.total}" for batch in batches]
    longest = max(map(len, counts), default=0)
    states = [_state(batch, room) for batch in batches]
    rows = zip(batches, names, counts, states, strict=True)
    if room.width < _NARROW:
        return [_two_lines(batch, name, count.rjust(longest), state, room) for batch, name, count, state in rows]
    name_width = min(max(map(cell_len, names), default=0), max(_LEAST_NAME, room.width // 3))
    state_width = max((state.cell_len for state in states), default=0)
    bar_width = max(8, min(_LONGEST_BAR, room.width - name_width - longest - state_width - 3 * len(_GAP)))
    return [
        [
            Text(_GAP).join(
                [_cut(name, name_width, room), _bar(batch, bar_width, room), Text(count.rjust(longest)), state]
            )
        ]
        for batch, name, count, state in rows
    ]


def _two_lines(batch: BatchProgress, name: str, count: str, state: Text, room: Room) -> list[Text]:
    bar_width = max(4, min(_LONGEST_BAR, room.width - state.cell_len - len(_GAP)))
    first = [_cut(name, max(4, room.width - len(count) - len(_GAP)), room), Text(count)]
    return [Text(_GAP).join(first), Text(_GAP).join([_bar(batch, bar_width, room), state])]


def _name(batch: BatchProgress) -> str:
    return f"{clean(batch.name)} in {clean(batch.place)}" if batch.place else clean(batch.name)


def _cut(name: str, width: int, room: Room) -> Text:
    """The name in exactly so many cells."""
    text = Text(name)
    text.truncate(width, overflow=room.overflow, pad=True)
    return text


def _state(batch: BatchProgress, room: Room) -> Text:
    """Failed, running, rate, time left; on a narrow terminal the rate is what can be missed."""
    pace = rate(batch.rate)
    line = Text()
    for note in state_of(batch):
        if note == pace and room.width < _TIGHT:
            continue
        style = "bold red" if note.endswith("failed") else "cyan" if note.endswith("left") else ""
        line.append((_GAP if line else "") + note, style)
    return line


def _bar(batch: BatchProgress, width: int, room: Room) -> Text:
    """Succeeded, failed, running and the rest, in proportion; what there is of a kind takes a cell at least."""
    succeeded, failed, running, rest = "#x=-" if room.ascii_only else "━━━─"
    cells = _shares([batch.succeeded, batch.failed, batch.running], batch.total, width)
    return Text.assemble(
        (succeeded * cells[0], "green"),
        (failed * cells[1], "red"),
        (running * cells[2], "blue"),
        (rest * (width - sum(cells)), "dim"),
    )


def _shares(counts: Sequence[int], total: int, width: int) -> list[int]:
    cells = [0 if not count or not total else max(1, count * width // total) for count in counts]
    while sum(cells) > width:
        cells[cells.index(max(cells))] -= 1
    return cells


def _worker(row: WorkerRow, room: Room) -> Text:
    load = "" if row.load is None else _load(row.load, room)
    what = f"pid {row.pid}" if row.pid else "starting"
    line = Text(f"{what} {load} " if room.width < _TIGHT else f"{what:<12}{_GAP}{load:>15}{_GAP}", "dim")
    line.append(clean(row.branch) or "idle", "default" if row.branch else "")
    if row.lent:
        line.append(", which waits for its own batch")
    return line
