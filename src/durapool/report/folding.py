"""Time without the pauses between invocations: an execution killed on Monday and resumed on Friday fits on one page."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise

_LEAST = 1.0  # seconds: shorter pauses are shown as they were
_PART = 0.1  # of the active time: pauses up to this part of it, too
_WIDTH = 0.02  # of the active time: what a folded pause takes


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause that was folded: where it is on the folded axis, in seconds, and how long it really was."""

    at: float
    width: float
    seconds: float


class Fold:
    """Maps epoch seconds to seconds on the folded axis and back. Both ways monotonic.

    Args:
        began: epoch seconds of what becomes 0.
        active: the stretches in which something ran, in order.
        ended: epoch seconds of the last thing to show.
    """

    def __init__(self, began: float, active: Iterable[tuple[float, float]], ended: float) -> None:
        gaps = _gaps(began, active, ended)
        busy = max(ended - began - sum(b - a for a, b in gaps), 0.0)
        folded = [(a, b) for a, b in gaps if b - a > max(_LEAST, _PART * busy)]
        width = _WIDTH * (ended - began - sum(b - a for a, b in folded))
        edges = [began, *(edge for gap in folded for edge in gap), max(ended, began)]
        lengths = [(min(width, b - a) if place % 2 else b - a) for place, (a, b) in enumerate(pairwise(edges))]
        self._real = edges
        self._folded = [0.0, *accumulate(lengths)]
        self.pauses = [Pause(self._folded[i], lengths[i], edges[i + 1] - edges[i]) for i in range(1, len(lengths), 2)]
        self.total = self._folded[-1]

    def folded(self, at: float) -> float:
        """Seconds on the folded axis of an epoch time; times outside are moved to the nearest end."""
        return _interpolate(self._real, self._folded, at)

    def real(self, at: float) -> float:
        """The epoch time of a place on the folded axis."""
        return _interpolate(self._folded, self._real, at)

    def table(self) -> list[tuple[float, float]]:
        """The corners of the map: (folded, epoch seconds)."""
        return list(zip(self._folded, self._real, strict=True))


def _gaps(began: float, active: Iterable[tuple[float, float]], ended: float) -> list[tuple[float, float]]:
    """The stretches between `began` and `ended` in which nothing ran."""
    gaps, reached = [], began
    for first, last in active:
        if first > reached:
            gaps.append((reached, first))
        reached = max(reached, last)
    if ended > reached:
        gaps.append((reached, ended))
    return gaps


def _interpolate(xs: list[float], ys: list[float], x: float) -> float:
    place = min(max(bisect_right(xs, x) - 1, 0), len(xs) - 2)
    x0, x1, y0, y1 = xs[place], xs[place + 1], ys[place], ys[place + 1]
    if x1 <= x0:
        return y0
    return y0 + (min(max(x, x0), x1) - x0) / (x1 - x0) * (y1 - y0)
