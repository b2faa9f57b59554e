"""SIGKILL to the whole process group of the clone finder, at random moments of its progress, and then a rerun.

What must hold each time: nothing of the killed run stays alive, no step whose success was recorded runs again, and the
result and every recorded step are those of a run that nobody disturbed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from durapool.records import Action, OperationType, Payload, Update
from durapool.stores.sqlite import SQLiteStore

JOB = Path(__file__).parents[2] / "examples" / "code_clones.py"
KILLS = 20
WORKERS = 2
FILES, CHUNK = 15, 3
SCANS = 1 + 2 * (FILES // CHUNK)  # list, and two for each scan
STEPS = SCANS + 2 * 4 + 1  # two for each of 4 compares, and the summary
SCAN_SECONDS, COMPARE_SECONDS = 0.03, 0.001  # about what a step takes here, to spread the kills within steps
MARK = "DURAPOOL_TEST_MARK"


@dataclass(frozen=True)
class Job:
    """The job in a folder of its own; all of its processes carry `mark` in their environment."""

    folder: Path
    mark: str

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(JOB), "--id", "job", "--executor", f"process:{WORKERS}"]
        command += ["--store", str(self.store), "--log", str(self.log), "--chunk", str(CHUNK), "--limit", str(FILES)]
        environment = {**os.environ, MARK: self.mark}
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def finish(self) -> Any:
        """Run to the end and return the result."""
        output, errors = self.start().communicate(timeout=60)
        assert output, errors.decode()
        return json.loads(output[output.index(b"{") :])

    @property
    def store(self) -> Path:
        return self.folder / "journal.db"

    @property
    def log(self) -> Path:
        return self.folder / "steps.log"

    def executed(self) -> Counter[str]:
        """How often the body of each step has begun, by "branch/step"."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return Counter(line.split()[0] for line in lines)

    def updates(self) -> list[Update]:
        """Everything that is in the store."""
        if not self.store.exists():
            return []
        store = SQLiteStore(self.store)
        try:
            return [record.update for record in store.read("job")]
        finally:
            store.close()

    def is_finished(self) -> bool:
        """Whether the end of the execution is recorded."""
        ends = (Action.SUCCEED, Action.FAIL)
        return any(update.type is OperationType.EXECUTION and update.action in ends for update in self.updates())

    def recorded(self) -> dict[str, Payload | None]:
        """The recorded result of each step that has succeeded, by "branch/step"."""
        updates = self.updates()
        branches = {update.operation_id: update.name for update in updates if update.type is OperationType.CONTEXT}
        found: dict[str, Payload | None] = {}
        for update in updates:
            if update.type is OperationType.STEP and update.action is Action.SUCCEED:
                branch = "main" if update.parent_id is None else branches[update.parent_id]
                label = f"{branch}/{update.name}"
                assert label not in found, f"{label} was recorded twice"
                found[label] = update.payload
        return found

    def alive(self) -> list[int]:
        """The processes of this job that still run."""
        needle = f"{MARK}={self.mark}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes()
            except OSError:
                continue  # ended meanwhile, or another user's
            if needle in environment.split(b"\0"):
                found.append(int(folder.name))
        return found


def wait_until(condition: Callable[[], bool], seconds: float, interval: float = 0.01) -> bool:
    """Poll; whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True


def wait_until_gone(job: Job) -> bool:
    """Whether all processes of the job end within 2 s."""
    return wait_until(lambda: not job.alive(), seconds=2)


def kill_at(job: Job, progress: float) -> None:
    """Start the job and SIGKILL its group when `progress` steps have begun; the fraction falls between two steps."""
    process = job.start()
    steps = int(progress)
    within = SCAN_SECONDS if steps <= SCANS else COMPARE_SECONDS
    try:
        reached = wait_until(
            lambda: job.executed().total() >= steps or process.poll() is not None, seconds=30, interval=0
        )
        assert reached, f"the job does not reach step {steps}"
        time.sleep((progress - steps) * within)  # not to wait for anything: it makes the moment random
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it was quicker than we were: `killed_job` sees that it is finished, and aims earlier
        process.communicate()


def killed_job(folder: Path, progress: float) -> Job:
    """A job that was killed before its execution ended, at `progress` or, where that came too late, a step earlier."""
    for attempt in range(STEPS):
        job = Job(folder / str(attempt), uuid4().hex)
        job.folder.mkdir()
        kill_at(job, max(progress - attempt, 0))
        assert wait_until_gone(job), f"still alive 2 s after the kill: {job.alive()}"
        if not job.is_finished():
            return job
    raise AssertionError("every kill came too late")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Payload | None]]:
    """The result and the recorded steps of a run that nobody kills."""
    job = Job(tmp_path_factory.mktemp("undisturbed"), uuid4().hex)
    result = job.finish()
    assert job.executed() == dict.fromkeys(job.executed(), 1)
    assert job.executed().total() == STEPS
    assert wait_until_gone(job), "processes are left after a normal end"
    return result, job.recorded()


def moments() -> list[float]:
    """The same random moments in every session, spread over the whole job."""
    draw = random.Random(20)
    return [round((i + draw.random()) * STEPS / KILLS, 3) for i in range(KILLS)]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="survivors are found through /proc")
@pytest.mark.parametrize("progress", moments())
def test_a_killed_job_goes_on_where_it_was(
    tmp_path: Path, undisturbed: tuple[Any, dict[str, Payload | None]], progress: float
) -> None:
    result, steps = undisturbed
    job = killed_job(tmp_path, progress)
    kept = job.recorded()
    before = job.executed()
    assert all(kept[step] == steps[step] for step in kept)
    assert len(kept) >= before.total() - WORKERS, "a step began before the one ahead of it was committed"

    assert job.finish() == result
    after = job.executed()
    repeated = [step for step in kept if after[step] != before[step]]
    assert repeated == []
    assert job.recorded() == steps
    assert set(after) == set(steps)
    assert wait_until_gone(job), f"left behind by the rerun: {job.alive()}"
