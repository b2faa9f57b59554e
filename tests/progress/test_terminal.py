"""The live view: the frame stays at the bottom, everything else goes above it, and nothing is left behind."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from progress_tools import BATCH, SNAPSHOT, Terminal
from rich.text import Text

from durapool.progress import terminal as terminal_module
from durapool.progress.frame import Room
from durapool.progress.model import End
from durapool.progress.terminal import Region, StreamAbove, TerminalView
from terminal_screen import Screen

ENDED = replace(SNAPSHOT, batches=(), workers=(), ended=(replace(BATCH, end=End.DECIDED, failed=0, recorded_before=0),))


class Wake:
    """Counts how often it was called."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")


Opened = Callable[[], tuple[Terminal, TerminalView, Wake]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Make stderr a terminal (stdout is none) and open a view on it."""

    def open_view() -> tuple[Terminal, TerminalView, Wake]:
        terminal, wake = Terminal(), Wake()
        monkeypatch.setattr(sys, "stderr", terminal)
        view = TerminalView(terminal)
        view.open(wake)
        assert sys.stderr is not terminal
        return terminal, view, wake

    return open_view


def seen(terminal: Terminal) -> str:
    screen = Screen()
    screen.feed(terminal.getvalue())
    return screen.text


def test_what_is_printed_goes_above_the_frame_and_stays(opened: Opened) -> None:
    stderr, view, wake = opened()
    view.show(SNAPSHOT)
    print("one\ntwo", file=sys.stderr)
    print("half", end="", file=sys.stderr)
    assert "one" not in seen(stderr)
    assert wake.count == 1
    view.emit()
    lines = seen(stderr).splitlines()
    assert lines[:2] == ["one", "two"]
    assert lines[2].startswith("nightly")
    assert "half" not in seen(stderr)
    view.show(replace(SNAPSHOT, seconds=66.0))
    assert seen(stderr).count("nightly") == 1
    assert "1 min 06 s" in seen(stderr)
    view.close(ENDED)
    assert seen(stderr) == "one\ntwo\nmap frames: 400 of 1000 branches in 1 min 05 s\nhalf"


def test_a_stream_that_is_no_terminal_is_left_alone(opened: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    out = sys.stdout
    _, view, _ = opened()
    assert sys.stdout is out
    print("result")
    assert capsys.readouterr().out == "result\n"
    view.close(SNAPSHOT)


def test_handlers_of_logging_write_above_the_frame_and_get_their_stream_back(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("test_terminal")
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    before = logging.StreamHandler()
    logger.addHandler(before)
    view = TerminalView(stderr)
    try:
        view.open(Wake())
        later = logging.StreamHandler()
        logger.addHandler(later)
        view.show(SNAPSHOT)
        logger.warning("careful")
        view.emit()
        assert seen(stderr).startswith("careful\ncareful\nnightly")
        view.close(SNAPSHOT)
        assert before.stream is later.stream is stderr
    finally:
        logger.handlers.clear()


def test_whoever_kept_the_stream_can_still_write(opened: Opened) -> None:
    stderr, view, _ = opened()
    kept = sys.stderr
    view.close(SNAPSHOT)
    assert sys.stderr is stderr
    kept.write("late\n")
    kept.flush()
    assert seen(stderr) == "late"


def test_a_program_that_put_a_stream_of_its_own_keeps_it(opened: Opened) -> None:
    _, view, _ = opened()
    own = sys.stderr = Terminal()
    view.close(SNAPSHOT)
    assert sys.stderr is own


def test_a_forked_child_writes_to_the_stream_itself(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr, view, _ = opened()
    pid = os.getpid()
    monkeypatch.setattr(terminal_module.os, "getpid", lambda: pid + 1)
    print("of the child", file=sys.stderr)
    assert seen(stderr) == "of the child"
    monkeypatch.setattr(terminal_module.os, "getpid", lambda: pid)
    view.close(SNAPSHOT)


def test_much_text_does_not_wait(opened: Opened) -> None:
    stderr, view, _ = opened()
    print("x" * (2 << 20), file=sys.stderr)
    assert "xxx" in stderr.getvalue()
    view.close(SNAPSHOT)


def test_the_stream_looks_like_the_one_that_it_stands_for() -> None:
    terminal = Terminal("latin-1")
    above = StreamAbove(terminal, Region(terminal), Wake())
    assert above.isatty()
    assert above.writable()
    assert above.encoding == "latin-1"
    assert above.getvalue() == ""
    with pytest.raises(TypeError, match="must be str"):
        above.write(b"bytes")  # type: ignore[arg-type]


def test_lines_of_many_threads_stay_whole(opened: Opened) -> None:
    stderr, view, _ = opened()

    def talk(name: str) -> None:
        for number in range(200):
            print(f"{name}{number}", file=sys.stderr)

    threads = [threading.Thread(target=talk, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        view.show(SNAPSHOT)
    for thread in threads:
        thread.join()
    view.close(SNAPSHOT)
    lines = [line for line in seen(stderr).splitlines() if line]
    assert sorted(lines) == sorted(f"{name}{number}" for name in "abc" for number in range(200))


def test_a_narrower_terminal_is_cleared_of_the_lines_that_it_has_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    region = Region(terminal)
    rooms = iter([Room(40, 20), Room(40, 20), Room(20, 20)])
    room = next(rooms)
    monkeypatch.setattr(Region, "room", property(lambda self: room))
    region.draw([Text("a" * 40), Text("b" * 15)])
    region.draw([Text("a" * 40), Text("b" * 15)])
    assert terminal.getvalue().count("\x1b[2A\x1b[J") == 1
    room = Room(20, 20)
    region.draw([])
    assert terminal.getvalue().endswith("\r\x1b[3A\x1b[J")


def test_ends_of_very_many_batches_are_counted(opened: Opened) -> None:
    stderr, view, _ = opened()
    view.close(replace(ENDED, ended=ENDED.ended * 100))
    assert seen(stderr).endswith("... and 92 more batches")


def test_an_ascii_terminal_gets_ascii() -> None:
    terminal = Terminal("ascii")
    region = Region(terminal)
    assert region.room.ascii_only
    region.add("größe\n")
    region.draw([])
    assert terminal.getvalue() == "gr\\xf6\\xdfe\n"


def test_no_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    def written() -> str:
        terminal = Terminal()
        Region(terminal).draw([Text("red", "red")])
        return terminal.getvalue()

    assert "\x1b[3" not in written()
    monkeypatch.delenv("NO_COLOR")
    assert "\x1b[31m" in written()
