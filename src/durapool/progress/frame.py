"""A snapshot as lines of styled text, as wide and as high as there is room. Needs rich."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from durapool.progress.lines import state_of
from durapool.progress.model import BatchProgress, Load, Snapshot, WorkerRow
from durapool.wording import clean, counted, duration, size

_NARROW = 76  # columns below which a batch takes two lines
_LONGEST_NAME = 28
_LONGEST_BAR = 40
_GAP = "  "


@dataclass(frozen=True, slots=True)
class Room:
    """What there is to draw on: columns, lines, and whether there is more than ASCII."""

    width: int
    height: int
    ascii_only: bool = False


def frame(snapshot: Snapshot, room: Room) -> list[Text]:
    """The lines: the execution, its batches, its workers. What does not fit is counted."""
    lines = [_header(snapshot)]
    left = room.height - len(lines)
    for_batches = max(left - min(len(snapshot.workers), left // 2), 1)
    batches = _batches(snapshot.batches[:for_batches], room)
    lines += _fitted(batches, len(snapshot.batches), for_batches, "batch", "batches")
    left = room.height - len(lines)
    workers = [[_worker(row)] for row in sorted(snapshot.workers, key=lambda row: not row.branch)[: max(left, 0)]]
    lines += _fitted(workers, len(snapshot.workers), left, "worker", "workers")
    for line in lines:
        line.truncate(room.width, overflow="crop" if room.ascii_only else "ellipsis")
    return lines[: room.height]


def _header(snapshot: Snapshot) -> Text:
    line = Text(clean(snapshot.execution_id), "bold")
    line.append(f"{_GAP}{duration(snapshot.seconds)}", "default")
    loads = [load for load in (snapshot.load, *(row.load for row in snapshot.workers)) if load is not None]
    if snapshot.workers:
        busy = sum(1 for row in snapshot.workers if row.branch and not row.lent)
        line.append(f"{_GAP}{busy} of {counted(len(snapshot.workers), 'worker')} busy")
    if snapshot.on_threads:
        line.append(f"{_GAP}{snapshot.on_threads} on threads")
    if loads:
        line.append(f"{_GAP}{_load(_sum(loads))}", "dim")
    return line


def _sum(loads: Sequence[Load]) -> Load:
    return Load(sum(load.cpu_percent for load in loads), sum(load.rss for load in loads))


def _load(load: Load) -> str:
    return f"{load.cpu_percent:3.0f} % {size(load.rss):>8}"


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
    if room.width < _NARROW:
        name_width = room.width - longest - len(_GAP)
        return [_two_lines(*each, name_width, longest, room) for each in zip(batches, names, counts, strict=True)]
    states = [_state(batch) for batch in batches]
    name_width = min(max(map(cell_len, names), default=0), _LONGEST_NAME)
    state_width = max((state.cell_len for state in states), default=0)
    bar_width = room.width - name_width - longest - state_width - 3 * len(_GAP)
    bar_width = max(8, min(_LONGEST_BAR, bar_width))
    rows = zip(batches, names, counts, states, strict=True)
    return [
        [
            Text.assemble(
                set_cell_size(name, name_width),
                _GAP,
                _bar(batch, bar_width, room.ascii_only),
                _GAP,
                count.rjust(longest),
                _GAP,
                state,
            )
        ]
        for batch, name, count, state in rows
    ]


def _two_lines(batch: BatchProgress, name: str, count: str, name_width: int, longest: int, room: Room) -> list[Text]:
    state = _state(batch)
    bar_width = max(4, min(_LONGEST_BAR, room.width - state.cell_len - len(_GAP)))
    return [
        Text.assemble(set_cell_size(name, name_width), _GAP, count.rjust(longest)),
        Text.assemble(_bar(batch, bar_width, room.ascii_only), _GAP, state),
    ]


def _name(batch: BatchProgress) -> str:
    return f"{clean(batch.name)} in {clean(batch.place)}" if batch.place else clean(batch.name)


def _state(batch: BatchProgress) -> Text:
    """Failed, running, rate, time left."""
    line = Text()
    for note in state_of(batch):
        style = "bold red" if note.endswith("failed") else "cyan" if note.endswith("left") else ""
        line.append((_GAP if line else "") + note, style)
    return line


def _bar(batch: BatchProgress, width: int, ascii_only: bool) -> Text:
    """Succeeded, failed, running and the rest, in proportion; what there is of a kind takes a cell at least."""
    full, empty = ("#", "-") if ascii_only else ("━", "─")
    cells = _shares([batch.succeeded, batch.failed, batch.running], batch.total, width)
    rest = width - sum(cells)
    return Text.assemble(
        (full * cells[0], "green"),
        (("x" if ascii_only else full) * cells[1], "red"),
        (("=" if ascii_only else full) * cells[2], "blue"),
        (empty * rest, "dim"),
    )


def _shares(counts: Sequence[int], total: int, width: int) -> list[int]:
    cells = [0 if not count or not total else max(1, count * width // total) for count in counts]
    while sum(cells) > width:
        cells[cells.index(max(cells))] -= 1
    return cells


def _worker(row: WorkerRow) -> Text:
    line = Text(f"{f'pid {row.pid}' if row.pid else 'starting':<12}{_GAP}")
    line.append(f"{'' if row.load is None else _load(row.load):>14}", "dim")
    line.append(f"{_GAP}{clean(row.branch) or 'idle'}", "" if row.branch else "dim")
    if row.lent:
        line.append(", which waits for its own batch", "dim")
    return line
