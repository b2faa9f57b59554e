"""Which view fits: by what was asked for and by where stderr leads."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from durapool.exceptions import ValidationError

if TYPE_CHECKING:
    from durapool.progress.reporter import View

AUTO, LINES, JSON, QUIET = MODES = ("auto", "lines", "json", "quiet")


def checked_mode(progress: object) -> str:
    """The mode that ``progress=`` means: True for "auto", False for "quiet", or a mode's name.

    Raises:
        ValidationError: none of these.

    Example:
        >>> checked_mode(True)
        'auto'
    """
    match progress:
        case bool():
            return AUTO if progress else QUIET
        case str() if progress in MODES:
            return progress
        case _:
            raise ValidationError(f"progress must be True, False or one of {', '.join(MODES)}, not {progress!r:.100}")


def view_for(mode: str) -> View | None:
    """The view of a mode; None for "quiet".

    "auto" is a live view in a notebook and where stderr is a terminal (and rich is installed), else plain lines.
    """
    if mode == QUIET:
        return None
    from durapool.progress.lines import JsonView, LinesView
    from durapool.progress.notebook import NotebookView, in_notebook

    if mode == JSON:
        return JsonView()
    if mode == AUTO and in_notebook():
        return NotebookView()
    if mode == AUTO and is_terminal(sys.stderr) and find_spec("rich") is not None:
        from durapool.progress.terminal import TerminalView

        return TerminalView(sys.stderr)
    return LinesView()


def is_terminal(stream: object) -> bool:
    """Whether a stream leads to a terminal that can move its cursor."""
    try:
        is_tty = bool(stream.isatty())  # type: ignore[attr-defined]  # may be None, or of the user's own making
    except (AttributeError, ValueError):
        return False
    return is_tty and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")
