"""A step in tail position: `return ctx.step(...)`, whose value is the branch's own, with no line of it in between.

Whoever goes on after a step waits for its commit, so that nothing builds on a step that a crash could undo. After a
step in tail position nothing comes but the end of the branch, which nobody waits for either. Where there is no other
reason to wait (`Scope.branch_code` says so), both go together, and the worker begins the next branch.

What comes after a call is read from the code of the branch's function. Where anything is not as plain as above, the
step is waited for.
"""

from __future__ import annotations

import sys
from functools import cache, lru_cache, partial
from types import CodeType, FrameType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from durapool.operations.child import call_branch
from durapool.scope import Scope

if TYPE_CHECKING:
    from dis import Instruction

_NOTHING = "EXTENDED_ARG", "NOP"  # what the next instruction's argument says already, and what does nothing
_PREPARE = "PRECALL", "KW_NAMES"  # what stands between the arguments of a call and the call


def code_of(function: Any) -> CodeType | None:
    """The code whose return is the return of the function; None where it is not Python's, or not known."""
    while type(function) is partial:  # it calls, and does nothing after
        function = function.func
    if type(function) is MethodType:
        function = function.__func__
    return function.__code__ if type(function) is FunctionType else None


def ends_branch(scope: Scope) -> bool:
    """Whether the step that asks is the last of its branch: called by the branch's function, in tail position."""
    if scope.branch_code is None:
        return False
    step = _code_of_step()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not step:
        frame = frame.f_back
    caller = None if frame is None else frame.f_back
    if caller is None or caller.f_code is not scope.branch_code:
        return False
    outer = caller.f_back
    is_called_by_us = outer is not None and outer.f_code is call_branch.__code__
    return is_called_by_us and _returns_step(caller.f_code, caller.f_lasti)


@cache
def _code_of_step() -> CodeType | None:
    from durapool.context import DurableContext  # context.py imports this module

    return code_of(DurableContext.step)


@lru_cache(maxsize=512)
def _returns_step(code: CodeType, place: int) -> bool:
    """Whether the instruction at `place` calls a method `step`, and the next one returns what that gives.

    The call may also be one of a function that calls `step` by itself, as in `return list(map(ctx.step, functions))`.
    """
    from dis import get_instructions  # only here: once for each function

    instructions = [each for each in get_instructions(code) if each.opname not in _NOTHING]
    *before, call = [each for each in instructions if each.offset <= place]
    following = instructions[len(before) + 1]
    while before and before[-1].opname in _PREPARE:
        before.pop()
    if following.opname != "RETURN_VALUE" or call.opname not in ("CALL", "CALL_KW"):
        return False
    callee = _pushed_below(before, (call.arg or 0) + (call.opname == "CALL_KW"))  # that has the names on top
    return callee is not None and callee.argval == "step" and _loads_method(callee)


def _pushed_below(instructions: list[Instruction], count: int) -> Instruction | None:
    """The instruction that pushed what lies below the `count` topmost values; None where code jumps on the way."""
    from dis import hasjabs, hasjrel, stack_effect

    for each in reversed(instructions):
        if count <= 0 or each.opcode in hasjrel or each.opcode in hasjabs:
            return each if count == 0 else None
        count -= stack_effect(each.opcode, each.arg)
    return None


def _loads_method(instruction: Instruction) -> bool:
    """Whether it loads an attribute to be called, and for nothing else."""
    if sys.version_info < (3, 12):
        return instruction.opname == "LOAD_METHOD"
    return instruction.opname == "LOAD_ATTR" and bool((instruction.arg or 0) & 1)  # its lowest bit says so
