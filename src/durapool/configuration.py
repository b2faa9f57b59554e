"""What the environment and pyproject.toml say where neither code nor command line does.

    call > decorator > command line > DURAPOOL_* > [tool.durapool] of the nearest pyproject.toml > built in

`configured(name)` looks at the last three. It is asked once for each run, in the process that calls `durapool.run`;
workers get what came of it with their orders and never look.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from durapool.exceptions import ValidationError

if TYPE_CHECKING:
    from pathlib import Path

FILE = "pyproject.toml"
TABLE = "tool.durapool"
_NO_MATTER = bytes(set(range(256)) - set(b"abcdefghijklmnopqrstuvwxyz_0123456789.=]#"))
"""What may stand between and before the parts of the name of a table: spaces, quotes, what an editor put there."""


@dataclass(frozen=True, slots=True)
class Option:
    """Something that may be configured: its key in the table, its variable, and what holds without either."""

    name: str
    default: str
    meaning: str

    @property
    def variable(self) -> str:
        """The name of its environment variable."""
        return f"DURAPOOL_{self.name.upper()}"


@dataclass(frozen=True, slots=True)
class Configured:
    """A value and where it comes from: "DURAPOOL_STORE", "[tool.durapool] of /path/pyproject.toml", "built in"."""

    value: str
    source: str


EXECUTOR = Option(
    "executor", "thread", "where branches run: thread, process, process:N, dask, dask:ADDRESS, ray or ray:ADDRESS"
)
STORE = Option("store", os.path.join(".durapool", "journal.db"), "the file of the journals, or memory")
CHECKPOINT = Option("checkpoint", "sync", "when a step counts: sync or async")
PROGRESS = Option("progress", "auto", "what `durapool run` shows: auto, live, lines, json or quiet")
DEBUG = Option("debug", "false", "tracebacks of durapool's own code on the command line: true or false")
OPTIONS = {option.name: option for option in (EXECUTOR, STORE, CHECKPOINT, PROGRESS, DEBUG)}


def configured(option: Option) -> Configured:
    """What the environment says, else pyproject.toml, else what is built in. An empty variable says nothing.

    Raises:
        ValidationError: the table in pyproject.toml is wrong; the message names the file and the key.

    Example:
        >>> configured(CHECKPOINT).value
        'sync'
    """
    given = os.environ.get(option.variable)
    if given:
        return Configured(given, option.variable)
    path = nearest_file()
    if path is not None:
        table = table_of(path)
        if option.name in table:
            return Configured(_absolute(option, table[option.name], path), f"[{TABLE}] of {path}")
    return Configured(option.default, "built in")


def is_true(value: Configured, option: Option) -> bool:
    """The truth that the value of a flag says.

    Raises:
        ValidationError: neither true nor false.
    """
    match value.value.strip().lower():
        case "1" | "true" | "yes" | "on":
            return True
        case "0" | "false" | "no" | "off":
            return False
        case _:
            raise ValidationError(f"{option.name} must be true or false, not {value.value!r} ({value.source})")


def _absolute(option: Option, value: str, path: Path) -> str:
    """A store's path in the file counts from the file's folder, so that it is one store from every folder below."""
    if option is not STORE or value in ("memory", ":memory:"):
        return value
    return str(path.parent / os.path.expanduser(value))


def nearest_file() -> Path | None:
    """The pyproject.toml of the working directory or of the nearest folder above that has one."""
    from pathlib import Path  # only here: the imports of a handler do without

    try:
        folder = Path.cwd()
    except FileNotFoundError:
        return None  # the working directory was deleted
    for candidate in (folder, *folder.parents):
        path = candidate / FILE
        if path.is_file():
            return path
    return None


def table_of(path: Path) -> Mapping[str, str]:
    """The table [tool.durapool] of a file, checked; empty where it has none.

    Raises:
        ValidationError: the file cannot be read, or the table has an unknown key or a wrong value.
    """
    try:
        found = path.stat()
        return _read(path, found.st_mtime_ns, found.st_size)
    except OSError as error:
        raise ValidationError(f"cannot read {path}, which may configure durapool: {error.strerror}") from error


@lru_cache(maxsize=16)
def _read(path: Path, _modified: int, _size: int) -> Mapping[str, str]:
    """As `table_of`; read again only when the file has changed."""
    data = path.read_bytes()
    if b"durapool" not in data or not _may_hold_table(data):
        return {}  # another project's, that depends on us at most: whatever is wrong with it is none of our business
    import tomllib

    try:
        tool = tomllib.loads(data.decode("utf-8")).get("tool", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValidationError(f"{path} may configure durapool, but is not TOML: {error}") from error
    table = tool.get("durapool", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise ValidationError(f"{TABLE} in {path} must be a table, not {table!r:.100}")
    return {key: _checked(key, value, path) for key, value in table.items()}


def _may_hold_table(data: bytes) -> bool:
    """Whether it has a line without which TOML cannot hold the table. Parsing takes 3 ms, a regular expression one."""
    bare = (line.translate(None, _NO_MATTER) for line in data.splitlines())
    return any(line.startswith((b"tool.durapool", b"tool]", b"tool=")) for line in bare)


def _checked(key: str, value: Any, path: Path) -> str:
    option = OPTIONS.get(key)
    if option is None:
        raise ValidationError(f"unknown key {key!r} in [{TABLE}] of {path}; {_known_keys(key)}")
    if option is DEBUG and isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str) or not value:
        raise ValidationError(f"{key} in [{TABLE}] of {path} must be text ({option.meaning}), not {value!r:.100}")
    return value


def _known_keys(key: str) -> str:
    from difflib import get_close_matches

    alike = get_close_matches(key.lower().replace("-", "_"), OPTIONS, n=2)
    known = f"the keys are {', '.join(OPTIONS)}"
    return f"did you mean {' or '.join(map(repr, alike))}? ({known})" if alike else known
