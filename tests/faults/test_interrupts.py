"""Signals to the parent: what was recorded stays, nothing is left running, the exit code is the usual one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap

import psutil
import pytest
from program_tools import START_METHODS, still_running

from durapool.executors import ProcessExecutor
from durapool.pool import registry
from durapool.records import Action, OperationSubType
from durapool.stores import SQLiteStore

PROGRAM = """
import os, sys, time
from pathlib import Path
import subprocess
import durapool
from durapool import durable_execution
from durapool.executors import ProcessExecutor

folder = Path(__file__).parent

def branch(ctx, item, index, inputs):
    ctx.step(lambda _: item, name="quick")
    def slow(_):
        if os.environ.get("SLOW"):
            child = subprocess.Popen(["sleep", "600"])
            daemon = subprocess.Popen(["sleep", "600"], start_new_session=True)
            (folder / f"child-{child.pid}").touch()
            (folder / f"daemon-{daemon.pid}").touch()
            (folder / f"pid-{os.getpid()}").touch()
            time.sleep(600)
        return item * 10
    return ctx.step(slow, name="slow")

@durable_execution(executor=ProcessExecutor(workers=2, start_method=os.environ["METHOD"]))
def handler(event, context):
    return context.map(range(4), branch).get_results()

if __name__ == "__main__":
    print(durapool.run(handler, id="job", store=str(folder / "journal.db")))
"""


@pytest.fixture(params=START_METHODS)
def job(request, tmp_path, monkeypatch):
    """Starts the program, waits until both workers are in a slow step, kills it with what the test says."""
    monkeypatch.setenv("METHOD", request.param)
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path)]

    def start(with_command=command, **options):
        process = subprocess.Popen(
            with_command,
            env={**os.environ, "SLOW": "1"},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )
        wait_for(lambda: len(list(tmp_path.glob("pid-*"))) == 2, process)
        workers = [psutil.Process(int(path.name[4:])) for path in tmp_path.glob("pid-*")]
        start.children, start.daemons = (
            [psutil.Process(int(path.name.partition("-")[2])) for path in tmp_path.glob(kind)]
            for kind in ("child-*", "daemon-*")
        )
        return process, [*workers, workers[0].parent()]

    start.command = command
    start.tool = [sys.executable, "-m", "durapool", "run", str(tmp_path / "program.py:handler"), "--id", "job",
                  "--store", str(tmp_path / "journal.db")]  # fmt: skip
    return start


def wait_for(condition, process):
    poll = 0
    while not condition():
        assert process.poll() is None, process.stderr.read()
        try:
            process.wait(0.01)
        except subprocess.TimeoutExpired:
            poll += 1
            assert poll < 3000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
@pytest.mark.parametrize("whole_group", [False, True])
def test_what_was_recorded_stays_and_nothing_is_left(number, whole_group, job, tmp_path):
    process, family = job()
    if whole_group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode in (-number, 128 + number, 1 if number == signal.SIGINT else -number)
    assert not still_running([*family, *job.children, *job.daemons])
    if number == signal.SIGINT:
        assert "job" in errors

    store = SQLiteStore(tmp_path / "journal.db")
    updates = [record.update for record in store.read("job")]
    store.close()
    assert not [update for update in updates if update.action is Action.FAIL]
    quick = [u for u in updates if u.name == "quick" and u.action is Action.SUCCEED]
    assert len(quick) == 2
    assert {u.sub_type for u in quick} == {OperationSubType.STEP}

    again = subprocess.run(job.command, capture_output=True, text=True, timeout=60, check=True)
    assert again.stdout.strip() == "[0, 10, 20, 30]"


def test_a_worker_killed_from_outside_is_a_lost_branch(job, tmp_path):
    process, family = job()
    family[0].kill()
    with contextlib.suppress(psutil.NoSuchProcess):  # the first loss decides the batch, which stops the other one
        family[1].kill()
    process.communicate(timeout=30)
    store = SQLiteStore(tmp_path / "journal.db")
    failures = [r.update for r in store.read("job") if r.update.action is Action.FAIL]
    store.close()
    assert {failure.error.type for failure in failures if failure.error} <= {"WorkerLostError", "ChildContextError"}
    assert failures


def test_the_supervisor_killed_from_outside_loses_branches_not_the_program(job, tmp_path):
    process, family = job()
    family[2].kill()
    process.communicate(timeout=30)
    assert process.returncode == 0
    alive = still_running([*family, *job.children])
    for daemon in job.daemons:  # in a session of its own, which the supervisor alone could follow
        daemon.kill()
    assert not alive


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_to_every_process_records_no_failure(number, code, job, tmp_path):
    process, (first, second, supervisor) = job(job.tool)
    for worker in (first, second):
        worker.send_signal(number)
        worker.wait(10)
    supervisor.send_signal(number)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert "job" in errors
    assert not still_running([supervisor])
    store = SQLiteStore(tmp_path / "journal.db")
    assert not [record for record in store.read("job") if record.update.action is Action.FAIL]
    store.close()
    again = subprocess.run(job.tool, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(again.stdout) == [0, 10, 20, 30]


def test_a_signal_to_one_worker_alone_is_a_lost_branch(job, tmp_path):
    process, (first, second, _) = job()
    first.terminate()
    second.terminate()
    process.communicate(timeout=30)
    store = SQLiteStore(tmp_path / "journal.db")
    failures = [r.update.error for r in store.read("job") if r.update.action is Action.FAIL]
    store.close()
    assert "SIGTERM" in failures[0].message


def test_an_interrupt_of_one_worker_alone_is_a_lost_branch_too(job, tmp_path):
    process, (first, second, _) = job()
    first.send_signal(signal.SIGINT)
    second.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    store = SQLiteStore(tmp_path / "journal.db")
    failures = [r.update.error for r in store.read("job") if r.update.action is Action.FAIL]
    store.close()
    assert "SIGINT" in failures[0].message


def test_a_terminal_that_is_closed_takes_everything_along(job, tmp_path):
    """The kernel sends SIGHUP to the program's group; workers and their descendants are in groups of their own."""
    master, slave = os.openpty()
    program = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    )
    process, family = job([sys.executable, "-c", program, *job.command], stdin=slave)
    os.close(slave)
    os.close(master)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGHUP
    assert not still_running([*family, *job.children, *job.daemons])
    store = SQLiteStore(tmp_path / "journal.db")
    assert not [record for record in store.read("job") if record.update.action is Action.FAIL]
    store.close()
    again = subprocess.run(job.command, capture_output=True, text=True, timeout=60, check=True)
    assert again.stdout.strip() == "[0, 10, 20, 30]"


