"""Branches on a real Dask cluster: what its faults do, and what it is left with."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from cluster_tools import is_gone, note, notes, run_batch, wait_until

import durapool
from durapool import CompletionConfig, DaskExecutor, MapConfig, durable_execution
from durapool.exceptions import ClusterError, ValidationError
from durapool.pool import registry
from durapool.stores import MemoryStore

distributed = pytest.importorskip("distributed", reason="distributed is not installed: pip install durapool[dask]")

from durapool.cluster import dask as dask_engine  # noqa: E402  # needs distributed
from durapool.cluster.dask_local import LocalDask  # noqa: E402  # as above

KILLED = CompletionConfig.all_completed()


@dataclass(frozen=True)
class Cluster:
    """A cluster in processes of its own, and a client that looks at it."""

    address: str
    client: Any
    local: LocalDask

    def pids(self) -> list[int]:
        """Of the Dask workers."""
        return list(self.client.run(os.getpid).values())

    def tasks(self) -> int:
        """That the scheduler knows of."""
        found: int = self.client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))
        return found


def start_cluster() -> Cluster:
    local = LocalDask(workers=2)
    local.acquire()
    return Cluster(local.address, distributed.Client(local.address, set_as_default=False), local)


def end_cluster(cluster: Cluster) -> None:
    registry.close_all()
    cluster.client.close()
    cluster.local.release()


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[Cluster]:
    made = start_cluster()
    yield made
    end_cluster(made)


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Cluster:
    """With both of its workers, whatever the test before has done to them."""
    wait_until(lambda: both_answer(shared_cluster))
    return shared_cluster


def both_answer(cluster: Cluster) -> bool:
    try:
        return len(cluster.pids()) == 2
    except OSError:
        return False  # one has just died, and the client has not heard of it yet


def test_branches_run_below_the_dask_workers(cluster: Cluster) -> None:
    def branch(ctx: Any) -> list[int]:
        return [process.pid for process in psutil.Process().parents()]

    for parents in run_batch([branch] * 2, DaskExecutor(cluster.address)):
        assert set(parents) & set(cluster.pids())


@pytest.mark.parametrize("retries", [0, 1])
def test_a_dask_worker_that_is_killed_loses_its_branches_only(cluster: Cluster, tmp_path: Path, retries: int) -> None:
    log, go = tmp_path / "log", tmp_path / "go"

    def branch(ctx: Any, item: int, index: int, inputs: Any) -> int:
        ctx.step(lambda _: note(log, f"step {item}"))
        note(log, f"between {' '.join(str(parent.pid) for parent in psutil.Process().parents())}")
        wait_until(go.exists)
        return item * item

    @durable_execution
    def handler(event: Any, context: Any) -> Any:
        executor = DaskExecutor(cluster.address, retry_lost=retries)
        config = MapConfig(executor=executor, completion_config=KILLED)
        return [
            item.error.type if item.error else item.result for item in context.map(range(6), branch, config=config).all
        ]

    def kill_one() -> None:
        wait_until(lambda: sum(line.startswith("between") for line in notes(log)) >= 2)
        parents = notes(log)[-1].split()
        [victim] = [pid for pid in cluster.pids() if str(pid) in parents]
        os.kill(victim, signal.SIGKILL)
        note(go, "go")

    thread = threading.Thread(target=kill_one)
    thread.start()
    results = durapool.run(handler, store=MemoryStore())
    thread.join()
    expected = [item * item for item in range(6)]
    if retries:
        assert results == expected
    else:
        assert results.count("WorkerLostError") == 1
        assert [result for result in results if result != "WorkerLostError"] == [
            value for value, result in zip(expected, results, strict=True) if result != "WorkerLostError"
        ]
    steps = Counter(line for line in notes(log) if line.startswith("step"))
    assert set(steps.values()) == {1}


def test_a_second_call_of_an_agents_task_ends_at_once(cluster: Cluster, tmp_path: Path) -> None:
    log, go = tmp_path / "log", tmp_path / "go"

    def branch(ctx: Any) -> int:
        note(log, "begun")
        wait_until(go.exists)
        return 1

    ends = []

    def call_again() -> None:
        wait_until(lambda: notes(log))
        [engine] = [each for each in dask_engine._engines.values() if cluster.address in each.label]
        [line] = [line for line in engine._lines.values() if line.is_up]
        task = {"engine": engine._token, "agent": line.agent, "spec": dask_engine_spec()}
        future = cluster.client.submit(eval, dask_engine._HOST_AGENT, task, pure=False)
        ends.append(future.result(timeout=30))
        note(go, "go")

    thread = threading.Thread(target=call_again)
    thread.start()
    assert run_batch([branch], DaskExecutor(cluster.address)) == [1]
    thread.join()
    assert ends == ["it was let go"]


def dask_engine_spec() -> bytes:
    from durapool.cluster.agent import make_spec

    return make_spec(())


def test_losers_are_stopped_on_their_nodes(cluster: Cluster, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def slow(ctx: Any) -> None:
        note(log, str(os.getpid()))
        threading.Event().wait()

    def quick(ctx: Any) -> int:
        wait_until(lambda: notes(log))
        return 1

    first = CompletionConfig.first_successful()
    assert run_batch([slow, quick], DaskExecutor(cluster.address), first) == [None, 1]
    [pid] = map(int, notes(log))
    wait_until(lambda: is_gone(pid))


def test_suspended_branches_leave_the_slots_to_others(cluster: Cluster, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def branch(ctx: Any) -> int:
        note(log, "begun")
        ctx.wait(durapool.Duration.from_seconds(8))
        note(log, "again")
        return 1

    ran = []

    def use_the_slots() -> None:
        wait_until(lambda: len(notes(log)) == 2)
        futures = [
            cluster.client.submit(os.getpid, workers=[address], pure=False)
            for address in cluster.client.scheduler_info()["workers"]
        ]
        ran.extend(future.result(timeout=30) for future in futures)
        ran.append("again" in notes(log))

    thread = threading.Thread(target=use_the_slots)
    thread.start()
    assert run_batch([branch] * 2, DaskExecutor(cluster.address)) == [1, 1]
    thread.join()
    assert len(ran) == 3
    assert ran[-1] is False


def test_batches_nested_deeper_than_there_are_slots(cluster: Cluster) -> None:
    def level(depth: int) -> Any:
        def branch(ctx: Any) -> int:
            return 1 if depth == 0 else sum(ctx.parallel([level(depth - 1)] * 2).get_results())

        return branch

    assert run_batch([level(3)] * 3, DaskExecutor(cluster.address)) == [8, 8, 8]


def test_shared_inputs_are_scattered_once(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    scattered = []
    put = dask_engine.DaskEngine.put

    def counting(engine: Any, agent: int, data: Any) -> bytes:
        scattered.append(sum(map(len, data)))
        return put(engine, agent, data)

    monkeypatch.setattr(dask_engine.DaskEngine, "put", counting)
    array = np.arange(1_000_000.0)

    def branch(ctx: Any) -> float:
        return float(array.sum())

    assert run_batch([branch] * 6, DaskExecutor(cluster.address)) == [array.sum()] * 6
    assert scattered == [array.nbytes]
    wait_until(lambda: not cluster.client.run_on_scheduler(_data_keys))


def _data_keys(dask_scheduler: Any) -> list[str]:
    return [key for key in dask_scheduler.tasks if str(key).startswith("durapool-data")]


def test_nothing_is_left_on_the_cluster(cluster: Cluster) -> None:
    pids = run_batch([lambda ctx: os.getpid()] * 4, DaskExecutor(cluster.address))
    registry.close_all()
    for pid in pids:
        wait_until(lambda pid=pid: is_gone(pid))
    wait_until(lambda: cluster.tasks() == 0)
    wait_until(lambda: not cluster.client.run_on_scheduler(_our_clients))
    assert not any(psutil.Process(pid).children() for pid in cluster.pids())


def _our_clients(dask_scheduler: Any) -> list[str]:
    return [name for name in dask_scheduler.clients if name.startswith("durapool")]


def test_no_scheduler_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_engine, "CONNECT_SECONDS", 1.0)
    with pytest.raises(ClusterError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1: .*dask scheduler"):
        run_batch([lambda ctx: 1], "dask:tcp://127.0.0.1:1")


def test_an_address_that_is_none() -> None:
    with pytest.raises(ClusterError, match="no Dask scheduler answers at here and there"):
        run_batch([lambda ctx: 1], "dask:here and there")
    with pytest.raises(ValidationError, match="address must be"):
        dask_engine.open_engine(DaskExecutor(8786))


def test_a_worker_without_durapool(cluster: Cluster) -> None:
    registry.close_all()
    cluster.client.run(_hide)
    try:
        with pytest.raises(ClusterError, match=r"a worker of it has not installed what they need.*pip install"):
            run_batch([lambda ctx: 1], DaskExecutor(cluster.address))
    finally:
        cluster.client.run(_show)


def _hide() -> None:
    sys.modules["hidden"] = sys.modules.pop("durapool.cluster.dask_node", None)  # type: ignore[assignment]  # or None
    sys.modules["durapool.cluster.dask_node"] = None  # type: ignore[assignment]  # what stops an import


def _show() -> None:
    del sys.modules["durapool.cluster.dask_node"]
    hidden = sys.modules.pop("hidden")
    if hidden is not None:
        sys.modules["durapool.cluster.dask_node"] = hidden


def test_other_versions_on_the_workers(cluster: Cluster) -> None:
    registry.close_all()
    cluster.client.run(_grow_old)
    try:
        with pytest.raises(ClusterError, match=r"durapool is \S+ here and 0\.0\.1 there"):
            run_batch([lambda ctx: 1], DaskExecutor(cluster.address))
    finally:
        cluster.client.run(_rejuvenate)


def _grow_old() -> None:
    from durapool.cluster import agent

    agent.true_facts = agent.facts  # type: ignore[attr-defined]  # for the way back
    agent.facts = lambda: agent.true_facts() | {"durapool": "0.0.1"}  # type: ignore[attr-defined]  # as above


def _rejuvenate() -> None:
    from durapool.cluster import agent

    agent.facts = agent.true_facts  # type: ignore[attr-defined]  # see _grow_old


def moving_handler(log: Path, hold: Path) -> Any:
    """Two branches with a step each that wait behind it while there is the file `hold`."""

    @durable_execution
    def handler(event: Any, context: Any) -> Any:
        def branch(ctx: Any, item: int, index: int, inputs: Any) -> int:
            value: int = ctx.step(lambda _: note(log, f"step {item}") or item * item)
            note(log, "between")
            wait_until(lambda: not hold.exists())
            return value

        result = context.map([1, 2], branch)
        result.throw_if_error()
        return result.get_results()

    return handler


def both_wait(log: Path) -> bool:
    return notes(log).count("between") >= 2


def test_a_cluster_that_goes_away_half_way_and_a_resume_on_processes(tmp_path: Path) -> None:
    cluster = start_cluster()
    log, hold, store = tmp_path / "log", tmp_path / "hold", str(tmp_path / "journal.db")
    hold.touch()

    def close() -> None:
        wait_until(lambda: both_wait(log))
        cluster.local.release()

    thread = threading.Thread(target=close)
    thread.start()
    handler = moving_handler(log, hold)
    with pytest.raises(ClusterError, match=r"is gone.*run the same id again"):
        durapool.run(handler, id="moved", store=store, executor=f"dask:{cluster.address}")
    thread.join()
    hold.unlink()
    assert durapool.run(handler, id="moved", store=store, executor="process:2") == [1, 4]
    assert sorted(line for line in notes(log) if line.startswith("step")) == ["step 1", "step 2"]
    registry.close_all()
    cluster.client.close()


def test_a_run_that_was_begun_on_processes_goes_on_on_dask(cluster: Cluster, tmp_path: Path) -> None:
    log, hold, store = tmp_path / "log", tmp_path / "hold", str(tmp_path / "journal.db")
    hold.touch()

    def interrupt() -> None:
        wait_until(lambda: both_wait(log))
        registry.close_all()  # whoever waits for a batch is told that it has no more right to it

    thread = threading.Thread(target=interrupt)
    thread.start()
    handler = moving_handler(log, hold)
    with contextlib.suppress(BaseException):
        durapool.run(handler, id="moved", store=store, executor="process:2")
    thread.join()
    hold.unlink()
    assert durapool.run(handler, id="moved", store=store, executor=f"dask:{cluster.address}") == [1, 4]
    assert sorted(line for line in notes(log) if line.startswith("step")) == ["step 1", "step 2"]


def test_a_client_with_resources_is_given(tmp_path: Path) -> None:
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0", resources={"GPU": 1}
        ) as local,
        distributed.Client(local, set_as_default=False) as client,
    ):
        log = tmp_path / "log"

        def branch(ctx: Any) -> None:
            note(log, "+")
            time.sleep(0.05)  # long enough to be seen beside another
            note(log, "-")

        run_batch([branch] * 4, DaskExecutor(client, resources={"GPU": 1}))
        assert notes(log) == ["+", "-"] * 4
        registry.close_all()
        assert client.status == "running"
        assert client.submit(len, "user's own").result() == 10


def test_a_client_that_is_asynchronous_is_refused(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed.Client, "asynchronous", True)
    with pytest.raises(ValidationError, match="asynchronous=False"):
        dask_engine.open_engine(DaskExecutor(cluster.client))


PROGRAM = """
import os, sys, time
import durapool
from durapool import durable_execution
from durapool.stores import MemoryStore

@durable_execution(executor="dask")
def handler(event, context):
    def branch(ctx, item, index, inputs):
        with open(sys.argv[1] if len(sys.argv) > 1 else os.environ["LOG"], "a") as log:
            log.write(f"{os.getpid()}\\n")
        time.sleep(600)
    return context.map([1, 2], branch).get_results()

durapool.run(handler, id="x", store=MemoryStore())
"""


def test_a_killed_parent_leaves_nothing_behind(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    mark = f"DURAPOOL_TEST_MARK={tmp_path}"
    environment = {**os.environ, "LOG": str(log), "DURAPOOL_TEST_MARK": str(tmp_path)}
    process = subprocess.Popen([sys.executable, str(program)], env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: len(notes(log)) == 2, 60)
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not _marked(mark), 15)


def _marked(mark: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found
