"""Price options on a basket of shares by simulation: numpy arrays into the branches, and out of them.

    branch: simulate paths with a generator seeded by ctx.seed -> an array, one row for each strike
    handler: add the arrays -> price and standard error

`ctx.seed` comes from the execution's id and the branch, so a branch draws the same numbers on every executor and in
every replay, and no two branches draw the same.

    durapool run examples/monte_carlo.py:handler --executor process --id basket --input '{"paths": 20000000}'
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from command_line import main
from durapool import DurableContext, durable_execution

Array = np.ndarray[Any, Any]

SPOT = [100.0, 95.0, 110.0, 105.0]
VOLATILITY = [0.2, 0.3, 0.25, 0.15]  # a year
CORRELATION = 0.4  # between each two shares
STRIKES = [80.0, 90.0, 100.0, 110.0, 120.0]
RATE = 0.03  # a year
YEARS = 1.0
PATHS = 4_000_000
BATCH = 100_000  # paths simulated at a time: bounds the memory of a worker


@durable_execution
def handler(event: dict[str, Any] | None, context: DurableContext) -> dict[str, Any]:
    """Price the calls. Event keys, all optional: `paths`, `branches`, `spot`, `volatility`, `strikes`."""
    event = event or {}
    spot = np.array(event.get("spot") or SPOT)
    volatility = np.array(event.get("volatility") or VOLATILITY)
    strikes = np.array(event.get("strikes") or STRIKES)
    correlation = np.full((len(spot), len(spot)), CORRELATION)
    np.fill_diagonal(correlation, 1.0)
    loading = np.linalg.cholesky(correlation) * volatility[:, None]
    branches = event.get("branches") or 16
    share = -(-(event.get("paths") or PATHS) // branches)

    def simulate(ctx: DurableContext, paths: int, index: int, inputs: Any) -> Array:
        seed = ctx.seed
        return ctx.step(lambda _: payoffs(seed, paths, spot, loading, strikes), name="simulate")

    simulated = context.map([share] * branches, simulate, name="simulate")
    simulated.throw_if_error()
    count = share * branches
    total, squares = np.sum(simulated.get_results(), axis=0)
    mean = total / count
    error = np.sqrt((squares / count - mean**2) / count)
    return {
        "paths": count,
        "calls": [
            {"strike": float(strike), "price": round(float(price), 4), "standard_error": round(float(spread), 4)}
            for strike, price, spread in zip(strikes, mean, error, strict=True)
        ],
    }


def payoffs(seed: int, paths: int, spot: Array, loading: Array, strikes: Array) -> Array:
    """Two rows: for each strike the sum of the discounted payoffs, and the sum of their squares."""
    rng = np.random.default_rng(seed)
    found = np.zeros((2, len(strikes)))
    drift = (RATE - 0.5 * np.sum(loading**2, axis=1)) * YEARS
    for first in range(0, paths, BATCH):
        normal = rng.standard_normal((min(BATCH, paths - first), len(spot)))
        basket = np.mean(spot * np.exp(drift + sqrt(YEARS) * normal @ loading.T), axis=1)
        values = np.exp(-RATE * YEARS) * np.maximum(basket[:, None] - strikes, 0)
        found += np.sum(values, axis=0), np.sum(values**2, axis=0)
    return found


if __name__ == "__main__":
    main(handler, __doc__)
