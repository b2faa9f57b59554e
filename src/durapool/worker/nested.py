"""Batches that a branch in a worker starts: they go to the pool of the worker itself, which lends its place meanwhile.

Functions and items cross the parent as bytes and are loaded only by the workers that run them; results come back as
they were recorded and are loaded by the worker that called.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

from durapool.exceptions import ExecutionError, SerDesError
from durapool.executors import ExecutorSpec, PooledExecutor, ThreadExecutor, parse_executor
from durapool.executors.base import BatchOutcome, BatchPlan, Decided, Executor, ItemRecord, Suspended
from durapool.pool.wire import Kind, unpack_error, unpack_payload
from durapool.scope import Scope
from durapool.values import replace
from durapool.worker.channel import Channel
from durapool.worker.journal import StreamedJournal

_numbers = itertools.count(1)


class NestedExecutors:
    """What `Scope.executor_for` asks in a worker."""

    def __init__(self, channel: Channel, journal: StreamedJournal) -> None:
        self._channel = channel
        self._journal = journal

    def executor_for(self, spec: ExecutorSpec) -> Executor:
        """Threads run in this worker; processes, here or on a cluster, are the pool's."""
        match parse_executor(spec):
            case ThreadExecutor() as config:
                from durapool.executors.thread import ThreadBatches  # rarely wanted here, and it brings the coordinator

                return ThreadBatches(config, [])
            case _:
                return self

    def run(self, plan: BatchPlan, scope: Scope) -> BatchOutcome:
        """See `Executor.run`."""
        number = next(_numbers)
        self._journal.ask(Kind.SPAWN_BATCH, number, describe(plan, scope))
        ends = self._channel.nested_ends
        self._channel.wait(lambda: number in ends)
        return _outcome(ends.pop(number))


def describe(plan: BatchPlan, scope: Scope) -> dict[str, Any]:
    """The plan as plain values and bytes."""
    from durapool.pickling import dump_function, pickler_for  # only here: it brings cloudpickle

    executor = parse_executor(plan.executor)
    assert isinstance(executor, PooledExecutor)
    dump = partial(dump_function, pickler=pickler_for(executor))
    functions = [
        _part_or_why(dump, function, f"branch {index} ({plan.branch_name(index)})")
        for index, function in enumerate(plan.functions or ())
    ]
    of_map = plan.name or "the map"
    items = [_part_or_why(dump, item, f"item {index} of {of_map}") for index, item in enumerate(plan.inputs or ())]
    shared = None if plan.shared is None else dump(plan.shared, f"the function of {of_map}")
    completion = plan.completion
    settings = replace(scope.settings, executor=plan.executor)
    return {
        "operation_id": plan.operation_id,
        "sub_type": plan.sub_type,
        "name": plan.name,
        "total": plan.total,
        "names": [plan.branch_name(index) for index in range(plan.total)],
        "functions": None if plan.functions is None else functions,
        "items": None if plan.inputs is None else items,
        "shared": shared,
        "completion": [
            completion.min_successful,
            completion.tolerated_failure_count,
            completion.tolerated_failure_percentage,
        ],
        "max_concurrency": plan.max_concurrency,
        "flat": plan.flat,
        "settings": dump((settings, plan.item_serdes), "the configuration of the batch"),
        "limits": [executor.timeout, executor.memory_limit, executor.cancel_running, executor.retry_lost],
    }


def _part_or_why(dump: Callable[[Any, str], bytes], part: Any, what: str) -> bytes | str:
    """One branch's part, pickled, or the text of its error: it fails that branch alone, as in the parent."""
    try:
        return dump(part, what)
    except SerDesError as error:
        return str(error)


def _outcome(end: list[Any]) -> BatchOutcome:
    from durapool.results import BatchItemStatus, CompletionReason  # only here, as above

    match end:
        case ["suspended", waiting_on]:
            return Suspended(frozenset(waiting_on))
        case ["decided", reason, rows]:
            items = [
                ItemRecord(index, BatchItemStatus(status), unpack_payload(payload), unpack_error(error))
                for index, status, payload, error in rows
            ]
            return Decided(CompletionReason(reason), items)
        case _:
            raise ExecutionError(f"the parent ended a nested batch with {end!r:.100}")
