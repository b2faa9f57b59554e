"""`run` and `resume`: how executions start, end, go on and are reopened. Branches run on threads here."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import durapool
from durapool import (
    CompletionConfig,
    DurableContext,
    Duration,
    ErrorObject,
    ExecutionAlreadyRunningError,
    ExecutionConflictError,
    ExecutionFailedError,
    ExecutionNotFoundError,
    ExecutionStoppedError,
    HandlerImportError,
    InvocationStatus,
    MapConfig,
    MemoryStore,
    NestingType,
    OperationStatus,
    ParallelConfig,
    RetryPresets,
    SerDesError,
    StepConfig,
    StepSemantics,
    StoreError,
    SuspendExecution,
    ThreadExecutor,
    ValidationError,
    durable_execution,
    resume,
    run,
)
from durapool.clock import SkippingClock
from durapool.decorator import DurableHandler
from durapool.handlers import load_handler, target_of
from durapool.history import history
from durapool.invocation import Invocations, Job, Paused, Raised, Returned
from durapool.serdes import dump
from durapool.settings import Choices
from durapool.stores.base import SignalRecord

once = durable_execution(default_retry=RetryPresets.none())


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DURAPOOL_EXECUTOR", "DURAPOOL_CHECKPOINT", "DURAPOOL_STORE"):
        monkeypatch.delenv(name, raising=False)


class Crash(BaseException):
    """Stands for the death of the program."""


class Switch:
    """Something that is broken until it is mended, and a log of what ran."""

    def __init__(self) -> None:
        self.broken = True
        self.ran: list[str] = []

    def note(self, name: str, *, fragile: bool = False) -> str:
        self.ran.append(name)
        if fragile and self.broken:
            raise OSError(f"{name} is broken")
        return name


def kinds(store: MemoryStore, execution_id: str = "x") -> list[str]:
    return [event["EventType"] for event in history(store.read(execution_id))]


def skipping(
    handler: DurableHandler, store: MemoryStore, event: Any = None, crashes: int = 0, retry_failed: bool = False
) -> Invocations:
    """A run of execution "x" that skips time."""
    settings = Choices.of(handler).settings("x", store)
    job = Job(handler, "m:h", dump(event, None, settings, "", "the event"), retry_failed)
    return Invocations(job, store, settings, SkippingClock(), crashes)


@durable_execution
def plain(event: Any, context: DurableContext) -> Any:
    return context.step(lambda _: event, name="echo")


# --- the decorator


def test_both_forms_make_a_handler_that_looks_like_its_function() -> None:
    @durable_execution(executor="process:2", default_retry=RetryPresets.none())
    def documented(event: Any, context: Any) -> None:
        """What it does."""

    assert (documented.__name__, documented.__doc__) == ("documented", "What it does.")
    assert documented.executor == "process:2"
    assert isinstance(plain, DurableHandler)
    assert "plain" in repr(plain)


def test_a_handler_is_pickled_by_reference_where_it_can_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "importable_jobs.py").write_text(
        "from durapool import durable_execution\n@durable_execution\ndef job(event, context): return event\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    handler = load_handler("importable_jobs:job")
    assert pickle.loads(pickle.dumps(handler)) is handler


def test_a_handler_called_by_hand_says_how_to_run_it() -> None:
    with pytest.raises(ValidationError, match=r"durapool\.run"):
        plain({}, object())  # type: ignore[arg-type]


def test_a_handler_may_call_another_one(store: MemoryStore) -> None:
    @durable_execution
    def outer(event: Any, context: DurableContext) -> Any:
        return plain(event, context)

    assert run(outer, 3, id="x", store=store) == 3


async def coroutine(event: Any, context: Any) -> None: ...


@pytest.mark.parametrize("wrong", [coroutine, 3, "text"])
def test_only_plain_functions_are_handlers(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        durable_execution(wrong)


def test_a_wrong_executor_is_refused_by_the_decorator() -> None:
    with pytest.raises(ValidationError, match="executor"):
        durable_execution(executor="threads")(plain.__wrapped__)


# --- run


def test_run_returns_what_the_handler_returned(store: MemoryStore) -> None:
    assert run(plain, {"n": (1, 2)}, id="x", store=store) == {"n": (1, 2)}
    assert kinds(store) == [
        "ExecutionStarted",
        "StepStarted",
        "StepSucceeded",
        "InvocationCompleted",
        "ExecutionSucceeded",
    ]


def test_a_finished_execution_runs_nothing(store: MemoryStore) -> None:
    switch = Switch()

    @durable_execution
    def handler(event: Any, context: DurableContext) -> str:
        switch.note("handler")
        return "done"

    assert [run(handler, 1, id="x", store=store) for _ in range(3)] == ["done"] * 3
    assert switch.ran == ["handler"]
    assert resume("x", store=store) == "done"


def test_the_result_is_what_the_serdes_gives_back(store: MemoryStore) -> None:
    class Odd(dict):  # type: ignore[type-arg]
        pass

    @durable_execution
    def handler(event: Any, context: Any) -> Any:
        event["changed"] = True
        return event

    given = {"n": 1}
    result = run(handler, given, id="x", store=store)
    assert result == run(handler, given, id="x", store=store) == {"n": 1, "changed": True}
    assert given == {"n": 1}


def test_a_new_execution_tells_its_id(store: MemoryStore, capsys: pytest.CaptureFixture[str]) -> None:
    run(plain, store=store)
    told = capsys.readouterr().err
    (summary,) = store.executions()
    assert told.count("\n") == 1
    assert f"durapool: execution {summary.id} (resume it with" in told
    run(plain, id="mine", store=store)
    assert capsys.readouterr().err == ""


def test_a_failure_is_raised_with_its_original_and_recorded(store: MemoryStore) -> None:
    @durable_execution
    def handler(event: Any, context: Any) -> None:
        raise KeyError("lost")

    for _ in range(2):
        with pytest.raises(ExecutionFailedError, match="execution 'x' failed: KeyError") as caught:
            run(handler, id="x", store=store)
        assert isinstance(caught.value.__cause__, KeyError)
        assert (caught.value.execution_id, caught.value.error_type) == ("x", "KeyError")
        assert any("lost" in line for line in caught.value.stack_trace or [])
    assert kinds(store).count("InvocationCompleted") == 1


def test_a_failed_step_fails_the_execution_with_the_error_of_the_step(store: MemoryStore) -> None:
    @once
    def handler(event: Any, context: DurableContext) -> None:
        context.step(lambda _: 1 / 0, name="bad")

    with pytest.raises(ExecutionFailedError, match="ZeroDivisionError: division by zero") as caught:
        run(handler, id="x", store=store)
    assert caught.value.error_type == "ZeroDivisionError"


def test_a_result_that_cannot_be_serialised_fails_the_execution(store: MemoryStore) -> None:
    @durable_execution
    def handler(event: Any, context: Any) -> Any:
        return threading.Lock()

    with pytest.raises(ExecutionFailedError, match="lock") as caught:
        run(handler, id="x", store=store)
    assert isinstance(caught.value.__cause__, SerDesError)


def test_an_event_that_cannot_be_serialised_is_refused(store: MemoryStore) -> None:
    with pytest.raises(ValidationError, match="lock"):
        run(plain, threading.Lock(), id="x", store=store)
    assert store.executions() == []


@pytest.mark.parametrize("wrong", ["", "a\nb", "\x1b[31m", "x" * 201, "\ud800", 7])
def test_an_id_that_is_none_is_refused(store: MemoryStore, wrong: Any) -> None:
    with pytest.raises(ValidationError, match="execution id"):
        run(plain, id=wrong, store=store)
    with pytest.raises(ValidationError, match="execution id"):
        resume(wrong, store=store)


@pytest.mark.parametrize("odd", ["ä ö", "../up", "x" * 200, "%", "'; drop"])
def test_odd_ids_work(store: MemoryStore, odd: str) -> None:
    assert run(plain, 1, id=odd, store=store) == 1
    assert run(plain, 1, id=odd, store=store) == 1


@pytest.mark.parametrize("wrong", [{"executor": "threads"}, {"checkpoint": "never"}])
def test_wrong_choices_are_refused_before_anything_is_recorded(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        run(plain, id="x", store=tmp_path / "j.db", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_function_that_is_no_handler_is_refused(store: MemoryStore) -> None:
    with pytest.raises(ValidationError, match="durable_execution"):
        run(lambda event, context: 1, store=store)  # type: ignore[arg-type]


def test_another_event_for_a_known_id_is_an_error_that_shows_both(store: MemoryStore) -> None:
    run(plain, {"n": 1, "m": 2}, id="x", store=store)
    assert run(plain, {"m": 2, "n": 1}, id="x", store=store) == {"n": 1, "m": 2}
    with pytest.raises(ExecutionConflictError, match=r"'n': 1.*'n': 7"):
        run(plain, {"n": 7}, id="x", store=store)
    with pytest.raises(ExecutionConflictError) as caught:
        run(plain, "long" * 1000, id="x", store=store)
    assert len(str(caught.value)) < 1000


def test_one_runner_at_a_time(store: MemoryStore) -> None:
    with store.lock("x"), pytest.raises(ExecutionAlreadyRunningError):
        run(plain, id="x", store=store)


def test_where_branches_run_is_looked_up_in_order(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    decorated = durable_execution(executor=ThreadExecutor(3))(plain.__wrapped__)
    assert Choices.of(plain).executor == "thread"
    monkeypatch.setenv("DURAPOOL_EXECUTOR", "process:3")
    monkeypatch.setenv("DURAPOOL_CHECKPOINT", "async")
    assert (Choices.of(plain).executor, Choices.of(plain).checkpoint) == ("process:3", "async")
    assert Choices.of(plain, executor="thread", checkpoint="sync").executor == "thread"
    assert Choices.of(plain, checkpoint="sync").checkpoint == "sync"
    assert Choices.of(decorated, executor="process").executor == ThreadExecutor(3)


@pytest.mark.parametrize("checkpoint", ["sync", "async"])
def test_a_path_names_a_store_that_is_closed_again(tmp_path: Path, checkpoint: str) -> None:
    for _ in range(2):
        assert run(plain, 5, id="x", store=tmp_path / "j.db", checkpoint=checkpoint) == 5


# --- crashes and failures of the store


def test_after_a_crash_the_next_run_goes_on(store: MemoryStore) -> None:
    switch = Switch()

    @durable_execution
    def handler(event: Any, context: DurableContext) -> list[str]:
        first = context.step(lambda _: switch.note("first"))
        if switch.broken:
            raise Crash
        return [first, context.step(lambda _: switch.note("second"))]

    with pytest.raises(Crash):
        run(handler, id="x", store=store)
    assert kinds(store)[-1] == "InvocationCompleted"
    assert "Error" in history(store.read("x"))[-1]["InvocationCompletedDetails"]
    summary = store.find("x")
    assert summary is not None
    assert summary.status is OperationStatus.STARTED
    switch.broken = False
    assert run(handler, id="x", store=store) == ["first", "second"]
    assert switch.ran == ["first", "second"]


def test_ctrl_c_keeps_what_is_recorded_and_tells_how_to_go_on(
    store: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> None:
        context.step(lambda _: 1, name="kept")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(handler, store=store, checkpoint="async")
    (summary,) = store.executions()
    assert "StepSucceeded" in kinds(store, summary.id)
    assert capsys.readouterr().err.endswith(f"go on with: durapool resume {summary.id}\n")


def test_a_crash_of_a_tested_handler_is_invoked_again(store: MemoryStore) -> None:
    switch = Switch()

    @durable_execution
    def handler(event: Any, context: DurableContext) -> int:
        switch.note("invoked")
        if len(switch.ran) < 3:
            raise Crash
        return len(switch.ran)

    ending = skipping(handler, store, crashes=5).run()
    assert isinstance(ending, Returned)
    assert ending.value == 3
    assert kinds(store).count("InvocationCompleted") == 3


def test_a_tested_handler_that_always_crashes_fails(store: MemoryStore) -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> None:
        raise Crash("again")

    ending = skipping(handler, store, crashes=2).run()
    assert isinstance(ending, Raised)
    assert ending.error.type == "Crash"
    assert kinds(store) == ["ExecutionStarted", *["InvocationCompleted"] * 3, "ExecutionFailed"]


def test_a_failing_store_is_raised_through_user_code_and_nothing_more_is_recorded() -> None:
    class Full(MemoryStore):
        def write(self, execution_id: str, records: Any) -> None:
            if any(record.update.name == "last straw" for record in records):
                raise StoreError("disk full")
            super().write(execution_id, records)

    @durable_execution
    def handler(event: Any, context: DurableContext) -> str:
        try:
            context.step(lambda _: 1, name="last straw")
        except Exception:  # what careless users write
            return "swallowed"
        return "not noticed"

    store = Full()
    with pytest.raises(StoreError, match="disk full"):
        run(handler, id="x", store=store)
    assert kinds(store) == ["ExecutionStarted"]


# --- suspension


def test_a_wait_suspends_the_execution_until_it_is_due(store: MemoryStore) -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> str:
        context.wait(Duration.from_hours(1), name="an hour")
        return "later"

    ending = skipping(handler, store).run()
    assert isinstance(ending, Returned)
    assert kinds(store) == [
        "ExecutionStarted",
        "WaitStarted",
        "InvocationCompleted",
        "WaitSucceeded",
        "InvocationCompleted",
        "ExecutionSucceeded",
    ]
    records = list(store.read("x"))
    assert records[-1].at - records[0].at >= 3600


def test_a_suspension_that_nothing_can_end_is_a_failure(store: MemoryStore) -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> None:
        raise SuspendExecution

    with pytest.raises(ExecutionFailedError, match="nothing that it waits for"):
        run(handler, id="x", store=store)


def test_a_callback_is_taken_up_while_the_execution_waits(store: MemoryStore) -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        callback = context.create_callback(name="c")
        context.step(lambda _: store.post("x", SignalRecord("succeed", callback.callback_id, payload="yes")))
        return callback.result()

    assert run(handler, id="x", store=store) == "yes"


def test_a_suspended_run_can_be_paused_and_goes_on_later(store: MemoryStore) -> None:
    @durable_execution
    def handler(event: Any, context: DurableContext) -> Any:
        callback = context.create_callback(name="c")
        opened.append(callback.callback_id)
        return callback.result()

    opened: list[str] = []
    invocations = skipping(handler, store)
    endings: list[Any] = []
    thread = threading.Thread(target=lambda: endings.append(invocations.run()))
    thread.start()
    while "InvocationCompleted" not in kinds(store):
        assert thread.is_alive()
    invocations.pause()
    thread.join(30)
    assert endings == [Paused()]
    store.post("x", SignalRecord("succeed", opened[0], payload="now"))
    ending = skipping(handler, store).run()
    assert isinstance(ending, Returned)
    assert ending.value == "now"


def test_a_stopped_execution_stays_stopped_until_it_is_reopened(store: MemoryStore) -> None:
    stop = [True]

    @durable_execution
    def handler(event: Any, context: DurableContext) -> str:
        if stop.pop():
            store.post("x", SignalRecord("stop", error=ErrorObject("enough")))
            stop.append(False)
            context.wait(Duration.from_seconds(1))
        return "finished"

    for _ in range(2):
        with pytest.raises(ExecutionStoppedError, match="enough"):
            run(handler, id="x", store=store)
    assert kinds(store)[-1] == "ExecutionStopped"


# --- resume


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    path = tmp_path / "some_jobs.py"
    path.write_text(
        textwrap.dedent("""
            from pathlib import Path
            from durapool import durable_execution, RetryPresets

            @durable_execution(default_retry=RetryPresets.none())
            def job(event, context):
                context.step(lambda _: open("first", "x").close(), name="first")
                return context.step(lambda _: Path(event).read_text(), name="read")

            def no_handler(): ...
            constant = 3
        """)
    )
    yield path
    for name in [name for name in sys.modules if "some_jobs" in name]:
        del sys.modules[name]


def test_resume_uses_the_recorded_handler_and_event(jobs: Path, tmp_path: Path) -> None:
    handler = load_handler("some_jobs.py:job")
    with pytest.raises(ExecutionFailedError, match="FileNotFoundError"):
        run(handler, "input", id="x", store="j.db", handler_name="some_jobs.py:job")
    (tmp_path / "input").write_text("data")
    with pytest.raises(ExecutionFailedError):
        resume("x", store="j.db")
    assert resume("x", store="j.db", retry_failed=True) == "data"
    jobs.unlink()
    assert resume("x", store="j.db") == "data"


def test_resume_of_an_unknown_id(store: MemoryStore) -> None:
    with pytest.raises(ExecutionNotFoundError, match="nobody"):
        resume("nobody", store=store)


def test_targets_lead_back_to_the_handler(jobs: Path) -> None:
    for target in ("some_jobs.py:job", "some_jobs:job"):
        handler = load_handler(target)
        assert target_of(load_handler(target_of(handler))) == target_of(handler)


def test_a_handler_of_code_without_a_module_runs() -> None:
    scope: dict[str, Any] = {"durable_execution": durable_execution}
    exec("@durable_execution\ndef job(event, context):\n    return context.step(lambda _: event)", scope)
    assert scope["job"].__module__ is None
    assert run(scope["job"], 7, id="x", store=MemoryStore(), executor="process:1") == 7


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("", "module:name"),
        ("some_jobs.py", "module:name"),
        (":", "module:name"),
        ("missing.py:job", "no file"),
        ("no_such_module:job", "no module 'no_such_module'"),
        ("some_jobs.py:nobody", "its handlers are: job"),
        ("some_jobs.py:constant", "a int"),
        ("some_jobs.py:no_handler", "durable_execution"),
        ("broken_jobs:job", "ZeroDivisionError"),
        ("broken_jobs.py:job", "ZeroDivisionError"),
        ("importing_jobs:job", "No module named 'not_there'"),
        ("exiting_jobs:job", "SystemExit"),
    ],
)
def test_a_handler_that_cannot_be_imported_says_why(jobs: Path, target: str, message: str) -> None:
    (jobs.parent / "broken_jobs.py").write_text("1 / 0\n")
    (jobs.parent / "importing_jobs.py").write_text("import not_there\n")
    (jobs.parent / "exiting_jobs.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(HandlerImportError, match=message):
        load_handler(target)


def test_a_handler_of_the_main_program_is_found_again(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import durapool
            @durapool.durable_execution
            def job(event, context):
                return context.step(lambda _: event)
            if __name__ == "__main__":
                durapool.run(job, 4, id="x", store="j.db")
        """)
    )
    subprocess.run([sys.executable, str(program)], check=True, cwd=tmp_path, timeout=60)
    store = durapool.open_store(tmp_path / "j.db")
    summary = store.find("x")
    store.close()
    assert summary is not None
    assert summary.handler == f"{program}:job"


