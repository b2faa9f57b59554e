"""A command in a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from typing import NoReturn


class InTerminal:
    """``python -m durapool`` whose stdin, stdout and stderr are a new terminal, which it also controls."""

    def __init__(self, *arguments: str, columns: int = 100, lines: int = 30, **environment: str) -> None:
        self._master, slave = pty.openpty()
        self.resize(columns, lines)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "durapool", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env=os.environ | {"TERM": "xterm"} | environment,
        )
        os.close(slave)
        self._data = b""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    @property
    def text(self) -> str:
        """All that was written so far; the terminal's CR LF as LF."""
        while select.select([self._master], [], [], 0)[0]:
            try:
                chunk = os.read(self._master, 65536)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            self._data += chunk
        return self._data.decode("utf-8", "replace").replace("\r\n", "\n")

    def wait_for(self, condition: Callable[[str], bool]) -> str:
        deadline = time.monotonic() + 60
        while not condition(text := self.text):
            if time.monotonic() > deadline or self.process.poll() is not None:
                self._give_up("this never came true")
            time.sleep(0.01)
        return text

    def _give_up(self, why: str) -> NoReturn:
        self.process.kill()
        self.process.wait()
        raise AssertionError(f"{why}: {self.text[-2000:]}")

    def end(self) -> str:
        """All text, once the command has ended."""
        deadline = time.monotonic() + 60
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                self._give_up("the command does not end")
            self.text  # noqa: B018  # read on: a full terminal would hold the command
            time.sleep(0.01)
        text = self.text
        os.close(self._master)
        return text
