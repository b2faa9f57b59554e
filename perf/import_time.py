"""How long durapool takes to import, against a bare interpreter: `python -m perf.import_time`.

Each line is the median over fresh interpreters of the sum that `-X importtime` reports, in milliseconds; the bare
interpreter's own imports are subtracted. The interpreters of all lines run in turn.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys

TARGET = 60.0  # ms that `import durapool` may take above a bare interpreter
LINES = {
    "import durapool": "import durapool",
    "the imports of a handler's file": "from durapool import DurableContext, MapConfig, durable_execution, run",
    "of that, the standard library": "import contextvars, dataclasses, enum, hashlib, json, logging, threading, typing",
}
_SELF = re.compile(r"^import time:\s+(\d+) \|", re.MULTILINE)


def milliseconds(code: str) -> float:
    """The time of all imports of a fresh interpreter that runs this code."""
    command = [sys.executable, "-X", "importtime", "-c", code]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return sum(map(int, _SELF.findall(done.stderr))) / 1000


def main() -> None:
    """Measure and print; exit 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=11, help="interpreters a line (default %(default)s)")
    rounds = parser.parse_args().rounds
    for code in LINES.values():
        milliseconds(code)  # writes the bytecode
    times: dict[str, list[float]] = {line: [] for line in LINES}
    for _ in range(rounds):
        bare = milliseconds("pass")
        for line, code in LINES.items():
            times[line].append(milliseconds(code) - bare)
    for line, values in times.items():
        print(f"{line:34} {statistics.median(values):6.1f} ms   (from {min(values):.1f} to {max(values):.1f})")
    if statistics.median(times["import durapool"]) > TARGET:
        sys.exit(f"import durapool is over its target of {TARGET:.0f} ms")


if __name__ == "__main__":
    main()
