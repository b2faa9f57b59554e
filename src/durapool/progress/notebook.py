"""Progress in a notebook: one output of the cell that is changed in place. Prints appear in the cell by themselves."""

from __future__ import annotations

import html
import io
import sys
from collections.abc import Callable
from typing import Any

from durapool.progress.lines import end_line, line
from durapool.progress.model import BatchProgress, Snapshot

PERIOD = 0.5  # seconds
_COLUMNS = 100
_MOST_LINES = 40
_MOST_ENDS = 20  # ends of batches that stay in sight
_PAGE = '<pre style="line-height: normal; white-space: pre-wrap">{code}</pre>'


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class NotebookView:
    """See `View`. With rich as on a terminal, else one line."""

    def __init__(self, period: float = PERIOD) -> None:
        self.period = period
        self._ended: list[BatchProgress] = []
        self._output: Any = None

    def open(self, _wake: Callable[[], None], /) -> None:
        """See `View.open`."""

    def show(self, snapshot: Snapshot) -> None:
        """See `View.show`."""
        self._ended += snapshot.ended
        ends = [end_line(batch) for batch in self._ended[-_MOST_ENDS:]]
        self._display(_page(snapshot, ends))

    def emit(self) -> None:
        """See `View.emit`."""

    def close(self, last: Snapshot) -> None:
        """See `View.close`. What has ended stays in sight."""
        self._ended += last.ended
        if self._output is not None:
            ends = "\n".join(end_line(batch) for batch in self._ended[-_MOST_ENDS:])
            self._display(_PAGE.format(code=html.escape(ends)))

    def _display(self, page: str) -> None:
        from IPython.display import HTML, display  # type: ignore[import-not-found]  # it runs here, or we were not made

        if self._output is None:
            self._output = display(HTML(page), display_id=True)
        else:
            self._output.update(HTML(page))


def _page(snapshot: Snapshot, ends: list[str]) -> str:
    try:
        from rich.console import Console
    except ImportError:
        return _PAGE.format(code=html.escape("\n".join([*ends, line(snapshot)])))
    from durapool.progress.frame import Room, frame

    console = Console(
        file=io.StringIO(), record=True, width=_COLUMNS, highlight=False, markup=False, force_jupyter=False
    )
    for end in ends:
        console.print(end, soft_wrap=True)
    for text in frame(snapshot, Room(_COLUMNS, _MOST_LINES)):
        console.print(text, soft_wrap=True)
    return console.export_html(inline_styles=True, code_format=_PAGE)