# --- retry_failed


def reopened(handler: DurableHandler, store: MemoryStore, switch: Switch) -> list[str]:
    """Run to the first end, mend, reopen; what ran the second time."""
    try:
        run(handler, id="x", store=store)
    except ExecutionFailedError:
        pass
    switch.broken = False
    switch.ran.clear()
    run(handler, id="x", store=store, retry_failed=True)
    return switch.ran


def test_only_the_failed_step_runs_again(store: MemoryStore) -> None:
    switch = Switch()

    @once
    def handler(event: Any, context: DurableContext) -> None:
        context.step(lambda _: switch.note("good"))
        context.step(lambda _: switch.note("bad", fragile=True))
        context.step(lambda _: switch.note("after"))

    assert reopened(handler, store, switch) == ["bad", "after"]
    assert kinds(store).count("ExecutionStarted") == 1
    assert kinds(store).count("ExecutionResumed") == 1
    assert kinds(store)[-1] == "ExecutionSucceeded"


@pytest.mark.parametrize("semantics", list(StepSemantics))
def test_a_reopened_step_has_all_its_attempts_again(store: MemoryStore, semantics: StepSemantics) -> None:
    attempts: list[int] = []

    @durable_execution
    def handler(event: Any, context: DurableContext) -> None:
        def bad(step: Any) -> None:
            attempts.append(step.attempt)
            raise OSError("no")

        context.step(bad, config=StepConfig(RetryPresets.default(), semantics))

    for retry_failed in (False, True):
        assert isinstance(skipping(handler, store, retry_failed=retry_failed).run(), Raised)
    assert attempts == [1, 2, 3, 4, 5, 6] * 2


