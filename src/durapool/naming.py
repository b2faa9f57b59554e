"""Names as a service keeps them: printable ASCII, and not long. Light, because workers compare names too."""

from __future__ import annotations

import re

LONGEST_NAME = 256  # characters
LONGEST_SUB_TYPE = 32
_PLAIN = re.compile(r"[\x20-\x7e]{1,256}")


def service_name(name: str | None) -> str | None:
    """The name as the service keeps it: other characters escaped, what is too long cut off; None for an empty one."""
    if not name:
        return None
    if _PLAIN.fullmatch(name):
        return name
    escaped = "".join(char if " " <= char <= "~" else f"\\u{ord(char):04x}" for char in name)
    return escaped[:LONGEST_NAME]


def service_sub_type(sub_type: str | None) -> str | None:
    """A sub-type of the user's own as the service keeps it."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", sub_type)[:LONGEST_SUB_TYPE] if sub_type else None
