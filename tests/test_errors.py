"""Exceptions as they are recorded, and as user code meets them again."""

from __future__ import annotations

import copyreg
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from durapool.errors import NOTE, error_of, exception_of, raise_from
from durapool.exceptions import (
    CallbackTimeoutError,
    ChildContextError,
    DurableOperationError,
    NonDeterministicExecutionError,
    StepError,
    StepInterruptedError,
)
from durapool.records import ErrorObject


class TwoArgumentsError(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class PrefixedError(ValueError):
    def __init__(self, message: str = "nothing") -> None:
        super().__init__(f"prefixed {message}")


class KeywordError(Exception):
    def __init__(self, *, path: str) -> None:
        super().__init__()
        self.path = path

    def __str__(self) -> str:
        return f"cannot read {self.path}"


class ExitWithError(SystemExit):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(a + b)


class ReduceRaisesError(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("no pickle")


class StrRaisesError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class ShapeShifterError(Exception):
    def __reduce__(self) -> Any:
        return ValueError, ("another",)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:  # SystemExit is recorded too
        return caught


def rebuilt(error: BaseException) -> BaseException:
    """By way of the record, from a pickle as in a store."""
    found = exception_of(pickle.loads(pickle.dumps(error_of(error, local=True))))
    assert found is not None
    return found


def test_an_error_is_recorded_as_text() -> None:
    error = error_of(raised(ValueError("bad row")), local=False)
    assert (error.message, error.type, error.data, error.pickled) == ("bad row", "ValueError", None, None)
    assert error.stack_trace is not None
    assert "in raised" in error.stack_trace[-1]
    assert "raise error" in error.stack_trace[-1]
    assert exception_of(error) is None


def test_durapools_own_frames_are_left_out() -> None:
    try:
        raise_from(ErrorObject("x"), StepError)
    except StepError as caught:
        caught.stack_trace = None
        error = error_of(caught, local=True)
    assert error.stack_trace is not None
    assert len(error.stack_trace) == 1
    assert "test_errors.py" in error.stack_trace[0]


def test_an_error_that_stands_for_another_keeps_its_type() -> None:
    step = StepError("bad row", "ValueError", "more", ["line 1"])
    error = error_of(raised(step), local=True)
    assert error.public() == ("bad row", "ValueError", "more", ("line 1",))
    back = exception_of(error)
    assert type(back) is StepError
    assert (back.message, back.error_type, back.data, back.stack_trace) == ("bad row", "ValueError", "more", ["line 1"])


def test_an_operation_error_without_a_type_has_its_own() -> None:
    error = error_of(raised(CallbackTimeoutError("late")), local=False)
    assert (error.message, error.type) == ("late", "CallbackTimeoutError")
    assert error_of(StepError(), local=False).message == "StepError"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyError("k"),
        OSError(2, "gone", "file"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        json.JSONDecodeError("bad", "{", 1),
        ModuleNotFoundError("m", name="m"),
        TwoArgumentsError(7, "odd"),
        PrefixedError("x"),
        PrefixedError(),
        KeywordError(path="a.txt"),
        SystemExit(3),
        ExitWithError(1, 2),
        subprocess.CalledProcessError(1, "ls"),
        NonDeterministicExecutionError("changed", "op"),
        StepInterruptedError("cut", "op"),
    ],
)
def test_an_exception_comes_back_with_all_it_holds(error: BaseException) -> None:
    back = rebuilt(raised(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert back.args == error.args
    state = {key: value for key, value in vars(back).items() if key != "__notes__"}
    assert state == vars(error)
    for name in ("code", "errno", "filename", "name", "reason", "step_id"):
        assert getattr(back, name, None) == getattr(error, name, None)


def test_notes_and_the_chain_of_causes_come_back() -> None:
    root = KeyError("root")
    root.add_note("note of the root")
    middle = StepError("middle", "KeyError")
    middle.__cause__ = root
    top = TwoArgumentsError(1, "top")
    top.__context__ = middle
    top.add_note("first")
    top.add_note("second")
    back = rebuilt(top)
    assert back.__notes__ == ["first", "second"]
    assert back.__cause__ is None
    assert type(back.__context__) is StepError
    assert not back.__suppress_context__
    cause = back.__context__.__cause__
    assert type(cause) is KeyError
    assert cause.__notes__ == ["note of the root"]
    assert back.__context__.__suppress_context__


def test_a_suppressed_context_is_not_recorded() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError:
            raise ValueError("outer") from None
    except ValueError as caught:
        back = rebuilt(caught)
    assert back.__context__ is None
    assert back.__suppress_context__


def test_the_traceback_is_a_note_once_however_often_it_is_recorded() -> None:
    back = rebuilt(raised(ValueError("x")))
    for _ in range(3):
        back = rebuilt(raised(back))
    traces = [note for note in back.__notes__ if note.startswith(NOTE)]
    assert len(traces) == 1
    assert "in raised" in traces[0]


def test_a_cyclic_chain_comes_back_as_one() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    back = rebuilt(first)
    assert back.__cause__ is not None
    assert back.__cause__.__cause__ is back


def test_a_very_long_chain_is_cut() -> None:
    top = ValueError("0")
    for index in range(1, 3000):
        following = ValueError(str(index))
        following.__cause__ = top
        top = following
    error = error_of(top, local=True)
    back, length = exception_of(error), 0
    while back is not None:
        back, length = back.__cause__, length + 1
    assert length == 100


def test_a_group_comes_back_with_its_members_and_their_causes() -> None:
    member = ValueError("one")
    member.__cause__ = KeyError("cause")
    back = rebuilt(raised(ExceptionGroup("several", [member, TwoArgumentsError(2, "two")])))
    assert isinstance(back, ExceptionGroup)
    assert [type(one) for one in back.exceptions] == [ValueError, TwoArgumentsError]
    assert isinstance(back.exceptions[0].__cause__, KeyError)


def test_a_cause_that_cannot_be_pickled_does_not_cost_the_exception() -> None:
    error = ValueError("kept")
    error.__cause__ = ReduceRaisesError("lost")
    back = rebuilt(error)
    assert type(back) is ValueError
    assert back.__cause__ is None


def _holding_a_lock() -> Exception:
    error = ValueError("locked")
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize("error", [ReduceRaisesError("r"), ShapeShifterError("s"), _holding_a_lock()])
def test_an_exception_that_does_not_survive_is_still_text(error: Exception) -> None:
    record = error_of(raised(error), local=True)
    assert record.pickled is None
    assert (record.message, record.type) == (str(error), type(error).__name__)
    assert record.stack_trace


def test_an_exception_without_text_is_recorded() -> None:
    record = error_of(raised(StrRaisesError()), local=True)
    assert record.message == "<a StrRaisesError whose str() raises RuntimeError>"
    assert record.type == "StrRaisesError"


def test_a_recursion_error_is_recorded_with_its_last_frames() -> None:
    def down() -> None:
        down()

    with pytest.raises(RecursionError) as caught:
        down()
    error = error_of(caught.value, local=True)
    assert error.type == "RecursionError"
    assert error.stack_trace is not None
    assert len(error.stack_trace) < 70
    assert type(exception_of(error)) is RecursionError


def test_lone_surrogates_are_escaped() -> None:
    error = error_of(StepError("\udcff", "T\udcff", "\udcfe", ["\udcff"]), local=False)
    assert error.public() == ("\\udcff", "T\\udcff", "\\udcfe", ("\\udcff",))


def test_a_local_class_comes_back() -> None:
    class HereError(Exception):
        pass

    assert type(rebuilt(raised(HereError("x")))) is HereError


def test_a_record_whose_class_is_gone_is_text(tmp_path: Path) -> None:
    (tmp_path / "vanishing.py").write_text("class GoneError(Exception): pass\n")
    code = (
        "import sys, vanishing; from durapool.errors import error_of;"
        "sys.stdout.buffer.write(error_of(vanishing.GoneError('x'), local=True).pickled)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout
    assert exception_of(ErrorObject("x", "GoneError", pickled=done.stdout)) is None
    assert exception_of(ErrorObject("x", pickled=b"junk")) is None


@pytest.mark.parametrize("cls", [StepError, ChildContextError])
def test_raise_from_raises_the_operations_error_from_the_original(cls: type[DurableOperationError]) -> None:
    error = error_of(raised(TwoArgumentsError(1, "x")), local=True)
    with pytest.raises(cls) as caught:
        raise_from(error, cls)
    assert caught.value.message == "1: x"
    assert caught.value.error_type == "TwoArgumentsError"
    assert caught.value.stack_trace == list(error.stack_trace or ())
    assert isinstance(caught.value.__cause__, TwoArgumentsError)


def test_raise_from_text_alone_has_no_cause() -> None:
    with pytest.raises(StepError, match="x") as caught:
        raise_from(ErrorObject("x", "ValueError"), StepError)
    assert caught.value.__cause__ is None
    assert caught.value.stack_trace is None


def test_a_branchs_step_error_still_names_the_original_two_levels_up() -> None:
    with pytest.raises(StepError) as step:
        raise_from(error_of(raised(ValueError("deep")), local=True), StepError)
    with pytest.raises(ChildContextError) as child:
        raise_from(error_of(step.value, local=True), ChildContextError)
    assert (child.value.message, child.value.error_type) == ("deep", "ValueError")
    assert type(child.value.__cause__) is StepError
    assert type(child.value.__cause__.__cause__) is ValueError


@pytest.fixture
def tracebacks_pickled() -> Iterator[None]:
    """As in a program that imports distributed: it has all exceptions pickled with causes and traceback."""
    support = pytest.importorskip("tblib.pickling_support", reason="tblib is not installed")
    before = dict(copyreg.dispatch_table)
    support.install()
    yield
    copyreg.dispatch_table.clear()
    copyreg.dispatch_table.update(before)


@pytest.mark.usefixtures("tracebacks_pickled")
def test_an_exception_comes_back_although_others_pickle_it_in_their_own_way() -> None:
    assert cast(SystemExit, rebuilt(raised(SystemExit(3)))).code == 3
    error = raised(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"))
    error.__cause__ = raised(KeyError("k"))
    error.__cause__.__context__ = error
    back = rebuilt(error)
    assert back.args == error.args
    assert isinstance(back.__cause__, KeyError)
    assert back.__cause__.__context__ is back