@pytest.mark.parametrize("nesting", list(NestingType))
def test_only_failed_branches_run_again_and_the_batch_gets_a_new_result(
    store: MemoryStore, nesting: NestingType
) -> None:
    switch = Switch()

    @once
    def handler(event: Any, context: DurableContext) -> list[Any]:
        def branch(ctx: DurableContext, item: int, index: int, inputs: Any) -> str:
            return ctx.step(lambda _: switch.note(f"step {item}", fragile=item == 2))

        config = MapConfig(completion_config=CompletionConfig.all_completed(), nesting_type=nesting)
        return context.map([1, 2, 3], branch, config=config).get_results()

    assert run(handler, id="x", store=store) == ["step 1", "step 3"]
    assert reopened(handler, store, switch) == ["step 2"]
    assert run(handler, id="x", store=store) == ["step 1", "step 2", "step 3"]


def test_a_batch_that_stopped_at_a_failure_starts_the_branches_it_never_started(store: MemoryStore) -> None:
    switch = Switch()

    @once
    def handler(event: Any, context: DurableContext) -> None:
        def branch(ctx: DurableContext, item: int, index: int, inputs: Any) -> str:
            return switch.note(f"branch {item}", fragile=item == 2)

        context.map([1, 2, 3], branch, config=MapConfig(max_concurrency=1)).throw_if_error()

    assert reopened(handler, store, switch) == ["branch 2", "branch 3"]


