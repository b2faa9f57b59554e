"""`python -m perf.soak`: thousands of branches with random faults on one pool, and a count of what went wrong.

The faults are drawn from a seed, branch by branch, so that the right result of every branch is known beforehand:

    drawn fault --> expected(index) ----+
    batch on the pool --> BatchResult --+--> results lost, results wrong, recorded steps that ran again
    afterwards: processes, descriptors, temporary files, memory of the parent

Exit code 1 if anything is lost, wrong or left behind.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

import durapool
from durapool import CompletionConfig, DurableContext, MapConfig, StepContext, durable_execution
from durapool.executors import ProcessExecutor
from durapool.pool import registry
from durapool.results import BatchItem

MARK = "DURAPOOL_SOAK"  # in the environment of all that is started
CHUNK = 500  # branches of one batch, and of one execution
STEPS = 3
TIMEOUT = 3.0  # seconds; far above what a branch takes that does not hang
MEMORY_LIMIT = 96 << 20  # bytes
GROWTH = 64 << 20  # bytes by which the parent may have grown at the end
PATIENCE = 10.0  # seconds for killed processes to be cleared away by the kernel

WEIGHTS = {
    "none": 860,
    "raise": 40,
    "exit": 30,
    "kill": 30,
    "segfault": 10,
    "exit, leaving a child": 5,
    "hang": 6,
    "hang, deaf to SIGTERM": 3,
    "allocate": 6,
    "exit once": 5,
    "kill once": 5,
}
"""Out of 1,000. "once" faults strike only in batches with retry_lost; there they are healed by it."""

ERRORS = {
    "raise": "ValueError",
    "exit": "WorkerLostError",
    "kill": "WorkerLostError",
    "segfault": "WorkerLostError",
    "exit, leaving a child": "WorkerLostError",
    "hang": "BranchTimeoutError",
    "hang, deaf to SIGTERM": "BranchTimeoutError",
    "allocate": "BranchMemoryError",
}


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    branches: int
    seed: int
    workers: int
    timeout: float  # seconds
    not_alone: bool = False  # what is new in /dev/shm may be others'


@dataclass(frozen=True)
class Plan:
    """One branch: what it does, when, and what must come of it."""

    number: int
    fault: str
    at: int  # the step before which it strikes

    @property
    def result(self) -> list[int]:
        """What it returns if it gets to its end."""
        return [self.number * STEPS + step for step in range(STEPS)]

    @property
    def error(self) -> str | None:
        """The type of the error that it must end with; None where it must succeed."""
        return ERRORS.get(self.fault)


def plans(count: int, seed: int) -> list[Plan]:
    """The same for the same seed."""
    chance = random.Random(seed)
    faults, weights = list(WEIGHTS), list(WEIGHTS.values())
    drawn = [Plan(number, chance.choices(faults, weights)[0], chance.randrange(STEPS)) for number in range(count)]
    # "once" heals only with retry_lost, which every second batch has
    return [
        Plan(plan.number, plan.fault.removesuffix(" once"), plan.at)
        if plan.fault.endswith(" once") and not _retries(plan.number)
        else plan
        for plan in drawn
    ]


def _retries(number: int) -> bool:
    return number // CHUNK % 2 == 1


@dataclass
class Tally:
    """What is counted. The names are what is printed."""

    branches: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    def take(self, plan: Plan, item: BatchItem[Any] | None) -> None:
        """Compare one branch with its plan."""
        self.branches += 1
        self.faults[plan.fault] += 1
        error = None if item is None or item.error is None else item.error
        if item is None or (error is None and item.status.value != "SUCCEEDED"):
            self.lost.append(f"branch {plan.number} ({plan.fault}): no result")
        elif plan.error is None and error is not None:
            self.lost.append(f"branch {plan.number} ({plan.fault}): {error.type}: {error.message}")
        elif plan.error is not None and (error is None or error.type != plan.error):
            came = item.result if error is None else f"{error.type}: {error.message}"
            self.wrong.append(f"branch {plan.number} ({plan.fault}): {came!r:.300} instead of {plan.error}")
        elif plan.error is None and item.result != plan.result:
            self.wrong.append(f"branch {plan.number} ({plan.fault}): {item.result!r} instead of {plan.result}")


def branch(ctx: DurableContext, plan: Plan, _index: int, _inputs: Sequence[Plan]) -> list[int]:
    """STEPS recorded steps, with the fault ahead of one of them."""
    results = []
    folder = Path(os.environ[MARK])

    def body_of(step: int) -> Callable[[StepContext], int]:
        def body(_: StepContext) -> int:
            note(folder / "steps", f"{plan.number} {step}")
            return plan.number * STEPS + step

        return body

    for step in range(STEPS):
        if step == plan.at:
            FAULTS[plan.fault](plan, folder)
        results.append(ctx.step(body_of(step), name=f"step-{step}"))
    return results


def note(path: Path, line: str) -> None:
    """Append a line in one write, so that lines of several processes do not mix."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def raises(plan: Plan, _folder: Path) -> None:
    """An ordinary failure."""
    raise ValueError(f"branch {plan.number} fails")


