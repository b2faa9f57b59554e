"""Flags, also where Ctrl-C comes in the midst of them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from durapool.flag import Flag


def interrupted(action: Callable[[], Any], place: int) -> bool:
    """Call it with a KeyboardInterrupt at the so manieth place where Python runs code for it; False past the last."""
    left = place

    def trace(_frame: Any, event: str, _argument: Any) -> Any:
        nonlocal left
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


@pytest.mark.parametrize("act", [Flag.set, Flag.clear, lambda flag: flag.wait(0)])
def test_an_interrupt_anywhere_leaves_nobody_waiting_for_ever(act: Callable[[Flag], Any]) -> None:
    for place in count():
        flag = Flag()
        flag.set()
        was_interrupted = interrupted(lambda flag=flag: act(flag), place)
        assert finishes(flag.set), f"after an interrupt at place {place}"
        assert finishes(flag.wait)
        if not was_interrupted:
            return


def test_a_wait_lets_go_when_the_flag_is_set_by_another_thread() -> None:
    flag, waits = Flag(), threading.Event()

    def wait() -> None:
        waits.set()
        assert flag.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    waits.wait()
    flag.set()
    thread.join(10)
    assert not thread.is_alive()


def test_what_was_set_before_it_was_cleared_tells_nothing() -> None:
    flag = Flag()
    for _ in range(3):
        flag.set()
    assert flag.wait(0)
    flag.clear()
    assert not flag.is_set()
    assert not flag.wait(0.001)
    flag.set()
    assert flag.wait()
