"""A terminal as far as the live view needs one: lines, carriage return, cursor up, clear below; colours are dropped."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\x1b\[(\d*)([A-Za-z])|\x1b\[[0-9;]*m|[\r\n]|[^\x1b\r\n]+")


class Screen:
    """What is to be seen after everything that was written so far; nothing ever scrolls away."""

    def __init__(self) -> None:
        self.lines = [""]
        self._row = self._column = 0

    def feed(self, text: str) -> None:
        for match in _TOKEN.finditer(re.sub(r"\x1b\[[0-9;]*m", "", text)):
            self._take(match)

    def _take(self, match: re.Match[str]) -> None:
        token = match[0]
        if token == "\r":
            self._column = 0
        elif token == "\n":
            self._row, self._column = self._row + 1, 0
            if self._row == len(self.lines):
                self.lines.append("")
        elif match[2] == "A":
            self._row = max(0, self._row - int(match[1] or 1))
        elif match[2] == "J":
            del self.lines[self._row + 1 :]
            self.lines[self._row] = self.lines[self._row][: self._column]
        elif match[2] is None:
            line = self.lines[self._row].ljust(self._column)
            self.lines[self._row] = line[: self._column] + token + line[self._column + len(token) :]
            self._column += len(token)
        else:
            raise AssertionError(f"an escape sequence that no plain terminal needs: {token!r}")

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n")
