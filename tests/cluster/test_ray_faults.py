"""What may go wrong on Ray, and what is lost by it: the branches that ran there, and no recorded step."""

from __future__ import annotations

import os
import re
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from cluster_tools import is_gone, note, wait_until
from ray_tools import LONGEST, actor, actors, noted, recorded_steps, start_program, still_running

import durapool
from durapool import CompletionConfig, MapConfig, ParallelConfig, durable_execution
from durapool.config import Duration
from durapool.exceptions import ClusterError
from durapool.executors import RayExecutor
from durapool.stores import MemoryStore, SQLiteStore

pytestmark = [pytest.mark.ray, pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")]

ALL = CompletionConfig.all_completed()


def hang():
    threading.Event().wait()


def run_map(branch, executor, count=6):
    @durable_execution
    def handler(event, context):
        return context.map(range(count), branch, config=MapConfig(executor=executor, completion_config=ALL)).to_dict()

    return durapool.BatchResult.from_dict(durapool.run(handler, store=MemoryStore())).all


def test_a_killed_actor_loses_its_branch_only(ray_cluster):
    def branch(ctx, item, index, inputs):
        if index == 1:
            actor().kill()
            hang()
        return ctx.step(lambda _: item * 10)

    items = run_map(branch, RayExecutor(workers=2, retry_lost=0))
    assert [item.result for item in items] == [0, None, 20, 30, 40, 50]
    assert items[1].error.type == "WorkerLostError"
    assert os.uname().nodename in items[1].error.message


def test_what_is_lost_runs_elsewhere_from_its_checkpoints(ray_cluster, tmp_path):
    notes = tmp_path / "notes"

    def branch(ctx, item, index, inputs):
        ctx.step(lambda _: note(notes, f"first {index}"), name="first")
        if index == 1 and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            actor().kill()
            hang()
        return ctx.step(lambda _: item * 10, name="second")

    items = run_map(branch, RayExecutor(workers=2))
    assert [item.result for item in items] == [0, 10, 20, 30, 40, 50]
    assert sorted(notes.read_text().splitlines()) == [f"first {index}" for index in range(6)]


def test_losers_are_cancelled(ray_cluster, tmp_path):
    def wins(ctx):
        wait_until((tmp_path / "pid").exists)
        return "won"

    def computes_on(ctx):
        (tmp_path / "part").write_text(str(os.getpid()))
        (tmp_path / "part").rename(tmp_path / "pid")
        while True:
            pass

    @durable_execution
    def handler(event, context):
        config = ParallelConfig(executor=RayExecutor(workers=2), completion_config=CompletionConfig.first_successful())
        return context.parallel([wins, computes_on], config=config).get_results()

    assert durapool.run(handler, store=MemoryStore()) == ["won"]
    loser = int((tmp_path / "pid").read_text())
    wait_until(lambda: is_gone(loser))


def test_suspended_branches_hold_no_slot(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("durapool.cluster.leases.LINGER", 0.1)
    wait_until(lambda: not actors())

    def waits(ctx, item, index, inputs):
        before = ctx.step(lambda _: actor().pid)
        ctx.wait(Duration.from_seconds(6))
        (tmp_path / "resumed").touch()
        return before

    def on_ray(ctx):
        return ctx.map(range(2), waits, config=MapConfig(executor=RayExecutor(workers=2))).get_results()

    def looks_on(ctx):
        wait_until(actors)
        wait_until(lambda: not actors())
        return (tmp_path / "resumed").exists()

    @durable_execution
    def handler(event, context):
        return context.parallel([on_ray, looks_on], config=ParallelConfig(executor="thread")).get_results()

    pids, had_resumed = durapool.run(handler, store=MemoryStore())
    assert len(pids) == 2
    assert not had_resumed


def test_no_cluster_at_the_address_is_said_within_seconds():
    began = time.monotonic()
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1:1.*refused.*ray start --head"):
        run_map(lambda ctx, item, index, inputs: item, RayExecutor("127.0.0.1:1"))
    assert time.monotonic() - began < 30


def test_other_versions_on_the_node_are_named(ray_cluster, monkeypatch):
    import durapool.cluster.link as link

    facts = {**link.facts(), "durapool": "0.0.1"}
    monkeypatch.setattr(link, "facts", lambda: facts)
    with pytest.raises(ClusterError, match=r"durapool is 0\.0\.1 here and .* there"):
        run_map(lambda ctx, item, index, inputs: item, RayExecutor(workers=2, preload=("json",)))


def test_nothing_is_left_when_the_program_is_killed(tmp_path):
    program = start_program(
        tmp_path,
        """
        def branch(ctx, item, index, inputs):
            note("up")
            threading.Event().wait()

        execute(branch, "ray", count=2)
        """,
    )
    with program:
        try:
            wait_until(lambda: noted(tmp_path)["up"] == 2 or program.poll() is not None, LONGEST)
            family = psutil.Process(program.pid).children(recursive=True)
            [folder] = {found[0] for each in family if (found := re.findall(r"/\S*/durapool-ray-\w+", cmdline(each)))}
        finally:
            program.kill()
    assert still_running(family, LONGEST / 2) == []
    wait_until(lambda: not Path(folder).exists(), 5)


def cmdline(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


DIES_AT_THE_LAST = """
def branch(ctx, item, index, inputs):
    ctx.step(lambda _: note(f"ran {index}"), name=f"step {index}")
    if index == 5 and not os.path.exists("killed"):
        open("killed", "w").close()
        {kill}
        threading.Event().wait()
    return ctx.step(lambda _: item * 10, name=f"result {index}")

execute(branch, sys.argv[1])
"""


@pytest.mark.parametrize(
    "kill",
    ["actor().parent().kill()  # the raylet", "actor().parent().parent().kill()  # the gateway"],
    ids=["raylet", "gateway"],
)
def test_a_run_whose_cluster_dies_is_resumed_on_processes(tmp_path, kill):
    source = DIES_AT_THE_LAST.replace("{kill}", kill)
    with start_program(tmp_path, source, "ray") as program:
        wait_until(lambda: (tmp_path / "killed").exists() or program.poll() is not None, LONGEST)
        began = time.monotonic()
        _, errors = program.communicate(timeout=LONGEST)
    assert program.returncode != 0
    assert time.monotonic() - began < 20
    assert "durapool.exceptions.ClusterError: the " in errors
    assert "run the same id again" in errors
    kept = recorded_steps(tmp_path)
    assert "step 5" in kept
    with start_program(tmp_path, source, "process:2") as program:
        output, errors = program.communicate(timeout=LONGEST)
    assert output == "[0, 10, 20, 30, 40, 50]\n", errors
    twice = {line.replace("ran", "step") for line, count in noted(tmp_path).items() if count > 1}
    assert twice.isdisjoint(kept)


def test_a_run_begun_on_processes_is_resumed_on_ray(ray_cluster, tmp_path):
    store = SQLiteStore(tmp_path / "journal.db")
    notes = tmp_path / "notes"

    class Crash(BaseException):
        pass

    @durable_execution
    def handler(event, context):
        def branch(ctx, item, index, inputs):
            return ctx.step(lambda _: note(notes, f"{item}") or item * 10)

        first = context.map(range(3), branch, name="first").get_results()
        if not (tmp_path / "crashed").exists():
            (tmp_path / "crashed").touch()
            raise Crash
        return first, context.map(range(3, 6), branch, name="second").get_results()

    with pytest.raises(Crash):
        durapool.run(handler, id="x", store=store, executor="process:2")
    assert durapool.run(handler, id="x", store=store, executor="ray") == ([0, 10, 20], [30, 40, 50])
    store.close()
    assert sorted(notes.read_text().split()) == list("012345")
