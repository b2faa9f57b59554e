"""Counts the instructions of the interpreter that functions take, in the thread that began to."""

from __future__ import annotations

import sys
from collections import Counter
from types import CodeType, FrameType
from typing import Any

from perf.stages import Function

Counts = dict[Function, tuple[int, int]]
"""Of each function: instructions and calls."""

_instructions: Counter[CodeType] = Counter()
_calls: Counter[CodeType] = Counter()


def begin() -> None:
    """Count from now on, in the functions that have begun already too. Also the initializer of a worker."""
    frame: FrameType | None = sys._getframe().f_back
    while frame is not None:
        _watch(frame)
        frame.f_trace = _step
        frame = frame.f_back
    sys.settrace(_enter)


def forget() -> None:
    """Start afresh."""
    _instructions.clear()
    _calls.clear()


def collect() -> Counts:
    """What was counted since, and no more from now on."""
    sys.settrace(None)
    return {
        (code.co_filename, code.co_firstlineno, code.co_name): (count, _calls[code])
        for code, count in _instructions.items()
    }


def _watch(frame: FrameType) -> None:
    frame.f_trace_opcodes, frame.f_trace_lines = True, False


def _enter(frame: FrameType, _event: str, _argument: Any) -> Any:
    _watch(frame)
    _calls[frame.f_code] += 1
    return _step


def _step(frame: FrameType, event: str, _argument: Any) -> Any:
    if event == "opcode":
        _instructions[frame.f_code] += 1
    return _step
