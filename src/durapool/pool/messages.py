"""The messages of one run, both ways: RUN with what goes ahead of it, and how the run ended."""

from __future__ import annotations

import time
from operator import itemgetter
from typing import Any

from durapool.exceptions import ExecutionError, InvalidStateError
from durapool.executors.base import BranchOutcome, Crashed, Failed, Succeeded, Suspended
from durapool.pool.batches import ActiveRun, PoolBatch
from durapool.pool.logs import hand_over, warn_again
from durapool.pool.transfer import Part, drop, keep, kept, shipped
from durapool.pool.wire import Kind, WireError, pack_operation, unpack_error, unpack_result, unpack_updates
from durapool.pool.workers import Worker
from durapool.records import BlobRef, ErrorObject, Operation, OperationType
from durapool.unpickling import load_value
from durapool.usage import Usage


def post_run(run: ActiveRun, recorded: list[Operation], function: Part | None, item: Part | None) -> None:
    """Queue a run for its worker, with what that worker does not know yet of its batch and surroundings.

    Args:
        run: the run.
        recorded: the operations recorded below its branch.
        function: of a branch of a parallel, pickled.
        item: of a branch of a map, pickled.
    """
    worker, batch = run.worker, run.batch
    key = batch.key
    if worker.surroundings != batch.surroundings:
        worker.surroundings = batch.surroundings
        worker.post(Kind.SURROUNDINGS, *batch.surroundings)
    if worker.initializer is not None:
        worker.post(Kind.INITIALIZE, worker.initializer)  # in these surroundings; it may change the environment
        worker.initializer = None
        worker.unready += 1
    if key not in worker.known_batches:
        worker.known_batches.add(key)
        worker.post(Kind.BATCH, key, batch.cargo.settings, shipped(worker, key, batch.cargo.shared))
    branch_id, _, _, sub_type, batch_id, name, index = run.start[:7]
    plan = batch.open.plan
    worker.permits += 1
    worker.post(
        _RUN,
        run.number,
        key,
        (branch_id, batch_id, name, sub_type, index, plan.flat),
        shipped(worker, key, function),
        shipped(worker, key, item),
        plan.total,
        _packed(recorded, batch) if recorded else (),
        batch.mode,
        batch.is_brisk,
        run.pause_after,
    )


def _packed(operations: list[Operation], batch: PoolBatch) -> list[tuple[Any, ...]]:
    now = batch.open.view.now()
    return [pack_operation(operation, now) for operation in operations]


_RUN, _DONE = Kind.RUN, Kind.DONE  # to look a member up in its class takes time, for each message
_new = tuple.__new__  # twice as fast as to call a NamedTuple, which goes through a function
_type_of, _payload_of = itemgetter(2), itemgetter(7)  # of an update
_COMPLETED_BY_STORE = frozenset({OperationType.CALLBACK, OperationType.CHAINED_INVOKE})  # with an id, with an end

OF_WORKERS = frozenset({Kind.READY, Kind.LOG, Kind.WARNING, Kind.DROPPED, Kind.SKIPPED})
"""What a worker says of itself, or for its run to show; all else is a run's own."""

ENDS = frozenset({Kind.DONE, Kind.FAILED, Kind.SUSPENDED, Kind.CRASHED})
"""How a run ends."""


def take_of_worker(worker: Worker, kind: Kind, body: list[Any]) -> None:
    """Take one of OF_WORKERS. Raises WireError for a SKIPPED of a branch that was not taken back."""
    match kind:
        case Kind.READY:
            worker.unready -= 1
            worker.pid = int(body[0])
            if worker.run is not None:
                worker.run.started = time.monotonic()  # what came before was not the branch's time
        case Kind.LOG:
            hand_over(worker, body[1])
        case Kind.WARNING:
            warn_again(worker, *body)
        case Kind.DROPPED:
            drop(worker, body[0])
        case Kind.SKIPPED:
            if not worker.stale:
                raise WireError("it skipped a branch that was not taken back")
            worker.stale -= 1


def stage_updates(run: ActiveRun, rows: list[Any]) -> None:
    """Stage what a run has recorded, for the commit of this turn.

    Raises:
        WireError: an update is not well-formed, or not of this run's branch.
    """
    updates = unpack_updates(rows)
    batch, count = run.batch, len(updates)
    run.received += count
    batch.uncommitted += count
    if run.detached:
        return  # the batch was decided without it: nothing of it is recorded any more
    run.admit(updates)
    # few messages have any of these: where none has, no step of Python is taken for each update
    if BlobRef in map(type, map(_payload_of, updates)):
        for update in updates:
            keep(run, update[7])
    if not _COMPLETED_BY_STORE.isdisjoint(map(_type_of, updates)):
        run.to_tell = [*run.to_tell, *(update[0] for update in updates if update[2] in _COMPLETED_BY_STORE)]
    if not run.begun:
        run.begun = True
        updates.insert(0, run.start)
    try:
        batch.open.view.record_all(updates)
    except InvalidStateError as error:
        raise WireError(str(error)) from error


def acknowledge(run: ActiveRun) -> list[Any]:
    """The body of an ACK: all that the run has sent is committed; and what the store has added to its operations."""
    if not run.to_tell:
        return [run.number, run.received, ()]
    view, told = run.batch.open.view, run.to_tell
    run.to_tell = ()
    found = [operation for identity in told if (operation := view.get(identity)) is not None]
    return [run.number, run.received, _packed(found, run.batch)]


def outcome_of(run: ActiveRun, kind: Kind, body: list[Any], usage: Usage) -> BranchOutcome:
    """What DONE, FAILED, SUSPENDED or CRASHED says; `usage` is what the run has used, from the same message.

    Raises:
        WireError: it is not well-formed.
        StoreFailure: a large result cannot be kept.
    """
    if kind is _DONE:  # by far the most
        payload, summary = unpack_result(body[2], body[3])
        result = _new(Succeeded, (payload, summary, usage))
        return kept(run, result) if type(payload) is BlobRef else result
    match kind:
        case Kind.FAILED:
            return Failed(unpack_error(body[2]) or ErrorObject("an error without a message"), usage)
        case Kind.SUSPENDED:
            return Suspended(frozenset(body[2]))
        case _:
            return Crashed(_exception(body[2], body[3]))


def _exception(pickled: bytes | None, error: list[Any] | None) -> BaseException:
    """What a branch crashed with, as itself where it could be pickled."""
    if pickled is not None:
        try:
            loaded = load_value(pickled)
        except Exception:  # noqa: BLE001  # its class is known to the worker alone
            loaded = None
        if isinstance(loaded, BaseException):
            return loaded
    told = unpack_error(error)
    return ExecutionError("a branch ended in a BaseException" if told is None else f"{told.type}: {told.message}")
