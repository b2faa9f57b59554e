"""Timing contenders fairly: in turn within one run, so that what the machine does meanwhile hits all of them.

    warm-up: A B C    round 1: A B C    round 2: A B C    ...    -> median, min-max, ratio

The harness knows nothing of what it times. A benchmark gives it contenders and derives its figures from the table.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perf.report import Table

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Contender:
    """Something to time. `run` does the whole work once, checks its own result, and says how many seconds it took."""

    name: str
    run: Callable[[], float]
    tasks: int = 1


def timed(work: Callable[[], Any]) -> Callable[[], float]:
    """The `run` of a contender all of whose work counts."""

    def run() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return run


def measure(title: str, contenders: Sequence[Contender], rounds: int, baseline: str = "") -> Table:
    """One warm-up round, which is not counted, then `rounds` rounds, the contenders in turn in each.

    The first contender is the baseline if none is named.
    """
    for contender in contenders:
        contender.run()
    return measure_cold(title, contenders, rounds, baseline)


def measure_cold(title: str, contenders: Sequence[Contender], rounds: int, baseline: str = "") -> Table:
    """As `measure`, without the warm-up round."""
    table = Table(title, baseline or contenders[0].name, {contender.name: contender.tasks for contender in contenders})
    for number in range(1, rounds + 1):
        for contender in contenders:
            table.seconds.setdefault(contender.name, []).append(contender.run())
        print(f"  {title}: round {number} of {rounds}", flush=True)
    return table


def call_afresh(module: str, function: str, *arguments: Any) -> Any:
    """What a function of a module returns in an interpreter of its own. Arguments and result travel as JSON.

    The interpreter gets its program by `-c`: one from a file would be run again by each child of multiprocessing. It
    may keep compiled modules, as an installed package has them.
    """
    program = (
        f"import json, sys; from {module} import {function}; "
        f"print(json.dumps({function}(*json.loads(sys.argv[1]))), flush=True)"
    )
    command = [sys.executable, "-c", program, json.dumps(arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])