STUBBORN = """
import atexit, os, signal, sys, threading
from pathlib import Path
from durapool import durable_execution

folder = Path(__file__).parent

def branch(ctx, item, index, inputs):
    (folder / f"pid-{item}").touch()
    threading.Event().wait()

@durable_execution(executor="thread")
def handler(event, context):
    return context.map(range(2), branch).get_results()
"""


def test_a_second_interrupt_leaves_at_once(tmp_path):
    """Threads cannot be stopped; the first interrupt waits for them a while, the second does not."""
    (tmp_path / "program.py").write_text(STUBBORN)
    command = [sys.executable, "-m", "durapool", "run", str(tmp_path / "program.py:handler"), "--id", "job",
               "--store", str(tmp_path / "journal.db")]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for(lambda: len(list(tmp_path.glob("pid-*"))) == 2, process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 130, errors


def test_ctrl_c_amid_the_close_of_a_pool_leaves_no_process(fresh_pools, monkeypatch):
    before = psutil.Process().children(recursive=True)
    running = registry.acquire(ProcessExecutor(workers=1))
    registry.release(running)
    family = [process for process in psutil.Process().children(recursive=True) if process not in before]
    close = type(running.pool.link).close
    struck = []

    def interrupted(link):
        if not struck:
            struck.append(link)
            raise KeyboardInterrupt
        close(link)

    monkeypatch.setattr(type(running.pool.link), "close", interrupted)
    with pytest.raises(KeyboardInterrupt):
        registry.remove(running)
    assert running.driver.poisoned
    assert family
    assert not still_running(family)
