"""The frame fits, whatever the terminal is like."""

from __future__ import annotations

from dataclasses import replace

import pytest
from progress_tools import BATCH, SNAPSHOT, with_batches
from rich.cells import cell_len

from durapool.progress.frame import Room, frame
from durapool.progress.model import End, WorkerRow


def plain(snapshot=SNAPSHOT, width: int = 110, height: int = 30, ascii_only: bool = False) -> list[str]:
    return [line.plain.rstrip() for line in frame(snapshot, Room(width, height, ascii_only))]


def test_it_shows_the_execution_its_batches_and_its_workers() -> None:
    head, bar, busy, idle = plain()
    assert head == "nightly  1 min 05 s  1/2 workers busy   100 %  200 MiB"
    assert bar.startswith("frames  ━")
    assert bar.endswith("403/1000  3 failed  2 running  1 waiting  6.0/s  1 min 40 s left")
    assert busy == "pid 4001        98 %  120 MiB  branch 3 (map-item-3) of frames"
    assert idle == "pid 4002         0 %   20 MiB  idle"


@pytest.mark.parametrize("width", [1, 7, 20, 40, 60, 80, 96, 120, 300])
@pytest.mark.parametrize("height", [1, 2, 5, 12, 60])
def test_nothing_is_wider_or_higher_than_the_terminal(width: int, height: int) -> None:
    workers = tuple(WorkerRow(number, 4000 + number, f"branch {number} of frames") for number in range(32))
    odd = (replace(BATCH, name="漢字" * 40), replace(BATCH, name="x" * 400, place="branch 1 (y)"))
    snapshot = replace(SNAPSHOT, batches=(*odd, *with_batches(20).batches), workers=workers)
    lines = frame(snapshot, Room(width, height))
    assert len(lines) <= height
    assert max(cell_len(line.plain) for line in lines) <= width


def test_forty_columns_show_what_matters() -> None:
    lines = plain(replace(SNAPSHOT, batches=(replace(BATCH, failed=0, waiting=0),)), width=40)
    assert lines[1] == "frames                          400/1000"
    assert lines[2].endswith("2 running  1 min 40 s left")
    assert lines[3].startswith("pid 4001 98 % 120 MiB branch 3")


def test_what_does_not_fit_is_counted() -> None:
    lines = plain(with_batches(50), height=12)
    assert "... 42 more batches" in lines
    assert sum("━" in line for line in lines) == 8
    workers = tuple(WorkerRow(number, 4000 + number, "busy") for number in range(64))
    assert plain(replace(SNAPSHOT, workers=workers), height=12)[-1] == "... 55 more workers"


def test_busy_workers_come_before_idle_ones() -> None:
    rows = (WorkerRow(1, 4001), WorkerRow(2, 0), WorkerRow(3, 4003, "branch 7 of frames", lent=True))
    lines = plain(replace(SNAPSHOT, workers=rows))
    assert lines[0].startswith("nightly  1 min 05 s  0/3 workers busy")
    assert lines[2].endswith("branch 7 of frames, which waits for its own batch")
    assert lines[3].endswith("idle")
    assert lines[4].startswith("starting")


@pytest.mark.parametrize(
    ("changes", "cells"),
    [
        ({}, "━━━━━━━━"),
        ({"succeeded": 0, "failed": 0, "running": 0}, "────────"),
        ({"succeeded": 1000, "failed": 0, "running": 0}, "━━━━━━━━"),
        ({"succeeded": 997, "failed": 1, "running": 2}, "━━━━━━━━"),
        ({"total": 0, "succeeded": 0, "failed": 0, "running": 0}, "────────"),
    ],
)
def test_the_bar_shows_what_there_is(changes: dict[str, int], cells: str) -> None:
    bar = plain(replace(SNAPSHOT, batches=(replace(BATCH, **changes),)))[1]
    assert cells in bar


def test_ascii_is_enough() -> None:
    snapshot = replace(SNAPSHOT, batches=(replace(BATCH, succeeded=500, failed=100, running=100),))
    text = "\n".join(plain(snapshot, ascii_only=True))
    assert text.isascii()
    assert all(mark in text for mark in ("##", "xx", "==", "--"))


def test_names_cannot_move_the_cursor() -> None:
    rows = (WorkerRow(1, 4001, "branch \x1b[31m\n"),)
    snapshot = replace(
        SNAPSHOT, execution_id="a\x1b[2J", batches=(replace(BATCH, name="b\rc\n", end=End.SUSPENDED),), workers=rows
    )
    assert all(line.isprintable() for line in plain(snapshot))
