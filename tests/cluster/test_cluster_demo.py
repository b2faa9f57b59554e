"""The demo job on a cluster: a slot of it is killed half-way, the result is the same, no recorded step runs twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
from cluster_tools import wait_until

JOB = Path(__file__).parents[2] / "examples" / "code_clones.py"
FILES, CHUNK = 30, 3


def start(folder: Path, executor: str) -> subprocess.Popen[bytes]:
    """The job, as a program of its own."""
    command = [sys.executable, str(JOB), "--id", "job", "--executor", executor, "--store", str(folder / "journal.db")]
    command += ["--log", str(folder / "steps.log"), "--chunk", str(CHUNK), "--limit", str(FILES)]
    folder.mkdir()
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> Any:
    """Its result."""
    output, _ = process.communicate(timeout=100)
    return json.loads(output[output.index(b"{") :])


def steps(folder: Path) -> Counter[str]:
    """How often the body of each step has begun."""
    log = folder / "steps.log"
    return Counter(line.split()[0] for line in log.read_text().splitlines()) if log.exists() else Counter()


def slot_that_works(process: subprocess.Popen[bytes]) -> psutil.Process:
    """A process of the job's local cluster below which branches run: a Dask worker, or a Ray actor."""
    for child in psutil.Process(process.pid).children(recursive=True):
        if any("durapool.worker.supervisor" in " ".join(each.cmdline()) for each in child.children()):
            return child
    raise AssertionError("no slot of the job runs branches")


@pytest.mark.parametrize(
    ("executor", "module"), [("dask", "distributed"), pytest.param("ray", "ray", marks=pytest.mark.ray)]
)
def test_the_demo_job_survives_the_loss_of_a_slot(tmp_path: Path, executor: str, module: str) -> None:
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install durapool[{executor}]")
    expected = finish(start(tmp_path / "undisturbed", "process:2"))
    folder = tmp_path / "killed"
    process = start(folder, executor)
    half = FILES // CHUNK
    wait_until(lambda: steps(folder).total() >= half, 60)
    os.kill(slot_that_works(process).pid, signal.SIGKILL)
    assert finish(process) == expected
    again = {step: count for step, count in steps(folder).items() if count > 1}
    assert len(again) <= 1, "a step that was not finished runs again, and no other"
    assert set(steps(folder)) == set(steps(tmp_path / "undisturbed"))