def test_what_encloses_a_failed_branch_is_reopened_too(store: MemoryStore) -> None:
    switch = Switch()

    @once
    def handler(event: Any, context: DurableContext) -> list[Any]:
        def inner(ctx: DurableContext) -> str:
            return ctx.step(lambda _: switch.note("inner", fragile=True))

        def outer(ctx: DurableContext) -> int:
            ctx.step(lambda _: switch.note("outer"))
            return ctx.parallel([inner, lambda c: switch.note("beside")], config=everything).success_count

        everything = ParallelConfig(completion_config=CompletionConfig.all_completed())
        return context.run_in_child_context(lambda c: c.parallel([outer], config=everything).get_results())

    assert run(handler, id="x", store=store) == [1]
    assert reopened(handler, store, switch) == ["inner"]
    assert run(handler, id="x", store=store) == [2]


def test_a_failure_that_was_handled_is_kept(store: MemoryStore) -> None:
    switch = Switch()

    @once
    def handler(event: Any, context: DurableContext) -> Any:
        def with_fallback(ctx: DurableContext) -> str:
            try:
                return ctx.step(lambda _: switch.note("first choice", fragile=True), name="first")
            except durapool.StepError:
                return ctx.step(lambda _: switch.note("second choice"), name="second")

        value = context.run_in_child_context(with_fallback)
        try:
            context.step(lambda _: switch.note("optional", fragile=True), name="optional")
        except durapool.StepError:
            context.step(lambda _: switch.note("instead"), name="instead")
        context.step(lambda _: switch.note("needed", fragile=True), name="needed")
        return value

    assert reopened(handler, store, switch) == ["needed"]
    assert run(handler, id="x", store=store) == "second choice"


