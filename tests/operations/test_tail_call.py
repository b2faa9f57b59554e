"""Whether a branch waits for a step: not where it returns the step's value at once, and nothing else asks it to."""

from __future__ import annotations

import operator
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial, wraps
from typing import Any

import pytest
from operation_tools import FakeJournal, FakeLog, World

from durapool import ChildConfig, Duration, RetryPresets, StepConfig, StepSemantics
from durapool.context import DurableContext
from durapool.executors.base import BranchOutcome, Succeeded
from durapool.operations import batch
from durapool.operations.child import BranchRef, run_branch
from durapool.operations.tail_call import code_of
from durapool.records import OperationSubType
from durapool.scope import Scope, Settings

REF = BranchRef("branch", "batch", "branch", OperationSubType.PARALLEL_BRANCH, 0, flat=False)


def run(function: Callable[..., Any], *arguments: Any, unawaited: bool = True) -> tuple[FakeLog, BranchOutcome]:
    """The function as a branch whose steps need not be waited for, unless its next line could build on them."""

    def no_executor(_: Any) -> Any:
        raise AssertionError

    log = FakeLog()
    code = code_of(function) if unawaited else None
    scope = Scope(Settings("e1", "arn"), FakeJournal(log), no_executor, branch_code=code)
    return log, run_branch(function, REF, scope, None, arguments)


def give(_: Any) -> int:
    return 7


def returned(ctx: DurableContext) -> int:
    return ctx.step(give)


def returned_with_a_config(ctx: DurableContext) -> int:
    return ctx.step(give, name="named", config=StepConfig(retry_strategy=RetryPresets.none()))


def returned_by_unpacking(ctx: DurableContext) -> int:
    options = {"name": "named"}
    return ctx.step(*(give,), **options)


def returned_with_a_function_made_for_it(ctx: DurableContext) -> int:
    number, more = 3, [4]
    return ctx.step(partial(lambda _, *, added: number + added + sum([each - 4 for each in more]), added=more[0]))


def returned_after_another(ctx: DurableContext) -> int:
    if ctx.step(give) == 0:
        return 0
    return ctx.step(give)


def returned_from_a_branch_of_code(ctx: DurableContext) -> int:
    if ctx is not None:
        return ctx.step(give)
    raise AssertionError


class Worker:
    """Whose method is a branch."""

    def work(self, ctx: DurableContext) -> int:
        return ctx.step(give)


def returned_from_very_long_code() -> Callable[[DurableContext], int]:
    """Whose names have numbers that take more than a byte."""
    lines = "\n        ".join(f"v{i} = ctx.a{i}" for i in range(300))
    made: dict[str, Any] = {"give": give}
    exec(f"def branch(ctx):\n    if ctx is None:\n        {lines}\n    return ctx.step(give)", made)
    branch: Callable[[DurableContext], int] = made["branch"]
    return branch


def with_arguments(ctx: DurableContext, item: int, index: int) -> int:
    return ctx.step(lambda _: item + index)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (returned, ()),
        (lambda ctx: ctx.step(give), ()),
        (returned_with_a_config, ()),
        (returned_with_a_function_made_for_it, ()),
        (returned_from_very_long_code(), ()),
        (returned_from_a_branch_of_code, ()),
        (Worker().work, ()),
        (with_arguments, (3, 4)),
        (partial(with_arguments, item=3, index=4), ()),
        (partial(partial(with_arguments, index=4), item=3), ()),
    ],
)
def test_a_step_whose_value_is_returned_at_once_is_not_waited_for(function, arguments):
    for _ in range(40):  # the interpreter changes the code of what is called often
        log, outcome = run(function, *arguments)
        assert isinstance(outcome, Succeeded)
        assert outcome.payload == "7"
        assert log.lines()[-1].startswith("SUCCEED")
        assert (log.flushes, log.barriers) == (0, 0)


def test_it_is_waited_for_where_somebody_could_ask_for_it():
    assert run(returned, unawaited=False)[0].flushes == 1


def test_only_the_last_step_is_not_waited_for():
    assert run(returned_after_another)[0].flushes == 1


def kept_for_a_moment(ctx: DurableContext) -> int:
    value = ctx.step(give)
    return value  # noqa: RET504  # the line in between is the point


def changed(ctx: DurableContext) -> int:
    return ctx.step(give) + 0


def an_argument(ctx: DurableContext) -> int:
    return abs(ctx.step(give))


def an_element(ctx: DurableContext) -> list[int]:
    return [ctx.step(give)]


def one_of_two(ctx: DurableContext) -> int:
    return ctx.step(give) or ctx.step(give)


def with_a_cleanup(ctx: DurableContext) -> int:
    try:
        return ctx.step(give)
    finally:
        len("a line of the user's")


def with_a_manager(ctx: DurableContext) -> int:
    with nullcontext():
        return ctx.step(give)


def in_a_loop(ctx: DurableContext) -> int:
    for _ in iter([1]):
        return ctx.step(give)
    raise AssertionError


def by_a_function_of_its_own(ctx: DurableContext) -> int:
    def helper() -> int:
        return ctx.step(give)

    return helper() + 0


def by_a_function_returned_at_once(ctx: DurableContext) -> int:
    return returned(ctx)


def in_a_child_context(ctx: DurableContext) -> int:
    return ctx.run_in_child_context(returned, config=ChildConfig(is_virtual=True))


