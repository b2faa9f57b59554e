"""The context: who may use it, what it logs, what it is when it is pickled, and its decorators."""

from __future__ import annotations

import logging
import pickle
import threading

import cloudpickle
import pytest
from operation_tools import Killed, World

from durapool.config import ParallelConfig
from durapool.context import (
    DurableContext,
    durable_parallel_branch,
    durable_step,
    durable_wait_for_callback,
    durable_with_child_context,
)
from durapool.exceptions import InvalidStateError, InvokeError, ValidationError
from durapool.records import Action, child_id
from durapool.scope import run_in


@durable_step
def scale(step_context, value, factor=2):
    return value * factor


@durable_parallel_branch(name="double")
def double(ctx, value):
    return ctx.step(scale(value))


def test_another_branch_may_not_use_a_context(world):
    def handler(ctx):
        return ctx.parallel([lambda _: ctx.step(lambda _: 1, name="s")])

    (error,) = world.invoke(handler).get_errors()
    assert error.type == "InvalidStateError"
    assert "the handler by branch 0 (parallel-branch-0)" in error.message
    assert "own ctx" in error.message
    assert "START s" not in world.log.lines()


def test_threads_of_a_branch_may_use_its_context_and_get_ids_of_their_own(world):
    def handler(ctx):
        threads = [threading.Thread(target=ctx.step, args=(lambda _: 1,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    world.invoke(handler)
    assert set(world.log.operations) == {child_id(None, position) for position in range(1, 9)}


def test_a_pickled_context_logs_and_refuses_operations(world, caplog):
    def handler(ctx):
        return pickle.loads(cloudpickle.dumps(ctx)), ctx.seed

    stub, seed = world.invoke(handler)
    again = pickle.loads(pickle.dumps(stub))
    for context in (stub, again):
        assert isinstance(context, DurableContext)
        assert context.execution_context.durable_execution_arn == "arn:durapool:e1"
        assert context.seed == seed
        with caplog.at_level(logging.INFO):
            context.logger.info("hello")
        for operation in ("step", "parallel", "run_in_child_context", "wait_for_callback"):
            with pytest.raises(InvalidStateError, match="own ctx"):
                getattr(context, operation)(lambda _: 1)
    assert [record.getMessage() for record in caplog.records] == ["hello", "hello"]
    assert not world.log.updates


def test_invoke_of_an_unknown_function_says_how_to_register_it(world):
    with pytest.raises(InvokeError, match="register_function"):
        world.invoke(lambda ctx: ctx.invoke("other", {}))
    assert not world.log.updates


def test_the_seed_depends_on_execution_and_context_alone(world):
    def handler(ctx):
        return [ctx.seed, *ctx.parallel([lambda c: c.seed] * 2).get_results()]

    first = world.invoke(handler)
    assert len(set(first)) == 3
    assert World().invoke(handler) == first


def test_lines_of_the_replayed_part_are_not_logged_again(world, caplog):
    def handler(ctx):
        ctx.logger.info("before")
        ctx.step(lambda c: c.logger.info("in the first"), name="first")
        ctx.logger.info("between")
        ctx.step(lambda c: c.logger.info("in the second"), name="second")
        ctx.logger.info("after")

    caplog.set_level(logging.INFO)
    world.log.kill_before = (Action.SUCCEED, "second")
    with pytest.raises(Killed):
        world.invoke(handler)
    assert [record.getMessage() for record in caplog.records] == ["before", "in the first", "between", "in the second"]
    caplog.clear()
    world.invoke(handler)
    assert [record.getMessage() for record in caplog.records] == ["in the second", "after"]


def test_a_context_that_is_rebuilt_logs_nothing(caplog):
    world = World(payload_limit=50)

    def child(ctx):
        text = ctx.step(lambda _: "x" * 100)
        ctx.logger.info("made it")
        return text

    caplog.set_level(logging.INFO)
    for _ in range(2):
        world.invoke(lambda ctx: ctx.run_in_child_context(child))
    assert [record.getMessage() for record in caplog.records] == ["made it"]


def test_lines_say_where_they_come_from(world, caplog):
    def handler(ctx):
        ctx.logger.warning("of %s", "the handler", extra={"mine": 1})
        ctx.step(lambda c: c.logger.info("of the step"), name="s")
        ctx.parallel([lambda c: c.logger.info("of the branch")], config=ParallelConfig())

    caplog.set_level(logging.INFO)
    world.invoke(handler)
    places = [
        (record.getMessage(), record.execution_id, record.operation_id, record.operation_name, record.attempt)
        for record in caplog.records
    ]
    branch = world.log.named("parallel-branch-0")
    assert places == [
        ("of the handler", "e1", None, None, None),
        ("of the step", "e1", child_id(None, 1), "s", 1),
        ("of the branch", "e1", branch.id, "parallel-branch-0", None),
    ]
    assert caplog.records[0].mine == 1
    assert {record.funcName for record in caplog.records} == {"handler", "<lambda>"}
    assert {record.name for record in caplog.records} == {"durapool.handler"}


def test_a_users_logger_gets_the_lines_of_a_context_and_its_children(world):
    lines = []

    class Logger:
        def info(self, msg, *args, extra=None):
            lines.append((msg, extra["operation_name"]))

        debug = warning = error = exception = info

    def handler(ctx):
        ctx.set_logger(Logger())
        ctx.logger.info("outer")
        ctx.run_in_child_context(lambda child: child.logger.info("inner"), name="c")

    world.invoke(handler)
    assert lines == [("outer", None), ("inner", "c")]


def test_with_is_replaying_gives_a_logger_that_asks_something_else(world, caplog):
    caplog.set_level(logging.INFO)

    def handler(ctx):
        ctx.logger.with_is_replaying(lambda: True).info("silent")
        ctx.logger.with_is_replaying(lambda: False).info("heard")
        ctx.step(lambda _: 1)

    world.invoke(handler)
    world.invoke(handler)
    assert [record.getMessage() for record in caplog.records] == ["heard", "heard"]


def test_decorated_functions_with_arguments_can_be_pickled(world):
    @durable_with_child_context
    def local_child(ctx, value):
        return value + 1

    @durable_wait_for_callback
    def submitter(callback_id, context, suffix):
        return callback_id + suffix

    scope = world.scope()
    context = DurableContext(scope, None, None)
    for bound, arguments, expected in [
        (scale(3, factor=5), (None,), 15),
        (local_child(1), (None,), 2),
        (submitter("!"), ("id", None), "id!"),
        (double(4), (context,), 8),
    ]:
        loaded = pickle.loads(cloudpickle.dumps(bound))
        assert run_in(scope, loaded, *arguments) == expected


def test_a_decorated_function_of_a_module_is_pickled_by_reference():
    assert b"operation_tools" not in cloudpickle.dumps(scale(1))
    assert len(cloudpickle.dumps(scale(1))) < 200
    assert len(cloudpickle.dumps(double(1))) < 300


def test_decorated_functions_keep_their_names_and_docs():
    assert scale.__name__ == "scale"
    assert scale(1).name == "scale"


def test_a_parallel_branch_without_parentheses_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValidationError, match=r"needs its parentheses: @durable_parallel_branch\(\)"):
        durable_parallel_branch(lambda ctx: 1)
