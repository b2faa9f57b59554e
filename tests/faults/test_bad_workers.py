"""A worker that breaks the protocol is discarded: its branch fails, and nothing else notices.

The branches here get hold of their worker's channel, through the journal of their context, and send on it what no
worker sends.
"""

from __future__ import annotations

import builtins
import os
import signal
import threading
from collections import Counter

import pytest

import durapool
from durapool import CompletionConfig, MapConfig, ParallelConfig, durable_execution
from durapool.exceptions import OrphanedBranch
from durapool.executors import ProcessExecutor
from durapool.pool.wire import HEADER, MAX_FRAME, VERSION, Kind, pack, pack_updates
from durapool.records import Action, OperationSubType, OperationType, Payload, Update, child_id
from durapool.stores import MemoryStore
from durapool.usage import Usage

BRANCHES, BAD = 6, 2
USAGE = Usage(1, None, 0.1, 0.1, 1)


class Culprit:
    """A branch's way around its context."""

    def __init__(self, ctx) -> None:
        journal = ctx._scope.journal
        self.channel, self.run = journal._channel, journal._run
        self.own = journal.get(journal._branch_id)

    def frame(self, data: bytes) -> None:
        self.channel.send_frame(data)

    def say(self, kind: Kind, *body: object) -> None:
        self.channel.send(kind, *body)

    def update(self, operation_id: str, action: Action, parent_id: str | None, payload: Payload | None = None) -> None:
        self.raw_update(
            Update(operation_id, action, OperationType.STEP, OperationSubType.STEP, parent_id, None, None, payload)
        )

    def raw_update(self, update: Update) -> None:
        self.say(Kind.UPDATES, self.run, pack_updates([update]), True)

    def sibling(self, index: int) -> str:
        return child_id(self.own.parent_id, index)


def sends_a_bad_version(it: Culprit) -> None:
    it.frame(HEADER.pack(VERSION + 1, Kind.DONE, 1) + b"\x90")


def sends_a_length_beyond_the_limit(it: Culprit) -> None:
    it.frame(HEADER.pack(VERSION, Kind.UPDATES, MAX_FRAME + 1))


def sends_an_unknown_kind(it: Culprit) -> None:
    it.frame(HEADER.pack(VERSION, 255, 0))


def sends_a_body_that_is_no_msgpack(it: Culprit) -> None:
    it.frame(HEADER.pack(VERSION, Kind.DONE, 3) + b"\xc1\xc1\xc1")


def sends_an_empty_body(it: Culprit) -> None:
    it.say(Kind.DONE)


def updates_an_operation_outside_its_branch(it: Culprit) -> None:
    it.update(child_id(it.sibling(BAD + 1), 1), Action.START, it.sibling(BAD + 1))


def ends_another_branch(it: Culprit) -> None:
    it.update(it.sibling(0), Action.SUCCEED, it.own.parent_id, '"stolen"')


def ends_another_branch_as_if_it_were_below_its_own(it: Culprit) -> None:
    it.update(it.sibling(0), Action.SUCCEED, it.own.id, '"stolen"')


def ends_the_execution(it: Culprit) -> None:
    it.raw_update(Update(child_id(None, 0), Action.SUCCEED, OperationType.EXECUTION, parent_id=it.own.id, payload="1"))


def ends_its_own_branch_by_an_update(it: Culprit) -> None:
    it.raw_update(
        Update(
            it.own.id,
            Action.SUCCEED,
            OperationType.CONTEXT,
            OperationSubType.PARALLEL_BRANCH,
            it.own.parent_id,
            it.own.name,
            BAD,
            '"forged"',
        )
    )


def ends_a_step_twice(it: Culprit) -> None:
    step = child_id(it.own.id, 7)
    it.update(step, Action.START, it.own.id)
    it.update(step, Action.SUCCEED, it.own.id, '"first"')
    it.update(step, Action.SUCCEED, it.own.id, '"second"')


def ends_a_step_that_was_never_started(it: Culprit) -> None:
    it.update(child_id(it.own.id, 7), Action.SUCCEED, it.own.id)


def starts_a_step_twice(it: Culprit) -> None:
    step = child_id(it.own.id, 7)
    it.update(step, Action.START, it.own.id)
    it.update(step, Action.START, it.own.id)


def tells_the_outcome_of_another_run(it: Culprit) -> None:
    it.say(Kind.DONE, it.run + 1, USAGE, '"forged"', None)


def tells_the_updates_of_another_run(it: Culprit) -> None:
    it.say(Kind.UPDATES, it.run - 1, [], True)


def tells_a_result_that_is_no_payload(it: Culprit) -> None:
    it.say(Kind.DONE, it.run, USAGE, {"no": "payload"}, None)


def tells_an_end_without_what_it_used(it: Culprit) -> None:
    it.say(Kind.DONE, it.run, None, '"forged"', None)


def tells_that_it_used_less_than_nothing(it: Culprit) -> None:
    it.say(Kind.DONE, it.run, USAGE._replace(seconds=-1.0), '"forged"', None)


