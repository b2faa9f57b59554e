"""A span of time, as users configure it."""

from __future__ import annotations

import math

from durapool.exceptions import ValidationError
from durapool.values import dataclass


@dataclass(frozen=True, order=True)
class Duration:
    """A span of time in whole seconds.

    Raises:
        ValidationError: negative, or a fraction of a second.

    Example:
        >>> Duration.from_minutes(2).to_seconds()
        120
    """

    seconds: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.seconds, bool) or not isinstance(self.seconds, int):
            raise ValidationError(f"Duration takes whole seconds (an int), not {self.seconds!r}")
        if self.seconds < 0:
            raise ValidationError(f"a Duration cannot be negative: {self.seconds} seconds")

    @classmethod
    def _of(cls, value: float, unit: int) -> Duration:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise ValidationError(f"a Duration is made of a number, not {value!r}")
        seconds = value * unit
        if isinstance(seconds, float) and not math.isfinite(seconds):
            raise ValidationError(f"a Duration is made of a finite number, not {value!r}")
        if seconds != int(seconds):
            raise ValidationError(f"a Duration has whole seconds: {value} x {unit} s is {seconds} s")
        return cls(int(seconds))

    @classmethod
    def from_seconds(cls, value: float) -> Duration:
        """`value` seconds. Raises ValidationError for less than nothing or a fraction of a second, as the others do."""
        return cls._of(value, 1)

    @classmethod
    def from_minutes(cls, value: float) -> Duration:
        """`value` minutes."""
        return cls._of(value, 60)

    @classmethod
    def from_hours(cls, value: float) -> Duration:
        """`value` hours."""
        return cls._of(value, 3600)

    @classmethod
    def from_days(cls, value: float) -> Duration:
        """`value` days."""
        return cls._of(value, 86400)

    def to_seconds(self) -> int:
        """The span in seconds."""
        return self.seconds
