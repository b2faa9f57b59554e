"""Search the parameters of a classifier: scikit-learn, on its own images of handwritten digits.

    map over the grid: one branch a candidate, one step a fold  ->  the best candidate, fitted and tested

Killed half-way, the search goes on with the folds that are missing. The images are captured by the branches: a worker
gets them once, not once a candidate.

    durapool run examples/hyperparameter_search.py:handler --executor process --id digits
    python examples/hyperparameter_search.py --executor process --input '{"samples": 600}'
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.svm import SVC

from command_line import main
from durapool import DurableContext, MapConfig, durable_execution

Array = np.ndarray[Any, Any]
Parameters = dict[str, float]

GRID = {"C": [0.3, 1.0, 3.0, 10.0], "gamma": [0.0001, 0.0003, 0.001, 0.003]}
FOLDS = 5


@durable_execution
def handler(event: dict[str, Any] | None, context: DurableContext) -> dict[str, Any]:
    """Find the best parameters. Event keys, all optional: `grid`, `folds`, `samples` (use so many images only)."""
    event = event or {}
    images, labels = load_digits(return_X_y=True)
    images, labels = images[: event.get("samples")], labels[: event.get("samples")]
    train, test, train_labels, test_labels = train_test_split(images, labels, random_state=0, stratify=labels)
    grid = event.get("grid") or GRID
    candidates = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    splits = StratifiedKFold(event.get("folds") or FOLDS)

    def evaluate(ctx: DurableContext, parameters: Parameters, index: int, inputs: Any) -> float:
        def score(fold: int, rows: Array, held_out: Array) -> float:
            return ctx.step(
                lambda _: accuracy(
                    parameters, train[rows], train_labels[rows], train[held_out], train_labels[held_out]
                ),
                name=f"fold-{fold}",
            )

        scores = [score(fold, *rows) for fold, rows in enumerate(splits.split(train, train_labels))]
        return sum(scores) / len(scores)

    searched = context.map(candidates, evaluate, name="search", config=MapConfig(item_namer=lambda item, _: name(item)))
    searched.throw_if_error()
    ranked = sorted(zip(searched.get_results(), candidates, strict=True), key=lambda entry: -entry[0])
    mean, best = ranked[0]
    tested = context.step(lambda _: accuracy(best, train, train_labels, test, test_labels), name="test")
    return {
        "candidates": len(candidates),
        "best": best,
        "cross_validation_accuracy": round(mean, 4),
        "test_accuracy": round(tested, 4),
    }


def accuracy(parameters: Parameters, images: Array, labels: Array, unseen: Array, truth: Array) -> float:
    """Fit on some images and score on others: the share that is read right."""
    return float(SVC(**parameters).fit(images, labels).score(unseen, truth))


def name(parameters: Parameters) -> str:
    """The name of a candidate in history and report."""
    return " ".join(f"{key}={value:g}" for key, value in parameters.items())


if __name__ == "__main__":
    main(handler, __doc__)
