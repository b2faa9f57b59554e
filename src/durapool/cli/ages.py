"""Ages on the command line: ``90s``, ``45min``, ``12h``, ``30d``, ``2w``."""

from __future__ import annotations

import re

import click

_AGE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", re.IGNORECASE)
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
METAVAR = "AGE"


def age(text: str) -> float:
    """Seconds of a number and a unit; the ``type=`` of an option.

    Raises:
        click.BadParameter: not an age.

    Example:
        >>> age("1.5h")
        5400.0
    """
    match = _AGE.fullmatch(text)
    unit = None if match is None else _SECONDS.get(match[2].lower())
    if match is None or unit is None:
        raise click.BadParameter(f"{text!r} is no age: a number and s, min, h, d or w, such as 30d or 12h")
    return float(match[1]) * unit
