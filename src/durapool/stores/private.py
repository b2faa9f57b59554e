"""Folders and files beside the database that nobody but this user may write: pickles in them could run code as him."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from durapool.exceptions import StoreError


def make_private(folder: Path, what: str) -> None:
    """Make the folder for `what`, or refuse the one that is there.

    Raises:
        StoreError: others may write to it, or it is no folder.
        OSError: it cannot be made.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or not _is_private(found):
        raise StoreError(
            f"{folder} should be a folder of this user alone, for {what} of the store, but it is not: "
            "move it away, or name another store."
        )


def check_private(descriptor: int, path: Path) -> None:
    """Refuse an open file that others may have written. Raises StoreError."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or not _is_private(found):
        raise StoreError(
            f"{path} should be a file of this user alone, but it is not: look at what is in it before you move it away."
        )


def _is_private(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