def skips_a_branch_that_was_not_taken_back(it: Culprit) -> None:
    it.say(Kind.SKIPPED, it.run)


def tells_an_error_that_is_no_error(it: Culprit) -> None:
    it.say(Kind.FAILED, it.run, USAGE, [1, 2, 3, 4, 5])


def tells_a_suspension_on_what_is_no_id(it: Culprit) -> None:
    it.say(Kind.SUSPENDED, it.run, USAGE, [[1]])


def speaks_as_the_supervisor(it: Culprit) -> None:
    it.say(Kind.EXITED, it.run, 0, 0, 0)


def nests_a_batch_under_another_branch(it: Culprit) -> None:
    it.say(Kind.SPAWN_BATCH, it.run, 1, {"operation_id": it.sibling(0)})


def logs_what_is_no_record(it: Culprit) -> None:
    it.say(Kind.LOG, it.run, 7)


def refers_to_a_blob_that_it_has_not_written(it: Culprit) -> None:
    it.say(Kind.DONE, it.run, ["0" * 32, 1000], None)


def refers_to_a_file_by_a_path(it: Culprit) -> None:
    it.say(Kind.DONE, it.run, ["../../etc/passwd", 1000], None)


def says_that_it_has_written_more_than_it_has(it: Culprit) -> None:
    it.say(Kind.NEW_FILE, it.run, 1, 1000)
    files = it.channel.arrivals.files
    it.channel.wait(lambda: 1 in files)
    it.say(Kind.DONE, it.run, [files[1].name, 1 << 40], None)


def asks_for_a_file_of_no_size(it: Culprit) -> None:
    it.say(Kind.NEW_FILE, it.run, 1, -1)


def has_dropped_what_is_no_segment(it: Culprit) -> None:
    it.say(Kind.DROPPED, [[1]])


def sends_fields_of_other_types(field: str, value: object):
    def culprit(it: Culprit) -> None:
        update = Update(child_id(it.own.id, 7), Action.START, OperationType.STEP, OperationSubType.STEP, it.own.id)
        it.raw_update(update._replace(**{field: value}))

    culprit.__name__ = f"sends_a_{type(value).__name__}_as_{field}"
    return culprit


CULPRITS = [
    sends_a_bad_version,
    sends_a_length_beyond_the_limit,
    sends_an_unknown_kind,
    sends_a_body_that_is_no_msgpack,
    sends_an_empty_body,
    updates_an_operation_outside_its_branch,
    ends_another_branch,
    ends_another_branch_as_if_it_were_below_its_own,
    ends_the_execution,
    ends_its_own_branch_by_an_update,
    ends_a_step_twice,
    ends_a_step_that_was_never_started,
    starts_a_step_twice,
    tells_the_outcome_of_another_run,
    tells_the_updates_of_another_run,
    tells_a_result_that_is_no_payload,
    tells_an_end_without_what_it_used,
    tells_that_it_used_less_than_nothing,
    tells_an_error_that_is_no_error,
    tells_a_suspension_on_what_is_no_id,
    speaks_as_the_supervisor,
    nests_a_batch_under_another_branch,
    logs_what_is_no_record,
    refers_to_a_blob_that_it_has_not_written,
    refers_to_a_file_by_a_path,
    says_that_it_has_written_more_than_it_has,
    asks_for_a_file_of_no_size,
    has_dropped_what_is_no_segment,
    sends_fields_of_other_types("name", 7),
    sends_fields_of_other_types("branch", "seven"),
    sends_fields_of_other_types("attempt", 2**64 - 1),
    sends_fields_of_other_types("delay", "soon"),
    sends_fields_of_other_types("delay", float("nan")),
    sends_fields_of_other_types("details", "none"),
    sends_fields_of_other_types("sub_type", 7),
]


def waits_for_its_end(ctx) -> None:
    signal.pause()


def goes_on(ctx) -> str:
    ctx.step(lambda _: "as if nothing had been")
    return "made it"


def goes_on_in_the_same_breath(ctx) -> str:
    return "made it"


def run_among_others(branch):
    """The branch as number BAD of BRANCHES, and then a map on the same pool. The item, and the recorded updates."""
    store = MemoryStore()
    executor = ProcessExecutor(workers=2)

    @durable_execution
    def handler(event, context):
        branches = [lambda ctx, i=i: ctx.step(lambda _: i * 10, name="mine") for i in range(BRANCHES)]
        branches[BAD] = branch
        config = ParallelConfig(executor=executor, completion_config=CompletionConfig.all_completed())
        result = context.parallel(branches, name="batch", config=config)
        after = context.map(range(8), lambda ctx, item, index, inputs: item**2, config=MapConfig(executor=executor))
        return result.to_dict(), after.get_results()

    outcome, after = durapool.run(handler, id="x", store=store)
    assert after == [i**2 for i in range(8)]
    result = durapool.BatchResult.from_dict(outcome)
    assert [item.index for item in result.all] == list(range(BRANCHES))
    assert [item.result for item in result.all if item.index != BAD] == [0, 10, 30, 40, 50]
    return result.all[BAD], [record.update for record in store.read("x")]


