"""Progress as lines: for logs and for machines."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace

import pytest
from progress_tools import BATCH, SNAPSHOT, with_batches

from durapool.exceptions import ValidationError
from durapool.progress import views
from durapool.progress.lines import JsonView, LinesView, end_line, line
from durapool.progress.model import End
from durapool.progress.notebook import NotebookView
from durapool.progress.terminal import TerminalView
from durapool.progress.views import checked_mode, view_for


def test_a_line_says_it_all() -> None:
    assert line(SNAPSHOT) == (
        "nightly 1 min 05 s; frames 403/1000 (3 failed, 2 running, 1 waiting, 6.0/s, 1 min 40 s left); "
        "2 workers; CPU 100 %, 200 MiB"
    )


def test_many_batches_are_counted_not_named() -> None:
    text = line(with_batches(10))
    assert "batch-2" in text
    assert "batch-3" not in text
    assert "; 7 more batches;" in text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"end": End.DECIDED, "failed": 0, "recorded_before": 0}, "map frames: 400 of 1000 branches in 1 min 05 s"),
        (
            {"end": End.CUT_OFF},
            "map frames: 403 of 1000 branches (3 failed, 100 from earlier runs) cut off after 1 min 05 s",
        ),
    ],
)
def test_the_end_of_a_batch_is_one_line(changes: dict[str, object], text: str) -> None:
    assert end_line(replace(BATCH, **changes)) == text


def test_lines_go_to_stderr_and_a_short_run_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    ended = replace(SNAPSHOT, batches=(), ended=(replace(BATCH, end=End.DECIDED),))
    short, long = LinesView(), LinesView()
    short.open(lambda: None)
    short.close(ended)
    assert capsys.readouterr() == ("", "")
    long.show(SNAPSHOT)
    long.close(ended)
    out, err = capsys.readouterr()
    assert out == ""
    assert [text[:24] for text in err.splitlines()] == ["durapool: nightly 1 min ", "durapool: map frames: 40"]


def test_json_lines_have_stdout_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    view = JsonView()
    view.open(lambda: None)
    print("what the program says")
    view.show(SNAPSHOT)
    view.close(replace(SNAPSHOT, ended=(replace(BATCH, end=End.DECIDED),)))
    assert sys.stdout is out
    assert err.getvalue() == "what the program says\n"
    progress, batch = map(json.loads, out.getvalue().splitlines())
    assert (progress["event"], progress["execution"], progress["seconds"]) == ("progress", "nightly", 65.0)
    assert progress["batches"][0]["seconds_left"] == 99.5
    assert progress["workers"][1] == {
        "number": 2,
        "pid": 4002,
        "branch": "",
        "lent": False,
        "is_here": True,
        "load": {"cpu_percent": 0.0, "rss": 20 << 20},
    }
    assert (batch["event"], batch["name"], batch["end"]) == ("batch", "frames", "decided")


def test_what_an_encoding_does_not_have_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="ascii"))
    LinesView().show(replace(SNAPSHOT, batches=(replace(BATCH, name="größe"),)))
    assert b"gr\\xf6\\xdfe 403/1000" in raw.getvalue()


@pytest.mark.parametrize(("progress", "mode"), [(True, "auto"), (False, "quiet"), ("json", "json"), ("lines", "lines")])
def test_progress_is_a_truth_or_a_mode(progress: bool | str, mode: str) -> None:
    assert checked_mode(progress) == mode


@pytest.mark.parametrize("progress", [None, 1, "bars", ""])
def test_another_progress_is_refused_before_anything_runs(progress: object) -> None:
    import durapool

    @durapool.durable_execution
    def handler(event: object, context: object) -> None:
        raise AssertionError

    with pytest.raises(ValidationError, match="progress must be True, False or one of auto, lines, json, quiet"):
        durapool.run(handler, progress=progress, store="memory")  # type: ignore[arg-type]


def test_the_view_is_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    def kind(mode: str = "auto") -> type:
        return type(view_for(mode))

    monkeypatch.setenv("TERM", "xterm")
    assert kind() is LinesView
    assert kind("json") is JsonView
    assert view_for("quiet") is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert kind() is TerminalView
    assert kind("lines") is LinesView
    monkeypatch.setattr(views, "find_spec", lambda name: None)  # rich is not installed
    assert kind() is LinesView
    monkeypatch.undo()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    assert kind() is LinesView


def test_a_notebook_has_an_output_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[str] = []

    class Output:
        def update(self, page: str) -> None:
            pages.append(page)

    class Ipython:
        class display:  # noqa: N801  # a module
            HTML = staticmethod(str)

            @staticmethod
            def display(page: str, display_id: bool) -> Output:
                pages.append(page)
                return Output()

        @staticmethod
        def get_ipython() -> object:
            return type("Shell", (), {"kernel": object()})()

    monkeypatch.setitem(sys.modules, "IPython", Ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", Ipython.display)
    view = view_for("auto")
    assert isinstance(view, NotebookView)
    view.open(lambda: None)
    view.show(replace(SNAPSHOT, batches=(replace(BATCH, name="<b>"),)))
    view.show(SNAPSHOT)
    view.close(replace(SNAPSHOT, ended=(replace(BATCH, end=End.DECIDED),)))
    first, second, last = pages
    assert "&lt;b&gt;" in first
    assert "<b>" not in first
    assert "403/1000" in second
    assert "map frames: 403 of 1000 branches" in last
