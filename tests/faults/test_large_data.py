"""Large data and workers: sent once, private to each branch, gone with whoever dies, bounded in the parent."""

from __future__ import annotations

import gc
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from pool_tools import ALL, the_pool, wait_until

import durapool
from durapool import CompletionConfig, MapConfig, ParallelConfig, durable_execution, segments
from durapool.exceptions import StoreError
from durapool.executors import ProcessExecutor
from durapool.pool import registry, transfer
from durapool.pool.wire import Kind
from durapool.stores import MemoryStore, SQLiteStore
from durapool.worker import memory

numpy = pytest.importorskip("numpy")

pytestmark = pytest.mark.usefixtures("fresh_pools")

COUNT = 1 << 17  # of float64 in an array: 1 MiB


def run(handler, store=None, workers=2, **limits):
    durable = durable_execution(executor=ProcessExecutor(workers=workers, **limits))(handler)
    return durapool.run(durable, id="x", store=store or MemoryStore())


def successes(result):
    result.throw_if_error()
    return result.get_results()


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all that the parent has written for its workers."""
    sizes: list[int] = []
    really_take = segments.take

    def take(size: int) -> segments.Segment:
        sizes.append(size)
        return really_take(size)

    monkeypatch.setattr(segments, "take", take)
    return sizes


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_that_branches_capture_is_written_once(written: list[int], order: str) -> None:
    captured = numpy.asarray(numpy.ones((COUNT // 64, 64)), order=order)

    def handler(event, context):
        branches = [lambda ctx, i=i, default=captured: float(captured.sum() + default[i, 0]) for i in range(20)]
        mapped = context.map(range(20), lambda ctx, item, i, all_: float(captured[:, 0].sum()))
        shared = context.map([(captured, i) for i in range(20)], lambda ctx, item, i, all_: float(item[0][i, 0]))
        return [successes(context.parallel(branches)), successes(mapped), successes(shared)]

    assert run(handler) == [[COUNT + 1.0] * 20, [COUNT / 64] * 20, [1.0] * 20]
    assert len(written) == 3  # once for each batch
    assert all(size < 2 * captured.nbytes for size in written)


def test_what_a_branch_writes_into_a_captured_array_no_other_sees() -> None:
    captured = numpy.zeros(COUNT)

    def handler(event, context):
        def branch(ctx, item, index, inputs):
            seen = captured.sum()
            if index % 3 == 1:
                captured[index] = 1
            return float(seen)

        return [successes(context.map(range(12), branch)), float(captured.sum())]

    assert run(handler, workers=1) == [[0.0] * 12, 0.0]


def test_what_a_branch_keeps_of_an_array_stays_as_it_was() -> None:
    def handler(event, context):
        def branch(ctx, item, index, inputs):
            kept = sys.__dict__.setdefault("kept_by_a_branch", [])
            kept.append(item)
            return [float(array[0]) for array in kept]

        first = context.map([numpy.full(COUNT, float(n)) for n in range(5)], branch)
        second = context.map([numpy.full(COUNT, float(n)) for n in range(5, 10)], branch)
        return [*successes(first), *successes(second)]

    assert run(handler, workers=1) == [[float(n) for n in range(last + 1)] for last in range(10)]


def test_what_every_branch_needs_outlasts_what_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "SHARED_BYTES", COUNT)
    captured = numpy.arange(COUNT)

    def handler(event, context):
        def branch(ctx, item, index, inputs):
            some = [inputs[i][0] for i in range(index % 3, len(inputs), 5)]
            return [float(captured[index]), float(item[1]), [float(each) for each in some]]

        items = [numpy.full(COUNT, float(n)) for n in range(15)]
        return [successes(context.map(items, branch)), successes(context.map(items, branch))]

    wanted = [[float(n), float(n), [float(i) for i in range(n % 3, 15, 5)]] for n in range(15)]
    assert run(handler) == [wanted, wanted]


def test_a_branch_may_capture_more_than_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "SHARED_BYTES", COUNT)
    arrays = [numpy.full(COUNT, float(n)) for n in range(4)]

    def handler(event, context):
        alone = [lambda ctx, one=one: float(one.sum()) for one in arrays]
        together = [lambda ctx, a=arrays[:n], n=n: float(sum(one[0] for one in a)) for n in (4, 3, 4)]
        return successes(context.parallel([*alone, *together, *alone]))

    sums = [COUNT * float(n) for n in range(4)]
    assert run(handler, workers=1) == [*sums, 6.0, 3.0, 6.0, *sums]


def test_a_memory_limit_counts_what_is_written_to_not_what_is_only_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "BACKSTOP_ROOM", 0)
    captured = numpy.ones(64 * COUNT)  # of 64 MiB, above twice the limit

    def handler(event, context):
        def branch(ctx, item, index, inputs):
            return float(captured[:: COUNT // 64].sum()) + float(ctx.step(lambda _: captured)[0])

        return successes(context.map(range(3), branch))

    assert run(handler, start_method="fork", memory_limit="24MiB") == [64 * 64 + 1.0] * 3


def test_segments_of_items_are_written_again_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "SHARED_BYTES", 2 * COUNT * 8)
    most = 0

    def handler(event, context):
        class Items(list):
            """Makes each item when it is asked for, as a generator would."""

            def __getitem__(self, index):
                nonlocal most
                most = max(most, len(segments._live))
                return numpy.full(COUNT, float(index))

        inputs = Items([None] * 120)
        plan = context.map(inputs, lambda ctx, item, index, all_: float(item[-1]))
        return successes(plan)

    before = len(segments._live)
    results = run(handler, workers=1)
    assert results == [float(n) for n in range(120)]
    assert most - before <= 24  # two that are remembered, and what a line holds
    wait_until(lambda: not the_pool().pool.turn() and len(segments._live) <= before)


@pytest.mark.parametrize("start_method", ["forkserver", "spawn", "fork"])
def test_a_worker_that_dies_with_large_data_leaves_nothing(start_method: str, tmp_path: Path) -> None:
    captured = numpy.ones(COUNT)
    store = SQLiteStore(tmp_path / "journal.db")

    def branch(ctx, item, index, inputs):
        found = ctx.step(lambda _: captured + item)
        if index % 2:
            found[0] = captured[0] = 7
            blob = ctx._scope.blobs._ask(Kind.NEW_FILE, 1 << 20)
            os.write(blob.source.descriptor, b"x" * 1000)
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    def handler(event, context):
        config = MapConfig(completion_config=CompletionConfig.all_completed())
        result = context.map([float(n) for n in range(6)], branch, config=config)
        return [item.error.type if item.error else float(item.result[0]) for item in result.all]

    def files() -> list[str]:
        links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        targets = [os.readlink(link) for link in links if os.path.lexists(link)]
        return [target for target in targets if "memfd:durapool" in target or "-blobs" in target]

    gc.collect()  # what earlier tests have left
    before = len(segments._live)
    results = run(handler, store, start_method=start_method)
    assert results == [1.0, "WorkerLostError", 3.0, "WorkerLostError", 5.0, "WorkerLostError"]
    registry.close_all()
    gc.collect()
    assert len(segments._live) == before
    assert len(segments._free) <= segments.KEPT_SEGMENTS
    assert len(files()) == len(segments._free) + before
    assert not [file for file in Path(f"{store.label}-blobs").glob("*/*") if file.stat().st_size < COUNT * 8]
    store.close()


def test_a_disk_that_is_full_stops_the_run_and_the_next_one_goes_on(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.touch()

    def handler(event, context):
        def branch(ctx, item, index, inputs):
            small = ctx.step(lambda _: index)
            if full.exists():
                resource.setrlimit(resource.RLIMIT_FSIZE, (COUNT, COUNT))
            return numpy.full(COUNT, small)

        return [int(found[0]) for found in successes(context.map(range(3), branch))]

    store = SQLiteStore(tmp_path / "journal.db")
    with pytest.raises(StoreError, match=r"1048\d\d\d bytes cannot be written to .* Make room"):
        run(handler, store)
    full.unlink()
    registry.close_all()  # a worker that is left keeps its limit
    assert run(handler, store) == [0, 1, 2]
    store.close()


def test_without_memfd_everything_goes_through_files_without_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")

    def handler(event, context):
        items = [numpy.full(COUNT, float(n)) for n in range(4)]
        return [float(found.sum()) for found in successes(context.map(items, lambda ctx, item, i, all_: item + 1))]

    assert run(handler) == [COUNT * (n + 1.0) for n in range(4)]


def test_where_no_segment_can_be_had_arrays_go_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    def take(size: int) -> segments.Segment:
        raise OSError("no more descriptors")

    monkeypatch.setattr(segments, "take", take)

    def handler(event, context):
        captured = numpy.ones(COUNT)
        branches = [lambda ctx: float(captured.sum())] * 2
        return successes(context.parallel(branches, config=ParallelConfig(completion_config=ALL)))

    assert run(handler, MemoryStore(payload_limit=1 << 30)) == [COUNT] * 2


PROGRAM = """
import sys
import durapool, numpy
from durapool import MapConfig, durable_execution
from durapool.stores import SQLiteStore

