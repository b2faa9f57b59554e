"""The process that runs a function is killed half-way: the next invocation goes on; no recorded step runs twice."""

from __future__ import annotations

import os
import signal
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest
from aws_tools import Deployment, wait_for_notes
from perf.local_lambda.endpoint import Endpoint
from perf.local_lambda.proxy import Action, Call, Drop, Forward, Lose, Proxy

BRANCHES, STEPS = 4, 3
KILLS = 3  # AWS's service gives an execution up after five


@dataclass
class Killer:
    """A rule that kills the function at a checkpoint, by `step` calls later in each invocation than in the one before.

    In turn before the service hears of the checkpoint, and when it has recorded it but not answered.
    """

    endpoint: Endpoint
    proxy: Proxy
    folder: Path
    step: int
    deaths: int = 0
    calls: int = 0  # in this invocation
    runs: list[Counter[str]] = field(default_factory=list)  # of each recorded step, at each death
    orphans: list[psutil.Process] = field(default_factory=list)

    def __call__(self, call: Call) -> Action:
        if self.deaths == KILLS or call.api != "checkpoint":
            return Forward()
        self.calls += 1
        if self.calls <= self.step * self.deaths:
            return Forward()
        if self.deaths % 2:
            return Lose(self.kill)
        self.kill()
        return Drop()

    def kill(self) -> None:
        """End the only function that runs now."""
        self.deaths, self.calls = self.deaths + 1, 0
        [environment] = self.endpoint.busy
        self.orphans += psutil.Process(environment.pid).children(recursive=True)
        done = succeeded(self.proxy)
        self.runs.append(Counter(note for note in self._notes() if note in done))
        os.kill(environment.pid, signal.SIGKILL)

    def _notes(self) -> list[str]:
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []


def succeeded(proxy: Proxy) -> Counter[str]:
    """How often the service was told that a step has succeeded, and took it."""
    return Counter(
        update["Name"]
        for call in proxy.passed
        for update in call.updates
        if (update["Type"], update["Action"]) == ("STEP", "SUCCEED")
    )


@pytest.mark.parametrize(("mode", "step"), [("sync", 1), ("async", 0)])  # async, there are few calls
def test_a_killed_function_goes_on_and_runs_no_recorded_step_again(
    mode: str, step: int, deployed: Deployment, tmp_path: Path
) -> None:
    local = deployed.local
    local.proxy.passed.clear()
    local.proxy.rule = killer = Killer(local.endpoint, local.proxy, tmp_path, step)
    deployed = replace(deployed, variables=(("DURAPOOL_CHECKPOINT", mode),))
    execution = deployed.run("many", {"branches": BRANCHES, "steps": STEPS, "folder": str(tmp_path)})

    assert execution.status == "SUCCEEDED", f"{execution.error}\n{local.log[-4000:]}"
    assert execution.result == sum(range(BRANCHES))
    assert killer.deaths == KILLS
    steps = {f"{branch}.{step}" for branch in range(BRANCHES) for step in range(STEPS)} | {"first", "last"}
    assert succeeded(local.proxy) == Counter(steps)  # each recorded once
    runs = Counter(wait_for_notes(tmp_path, len(steps)))
    assert runs.keys() == steps
    for before in killer.runs:
        assert all(runs[step] == times for step, times in before.items())  # not run again once recorded
    _, alive = psutil.wait_procs(killer.orphans, 5)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_a_function_that_was_frozen_between_invocations_goes_on(deployed: Deployment, tmp_path: Path) -> None:
    """As on Lambda, where all processes of an environment stand still while it has nothing to do."""
    arn = deployed.start("callback_branches", {"folder": str(tmp_path)})
    ids = dict(note.split(" ", 1) for note in wait_for_notes(tmp_path, 2))
    deployed.local.wait_until(lambda: not deployed.local.endpoint.busy)
    processes = [each for environment in deployed.local.endpoint.idle for each in family(environment.pid)]
    for process in processes:
        process.suspend()
    for callback_id in ids.values():
        deployed.local.client.send_durable_execution_callback_success(CallbackId=callback_id, Result=b"yes")
    for process in processes:
        process.resume()
    assert deployed.local.wait(arn).result == [2, 0, ["yes", "yes"]]


def family(pid: int) -> list[psutil.Process]:
    """A process and all below it."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]
