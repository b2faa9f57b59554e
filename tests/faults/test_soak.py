"""A short soak: branches with random faults, nothing lost, nothing wrong, nothing left behind."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from program_tools import in_namespace, works

ROOT = Path(__file__).parents[2]
FAULTS = {
    "none",
    "raise",
    "exit",
    "kill",
    "segfault",
    "exit, leaving a child",
    "hang",
    "hang, deaf to SIGTERM",
    "allocate",
}


def soak(*options: str) -> subprocess.CompletedProcess[str]:
    """Where it can have a /dev/shm of its own, nothing may be left there; other tests use the machine's."""
    private = in_namespace("mount -t tmpfs tmpfs /dev/shm")
    command = [sys.executable, "-m", "perf.soak", *options]
    command = [*private, *command] if works(*private, "true") else [*command, "--not-alone"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="what is left behind is found through /proc")
def test_branches_with_random_faults():
    # the seed draws each kind of fault; the timeout is for machines that are busy with something else
    done = soak("--branches", "150", "--seed", "685", "--workers", "2", "--timeout", "10")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^branches +150 ", done.stdout, re.MULTILINE)
    faults = re.findall(r"^  (.+?) +\d+$", done.stdout, re.MULTILINE)
    assert set(faults) == FAULTS
    for figure in ("results lost", "wrong results", "leaked processes", "leaked descriptors", "leaked temporary files"):
        assert re.search(rf"^{figure} +0$", done.stdout, re.MULTILINE), done.stdout
