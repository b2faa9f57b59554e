"""Ray as an engine: which cluster is meant, what an actor asks for, what travels once."""

from __future__ import annotations

import logging
import os
import time
from importlib.util import find_spec
from itertools import pairwise

import pytest
from cluster_tools import wait_until
from ray_tools import LONGEST, TOKEN, actor, noted, ray_head, start_program

import durapool
from durapool import MapConfig, durable_execution
from durapool.cluster import ray_link
from durapool.cluster.engine import open_engine
from durapool.exceptions import ClusterError, ValidationError
from durapool.executors import RayExecutor
from durapool.pool import registry
from durapool.stores import MemoryStore

pytestmark = [pytest.mark.ray, pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")]


def results(branch, executor, count=4):
    @durable_execution
    def handler(event, context):
        result = context.map(range(count), branch, config=MapConfig(executor=executor))
        result.throw_if_error()
        return result.get_results()

    return durapool.run(handler, store=MemoryStore())


@pytest.fixture(scope="module")
def head():
    with pytest.MonkeyPatch.context() as environment, ray_head() as (address, _):
        environment.setenv("RAY_AUTH_MODE", "token")
        yield address


def test_branches_run_on_the_cluster_at_an_address(head):
    assert results(lambda ctx, item, index, inputs: ctx.step(lambda _: item * 10), f"ray:{head}") == [0, 10, 20, 30]


def test_auto_is_what_ray_means_by_it(head, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", head)
    engine = open_engine(RayExecutor("auto"))
    assert engine.label == f"the Ray cluster {head}"
    engine.close()


def test_a_branch_has_the_resources_that_it_asks_for_alone(head):
    def branch(ctx, item, index, inputs):
        began = time.time()
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
        time.sleep(0.2)  # long enough to be seen beside another one
        return gpus, (began, time.time())

    executor = RayExecutor(head, resources={"num_cpus": 0.5, "num_gpus": 1, "resources": {"licence": 1}})
    found = results(branch, executor)
    assert [gpus for gpus, _ in found] == ["0"] * 4
    spans = sorted(span for _, span in found)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))


@pytest.mark.parametrize(
    ("resources", "slots"),
    [
        (None, 2),
        ({"num_cpus": 0.5}, 4),
        ({"num_gpus": 1}, 1),
        ({"resources": {"licence": 0.25}}, 2),
        ({"num_gpus": 2}, 0),
    ],
)
def test_slots_are_counted_by_what_nodes_have(head, resources, slots):
    engine = open_engine(RayExecutor(head, resources=resources))
    assert engine.slots() == slots
    engine.close()


def test_resources_that_no_node_has_are_said(head, monkeypatch):
    monkeypatch.setattr("durapool.cluster.leases.HINT_SECONDS", 0.1)
    monkeypatch.setattr("durapool.cluster.leases.PATIENCE", 0.5)
    with pytest.raises(ClusterError, match="no node that can run a branch"):
        results(lambda ctx, item, index, inputs: item, RayExecutor(head, resources={"num_gpus": 5}))


def test_resources_that_ray_does_not_know_are_refused():
    with pytest.raises(ValidationError, match="no 'GPU' that an actor could ask for"):
        open_engine(RayExecutor(resources={"GPU": 1}))


def test_shared_inputs_are_put_once(ray_cluster, monkeypatch):
    puts = []
    original = ray_link.GatewayLink.put
    monkeypatch.setattr(
        ray_link.GatewayLink,
        "put",
        lambda self, number, data: puts.append(sum(map(len, data))) or original(self, number, data),
    )
    shared = os.urandom(8 << 20)

    def branch(ctx, item, index, inputs):
        return actor().pid, len(shared)

    found = results(branch, RayExecutor(workers=2), count=12)
    assert {size for _, size in found} == {len(shared)}
    assert len([size for size in puts if size > len(shared) / 2]) == 1


def test_logs_prints_and_errors_come_back(ray_cluster, caplog, capfd):
    def branch(ctx, item, index, inputs):
        logging.getLogger("job").warning("branch %d speaks", index)
        print(f"branch {index} prints", flush=True)
        raise KeyError("what it lacks")

    @durable_execution
    def handler(event, context):
        return context.map(range(1), branch, config=MapConfig(executor=RayExecutor(workers=2))).to_dict()

    [item] = durapool.BatchResult.from_dict(durapool.run(handler, store=MemoryStore())).all
    assert (item.error.type, item.error.message) == ("KeyError", "'what it lacks'")
    assert "in branch" in "".join(item.error.stack_trace)
    assert "branch 0 speaks" in caplog.messages
    assert "branch 0 prints\n" in capfd.readouterr().out


def test_a_program_that_is_connected_keeps_its_cluster_and_runtime_env(head, tmp_path):
    source = """
    import ray
    ray.init(sys.argv[1], runtime_env={"env_vars": {"FROM_RUNTIME_ENV": "yes"}}, log_to_driver=False)
    def branch(ctx, item, index, inputs):
        return psutil.Process(os.getppid()).parent().environ().get("FROM_RUNTIME_ENV"), ray.util.get_node_ip_address()
    execute(branch, "ray", count=1)
    print(len([node for node in ray.nodes() if node["Alive"]]), ray.get_runtime_context().gcs_address)
    """
    with start_program(tmp_path, source, head) as program:
        output, errors = program.communicate(timeout=LONGEST)
    assert "'yes'" in output, errors
    assert f"1 {head}" in output


def test_a_node_without_durapool_is_named(head, tmp_path):
    (tmp_path / "without" / "durapool").mkdir(parents=True)
    (tmp_path / "without" / "durapool" / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'durapool'\")"
    )
    source = f"""
    import ray
    path = {str(tmp_path / "without")!r}
    ray.init(sys.argv[1], runtime_env={{"env_vars": {{"PYTHONPATH": path}}}}, log_to_driver=False)
    execute(lambda ctx, item, index, inputs: item, "ray")
    """
    with start_program(tmp_path, source, head) as program:
        _, errors = program.communicate(timeout=LONGEST)
    assert "ClusterError" in errors
    assert f"durapool {durapool.__version__} is not installed on" in errors


HANGS = """
def branch(ctx, item, index, inputs):
    ctx.step(lambda _: note("up"), name="up")
    threading.Event().wait()

try:
    execute(branch, sys.argv[1], count=2)
except durapool.exceptions.ClusterError as error:
    print(error)
"""


def test_a_cluster_whose_head_is_gone_is_said_and_the_program_lives(tmp_path):
    with ray_head() as (address, head), start_program(tmp_path, HANGS, f"ray:{address}", **TOKEN) as program:
        wait_until(lambda: noted(tmp_path)["up"] == 2 or program.poll() is not None, LONGEST)
        head.kill()
        began = time.monotonic()
        output, errors = program.communicate(timeout=LONGEST)
    assert f"the Ray cluster {address} is gone" in output, errors
    assert "run the same id again" in output
    assert time.monotonic() - began < 40
    assert program.returncode == 0


def test_a_token_that_is_missing_is_said(head, monkeypatch):
    registry.close_all()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(ClusterError, match="RAY_AUTH_MODE=token"):
        results(lambda ctx, item, index, inputs: item, RayExecutor(head, workers=1))
