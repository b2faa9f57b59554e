"""`python -m perf.table`: the rows with a target in perf/results, as Markdown: measured figure beside target."""

from __future__ import annotations

from perf.__main__ import BENCHMARKS, LONG
from perf.report import RESULTS, targets_in, targets_table

if __name__ == "__main__":
    print("\n".join(targets_table(targets_in(RESULTS, [*BENCHMARKS, *LONG]))))
