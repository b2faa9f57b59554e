"""The code blocks of the guide as modules that can be run."""

from __future__ import annotations

from typing import Any

from guide_blocks import GUIDE, Block
from guide_expectations import EXPECTATIONS, PRELUDE, Fragment, Handler


def load(block: Block) -> dict[str, Any]:
    """Run the block as a module that no worker can import: its functions must travel by value."""
    expectation = EXPECTATIONS[block.key]
    assert isinstance(expectation, Handler | Fragment)
    namespace: dict[str, Any] = {"__name__": "guide_block"}
    exec(PRELUDE, namespace)
    source = expectation.source_of(block.source)
    exec(compile(source, f"<{GUIDE.name}:{block.line}>", "exec"), namespace)
    return namespace
