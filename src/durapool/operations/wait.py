"""`context.wait`: time that passes without a worker and without a running program."""

from __future__ import annotations

from durapool.config import Duration
from durapool.exceptions import ValidationError
from durapool.operations.replay import Call
from durapool.records import Action


def check_duration(duration: Duration) -> None:
    """Raises ValidationError unless it is a Duration of at least a second."""
    if not isinstance(duration, Duration):
        raise ValidationError(f"wait takes a Duration, such as Duration.from_seconds(30), not {duration!r}")
    if duration.to_seconds() < 1:
        raise ValidationError("wait takes a Duration of at least 1 second, not of 0")


def run_wait(call: Call, duration: Duration) -> None:
    """Return if the time is over, else suspend until then."""
    recorded = call.recorded()
    if recorded is not None and recorded.status.is_terminal:
        return
    if recorded is None:
        call.commit(Action.START, delay=duration.to_seconds())
    call.suspend()
