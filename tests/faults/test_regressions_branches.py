"""What a branch once did to others, or to the program: each test is the smallest one that did."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest
from pool_tools import ALL, FIRST, run_batch, the_pool, wait_until

import durapool
from durapool import MapConfig, ParallelConfig, durable_execution
from durapool.executors import ProcessExecutor
from durapool.stores import MemoryStore

pytestmark = pytest.mark.usefixtures("fresh_pools")


# what one branch does to the next


def test_what_cancel_running_off_has_left_at_work_ends_with_the_invocation(tmp_path):
    def loses(ctx):
        (tmp_path / "pid").write_text(str(os.getpid()))
        signal.pause()

    def wins(ctx):
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        return "won"

    executor = ProcessExecutor(workers=2, cancel_running=False)
    assert run_batch([loses, wins], executor, FIRST)[1] == "won"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_thread_that_was_cut_off_inside_a_process_batch_leaves_no_worker_at_work(tmp_path):
    def loses(ctx):
        def sleeps(inner):
            (tmp_path / "pid").write_text(str(os.getpid()))
            signal.pause()

        ctx.parallel([sleeps], config=ParallelConfig(executor="process:1"))

    def wins(ctx):
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        return "won"

    assert run_batch([loses, wins], "thread", FIRST)[1] == "won"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_an_initializer_may_set_the_environment():
    def initializer():
        os.environ["SET_BY_INITIALIZER"] = "yes"

    executor = ProcessExecutor(workers=1, initializer=initializer)
    assert run_batch([lambda ctx: os.environ.get("SET_BY_INITIALIZER")], executor) == ["yes"]


def test_the_time_of_a_branch_begins_when_the_initializer_has_ended(tmp_path):
    os.mkfifo(tmp_path / "gate")

    def initializer():
        (tmp_path / "gate").read_text()

    executor = ProcessExecutor(workers=1, initializer=initializer, timeout=30)
    started = []
    thread = threading.Thread(
        target=lambda: started.append(run_batch([lambda ctx: ctx.step(lambda _: 1)], executor)), daemon=True
    )
    thread.start()
    with (tmp_path / "gate").open("w"):
        pool = the_pool().pool
        [worker] = pool._workforce
        run = worker.run
        handed_out = run.started
        before = time.monotonic()
    thread.join()
    assert handed_out < before < run.started
    assert started == [[1]]


def test_an_initializer_that_exits_fails_its_branches_and_loses_no_worker():
    executor = ProcessExecutor(workers=1, initializer=lambda: sys.exit("no licence"))
    assert run_batch([lambda ctx: 1] * 3, executor) == ["SystemExit"] * 3


def test_a_module_that_exits_when_it_is_imported_fails_its_branch(tmp_path, monkeypatch):
    (tmp_path / "exits_in_workers.py").write_text(
        f"import os, sys\nif os.getpid() != {os.getpid()}: sys.exit('not here')\ndef branch(ctx): return 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import exits_in_workers

    assert run_batch([exits_in_workers.branch, lambda ctx: 2]) == ["SerDesError", 2]


def test_a_serdes_that_cannot_be_loaded_in_a_worker_fails_the_branches(tmp_path, monkeypatch):
    (tmp_path / "serdes_of_the_parent.py").write_text(
        f"import os\nif os.getpid() != {os.getpid()}: raise RuntimeError('not here')\n"
        "from durapool import PickleSerDes\nclass Mine(PickleSerDes): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import serdes_of_the_parent

    @durable_execution
    def handler(event, context):
        config = MapConfig(executor="process:1", item_serdes=serdes_of_the_parent.Mine(), completion_config=ALL)
        return [error.type for error in context.map([1, 2], lambda ctx, *_: 1, config=config).get_errors()]

    assert durapool.run(handler, store=MemoryStore()) == ["SerDesError"] * 2


# what cannot be pickled


def test_an_input_that_cannot_be_pickled_is_an_error_only_where_it_is_asked_for():
    @durable_execution
    def handler(event, context):
        def branch(ctx, item, index, inputs):
            return inputs[1 - index] if index == 1 else index if inputs[0] == "fine" else None

        def asks(ctx, item, index, inputs):
            return inputs[2]

        config = MapConfig(executor="process:1", completion_config=ALL)
        items = ["fine", "fine too", threading.Lock()]
        kept = context.map(items, branch, config=config)
        lost = context.map(items, asks, config=config)
        return [[item.error.type if item.error else item.result for item in each.all] for each in (kept, lost)]

    kept, lost = durapool.run(handler, store=MemoryStore())
    assert kept == [0, "fine", "SerDesError"]
    assert lost == ["SerDesError"] * 3


def test_a_nested_branch_that_cannot_be_pickled_fails_alone():
    def outer(ctx):
        lock = threading.Lock()
        config = ParallelConfig(completion_config=ALL)
        inner = ctx.parallel([lambda c: 1, lambda c: lock, lambda c: 3], config=config)
        return [item.error.type if item.error else item.result for item in inner.all]

    assert run_batch([outer]) == [[1, "SerDesError", 3]]


def test_an_object_that_cannot_be_looked_into_is_an_error_of_its_branch():
    class Sulks:
        def __getattribute__(self, name):
            raise RuntimeError(f"no {name} for you")

        def __reduce_ex__(self, protocol):
            raise RuntimeError("no pickling")

    sulks = Sulks()
    assert run_batch([lambda ctx: sulks, lambda ctx: 2]) == ["SerDesError", 2]


# what a branch leaves behind


def closes_the_standard_descriptors(ctx):
    os.closerange(0, 3)
    return 1


def prints(ctx):
    print("I am heard")
    return os.getcwd()


@pytest.mark.parametrize("start_method", ["forkserver", "spawn", "fork"])
def test_a_branch_that_closes_the_standard_descriptors_hurts_only_itself(start_method, capfd):
    executor = ProcessExecutor(workers=1, start_method=start_method)
    assert run_batch([closes_the_standard_descriptors, prints, prints], executor) == [1, os.getcwd(), os.getcwd()]
    assert capfd.readouterr().out.count("I am heard\n") == 2


def test_a_directory_a_stream_and_an_alarm_do_not_pass_from_branch_to_branch():
    def leaves(ctx):
        os.chdir("/")
        sys.stdout = None
        signal.alarm(600)

    def looks(ctx):
        print("heard")
        return os.getcwd(), signal.alarm(0), os.getpid()

    def pid(ctx):
        return os.getpid()

    [worker, _, seen] = run_batch([pid, leaves, looks], "process:1")
    assert seen == (os.getcwd(), 0, worker)


def test_what_the_initializer_sets_stays_when_the_environment_of_the_parent_changes(monkeypatch):
    def initializer():
        os.environ["SET_BY_INITIALIZER"] = "yes"

    def looks(ctx):
        return os.environ.get("SET_BY_INITIALIZER"), os.environ.get("SET_BY_PARENT")

    executor = ProcessExecutor(workers=1, initializer=initializer)
    seen = run_batch([looks], executor)
    monkeypatch.setenv("SET_BY_PARENT", "1")
    seen += run_batch([looks], executor)
    monkeypatch.delenv("SET_BY_PARENT")
    seen += run_batch([looks], executor)
    assert seen == [("yes", None), ("yes", "1"), ("yes", None)]
