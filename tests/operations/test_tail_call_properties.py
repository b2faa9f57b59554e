"""Where a branch does not wait for a step, nothing of its function runs after the step but the return."""

from __future__ import annotations

import opcode
import operator
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial, reduce
from types import FrameType
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from operation_tools import FakeJournal, FakeLog

from durapool.operations import step
from durapool.operations.child import BranchRef, run_branch
from durapool.operations.tail_call import code_of, ends_branch
from durapool.records import OperationSubType
from durapool.scope import Scope, Settings

REF = BranchRef("branch", "batch", "branch", OperationSubType.PARALLEL_BRANCH, 0, flat=False)
MADE = "<made>"  # the file name of the functions that are tried
WARM = 12  # calls after which the interpreter has changed the code of a function

RECEIVERS = ["ctx", "ctx", "(ctx)", "[ctx][0]", "(lambda: ctx)()", "same(ctx)"]
FUNCTIONS = [
    "give",
    "lambda _: 7",
    "partial(give)",
    "give if ctx else len",
    "(lambda: give)()",
    "(lambda *, key: key)(key=give)",
    "{'a': give}['a']",
    "(found := give)",
    "ctx and give",
    "[each for each in [give]][0]",
]
OPTIONS = ["", "", ", name='n'", ", 'n'", ", config=None", ", name=str('n')", ", **{}", ", *()"]
AROUND = [  # `@` is an expression in which steps are called
    "(@)",
    "@ + 0",
    "-@",
    "[@]",
    "(0, @)[1]",
    "@ or ctx.step(give)",
    "ctx.step(give) and @",
    "@ if ctx else ctx.step(give)",
    "ctx.step(give) if not ctx else @",
    "(lambda: @)()",
    "same(@)",
    "same.step(@)",
    "same.step(ctx.step)",
    "(@).__add__(0)",
    "(kept := @)",
    "ctx.step(give, name=str(@))",
    "list(map(ctx.step, [give, give]))",
    "sum(map(ctx.step, (give for _ in range(2))))",
    "max([give, give], key=ctx.step)",
    "operator.call(ctx.step, give)",
    "partial(ctx.step, give)()",
    "reduce(lambda *_: @, [1, 2, 3])",
]
BODIES = [
    "return @",
    "return @",
    "@",
    "kept = @\nreturn kept",
    "@\nreturn ctx.step(give)",
    "if ctx:\n    return @\nreturn ctx.step(give)",
    "try:\n    return @\nfinally:\n    pass",
    "try:\n    return @\nfinally:\n    len('more')",
    "try:\n    return @\nexcept ValueError:\n    return 3",
    "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    return @",
    "with nullcontext():\n    return @",
    "for each in [1, 2]:\n    if each == 2:\n        return @",
    "while True:\n    return @",
    "match ctx:\n    case _:\n        return @",
    "def inner():\n    return @\nreturn inner()",
]


class Same:
    """What is called gives back what it is given; its `step` calls what it is given."""

    def __call__(self, value: Any) -> Any:
        return value

    def step(self, value: Any) -> Any:
        return value(give) + 0 if callable(value) else value


def give(_: Any) -> int:
    return 7


def put(templates: list[str], inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda template, text: template.replace("@", text), st.sampled_from(templates), inner)


CALLS = st.builds(
    "{}.step({}{})".format, st.sampled_from(RECEIVERS), st.sampled_from(FUNCTIONS), st.sampled_from(OPTIONS)
)
EXPRESSIONS = st.recursive(CALLS, lambda inner: put(AROUND, inner), max_leaves=4)


def make(body: str) -> Callable[[Any], Any]:
    lines = "\n    ".join(body.splitlines())
    names: dict[str, Any] = {
        "give": give,
        "same": Same(),
        "partial": partial,
        "operator": operator,
        "reduce": reduce,
        "nullcontext": nullcontext,
    }
    exec(compile(f"def branch(ctx):\n    {lines}", MADE, "exec"), names)
    branch: Callable[[Any], Any] = names["branch"]
    return branch


def run(function: Callable[[Any], Any], events: list[str]) -> None:
    """The function as a branch; the events are its steps, as far as they are waited for or not."""

    def no_executor(_: Any) -> Any:
        raise AssertionError

    def asked(scope: Scope) -> bool:
        answer = ends_branch(scope)
        events.append("left" if answer else "awaited")
        return answer

    scope = Scope(Settings("e1", "arn"), FakeJournal(FakeLog()), no_executor, branch_code=code_of(function))
    with mock.patch.object(step, "ends_branch", asked):
        run_branch(function, REF, scope, None)


def run_traced(function: Callable[[Any], Any], events: list[str]) -> None:
    """The same, and the events are the instructions of the made functions, too."""

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename != MADE:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            events.append(opcode.opname[frame.f_code.co_code[frame.f_lasti]])
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run(function, events)
    finally:
        sys.settrace(before)


@settings(max_examples=400)
@given(body=put(BODIES, EXPRESSIONS))
def test_nothing_comes_after_a_step_that_is_not_waited_for(body: str) -> None:
    function = make(body)
    for _ in range(WARM):
        events: list[str] = []
        run(function, events)
        assert "left" not in events[:-1]
    traced: list[str] = []
    run_traced(function, traced)
    if "left" in traced:
        assert set(traced[traced.index("left") + 1 :]) <= {"CACHE", "NOP", "RETURN_VALUE"}