def exits(_plan: Plan, _folder: Path) -> None:
    """An end that no except clause sees."""
    os._exit(7)


def kills_itself(_plan: Plan, _folder: Path) -> None:
    """As the OOM killer does."""
    os.kill(os.getpid(), signal.SIGKILL)


def segfaults(_plan: Plan, _folder: Path) -> None:
    """A bug in a C extension."""
    ctypes.string_at(0)


def leaves_a_child(_plan: Plan, _folder: Path) -> None:
    """A grandchild in a session of its own, which its parent does not end."""
    subprocess.Popen(["sleep", "3600"], start_new_session=True, stdin=subprocess.DEVNULL)
    os._exit(7)


def hangs(_plan: Plan, _folder: Path) -> None:
    """Until the timeout of the executor."""
    signal.pause()


def hangs_deaf(_plan: Plan, _folder: Path) -> None:
    """Until the timeout, and through its SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pause()


def allocates(_plan: Plan, _folder: Path) -> None:
    """Until the memory limit of the executor."""
    hoard = []
    while True:
        hoard.append(b"x" * (4 << 20))


def once(fault: Callable[[Plan, Path], None]) -> Callable[[Plan, Path], None]:
    """The fault, in the first run of the branch alone."""

    def strikes(plan: Plan, folder: Path) -> None:
        mark = folder / f"struck-{plan.number}"
        if not mark.exists():
            mark.touch()
            fault(plan, folder)

    return strikes


FAULTS: dict[str, Callable[[Plan, Path], None]] = {
    "none": lambda _plan, _folder: None,
    "raise": raises,
    "exit": exits,
    "kill": kills_itself,
    "segfault": segfaults,
    "exit, leaving a child": leaves_a_child,
    "hang": hangs,
    "hang, deaf to SIGTERM": hangs_deaf,
    "allocate": allocates,
    "exit once": once(exits),
    "kill once": once(kills_itself),
}


@durable_execution
def handler(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
    """One batch."""
    chunk = [Plan(*fields) for fields in event["plans"]]
    executor = ProcessExecutor(
        workers=event["workers"],
        timeout=event["timeout"],
        memory_limit=MEMORY_LIMIT,
        retry_lost=event["retry_lost"],
    )
    config: MapConfig[Any] = MapConfig(executor=executor, completion_config=CompletionConfig.all_completed())
    return context.map(chunk, branch, name="soak", config=config).to_dict()


def run_batch(chunk: Sequence[Plan], options: Options, folder: Path, tally: Tally) -> None:
    """One execution over its own store; compare everything that came of it."""
    (folder / "steps").unlink(missing_ok=True)
    event = {
        "plans": [(plan.number, plan.fault, plan.at) for plan in chunk],
        "workers": options.workers,
        "timeout": options.timeout,
        "retry_lost": int(_retries(chunk[0].number)),
    }
    store = folder / "journal.db"
    outcome = durapool.run(handler, event, id=f"soak-{chunk[0].number}", store=str(store))
    result: durapool.BatchResult[Any] = durapool.BatchResult.from_dict(outcome)
    items = {item.index: item for item in result.all}
    for index, plan in enumerate(chunk):
        tally.take(plan, items.get(index))
    ran = Counter((folder / "steps").read_text().splitlines())
    tally.repeated += [f"step {step} ran {count} times" for step, count in ran.items() if count > 1]
    for path in folder.iterdir():
        if path.name != "tmp":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@dataclass(frozen=True)
class Surroundings:
    """What must be the same before and after, except for memory."""

    processes: frozenset[int]
    descriptors: int
    files: frozenset[str]
    memory: int  # RSS in bytes

    @staticmethod
    def look(mark: str, folders: Sequence[Path]) -> Surroundings:
        """Now; `folders` are where no file may be left."""
        gc.collect()
        return Surroundings(
            frozenset(marked(mark) - {os.getpid()}),
            len(_listed("/proc/self/fd")),
            frozenset(
                f"{base}/{name}" for each in folders for base, below, files in os.walk(each) for name in below + files
            ),
            psutil.Process().memory_info().rss,
        )


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def marked(mark: str) -> set[int]:
    """The living processes that carry the mark in their environment, or descend from this one."""
    needle = f"{MARK}={mark}".encode()
    found = {process.pid for process in psutil.Process().children(recursive=True)}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if needle in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
        except OSError:
            continue  # ended meanwhile, or another user's
    return found


def wait_until_gone(mark: str) -> None:
    """Give the kernel time to clear away what was killed."""
    deadline = time.monotonic() + PATIENCE
    while marked(mark) - {os.getpid()} and time.monotonic() < deadline:
        time.sleep(0.05)


def soak(options: Options) -> bool:
    """Run, print, and tell whether all is well."""
    folder = Path(tempfile.mkdtemp(prefix="durapool-soak-"))
    temporary = folder / "tmp"
    temporary.mkdir()
    os.environ[MARK] = mark = str(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    folders = [temporary] if options.not_alone else [temporary, Path("/dev/shm")]
    tally, warm_up = Tally(), Tally()
    began = time.monotonic()
    try:
        run_batch([Plan(number, "none", 0) for number in range(200)], options, folder, warm_up)
        registry.close_all()
        before = Surroundings.look(mark, folders)
        drawn = plans(options.branches, options.seed)
        for start in range(0, options.branches, CHUNK):
            run_batch(drawn[start : start + CHUNK], options, folder, tally)
            if sys.stderr.isatty():
                print(f"\r{tally.branches} of {options.branches}", end="", file=sys.stderr, flush=True)
        registry.close_all()
        wait_until_gone(mark)
        after = Surroundings.look(mark, folders)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return report(tally, before, after, time.monotonic() - began)


def report(tally: Tally, before: Surroundings, after: Surroundings, seconds: float) -> bool:
    """Print the figures; whether all is well."""
    growth = after.memory - before.memory
    processes, files = after.processes - before.processes, after.files - before.files
    descriptors = after.descriptors - before.descriptors
    print(f"branches                 {tally.branches} in {seconds:.0f} s")
    for fault, number in tally.faults.most_common():
        print(f"  {fault:22} {number}")
    print(f"results lost             {len(tally.lost)}")
    print(f"wrong results            {len(tally.wrong)}")
    print(f"recorded steps run again {len(tally.repeated)}")
    print(f"leaked processes         {len(processes)}")
    print(f"leaked descriptors       {descriptors}")
    print(f"leaked temporary files   {len(files)}")
    print(f"memory of the parent     {before.memory / 2**20:.0f} MiB before, {after.memory / 2**20:.0f} MiB after")
    for problem in [*tally.lost, *tally.wrong, *tally.repeated, *map(str, sorted(processes)), *sorted(files)][:50]:
        print(f"  ! {problem}")
    bad = tally.lost or tally.wrong or tally.repeated or processes or files or descriptors > 0 or growth > GROWTH
    print("all is well" if not bad else "NOT WELL")
    return not bad


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m perf.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--branches", type=int, default=10_000, help="how many (default %(default)s)")
    parser.add_argument("--seed", type=int, default=20, help="of the faults (default %(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="processes (default %(default)s)")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="of each branch, seconds (default %(default)s)")
    parser.add_argument("--not-alone", action="store_true", help="others use /dev/shm meanwhile: leave it out")
    sys.exit(0 if soak(Options(**vars(parser.parse_args()))) else 1)


if __name__ == "__main__":
    main()
