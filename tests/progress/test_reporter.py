"""The reporter: cheap, and never in the way of the run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from progress_tools import ClosedPipe

import durapool
from durapool import DurableContext, durable_execution
from durapool.progress import reporter as reporter_module
from durapool.progress.model import Snapshot
from durapool.progress.observer import observing
from durapool.progress.reporter import SHARE, Reporter, reporting
from durapool.progress.terminal import TerminalView
from durapool.stores.memory import MemoryStore


class RecordingView:
    """Notes what it is called with; `on_show` may do more."""

    def __init__(self, period: float = 0.001, on_show: Callable[[], None] = lambda: None) -> None:
        self.period = period
        self.shown: list[Snapshot] = []
        self.emitted = threading.Event()
        self.enough = threading.Event()
        self.closed_with: Snapshot | None = None
        self._on_show = on_show

    def open(self, wake: Callable[[], None], /) -> None:
        self.wake = wake

    def show(self, snapshot: Snapshot) -> None:
        self.shown.append(snapshot)
        if len(self.shown) >= 3:
            self.enough.set()
        self._on_show()

    def emit(self) -> None:
        self.emitted.set()

    def close(self, last: Snapshot) -> None:
        self.closed_with = last


def test_snapshots_are_shown_until_the_block_ends() -> None:
    view = RecordingView()
    with reporting("x", view):
        assert view.enough.wait(60)
    count = len(view.shown)
    assert view.closed_with is not None
    assert view.shown[-1].seconds <= view.closed_with.seconds
    assert len(view.shown) == count
    assert not [thread for thread in threading.enumerate() if thread.name == "durapool-progress"]


def test_a_view_that_is_woken_writes_without_a_snapshot() -> None:
    view = RecordingView(period=3600.0)
    with reporting("x", view):
        view.wake()
        assert view.emitted.wait(60)
    assert view.shown == []


def test_a_dear_view_is_asked_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    used = iter([0.0, 0.4, 1.0, 1.001])
    monkeypatch.setattr(reporter_module.time, "thread_time", lambda: next(used))
    with observing("x") as observer:
        reporter = Reporter(observer, RecordingView(period=0.25))
        assert reporter._show() == pytest.approx(0.4 / SHARE)
        assert reporter._show() == 0.25


def test_a_reader_that_leaves_ends_the_showing_and_not_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    @durable_execution
    def handler(event: object, context: DurableContext) -> str:
        time.sleep(0)
        return "done"

    view = TerminalView(ClosedPipe(), period=0.001)
    with reporting("x", view):
        assert durapool.run(handler, id="x", store=MemoryStore()) == "done"
        while [thread for thread in threading.enumerate() if thread.name == "durapool-progress"]:
            time.sleep(0.001)
    assert capsys.readouterr().err == ""


def test_an_error_in_a_view_is_told_once_and_ends_the_showing(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ZeroDivisionError("no columns")

    view = RecordingView(on_show=fail)
    with reporting("x", view):
        while [thread for thread in threading.enumerate() if thread.name == "durapool-progress"]:
            time.sleep(0.001)
    assert len(view.shown) == 1
    assert capsys.readouterr().err == ("durapool: progress is not shown any longer: ZeroDivisionError('no columns')\n")
    assert view.closed_with is not None


def test_an_interrupt_closes_the_view() -> None:
    view = RecordingView()
    with pytest.raises(KeyboardInterrupt), reporting("x", view):
        raise KeyboardInterrupt
    assert view.closed_with is not None
