"""Records and stores that the tests of the stores are made of."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from durapool.records import (
    DETAIL_HANDLER,
    Action,
    ErrorObject,
    OperationSubType,
    OperationType,
    Payload,
    Record,
    Update,
    child_id,
)
from durapool.stores import SQLiteStore
from durapool.stores.rows import MAX_RECORDS

ODD_TEXTS = [
    "plain",
    "",
    ".",
    "..",
    "../../etc/passwd",
    "/absolute",
    "with space & 'quotes\"; DROP TABLE records; --",
    "nul\0inside",
    "line\nbreak",
    "日本語 \N{FIRE}",
    "lone \udcff surrogate",
    "x" * 5000,
    "A",
    "a",
    "%41",
]


def start(at: float = 1000.0, event: Payload | None = '{"n": 1}', handler: str = "jobs:main", seq: int = 1) -> Record:
    details = {DETAIL_HANDLER: handler}
    return Record(seq, at, Update("exec", Action.START, OperationType.EXECUTION, payload=event, details=details))


def end(seq: int, at: float, action: Action = Action.SUCCEED) -> Record:
    return Record(seq, at, Update("exec", action, OperationType.EXECUTION, payload="1"))


def step(seq: int, payload: Payload = "1") -> Record:
    update = Update(
        child_id(None, seq),
        Action.SUCCEED,
        OperationType.STEP,
        OperationSubType.STEP,
        name=f"step-{seq}",
        payload=payload,
    )
    return Record(seq, 1000.0 + seq, update)


def every_field() -> list[Record]:
    """Records that between them use every field of Update in every way."""
    error = ErrorObject("no \udcfe luck", "ValueError", "data", ("line 1", "line 2"), b"\x80\x05pickled\0")
    updates = [
        Update("a", Action.START, OperationType.STEP),
        Update(
            "b",
            Action.RETRY,
            OperationType.STEP,
            OperationSubType.STEP,
            "a",
            "näme",
            7,
            '"text"',
            error,
            3,
            0.125,
            {"k": 1},
        ),
        Update("c", Action.FAIL, OperationType.CONTEXT, OperationSubType.PARALLEL_BRANCH, error=ErrorObject()),
        Update("d", Action.SUCCEED, OperationType.STEP, payload=b"\x80\x05\0binary"),
        Update("e", Action.SUCCEED, OperationType.STEP, payload=""),
        Update("f", Action.SUCCEED, OperationType.STEP, payload=b""),
        Update("g", Action.SUCCEED, OperationType.STEP, payload="7"),
        Update(
            "h", Action.START, OperationType.CONTEXT, OperationSubType.MAP, name="\udc80", payload="p\udcff", branch=0
        ),
        Update(
            "i", Action.START, OperationType.CALLBACK, details={"x": [1, None, {"y": b"z", "t": "\udcff"}], "f": 1.5}
        ),
        Update("j", Action.START, OperationType.STEP, details={}),
        *(Update("k", action, OperationType.WAIT) for action in Action),
        *(Update("l", Action.START, kind) for kind in OperationType if kind is not OperationType.EXECUTION),
        *(Update("m", Action.START, OperationType.CONTEXT, sub_type) for sub_type in OperationSubType),
    ]
    return [Record(seq, 1000.5 + seq, update) for seq, update in enumerate(updates, start=2)]


def fork() -> int:
    """os.fork, though the test runner has threads: the child uses only what is safe, and ends with os._exit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later warn of the threads
        return os.fork()


@contextmanager
def python_process(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `code`; it says a line when it is ready and is killed at the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=os.path.dirname(__file__),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def in_database(path: Path) -> list[int]:
    """The seqs of the last records of the rows that are in the database itself."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT place FROM records ORDER BY place").fetchall()
    return [place % MAX_RECORDS for (place,) in found]


def tail_of(path: Path) -> Path:
    (found,) = Path(f"{path}-tails").iterdir()
    return found


def seqs(store: SQLiteStore, execution_id: str = "x") -> list[int]:
    found = [record.seq for record in store.read(execution_id)]
    summary = store.find(execution_id)
    assert (summary.records if summary else 0) == len(found)
    listed = [each.records for each in store.executions() if each.id == execution_id]
    assert listed == ([summary.records] if summary else [])
    assert found == list(range(1, len(found) + 1))
    return found
