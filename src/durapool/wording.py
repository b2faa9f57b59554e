"""Numbers and names as people read them, on a terminal, in a log, in a notebook."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def clean(text: str) -> str:
    """The text on one line, with all that a terminal could take for a command escaped."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def duration(seconds: float) -> str:
    """A span of time: ``12 ms``, ``3.2 s``, ``4 min 05 s``, ``2 h 03 min``, ``3 d 04 h``."""
    seconds = max(0.0, seconds)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02} h"


def size(count: float) -> str:
    """Bytes: ``512 B``, ``120 MiB``, ``1.5 GiB``."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"


def rate(each_second: float) -> str:
    """How often something happens: ``120/s``, ``3.2/s``, ``14/min``, ``5.0/h``; empty for never."""
    for unit, seconds in (("s", 1), ("min", 60), ("h", 3600)):
        value = each_second * seconds
        if value >= 1 or (unit == "h" and value > 0):
            return f"{value:.0f}/{unit}" if value >= 10 else f"{value:.1f}/{unit}"
    return ""


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """``1 branch``, ``3 branches``."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"
