"""Random handlers, killed after random commits and resumed until they end, against the undisturbed run of each.

DURAPOOL_TORTURE=N in the environment runs each test N times, with more handlers, and others every time.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from torture_checks import check_at_most_once, check_effects, check_history, ends_of_operations
from torture_interpreter import EffectLog, FileLog, MemoryLog
from torture_nodes import Batch, Body, Completion, Raise, Step, Try, may_fail
from torture_runs import Execution, Kill, Setting
from torture_strategies import kills, programs, settings_of_runs

from durapool.pool import registry

TIMES = int(os.environ.get("DURAPOOL_TORTURE", "1"))
rounds = pytest.mark.parametrize("number", range(TIMES))
PATIENCE = 10.0  # seconds that threads and processes get to end


def handlers(count: int) -> settings:
    """So many random handlers, whatever it takes to make them."""
    return settings(max_examples=count, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_left() -> Iterator[None]:
    """No thread and no process outlives the tests, but for the threads that close idle pools and listen to Ray.

    What was there before, such as a browser that other tests use, may start processes of its own meanwhile.
    """
    registry.close_all()
    threads_before = set(threading.enumerate())
    before = psutil.Process().children(recursive=True)
    yield
    registry.close_all()
    deadline = time.monotonic() + PATIENCE
    for thread in set(threading.enumerate()) - threads_before:
        if thread.name.startswith("durapool") and thread.name not in ("durapool-idle", "durapool-ray"):
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), f"{thread.name} still runs"
    theirs = {child for process in before if process.is_running() for child in process.children(recursive=True)}
    ours = set(psutil.Process().children(recursive=True)) - theirs - set(before)
    _, alive = psutil.wait_procs(ours, PATIENCE)
    assert not alive, f"processes still run: {alive}"


def check(program: Body, setting: Setting, kills: Sequence[Kill], make_log: Callable[[], EffectLog]) -> None:
    """The program comes to the same end, killed or not, and its effects and its history are in order."""
    undisturbed = Execution(program, setting, make_log)
    expected = undisturbed.run()
    assert expected.outcome[0] == "returned" or may_fail(program), expected.outcome
    killed = Execution(program, setting, make_log)
    final = killed.run_through(kills)
    assert final.outcome == expected.outcome
    for runs in (undisturbed.runs, killed.runs):
        check_effects(runs)
        check_at_most_once(program, runs)
        check_history(runs)
    assert ends_of_operations(final.records) == ends_of_operations(expected.records)


@pytest.mark.parametrize("commit", range(1, 7))
def test_a_flat_branch_that_left_no_record_is_run_again_before_those_after_it(commit: int) -> None:
    branches: tuple[Body, ...] = ((Try((Raise(),)),), (Step(1), Step(2, failures=1, gives_up=True)))
    batch = Batch(branches, False, 1, Completion.ALL_SUCCESSFUL, flat=True, throws=False)
    check((batch,), Setting("thread", "sync", None, True), [Kill(commit, 0.0)], MemoryLog)


@rounds
@handlers(500 if "DURAPOOL_TORTURE" in os.environ else 200)
@given(program=programs(), setting=settings_of_runs("thread"), kills=kills)
def test_a_killed_handler_ends_as_if_nothing_had_happened(
    number: int, program: Body, setting: Setting, kills: list[Kill]
) -> None:
    check(program, setting, kills, MemoryLog)


@rounds
@pytest.mark.hypothesis  # its property is inside
def test_a_killed_handler_whose_branches_are_processes_ends_as_if_nothing_had_happened(
    number: int, tmp_path: Path
) -> None:
    counter = itertools.count()

    @handlers(30)
    @given(programs(), settings_of_runs("process:2"), kills)
    def killed(program: Body, setting: Setting, kills: list[Kill]) -> None:
        check(program, setting, kills, lambda: FileLog(tmp_path / f"effects-{next(counter)}"))

    killed()