MIB = 1 << 20

def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024

def make(kind, n):
    return {"arrays": lambda: numpy.full(4 * MIB, n % 250, dtype="u1"), "bytes": lambda: bytes([n % 250]) * 4 * MIB,
            "text": lambda: chr(97 + n % 20) * 4 * MIB}[kind]()

@durable_execution(executor=sys.argv[1])
def handler(kind, context):
    context.map([0], lambda ctx, item, i, all_: make(kind, item))
    before = most = anonymous()
    count = 64 if kind == "arrays" else 24
    config = MapConfig(max_concurrency=4)
    result = context.map(range(count), lambda c, item, i, all_: c.step(lambda _: make(kind, item)), config=config)
    most = max(most, anonymous())
    for item in result.all:
        assert len(item.result) == 4 * MIB
        most = max(most, anonymous())
    return (most - before) // MIB

store = SQLiteStore("journal.db")
for kind in ("arrays", "bytes", "text"):
    print(durapool.run(handler, kind, id=kind, store=store))
"""


@pytest.mark.parametrize("executor", ["process:2", "thread"])
def test_the_parent_holds_a_few_of_many_large_results(executor: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, executor], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=100
    )
    arrays, data, text = map(int, done.stdout.split())  # MiB, of 256, 96 and 96
    assert max(arrays, data, text) < 48, done.stdout


def test_a_killed_program_goes_on_with_its_large_results(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import os, signal, sys
        import durapool, numpy
        from durapool import durable_execution
        from durapool.stores import SQLiteStore

        @durable_execution(executor="process:2")
        def handler(event, context):
            def branch(ctx, item, index, inputs):
                def make(_):
                    with open("log", "a") as log:
                        log.write(f"{index}\\n")
                    return numpy.full(1 << 17, float(item))
                return ctx.step(make) + 1
            first = context.map(range(4), branch)
            if not os.path.exists("killed"):
                open("killed", "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return [float(found.sum()) for found in first.get_results()]

        print(durapool.run(handler, id="x", store=SQLiteStore("journal.db")))
        """
    )
    command = [sys.executable, "-c", program]
    killed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert again.stdout.strip() == str([131072.0 * (n + 1) for n in range(4)])
    assert sorted((tmp_path / "log").read_text().split()) == ["0", "1", "2", "3"]
