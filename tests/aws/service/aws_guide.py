"""The handlers of the guide's code blocks, as `block_NUMBER`."""

from __future__ import annotations

from typing import Any

from guide_blocks import guide_blocks
from guide_modules import load


def __getattr__(name: str) -> Any:
    if not name.startswith("block_"):
        raise AttributeError(name)
    block = list(guide_blocks().values())[int(name.removeprefix("block_"))]
    globals()[name] = load(block)["handler"]
    return globals()[name]
