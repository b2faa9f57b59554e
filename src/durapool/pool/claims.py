"""Permits: what lets the parent take back a branch that it has sent ahead, without asking the worker.

    parent --one byte a RUN--> pipe --one byte a branch--> worker, before it starts the branch
                                 \\--k bytes-->             parent, to take back the last k branches

Both ends of the pipe stay open here, and the worker has the read end too. It runs what it was sent in order, and only
with a permit; so whoever reads a byte first has decided whether one more branch starts, also while the worker sits in
a C call.
"""

from __future__ import annotations

import os


class Claims:
    """The parent's ends of one worker's pipe."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)  # a pipe holds thousands of permits, and few are ever out

    @property
    def read_end(self) -> int:
        """The descriptor that the worker gets."""
        return self._read

    def permit(self, count: int = 1) -> None:
        """So many more branches may start. Before their RUNs are sent."""
        os.write(self._write, bytes(count))

    def take_back(self, most: int) -> int:
        """Withdraw up to `most` permits; how many had not been used. The worker skips as many of its last branches."""
        if most <= 0 or self._read < 0:
            return 0
        try:
            return len(os.read(self._read, most))
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Release the descriptors."""
        if self._read >= 0:
            os.close(self._read)
            os.close(self._write)
            self._read = self._write = -1
