"""The code of a page of the documentation, as things to do in an empty folder, from the top to the bottom.

    ```python with "# name.py" in its first line   a file, written
    ```python                                      a script, run; a ```text block right after it is its output
    ```console                                     commands after "$ ", run; what follows each is its output
    ```sh                                          not run: installing, containers, other machines

In an output a line "..." stands for any lines, and "..." in a line for any text; how many blanks there are between
words does not matter. "^C" is Ctrl-C: sent once everything that stands before it was printed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+\.\w+)\n")
INTERRUPT = "^C\n"


@dataclass(frozen=True, slots=True)
class File:
    """Write a file."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """Run a command line (or a script) and compare what it prints, if the page says what."""

    line: int
    command: str
    output: str | None


@dataclass(frozen=True, slots=True)
class Script:
    """Run a block of Python."""

    line: int
    source: str
    output: str | None


Doing = File | Command | Script


def pages() -> list[Path]:
    """The pages whose code is run here; the guide has expectations and a test of its own."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in found if page.name != "parallel-operations.md" and list(doings(page))]


def fences(page: Path) -> list[tuple[int, int, str, str]]:
    """(start, line, language, text) of each fenced block."""
    text = page.read_text(encoding="utf-8")
    return [
        (match.start(), text.count("\n", 0, match.start(2)) + 1, match[1], match[2]) for match in _FENCE.finditer(text)
    ]


def doings(page: Path) -> Iterator[Doing]:
    """What the page does, in order."""
    text = page.read_text(encoding="utf-8")
    found = fences(page)
    for number, (start, line, language, code) in enumerate(found):
        named = _FILE.match(code)
        if language == "console":
            yield from _session(line, code)
        elif named is not None:
            yield File(named[1], code)
        elif language == "python":
            end = start + len(f"```{language}\n{code}```\n")
            following = found[number + 1] if number + 1 < len(found) else None
            is_output = following is not None and following[2] == "text" and not text[end : following[0]].strip()
            yield Script(line, code, following[3] if following is not None and is_output else None)


def _session(line: int, code: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield Command(line, command, output)


def levelled(text: str) -> str:
    """The text with one blank between words and none at the ends of lines: widths of columns depend on the machine."""
    return re.sub(r" +\n", "\n", re.sub(r"[ \t]+", " ", text))


def pattern(output: str) -> re.Pattern[str]:
    """What matches an output that is levelled, with its gaps."""
    parts = []
    for line in levelled(output).splitlines():
        if line.strip() == "...":
            parts.append("(?:[^\n]*\n)*?")
        else:
            parts.append(".*".join(re.escape(piece) for piece in line.split("...")) + "\n")
    return re.compile("".join(parts))
