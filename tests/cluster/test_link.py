"""The link and its agents on a cluster within this process, where everything happens when the test says so."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cluster_tools import is_gone, note, notes, run_batch, wait_until
from fake_engine import FakeEngine

import durapool
from durapool import CompletionConfig, DaskExecutor, MapConfig, ParallelConfig, durable_execution
from durapool.cluster import agent as agents
from durapool.cluster import leases
from durapool.exceptions import ClusterError
from durapool.pool import registry
from durapool.stores import MemoryStore


def test_branches_run_in_processes_of_the_agents(engine: FakeEngine) -> None:
    results = run_batch([lambda ctx: (os.getpid(), os.getppid())] * 4, "dask")
    assert os.getpid() not in {pid for pid, _ in results}
    assert len(engine.granted) == 2


def test_no_more_agents_than_branches(engine: FakeEngine) -> None:
    engine.size = 5
    run_batch([lambda ctx: 1] * 3, "dask")
    assert len(engine.granted) <= 3


def test_a_cluster_that_grows_is_used_at_once(engine: FakeEngine, tmp_path: Path) -> None:
    log = tmp_path / "log"
    engine.size = 1

    def branch(ctx: Any) -> None:
        note(log, "begun")
        wait_until(lambda: len(notes(log)) == 2)

    def grow() -> None:
        wait_until(lambda: notes(log))
        engine.size = 2

    thread = threading.Thread(target=grow)
    thread.start()
    assert run_batch([branch] * 2, "dask") == [None, None]
    thread.join()
    assert len(engine.granted) == 2


def test_no_more_agents_than_workers_asked_for(engine: FakeEngine) -> None:
    engine.size = 5
    run_batch([lambda ctx: 1] * 8, DaskExecutor(workers=2))
    assert len(engine.granted) == 2


def test_a_lost_agent_loses_its_branches_only(engine: FakeEngine, tmp_path: Path) -> None:
    log, go = tmp_path / "log", tmp_path / "go"

    def branch(ctx: Any, item: int, index: int, inputs: Any) -> int:
        note(log, str(index))
        wait_until(go.exists)
        return item

    def lose_one() -> None:
        wait_until(lambda: len(notes(log)) == 2)
        engine.lose(engine.granted[0])
        note(go, "go")

    @durable_execution
    def handler(event: Any, context: Any) -> Any:
        config = MapConfig(executor=DaskExecutor(retry_lost=0), completion_config=CompletionConfig.all_completed())
        return [
            item.error.message if item.error else item.result
            for item in context.map([1, 2, 3, 4], branch, config=config).all
        ]

    thread = threading.Thread(target=lose_one)
    thread.start()
    results = durapool.run(handler, store=MemoryStore())
    thread.join()
    [lost] = [result for result in results if isinstance(result, str)]
    assert f"node-{engine.granted[0]} was lost" in lost
    assert "retry_lost" in lost
    assert len([result for result in results if isinstance(result, int)]) == 3


def test_with_retry_lost_it_goes_on_elsewhere_from_its_checkpoints(engine: FakeEngine, tmp_path: Path) -> None:
    log, go = tmp_path / "log", tmp_path / "go"
    engine.size = 1

    def branch(ctx: Any) -> str:
        first = ctx.step(lambda _: note(log, "first") or os.getpid())
        note(log, "between")
        wait_until(go.exists)
        return f"{first != os.getpid()}"

    def lose_it() -> None:
        wait_until(lambda: "between" in notes(log))
        note(go, "go")
        engine.lose(engine.granted[0])
        engine.grant_waiting()

    thread = threading.Thread(target=lose_it)
    thread.start()
    assert run_batch([branch], DaskExecutor(retry_lost=1)) == ["True"]
    thread.join()
    assert notes(log).count("first") == 1
    assert len(engine.granted) == 2


def test_a_second_run_of_an_agent_is_refused(engine: FakeEngine, tmp_path: Path) -> None:
    log, go = tmp_path / "log", tmp_path / "go"

    def branch(ctx: Any) -> int:
        note(log, "begun")
        wait_until(go.exists)
        return 1

    def run_it_again() -> None:
        wait_until(lambda: notes(log))
        engine.lose(engine.granted[0])
        engine.grant(engine.granted[0])
        wait_until(lambda: engine.released.count(engine.granted[0]) >= 2)
        note(go, "go")

    thread = threading.Thread(target=run_it_again)
    thread.start()
    [[kind, _]] = run_batch([branch], DaskExecutor(workers=1, retry_lost=0))
    thread.join()
    assert kind == "WorkerLostError"
    wait_until(lambda: engine.endings.count("it was let go") == 2)


def test_an_agent_that_comes_late_is_let_go(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LINGER", 0.05)
    engine.size, engine.hold = 2, True

    def grant_one() -> None:
        wait_until(lambda: len(engine.waiting) == 2)
        engine.grant(engine.waiting.pop())

    thread = threading.Thread(target=grant_one)
    thread.start()
    assert run_batch([lambda ctx: 1, lambda ctx: 2], "dask") == [1, 2]
    thread.join()
    wait_until(lambda: not engine.waiting)  # the lease that nobody needs any more was given back
    late = min(engine.specs)
    engine.grant(late)
    wait_until(lambda: late not in engine.sides)


def test_agents_are_let_go_when_there_is_nothing_to_run(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LINGER", 0.05)
    [pid] = run_batch([lambda ctx: os.getpid()], "dask")
    wait_until(lambda: not engine.sides)
    wait_until(lambda: is_gone(pid))


def test_a_suspended_branch_frees_its_slot(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LINGER", 0.05)
    freed = []

    def watch() -> None:
        wait_until(lambda: engine.granted)
        wait_until(lambda: not engine.sides)
        freed.append(True)

    thread = threading.Thread(target=watch)
    thread.start()

    def branch(ctx: Any) -> int:
        ctx.wait(durapool.Duration.from_seconds(2))
        return 1

    assert run_batch([branch], "dask") == [1]
    thread.join()
    assert freed
    assert len(engine.granted) == 2


def test_agents_stay_warm_between_batches(engine: FakeEngine) -> None:
    [first] = run_batch([lambda ctx: os.getpid()], "dask")
    [second] = run_batch([lambda ctx: os.getpid()], "dask")
    assert first == second
    assert len(engine.granted) == 1


def test_batches_nested_deeper_than_there_are_slots(engine: FakeEngine) -> None:
    engine.size = 1

    def level(depth: int) -> Any:
        def branch(ctx: Any) -> int:
            if depth == 0:
                return 1
            return sum(ctx.parallel([level(depth - 1)] * 2).get_results())

        return branch

    assert run_batch([level(3)] * 2, "dask") == [8, 8]
    assert len(engine.granted) == 1


def test_one_worker_runs_in_each_slot(engine: FakeEngine, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def inner(ctx: Any) -> None:
        note(log, "+")
        time.sleep(0.02)  # long enough to be seen beside another
        note(log, "-")

    def outer(ctx: Any) -> None:
        ctx.parallel([inner] * 3).throw_if_error()
        inner(ctx)

    run_batch([outer] * 3, "dask")
    running = most = 0
    for line in notes(log):
        running += 1 if line == "+" else -1
        most = max(most, running)
    assert most <= 2


def test_losers_are_stopped(engine: FakeEngine, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def slow(ctx: Any) -> None:
        note(log, str(os.getpid()))
        threading.Event().wait()

    def quick(ctx: Any) -> int:
        wait_until(lambda: notes(log))
        return 1

    results = run_batch([slow, quick], "dask", CompletionConfig.first_successful())
    assert results == [None, 1]
    [pid] = map(int, notes(log))
    wait_until(lambda: is_gone(pid))


def test_a_shared_array_is_put_once_and_fetched_once_by_each_agent(engine: FakeEngine) -> None:
    array = np.arange(500_000.0)

    @durable_execution
    def handler(event: Any, context: Any) -> Any:
        def branch(ctx: Any, item: int, index: int, inputs: Any) -> float:
            return float(array[item])

        return context.map(list(range(8)), branch, config=MapConfig(executor="dask")).get_results()

    assert durapool.run(handler, store=MemoryStore()) == [float(item) for item in range(8)]
    assert len(engine.puts) == 1
    assert len(engine.fetches) == len(set(engine.fetches)) <= 2
    wait_until(lambda: not engine.stored)  # dropped with the batch


def test_what_cannot_be_fetched_is_sent_by_itself(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def put(agent: int, data: Any) -> bytes:
        engine.stored[b"nowhere"] = b""
        return b"somewhere"

    monkeypatch.setattr(engine, "put", put)
    monkeypatch.setattr(engine, "drop", lambda reference: None)
    array = np.arange(500_000.0)
    assert run_batch([lambda ctx: float(array.sum()), lambda ctx: float(array[3])], "dask") == [array.sum(), 3.0]


def test_large_results_come_back_whole(engine: FakeEngine, tmp_path: Path) -> None:
    @durable_execution(executor="dask")
    def handler(event: Any, context: Any) -> Any:
        def branch(ctx: Any) -> Any:
            return ctx.step(lambda _: np.arange(3_000_000.0))

        return context.parallel([branch, branch]).get_results()

    first, second = durapool.run(handler, id="large", store=str(tmp_path / "journal.db"))
    assert first.sum() == second.sum() == np.arange(3_000_000.0).sum()
    assert list((tmp_path).rglob("*.blob")) or len(list(tmp_path.iterdir())) > 1


def test_prints_logs_warnings_and_errors_come_back(
    engine: FakeEngine, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def branch(ctx: Any) -> None:
        import warnings

        print("said")
        logging.getLogger("there").warning("logged")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("warned", UserWarning, stacklevel=1)
        raise ValueError("failed")

    with pytest.warns(UserWarning, match="warned"):
        [[kind, message]] = run_batch([branch], "dask")
    assert (kind, message) == ("ValueError", "failed")
    assert "said" in capfd.readouterr().out
    [record] = [record for record in caplog.records if record.name == "there"]
    assert record.getMessage() == "logged"
    assert record.durapool_branch == 0  # type: ignore[attr-defined]  # of durapool


def test_a_great_deal_of_output_waits_on_its_node(engine: FakeEngine, capfd: pytest.CaptureFixture[str]) -> None:
    def branch(ctx: Any) -> int:
        for _ in range(400):
            print("x" * 100_000)
        return 1

    assert run_batch([branch], "dask") == [1]
    count = capfd.readouterr().out.count("x")
    assert count == 40_000_000


def test_a_worker_process_that_dies_is_told_with_its_node(engine: FakeEngine) -> None:
    [[kind, message]] = run_batch([lambda ctx: os.kill(os.getpid(), 9)], DaskExecutor(retry_lost=0))
    assert kind == "WorkerLostError"
    assert f"on node-{engine.granted[0]}: killed by SIGKILL" in message


def test_another_version_there_is_an_error_that_names_both(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = agents.facts() | {"Python": "3.9", "durapool": "0.0.1"}
    monkeypatch.setattr(agents, "facts", lambda: theirs)
    with pytest.raises(
        ClusterError, match=r"on node-\d+, Python is 3\.\d+ here and 3\.9 there; durapool is .* 0\.0\.1"
    ):
        run_batch([lambda ctx: 1], "dask")


def test_a_cluster_that_goes_away_ends_the_run_which_goes_on_elsewhere(engine: FakeEngine, tmp_path: Path) -> None:
    log, store = tmp_path / "log", str(tmp_path / "journal.db")
    wait_here = tmp_path / "wait"
    wait_here.touch()

    @durable_execution
    def handler(event: Any, context: Any) -> Any:
        def branch(ctx: Any, item: int, index: int, inputs: Any) -> int:
            value: int = ctx.step(lambda _: note(log, f"step {item}") or item * item)
            note(log, "between")
            wait_until(lambda: not wait_here.exists())
            return value

        return context.map([1, 2], branch).get_results()

    def end_cluster() -> None:
        wait_until(lambda: notes(log).count("between") == 2)
        for _, listener in engine.specs.values():
            listener.on_gone("the fake cluster is gone")

    thread = threading.Thread(target=end_cluster)
    thread.start()
    with pytest.raises(ClusterError, match=r"the fake cluster is gone.*run the same id again"):
        durapool.run(handler, id="moved", store=store, executor="dask")
    thread.join()
    wait_here.unlink()
    assert durapool.run(handler, id="moved", store=store, executor="process:2") == [1, 4]
    assert sorted(line for line in notes(log) if line.startswith("step")) == ["step 1", "step 2"]


def test_agents_that_never_come_up_end_the_run(engine: FakeEngine) -> None:
    def fail(agent: int, spec: bytes, listener: Any) -> None:
        listener.on_end(agent, "its task failed")

    engine.lease = fail  # type: ignore[method-assign]  # for this test
    with pytest.raises(ClusterError, match="the fake cluster starts no agents: its task failed"):
        run_batch([lambda ctx: 1], "dask")
    assert engine.closed, "a pool that is of no use any more lets go of the cluster"


def test_a_cluster_without_a_fitting_node_is_waited_for_and_then_is_an_error(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leases, "HINT_SECONDS", 0.05)
    monkeypatch.setattr(leases, "PATIENCE", 0.3)
    engine.size, engine.hold = 0, True
    with pytest.raises(ClusterError, match="no node that can run a branch"):
        run_batch([lambda ctx: 1], "dask")
    assert "durapool waits for a slot of the fake cluster: none of its nodes" in caplog.text


def test_an_agent_ends_when_its_parent_is_silent(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "SILENCE", 3.0)
    monkeypatch.setattr(leases, "LINGER", 1000.0)
    monkeypatch.setattr(registry, "BEAT_SECONDS", 1000.0)
    [pid] = run_batch([lambda ctx: os.getpid()], "dask")
    wait_until(lambda: any("nothing was heard" in reason for reason in engine.endings))
    wait_until(lambda: is_gone(pid))


def test_nothing_is_left_behind(engine: FakeEngine) -> None:
    before = len(os.listdir("/proc/self/fd"))
    pids = run_batch([lambda ctx: os.getpid()] * 4, "dask")
    registry.close_all()
    assert engine.closed
    assert not engine.sides
    for pid in pids:
        wait_until(lambda pid=pid: is_gone(pid))
    assert len(os.listdir("/proc/self/fd")) <= before


def test_exit_handlers_of_workers_run_when_the_pool_is_closed(engine: FakeEngine, tmp_path: Path) -> None:
    log = tmp_path / "log"
    engine.size = 1
    run_batch([lambda ctx: atexit.register(note, log, "left") and None], "dask")
    registry.close_all()
    assert notes(log) == ["left"]


def test_functions_of_modules_that_only_the_client_has_travel_by_value(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text(
        "import helper_here\nclass Point:\n    x = 3\ndef branch(ctx):\n    return helper_here.double(Point.x)\n"
    )
    (tmp_path / "helper_here.py").write_text("FACTOR = 2\ndef double(x):\n    return FACTOR * x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here  # type: ignore[import-not-found]  # made by this test

    branch = only_here.branch
    for name in ("only_here.py", "helper_here.py"):
        (tmp_path / name).unlink()  # as on a node without them
    assert run_batch([branch], "dask") == [6]


def test_the_configuration_of_a_nested_batch_travels(engine: FakeEngine) -> None:
    def outer(ctx: Any) -> Any:
        config = ParallelConfig(executor=DaskExecutor(address="elsewhere", retry_lost=2))
        return ctx.parallel([lambda inner: 5], config=config).get_results()

    assert run_batch([outer], DaskExecutor(address="here")) == [[5]]
