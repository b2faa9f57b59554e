"""Extract, transform, load: a folder of CSV files into one table of totals. Some files are broken; a few are tolerated.

    list -> map over the files: read and sum up (retried) -> totals.csv

What kind of error it is decides: a read that fails is tried again (file servers hiccup), bad data is not (it will be
as bad the next time). Up to `tolerated` per cent of the files may fail; they are named in the result. Mend them and
run `durapool resume ID --failed`: only these files are read again.

    durapool run examples/etl.py:handler --executor process --id sales      # makes its own sample of files
    durapool run examples/etl.py:handler --id mine --input '{"folder": "sales"}'
"""

from __future__ import annotations

import csv
import random
from collections import Counter
from pathlib import Path
from typing import Any

from command_line import main
from durapool import (
    BatchResult,
    CompletionConfig,
    DurableContext,
    Duration,
    MapConfig,
    RetryStrategyConfig,
    StepConfig,
    StepContext,
    durable_execution,
)

PRODUCTS = ("apples", "pears", "plums")
READING = StepConfig(
    RetryStrategyConfig(max_attempts=4, initial_delay=Duration(1), retryable_error_types=[OSError])
)  # a ConnectionError and a TimeoutError are OSErrors too


@durable_execution
def handler(event: dict[str, Any] | None, context: DurableContext) -> dict[str, Any]:
    """Sum up sales. Event keys, all optional:

    folder: of the CSV files (made when it does not exist); output: the file written; tolerated: per cent of the files
    that may fail; hiccups: let the first attempt to read every third file fail, as an unreliable file server does.
    """
    event = event or {}
    folder = Path(event.get("folder") or "sales").absolute()
    output = Path(event.get("output") or "totals.csv").absolute()
    hiccups = bool(event.get("hiccups"))
    files = context.step(lambda _: list_files(folder), name="list")

    def extract(ctx: DurableContext, file: str, index: int, inputs: Any) -> dict[str, int]:
        def read(step: StepContext) -> dict[str, int]:
            if hiccups and index % 3 == 0 and step.attempt == 1:
                raise ConnectionError(f"the file server hung up on {file}")
            return totals(folder / file)

        return ctx.step(read, name="read", config=READING)

    batch = context.map(
        files,
        extract,
        name="extract",
        config=MapConfig(
            completion_config=CompletionConfig(tolerated_failure_percentage=event.get("tolerated", 10)),
            item_namer=lambda file, _: file,
        ),
    )
    if batch.completion_reason.value == "FAILURE_TOLERANCE_EXCEEDED":
        batch.throw_if_error()
    # No step: whatever follows tolerated failures is worked out anew, so that a resume with --failed changes it too.
    return load(output, batch.get_results()) | {"files": batch.success_count, "rejected": rejected(files, batch)}


def list_files(folder: Path) -> list[str]:
    """The names of the CSV files; where there is no folder, a sample is made."""
    if not folder.exists():
        make_sample(folder)
    return sorted(path.name for path in folder.glob("*.csv"))


def make_sample(folder: Path, files: int = 12, rows: int = 200) -> None:
    """Files with sales of a month each; one of them is cut off in the middle of a number."""
    folder.mkdir(parents=True)
    rng = random.Random(0)
    for month in range(1, files + 1):
        lines = [f"{rng.choice(PRODUCTS)},{rng.randint(1, 20)},{rng.uniform(0.5, 9):.2f}" for _ in range(rows)]
        if month == 7:
            lines[-1] = "pears,1"
        (folder / f"month-{month:02}.csv").write_text("product,amount,price\n" + "\n".join(lines) + "\n")


def totals(path: Path) -> dict[str, int]:
    """The turnover of each product in one file, in cents: whole numbers add up exactly in any order."""
    found: Counter[str] = Counter()
    with path.open(newline="", encoding="utf-8") as lines:
        for number, row in enumerate(csv.DictReader(lines), start=2):
            try:
                cents = int(row["amount"]) * round(100 * float(row["price"]))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path.name}, line {number}: no product, amount and price in {row}") from error
            found[row["product"]] += cents
    return dict(found)


def load(output: Path, parts: list[dict[str, int]]) -> dict[str, Any]:
    """Write the table. Writing it again does no harm."""
    table: Counter[str] = Counter()
    for part in parts:
        table.update(part)
    turnover = {product: cents / 100 for product, cents in sorted(table.items())}
    with output.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("product", "turnover"), *turnover.items()])
    return {"turnover": turnover}


def rejected(files: list[str], batch: BatchResult[Any]) -> dict[str, str | None]:
    """Why each rejected file was rejected."""
    return {files[item.index]: item.error.message for item in batch.failed() if item.error is not None}


if __name__ == "__main__":
    main(handler, __doc__)
