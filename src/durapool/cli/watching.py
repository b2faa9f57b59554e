"""``durapool show --watch``: the tree again and again, in place on a terminal, one after the other elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from durapool.cli.render import console
from durapool.progress.terminal import Region
from durapool.progress.views import is_terminal

if TYPE_CHECKING:
    from rich.tree import Tree

    from durapool.stores.base import ExecutionSummary

PERIOD = 1.0  # seconds
_SHARE = 0.05  # of one CPU that watching may use


def watch_tree(
    look: Callable[[], ExecutionSummary], grow: Callable[[ExecutionSummary], Tree], period: float = PERIOD
) -> None:
    """Show the tree whenever there are new records, until the execution has ended; then all of it stays."""
    region = Region(sys.stdout) if is_terminal(sys.stdout) else None
    seen = -1
    while True:
        began = time.thread_time()
        summary = look()
        if summary.records != seen:
            seen = summary.records
            if region is not None:
                region.draw([])
            if region is None or summary.status.is_terminal:
                console().print(grow(summary))
                sys.stdout.flush()
            else:
                region.draw_tree(grow(summary))
        if summary.status.is_terminal:
            return
        time.sleep(max(period, (time.thread_time() - began) / _SHARE))