def check_journal(updates: list[Update], error: str) -> None:
    """One end for each branch, the right one; nothing below the bad branch but what it may record."""
    branches = [u for u in updates if u.sub_type is OperationSubType.PARALLEL_BRANCH]
    ends = {u.branch: u for u in branches if u.action in (Action.SUCCEED, Action.FAIL)}
    assert Counter(u.branch for u in branches if u.action is not Action.START) == dict.fromkeys(range(BRANCHES), 1)
    assert {i: u.payload for i, u in ends.items() if i != BAD} == {0: "0", 1: "10", 3: "30", 4: "40", 5: "50"}
    assert ends[BAD].action is Action.FAIL
    assert ends[BAD].error is not None
    assert ends[BAD].error.type == error
    mine = [u for u in updates if u.name == "mine" and u.action is Action.SUCCEED]
    assert len(mine) == BRANCHES - 1
    started = Counter(u.operation_id for u in updates if u.action is Action.START)
    ended = Counter(u.operation_id for u in updates if u.action in (Action.SUCCEED, Action.FAIL))
    assert set(started.values()) == {1}
    assert set(ended.values()) == {1}
    assert set(ended) <= set(started)
    assert all(u.payload not in ('"stolen"', '"forged"', '"second"') for u in updates)


@pytest.mark.parametrize("then", [waits_for_its_end, goes_on, goes_on_in_the_same_breath])
@pytest.mark.parametrize("culprit", CULPRITS)
def test_a_worker_that_breaks_the_protocol_fails_only_its_branch(culprit, then):
    def branch(ctx):
        culprit(Culprit(ctx))
        return then(ctx)

    item, updates = run_among_others(branch)
    assert item.error is not None
    assert item.error.type == "WorkerProtocolError"
    assert f"branch {BAD}" in item.error.message
    assert "sent what no worker may send" in item.error.message
    check_journal(updates, "WorkerProtocolError")


def test_what_was_sent_after_a_breach_counts_for_nothing():
    """All in one piece, so that the parent has it before it could have killed the worker."""

    def branch(ctx):
        it = Culprit(ctx)
        it.frame(pack(Kind.DONE, it.run + 1, '"forged"', None) + pack(Kind.DONE, it.run, '"forged"', None))
        signal.pause()

    item, updates = run_among_others(branch)
    assert item.error is not None
    assert item.error.type == "WorkerProtocolError"
    check_journal(updates, "WorkerProtocolError")


@pytest.mark.parametrize("kept", [1, HEADER.size, -1])
def test_a_frame_that_breaks_off_is_a_lost_worker(kept):
    def branch(ctx):
        it = Culprit(ctx)
        it.frame(pack(Kind.DONE, it.run, '"forged"', None)[:kept])
        os._exit(3)

    item, updates = run_among_others(branch)
    assert item.error is not None
    assert item.error.type == "WorkerLostError"
    assert "exited with code 3" in item.error.message
    check_journal(updates, "WorkerLostError")


def test_a_breach_is_not_tried_again():
    """`retry_lost` is for workers that were lost, not for those that cannot be trusted."""

    def branch(ctx):
        it = Culprit(ctx)
        it.say(Kind.DONE, it.run + 1, None, None)
        signal.pause()

    @durable_execution
    def handler(event, context):
        config = ParallelConfig(executor=ProcessExecutor(workers=1, retry_lost=3))
        return context.parallel([branch], config=config).get_errors()[0].type

    assert durapool.run(handler, store=MemoryStore()) == "WorkerProtocolError"


def test_a_thread_that_a_branch_left_behind_cannot_harm_the_next_one(tmp_path):
    """Its context refuses it; before, its late updates would have discarded the worker, with the next branch in it."""
    refusals = tmp_path / "refusals"

    def leaves_a_thread(ctx):
        builtins.next_has_begun, builtins.thread_is_done = threading.Event(), threading.Event()
        builtins.worker_of_both = os.getpid()

        def works_late():
            builtins.next_has_begun.wait()
            for late in (
                lambda: ctx.step(lambda _: "late"),
                lambda: ctx.map([1], lambda c, item, index, inputs: item),
                lambda: ctx.run_in_child_context(lambda child: child.step(lambda _: "late")),
            ):
                try:
                    late()
                except OrphanedBranch as refusal:
                    with refusals.open("a") as file:
                        file.write(f"{type(refusal).__name__}\n")
            builtins.thread_is_done.set()

        threading.Thread(target=works_late, daemon=True).start()
        return "left"

    def comes_next(ctx):
        assert builtins.worker_of_both == os.getpid()
        builtins.next_has_begun.set()
        builtins.thread_is_done.wait()
        return ctx.step(lambda _: "unharmed")

    @durable_execution(executor=ProcessExecutor(workers=1))
    def handler(event, context):
        return context.parallel([leaves_a_thread, comes_next]).get_results()

    assert durapool.run(handler, store=MemoryStore()) == ["left", "unharmed"]
    assert refusals.read_text().split() == ["OrphanedBranch"] * 3