@pytest.mark.parametrize("nesting", list(NestingType))
def test_what_came_after_a_partial_batch_is_kept_and_named(
    store: MemoryStore, nesting: NestingType, caplog: pytest.LogCaptureFixture
) -> None:
    switch = Switch()

    @once
    def handler(event: Any, context: DurableContext) -> list[int]:
        def branch(ctx: DurableContext, item: int, index: int, inputs: Any) -> str:
            return ctx.step(lambda _: switch.note(f"step {item}", fragile=item == 2))

        config = MapConfig(completion_config=CompletionConfig.all_completed(), nesting_type=nesting)
        context.step(lambda _: switch.note("before"), name="before")
        found = context.map([1, 2, 3], branch, name="parts", config=config).success_count
        context.wait(Duration.from_seconds(1), name="pause")
        return [context.step(lambda _: found, name=f"report {n}") for n in range(4)] + [found]

    assert run(handler, id="x", store=store) == [2, 2, 2, 2, 2]
    caplog.clear()
    assert reopened(handler, store, switch) == ["step 2"]
    assert run(handler, id="x", store=store) == [2, 2, 2, 2, 3]
    [warning] = [record.getMessage() for record in caplog.records if record.name == "durapool"]
    assert "keep their results: report 0, report 1, report 2 and 1 more." in warning


