"""The job whose report is shown in the README: features of shards, models, scores; some shards are broken.

To draw it anew: run it, kill it half-way, run it again, and take the picture of the page.

    durapool run docs/images/nightly.py:handler --id nightly --executor process:4
    durapool report nightly -o report.html
    chromium --headless=new --window-size=1400,1060 --screenshot=docs/images/report.png report.html
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from durapool import CompletionConfig, DurableContext, MapConfig, StepConfig, durable_execution
from durapool.retries import RetryPresets

BROKEN = (23, 31)
ONCE = StepConfig(retry_strategy=RetryPresets.none())


@durable_execution
def handler(event: Any, context: DurableContext) -> dict[str, Any]:
    """The job. `event` stretches its work, 1 by default."""
    stretch = float(event or 1)
    shards = context.step(lambda _: list(range(40)), name="list-shards")
    features = mapped(context, "extract", shards, lambda i: 0.22 + 0.03 * (i * 7 % 10), stretch, ("read", "parse"))
    models = mapped(context, "train", shards[:12], lambda i: 0.5 + 0.1 * (i * 5 % 12), stretch, ("fit", "check"))
    scores = mapped(context, "score", shards[:28], lambda i: 0.12 + 0.03 * (i * 3 % 7), stretch, ("score",))
    context.step(lambda _: burn(0.3 * stretch), name="publish")
    return {"features": features, "models": models, "scores": scores}


def mapped(
    context: DurableContext,
    name: str,
    items: list[int],
    cost: Callable[[int], float],
    stretch: float,
    steps: tuple[str, ...],
) -> int:
    """One batch; how many branches of it succeeded."""

    def branch(ctx: DurableContext, item: int, index: int, inputs: Any) -> int:
        for step in steps:
            ctx.step(lambda _: burn(cost(item) * stretch / len(steps)), name=step)
        if name == "extract":
            ctx.step(lambda _: checked(item), name="validate", config=ONCE)
        return item

    config = MapConfig(
        completion_config=CompletionConfig.all_completed(), item_namer=lambda _, index: f"{name}-{index:02}"
    )
    return context.map(items, branch, name=name, config=config).success_count


def checked(shard: int) -> int:
    """The shard, if it is sound."""
    if shard in BROKEN:
        raise ValueError(f"shard {shard} has no rows")
    return shard


def burn(seconds: float) -> None:
    """Use so much CPU."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(i * i for i in range(1000))
