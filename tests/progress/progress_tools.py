"""What the tests of progress share."""

from __future__ import annotations

import io
from dataclasses import replace

from durapool.progress.model import BatchProgress, Load, Snapshot, WorkerRow

BATCH = BatchProgress(
    operation_id="op",
    name="frames",
    kind="map",
    place="",
    total=1000,
    succeeded=400,
    failed=3,
    running=2,
    waiting=1,
    recorded_before=100,
    seconds=65.0,
    rate=6.0,
)
SNAPSHOT = Snapshot(
    execution_id="nightly",
    seconds=65.0,
    batches=(BATCH,),
    workers=(
        WorkerRow(1, 4001, "branch 3 (map-item-3) of frames", load=Load(98.0, 120 << 20)),
        WorkerRow(2, 4002, load=Load(0.0, 20 << 20)),
    ),
    load=Load(2.0, 60 << 20),
)


def with_batches(count: int) -> Snapshot:
    return replace(SNAPSHOT, batches=tuple(replace(BATCH, name=f"batch-{index}") for index in range(count)))


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return True


class ClosedPipe(Terminal):
    """A stream whose reader has left."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")