def in_itself(ctx: DurableContext, depth: int = 0) -> int:
    if depth == 0:
        return in_itself(ctx, 1) + 0
    return ctx.step(give)


def decorated(function: Callable[..., int]) -> Callable[..., int]:
    @wraps(function)
    def wrapper(ctx: DurableContext) -> int:
        return function(ctx) + 0

    return wrapper


class Callback:
    """An object that is called."""

    def __call__(self, ctx: DurableContext) -> int:
        return ctx.step(give)


def twice(function: Callable[..., int], ctx: DurableContext) -> int:
    return sum(map(function, [ctx, ctx]))


def by_map(ctx: DurableContext) -> list[int]:
    return list(map(ctx.step, [give, give]))


def by_map_and_sum(ctx: DurableContext) -> int:
    return sum(map(ctx.step, [give, give]))


def by_map_over_lines_of_the_users(ctx: DurableContext) -> int:
    return sum(map(ctx.step, (give for _ in range(2))))


def by_iter(ctx: DurableContext) -> list[int]:
    return list(iter(partial(ctx.step, give), 7))


def by_max(ctx: DurableContext) -> Any:
    return max([give, give], key=ctx.step)


def by_methodcaller(ctx: DurableContext) -> list[int]:
    return list(map(operator.methodcaller("step", give), [ctx, ctx]))


def by_a_method_called_otherwise(ctx: DurableContext) -> None:
    return [give, give].sort(key=ctx.step)


def by_its_value(ctx: DurableContext) -> int:
    return ctx.step(give).__add__(0)


def chosen(ctx: DurableContext) -> int:
    return ctx.step(give if ctx else len)


def by_another_name(ctx: DurableContext) -> int:
    step = ctx.step
    return step(give)


def never_returned(ctx: DurableContext) -> None:
    ctx.step(give)


@pytest.mark.parametrize(
    ("function", "flushes"),
    [
        (kept_for_a_moment, 1),
        (changed, 1),
        (an_argument, 1),
        (an_element, 1),
        (one_of_two, 1),
        (with_a_cleanup, 1),
        (with_a_manager, 1),
        (in_a_loop, 1),
        (by_a_function_of_its_own, 1),
        (by_a_function_returned_at_once, 1),
        (in_a_child_context, 1),
        (in_itself, 1),
        (decorated(returned), 1),
        (Callback(), 1),
        (partial(operator.call, returned), 1),
        (partial(twice, returned), 2),
        (by_map, 2),
        (by_map_and_sum, 2),
        (by_map_over_lines_of_the_users, 2),
        (by_iter, 1),
        (by_max, 2),
        (by_methodcaller, 2),
        (by_a_method_called_otherwise, 2),
        (by_its_value, 1),
        (returned_by_unpacking, 1),
        (chosen, 1),
        (by_another_name, 1),
        (never_returned, 1),
    ],
)
def test_a_step_is_waited_for_where_a_line_could_come_after_it(function, flushes):
    for _ in range(40):  # the interpreter changes the code of what is called often
        log, outcome = run(function)
        assert isinstance(outcome, Succeeded)
        assert log.flushes == flushes


def fail(_: Any) -> int:
    raise ValueError("no")


def failing(ctx: DurableContext) -> int:
    return ctx.step(fail, config=StepConfig(retry_strategy=RetryPresets.none()))


def failing_and_caught(ctx: DurableContext) -> int:
    try:
        return ctx.step(fail, config=StepConfig(retry_strategy=RetryPresets.none()))
    except Exception:
        return 7


def waiting_for_another_try(ctx: DurableContext) -> int:
    return ctx.step(fail, config=StepConfig(retry_strategy=RetryPresets.fixed(interval=Duration.from_seconds(1))))


@pytest.mark.parametrize("function", [failing, failing_and_caught, waiting_for_another_try])
def test_a_step_that_fails_is_waited_for(function):
    assert run(function)[0].flushes == 1


def test_the_start_of_a_step_that_runs_at_most_once_is_waited_for():
    config = StepConfig(step_semantics=StepSemantics.AT_MOST_ONCE_PER_RETRY)
    log, _ = run(lambda ctx: ctx.step(give, config=config))
    assert (log.barriers, log.flushes) == (1, 0)


def large(ctx: DurableContext) -> str:
    return ctx.step(lambda _: "x" * 100)


def test_a_branch_that_is_called_again_is_not_the_one_that_called_the_batch(monkeypatch):
    """Though both may have one function. After a step of the inner one, lines of the outer one come."""
    scopes: list[Scope] = []
    run_branch_again = batch.run_branch_again

    def call_again(function: Any, ref: BranchRef, scope: Scope, serdes: Any) -> Any:
        scopes.append(scope)
        return run_branch_again(function, ref, scope, serdes)

    monkeypatch.setattr(batch, "run_branch_again", call_again)
    world = World(payload_limit=50)
    scope = replace(world.scope(), branch_code=large.__code__)
    for _ in range(2):
        result = DurableContext(scope, None, None).parallel([large])
        assert result.get_results() == ["x" * 100]
    assert [each.branch_code for each in scopes] == [None]


def test_what_is_no_function_of_python_is_not_known():
    assert code_of(len) is None
    assert code_of(partial(operator.call, returned)) is None
    assert code_of(Callback()) is None
    assert code_of(partial(Worker().work)) is Worker.work.__code__