def test_nothing_is_said_of_what_came_before_a_partial_batch_or_beside_it(
    store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    switch = Switch()

    @once
    def handler(event: Any, context: DurableContext) -> int:
        def inner(ctx: DurableContext, item: int, index: int, inputs: Any) -> str:
            return ctx.step(lambda _: switch.note(f"inner {item}", fragile=item == 2))

        def outer(ctx: DurableContext, item: int, index: int, inputs: Any) -> int:
            if item == 2:
                return ctx.step(lambda _: 0, name="beside")
            return ctx.map([1, 2], inner, config=everything).success_count

        everything = MapConfig(completion_config=CompletionConfig.all_completed(), nesting_type=NestingType.FLAT)
        context.step(lambda _: 0, name="before")
        return sum(context.map([1, 2], outer, config=everything).get_results())

    assert run(handler, id="x", store=store) == 1
    caplog.clear()
    assert reopened(handler, store, switch) == ["inner 2"]
    assert run(handler, id="x", store=store) == 2
    assert not [record for record in caplog.records if record.name == "durapool"]


def test_nothing_is_reopened_where_nothing_failed(store: MemoryStore) -> None:
    switch = Switch()

    @durable_execution
    def handler(event: Any, context: DurableContext) -> str:
        return context.step(lambda _: switch.note("once"))

    assert reopened(handler, store, switch) == []
    assert kinds(store)[-1] == "ExecutionSucceeded"
    assert "ExecutionResumed" not in kinds(store)


def test_a_condition_that_failed_is_polled_from_the_start(store: MemoryStore) -> None:
    from durapool.waits import WaitForConditionConfig, WaitForConditionDecision

    switch = Switch()

    @once
    def handler(event: Any, context: DurableContext) -> Any:
        def check(state: int, _: Any) -> int:
            switch.note(f"poll {state}", fragile=state == 1)
            return state + 1

        def strategy(state: int, attempt: int) -> WaitForConditionDecision:
            if state >= 2:
                return WaitForConditionDecision.stop_polling()
            return WaitForConditionDecision.continue_waiting(Duration.from_seconds(1))

        return context.wait_for_condition(check, WaitForConditionConfig(strategy, 0))

    assert isinstance(skipping(handler, store).run(), Raised)
    switch.broken = False
    switch.ran.clear()
    ending = skipping(handler, store, retry_failed=True).run()
    assert isinstance(ending, Returned)
    assert (ending.value, switch.ran) == (2, ["poll 0", "poll 1"])


# --- the package


def test_all_names_of_the_package_can_be_had() -> None:
    for name in durapool.__all__:
        assert getattr(durapool, name) is not None
    assert set(durapool.__all__) <= set(dir(durapool))
    assert durapool.__version__
    with pytest.raises(AttributeError):
        _ = durapool.nothing_of_the_kind


@pytest.mark.parametrize(
    ("program", "forbidden"),
    [
        ("import durapool", ["typing", "durapool.records", "durapool.exceptions"]),
        (
            "from durapool import durable_execution",
            ["durapool.journal", "durapool.stores", "durapool.context", "sqlite3", "msgpack", "cloudpickle"],
        ),
    ],
)
def test_imports_bring_only_what_is_needed(program: str, forbidden: list[str]) -> None:
    code = f"import sys; {program}; print(sorted(set({forbidden!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, env=_environment(), timeout=60
    )
    assert done.stdout == "[]\n", done.stderr


def _environment() -> dict[str, str]:
    source = os.path.dirname(os.path.dirname(durapool.__file__))
    return os.environ | {"PYTHONPATH": source}


def test_invocation_statuses_compare_as_text() -> None:
    assert InvocationStatus("SUCCEEDED") is InvocationStatus.SUCCEEDED


def test_callable_types_are_checked() -> None:
    wrong: Callable[..., Any] | int = 3
    with pytest.raises(ValidationError, match="default_retry"):
        durable_execution(default_retry=wrong)(plain.__wrapped__)  # type: ignore[arg-type]
