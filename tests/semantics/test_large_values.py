"""Large values: kept beside the records, mapped when they are read, the same on every executor and in every store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from semantic_tools import Crash, note, notes

import durapool
from durapool import CompletionConfig, MapConfig, NestingType, ParallelConfig, durable_execution
from durapool.config import Duration, StepConfig
from durapool.exceptions import ExecutionFailedError
from durapool.records import BlobRef
from durapool.retries import RetryPresets
from durapool.serdes import LARGE, PickleSerDes
from durapool.stores import MemoryStore, SQLiteStore, Store

numpy = pytest.importorskip("numpy")

BYTES = 1 << 20


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened: Store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "journal.db")
    yield opened
    opened.close()


def run(handler: Any, store: Store, executor: str, **options: Any) -> Any:
    durable = durable_execution(default_retry=RetryPresets.none())(handler)
    return durapool.run(durable, id="x", store=store, executor=executor, **options)


def refs(store: Store) -> list[BlobRef]:
    return [record.update.payload for record in store.read("x") if isinstance(record.update.payload, BlobRef)]


class Once:
    """Raises at the first call."""

    def __init__(self, error: type[BaseException]) -> None:
        self._errors = [error]

    def __call__(self) -> None:
        if self._errors:
            raise self._errors.pop()


def numbers() -> Any:
    return numpy.arange(BYTES // 8, dtype="f8")


def frozen() -> Any:
    made = numbers()
    made.flags.writeable = False
    return made


ARRAYS: dict[str, Callable[[], Any]] = {
    "float64": numbers,
    "int8": lambda: numpy.arange(BYTES, dtype="i1"),
    "complex": lambda: numbers().astype("c16"),
    "bool": lambda: numbers() > 5,
    "big-endian": lambda: numbers().astype(">f4"),
    "datetime": lambda: numpy.arange(BYTES // 8).astype("datetime64[s]"),
    "text": lambda: numpy.array(["abc", "d"] * (BYTES // 16)),
    "structured": lambda: numpy.zeros(BYTES // 16, dtype=[("a", "i8"), ("b", "f8")]),
    "matrix": lambda: numbers().reshape(256, -1),
    "fortran": lambda: numpy.asfortranarray(numbers().reshape(256, -1)),
    "strided": lambda: numbers()[::2],
    "reversed": lambda: numbers().reshape(256, -1)[::-1, ::3],
    "objects": lambda: numpy.array([{"n": n} for n in range(50_000)], dtype=object),
    "empty": lambda: numpy.zeros((0, 5)),
    "scalar": lambda: numpy.array(2.5),
    "frozen": frozen,
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_comes_back_as_it_was(executor: str, store: Store, name: str) -> None:
    def check(found: Any) -> None:
        wanted = ARRAYS[name]()
        assert type(found) is type(wanted)
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        assert numpy.array_equal(found, wanted)
        assert found.flags.f_contiguous or not wanted.flags.f_contiguous
        assert found.flags.writeable == wanted.flags.writeable

    def handler(event, context):
        def branch(ctx, item, index, inputs):
            check(item)
            check(inputs[0])
            found = ctx.step(lambda _: item)
            check(found)
            return found

        result = context.map([ARRAYS[name]()], branch)
        result.throw_if_error()
        check(result.all[0].result)
        crash_at_first()
        return result.all[0].result

    crash_at_first = Once(Crash)
    with pytest.raises(Crash):
        run(handler, store, executor)
    check(run(handler, store, executor))
    check(run(handler, store, executor))


VALUES: dict[str, Any] = {
    "bytes": b"\x00\xff" * BYTES,
    "bytearray": bytearray(b"ab") * BYTES,
    "text": "snö" * BYTES,
    "list": [float(n) for n in range(100_000)],
    "set": set(range(100_000)),
    "dict": {"bytes": b"x" * BYTES, "more": (bytearray(BYTES), [None] * 5)},
}


@pytest.mark.parametrize("name", VALUES)
def test_a_large_value_without_arrays_comes_back_as_it_was(executor: str, store: Store, name: str) -> None:
    value = VALUES[name]

    def handler(event, context):
        def branch(ctx, item, index, inputs):
            return ctx.step(lambda _: item)

        [item] = context.map([value], branch).all
        assert type(item.result) is type(value)
        assert item.result == value
        assert item.result == value  # asked for again
        return item.result

    assert run(handler, store, executor) == value
    assert all(ref.size >= LARGE for ref in refs(store))
    assert len(refs(store)) == 3  # the step, the branch, the handler


def test_a_replay_reads_what_was_kept_and_runs_nothing_again(executor: str, store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def handler(event, context):
        def branch(ctx, item, index, inputs):
            first = ctx.step(lambda _: note(log, f"first {index}") or numpy.full(BYTES, item, dtype="u1"))
            ctx.wait(Duration.from_seconds(1))  # the branch runs again, over its recorded step
            return first[1:] if index else first

        result = context.map([3, 4], branch)
        result.throw_if_error()
        crash_at_first()
        return [int(found.sum()) for found in result.get_results()]

    crash_at_first = Once(Crash)
    with pytest.raises(Crash):
        run(handler, store, executor)
    assert run(handler, store, executor) == [3 * BYTES, 4 * (BYTES - 1)]
    assert sorted(notes(log)) == ["first 0", "first 1"]


def test_what_is_written_into_a_result_is_not_recorded(executor: str, store: Store) -> None:
    def handler(event, context):
        def branch(ctx):
            found = ctx.step(lambda _: numpy.zeros(BYTES, dtype="u1"), name="step")
            found[7] = 1
            return found

        found = context.parallel([branch]).get_results()[0]
        step = context.step(lambda _: int(found[7]))
        found[8] = 1
        return step

    assert run(handler, store, executor) == 1
    sums = []
    blobs = store.blobs("x")
    for ref in refs(store):
        with memoryview(blobs.open(ref).map(ref.size)) as mapped:
            sums.append(sum(mapped[-BYTES:]))
    assert sums == [0, 1]  # the step's, the branch's


def test_a_result_that_is_returned_as_it_was_recorded_is_kept_once(executor: str, store: Store) -> None:
    def handler(event, context):
        context.parallel([lambda ctx: ctx.step(lambda _: numpy.arange(BYTES))]).throw_if_error()

    run(handler, store, executor)
    step, branch = refs(store)
    assert step == branch


def test_flat_branches_keep_large_results_too(executor: str, store: Store) -> None:
    def handler(event, context):
        config = MapConfig(nesting_type=NestingType.FLAT)
        result = context.map([1, 2], lambda ctx, item, i, all_: numpy.full(BYTES, item), config=config)
        crash_at_first()
        return [found[-1].item() for found in result.get_results()]

    crash_at_first = Once(Crash)
    with pytest.raises(Crash):
        run(handler, store, executor)
    assert run(handler, store, executor) == [1, 2]


def test_nested_batches_take_and_give_large_values(executor: str, store: Store) -> None:
    captured = numpy.arange(BYTES)

    def handler(event, context):
        def inner(ctx, item, index, inputs):
            return captured + item[0]

        def outer(ctx, item, index, inputs):
            result = ctx.map([numpy.full(BYTES, item), numpy.full(BYTES, 2 * item)], inner)
            result.throw_if_error()
            return sum(result.get_results())

        result = context.map([1, 2], outer)
        result.throw_if_error()
        return [found[:2].tolist() for found in result.get_results()]

    assert run(handler, store, executor) == [[3, 5], [6, 8]]


def test_a_serdes_of_the_users_meets_what_it_wrote(executor: str, store: Store) -> None:
    def handler(event, context):
        def branch(ctx):
            return int(ctx.step(lambda _: numpy.ones(BYTES), config=StepConfig(serdes=PickleSerDes())).sum())

        return context.parallel([branch], config=ParallelConfig(item_serdes=PickleSerDes())).get_results()

    assert run(handler, store, executor) == [BYTES]


def test_the_history_tells_the_size_of_what_is_kept(executor: str, store: Store) -> None:
    from durapool.history import history

    run(lambda event, context: context.step(lambda _: b"x" * BYTES) and None, store, executor)
    [event] = [event for event in history(store.read("x")) if event["EventType"] == "StepSucceeded"]
    assert f"<{refs(store)[0].size} bytes" in event["StepSucceededDetails"]["Result"]["Payload"]


def test_a_blob_that_is_gone_is_told_and_not_taken_for_a_result(executor: str, tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "journal.db")

    def handler(event, context):
        result = context.parallel([lambda ctx: numpy.ones(BYTES)], config=all_completed)
        for file in (tmp_path / "journal.db-blobs").glob("*/*"):
            file.unlink()
        return result.get_results()[0].sum()

    all_completed = ParallelConfig(completion_config=CompletionConfig.all_completed())
    with pytest.raises(ExecutionFailedError, match=r"result of branch 0 .* its blob .* cannot be opened"):
        run(handler, store, executor)
    store.close()


def test_a_store_with_a_limit_gets_no_blobs(executor: str) -> None:
    store = MemoryStore(payload_limit=LARGE)

    def handler(event, context):
        return int(context.parallel([lambda ctx: numpy.ones(BYTES)]).get_results()[0].sum())

    assert run(handler, store, executor) == BYTES
    assert refs(store) == []
