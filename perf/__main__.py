"""`python -m perf NAME ...`: run benchmarks one after the other, print them, and write perf/results/NAME.json."""

from __future__ import annotations

import argparse
from importlib import import_module

BENCHMARKS = {
    "cpu": "equal CPU-bound branches on 2 workers, against a bare fork",
    "overhead": "a branch that does nothing, against concurrent.futures",
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m perf", description="The benchmarks of durapool.")
    listed = ", ".join(f"{name} ({about})" for name, about in BENCHMARKS.items())
    parser.add_argument("names", nargs="+", choices=BENCHMARKS, metavar="NAME", help=listed)
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count (default %(default)s)")
    options = parser.parse_args()
    for name in options.names:
        print(f"{name}: {BENCHMARKS[name]}", flush=True)
        report = import_module(f"perf.benchmarks.{name}").run(options.rounds)
        print("\n".join(report.lines()))
        path = report.write()
        print(f"written to {path.parent.parent.name}/{path.parent.name}/{path.name}\n")


if __name__ == "__main__":
    main()
