"""The code blocks of the guide, each with the heading it stands under."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "parallel-operations.md"
_FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#{2,3}) (.+)$")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of Python: `key` is "heading #n", counted under that heading; `line` is that of its first line."""

    key: str
    part: str
    line: int
    source: str


def guide_blocks() -> dict[str, Block]:
    """All python blocks of the guide, by key, in order."""
    text = GUIDE.read_text(encoding="utf-8")
    found: dict[str, Block] = {}
    for match in _FENCE.finditer(text):
        part, heading = _headings_before(text[: match.start()])
        number = sum(key.startswith(f"{heading} #") for key in found) + 1
        line = text.count("\n", 0, match.start(1)) + 1
        key = f"{heading} #{number}"
        found[key] = Block(key, part, line, match[1])
    return found


def _headings_before(text: str) -> tuple[str, str]:
    """The part (##) and the innermost heading that the end of `text` is under."""
    part = heading = ""
    for line in re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL).splitlines():
        match = _HEADING.match(line)
        if match is None:
            continue
        heading = match[2]
        if match[1] == "##":
            part = heading
    return part, heading
