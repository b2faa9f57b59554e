"""Flags, also where Ctrl-C comes in the midst of them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from durapool import flag
from durapool.flag import Flag


def interrupted(action: Callable[[], Any], place: int) -> bool:
    """Call it with a KeyboardInterrupt at the so manieth place where Python runs code for it; False past the last."""
    left = place

    def trace(frame: Any, event: str, _argument: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != flag.__file__:
            return None  # a finalizer, say, in the midst
        if event in ("call", "line"):
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
        return trace

    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def finishes(action: Callable[[], Any]) -> bool:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(10)
    return not thread.is_alive()


@pytest.mark.parametrize("act", [Flag.set, Flag.clear, lambda shown: shown.wait(0)])
def test_an_interrupt_anywhere_leaves_nobody_waiting_for_ever(act: Callable[[Flag], Any]) -> None:
    for place in count():
        shown = Flag()
        shown.set()
        was_interrupted = interrupted(lambda shown=shown: act(shown), place)
        assert finishes(shown.set), f"after an interrupt at place {place}"
        assert finishes(shown.wait)
        if not was_interrupted:
            return


def test_a_wait_lets_go_when_the_flag_is_set_by_another_thread() -> None:
    shown, waits = Flag(), threading.Event()

    def wait() -> None:
        waits.set()
        assert shown.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    waits.wait()
    shown.set()
    thread.join(10)
    assert not thread.is_alive()


def test_what_was_set_before_it_was_cleared_tells_nothing() -> None:
    shown = Flag()
    for _ in range(3):
        shown.set()
    assert shown.wait(0)
    shown.clear()
    assert not shown.is_set()
    assert not shown.wait(0.001)
    shown.set()
    assert shown.wait()
