"""Delays that grow from one attempt to the next: what retries and polls share."""

from __future__ import annotations

import math
from typing import Any

from durapool.config import Duration, JitterStrategy
from durapool.exceptions import ValidationError


def check_backoff(config: Any) -> None:
    """Check the fields that retries and polls share.

    Raises:
        ValidationError: a value out of range.
    """
    attempts = config.max_attempts
    if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
        raise ValidationError(f"max_attempts must be a whole number of at least 1, not {attempts!r}")
    for name in ("initial_delay", "increment", "max_delay"):
        if not isinstance(getattr(config, name, Duration()), Duration):
            raise ValidationError(f"{name} must be a Duration, not {getattr(config, name)!r}")
    rate = getattr(config, "backoff_rate", 1)
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < math.inf:
        raise ValidationError(f"backoff_rate must be a number above 0, not {rate!r}")
    if not isinstance(config.jitter_strategy, JitterStrategy):
        raise ValidationError(f"jitter_strategy must be a JitterStrategy, not {config.jitter_strategy!r}")


def backoff(initial: Duration, rate: float, longest: Duration, attempts_made: int) -> float:
    """Seconds before the next attempt, without jitter."""
    try:
        delay = initial.to_seconds() * float(rate) ** (attempts_made - 1)
    except OverflowError:
        return longest.to_seconds()
    return min(delay, longest.to_seconds())
