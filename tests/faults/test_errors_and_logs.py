"""What a branch says about itself: errors with their tracebacks, log records, warnings, prints.

Where threads and processes both have it, both are held to the same.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections import Counter
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import pytest
from program_tools import START_METHODS, run_program

import durapool
from durapool import CompletionConfig, ParallelConfig, durable_execution
from durapool.exceptions import ChildContextError
from durapool.executors import ProcessExecutor
from durapool.stores import MemoryStore

every_method = pytest.mark.parametrize("start_method", START_METHODS)
ALL = CompletionConfig.all_completed()


def processes(start_method, **options):
    return ProcessExecutor(workers=2, start_method=start_method, **options)


@pytest.fixture(params=["thread", *START_METHODS])
def anywhere(request):
    """Threads, and processes started in every way."""
    return "thread" if request.param == "thread" else processes(request.param)


def run_branches(branches, executor, execution_id=None):
    """The BatchResult of the branches as a handler sees it."""
    kept = []

    @durable_execution
    def handler(event, context):
        config = ParallelConfig(executor=executor, completion_config=ALL)
        kept.append(context.parallel(branches, config=config))

    durapool.run(handler, id=execution_id or "job", store=MemoryStore())
    return kept[0]


def raised_by(branch, executor):
    """The ErrorObject and the exception that `throw_if_error` raises for it."""
    result = run_branches([branch], executor)
    with pytest.raises(ChildContextError) as caught:
        result.throw_if_error()
    return result.failed_results[0], caught.value


# errors


class PlainError(Exception):
    pass


class OddError(Exception):
    """Its constructor takes other arguments than those that it gives to Exception."""

    def __init__(self, code, *, reason):
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class ArgumentlessError(Exception):
    def __init__(self):
        super().__init__("made without arguments")


class RaisingStrError(Exception):
    def __str__(self):
        raise RuntimeError("no text today")


class UnpicklableError(Exception):
    def __init__(self):
        super().__init__("holds a generator")
        self.items = (item for item in ())


def deep(level):
    if level == 0:
        raise PlainError("from the depths")
    deep(level - 1)


def test_the_traceback_of_the_branch_is_in_the_error_and_in_the_notes(anywhere):
    error, raised = raised_by(lambda ctx: deep(2), anywhere)
    trace = "".join(error.stack_trace)
    assert trace.count("in deep") == 3
    assert 'raise PlainError("from the depths")' in trace
    assert os.path.basename(__file__) in trace
    assert f"{os.sep}durapool{os.sep}" not in trace
    assert raised.stack_trace == list(error.stack_trace)
    assert isinstance(raised.__cause__, PlainError)
    [note] = raised.__cause__.__notes__
    assert note.startswith("traceback of the original:")
    assert 'raise PlainError("from the depths")' in note


def test_the_traceback_of_a_step_is_that_of_the_line_that_raised(anywhere):
    def branch(ctx):
        ctx.step(lambda _: deep(0), config=durapool.StepConfig(retry_strategy=durapool.RetryPresets.none()))

    error, raised = raised_by(branch, anywhere)
    assert (error.type, error.message) == ("PlainError", "from the depths")
    assert "in deep" in "".join(error.stack_trace)
    assert isinstance(raised.__cause__.__cause__, PlainError)


def test_causes_contexts_and_notes_come_along(anywhere):
    def branch(ctx):
        try:
            try:
                {}["missing"]
            except KeyError as error:
                error.add_note("looked in an empty place")
                raise PlainError("the cause") from error
        except PlainError:
            raise OddError(7, reason="the context")  # noqa: B904  # a context without a cause is what is tested

    _, raised = raised_by(branch, anywhere)
    odd = raised.__cause__
    assert isinstance(odd, OddError)
    assert odd.__cause__ is None
    plain = odd.__context__
    assert isinstance(plain, PlainError)
    missing = plain.__cause__
    assert isinstance(missing, KeyError)
    assert "looked in an empty place" in missing.__notes__
    assert all(any("traceback of the original" in note for note in error.__notes__) for error in (odd, plain, missing))


def test_an_exception_with_an_odd_constructor_arrives_whole(anywhere):
    def branch(ctx):
        raise OddError(3, reason="odd")

    error, raised = raised_by(branch, anywhere)
    assert (error.type, error.message) == ("OddError", "3: odd")
    assert (raised.__cause__.code, raised.__cause__.reason) == (3, "odd")


@pytest.mark.parametrize(
    ("cls", "text", "arrives"),
    [
        (ArgumentlessError, "made without arguments", True),
        (UnpicklableError, "holds a generator", False),
        (RaisingStrError, "RaisingStrError", True),
    ],
)
def test_an_exception_that_does_not_help_arrives_as_what_is_known_of_it(cls, text, arrives, anywhere):
    def branch(ctx):
        raise cls()

    error, raised = raised_by(branch, anywhere)
    assert error.type == cls.__name__
    assert text in error.message
    assert "in branch" in "".join(error.stack_trace)
    assert isinstance(raised.__cause__, cls) is arrives


def test_an_exception_group_arrives_with_its_members(anywhere):
    def branch(ctx):
        try:
            deep(0)
        except PlainError as error:
            raise ExceptionGroup("both", [error, ExceptionGroup("inner", [OddError(1, reason="x")])]) from None

    error, raised = raised_by(branch, anywhere)
    assert error.type == "ExceptionGroup"
    group = raised.__cause__
    assert isinstance(group, ExceptionGroup)
    first, inner = group.exceptions
    assert isinstance(first, PlainError)
    assert any("in deep" in note for note in first.__notes__)
    assert inner.exceptions[0].reason == "x"
    with pytest.raises(ExceptionGroup):
        raise group
    assert group.split(OddError)[0] is not None


def test_a_system_exit_keeps_its_code(anywhere):
    error, raised = raised_by(lambda ctx: sys.exit("no more"), anywhere)
    assert (error.type, error.message) == ("SystemExit", "no more")
    assert raised.__cause__.code == "no more"


@pytest.mark.parametrize("where", ["thread", *START_METHODS])
@pytest.mark.parametrize("given_by", ["file", "stdin"])
def test_an_exception_class_of_the_main_program_is_the_same_class_in_it(given_by, where, tmp_path):
    source = f"""
        EXECUTOR = "thread" if METHOD == "thread" else ProcessExecutor(workers=2, start_method=METHOD)

        class OwnError(Exception):
            def __init__(self, code, text):
                super().__init__(text)
                self.code = code

        class Local:
            class InnerError(OwnError):
                pass

        @durable_execution(executor=EXECUTOR)
        def handler(event, context):
            def fails(ctx):
                assert type(ctx.step(lambda _: Local())) is Local
                raise OwnError(5, "own")
            def fails_inside(ctx):
                raise Local.InnerError(6, "inner") from OwnError(7, "its cause")
            def makes(ctx):
                class OfTheBranchError(OwnError):
                    pass
                raise OfTheBranchError(8, "local")
            result = context.parallel([fails, fails_inside, makes], config=ParallelConfig(completion_config=
                CompletionConfig.all_completed()))
            for item in result.failed():
                print(item.error.type, item.error.message, end=" ")
                print("raise" in "".join(item.error.stack_trace) or {given_by!r} == "stdin", end=" ")
            try:
                result.throw_if_error()
            except durapool.exceptions.ChildContextError as error:
                print(isinstance(error.__cause__, OwnError), error.__cause__.code)

        durapool.run(handler, id="own", store=MemoryStore())
    """
    done = run_program(tmp_path, source, where, given_by=given_by)
    assert done.stdout.strip() == "OwnError own True InnerError inner True OfTheBranchError local True True 5"


# log records


class Records(logging.Handler):
    """Keeps what it is given, and what a formatter makes of it."""

    def __init__(self):
        super().__init__()
        self.records = []
        self.texts = []

    def emit(self, record):
        self.records.append(record)
        self.texts.append(self.format(record))


@contextmanager
def listening(name="", level=logging.INFO):
    logger, handler = logging.getLogger(name), Records()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def says(ctx):
    logging.getLogger("app.part").info("part %d of %s", 1, "two", extra={"tags": ["a", 1], "thing": object})
    logging.getLogger("app.part").debug("not wanted")
    logging.getLogger("app.loud").debug("wanted")


def test_a_record_reaches_the_handlers_of_the_parent_once(anywhere):
    with listening() as root, listening("app.loud", logging.DEBUG):
        run_branches([says, says], anywhere, "logs")
    records = [record for record in root.records if record.name.startswith("app")]
    assert Counter(record.getMessage() for record in records) == {"part 1 of two": 2, "wanted": 2}
    part = next(record for record in records if record.name == "app.part")
    assert (part.levelname, part.funcName, part.filename) == ("INFO", "says", os.path.basename(__file__))
    assert part.tags == ["a", 1]
    assert str(part.thing) == str(object)


@every_method
def test_a_record_of_a_worker_tells_where_it_comes_from(start_method):
    with listening() as root:
        run_branches([says, says, says], processes(start_method), "whence")
    records = [record for record in root.records if record.name == "app.part"]
    assert {record.durapool_execution for record in records} == {"whence"}
    assert sorted(record.durapool_branch for record in records) == [0, 1, 2]
    assert all(isinstance(record.durapool_worker, int) and record.durapool_worker > 0 for record in records)
    assert all(record.process != os.getpid() for record in records)


def test_the_logger_of_a_context_reaches_the_parent_with_its_extra(anywhere):
    with listening() as root:
        run_branches([lambda ctx: ctx.logger.info("hello from %s", "here")], anywhere, "ctx-logger")
    [record] = [record for record in root.records if record.getMessage() == "hello from here"]
    assert record.execution_id == "ctx-logger"
    assert record.operation_name == "parallel-branch-0"


def test_the_text_of_a_traceback_is_kept(anywhere):
    def branch(ctx):
        try:
            deep(1)
        except PlainError:
            logging.getLogger("app").exception("it failed", stack_info=True)

    with listening() as root:
        run_branches([branch], anywhere)
    [text] = [text for record, text in zip(root.records, root.texts, strict=True) if record.name == "app"]
    assert text.startswith("it failed\nTraceback (most recent call last):")
    assert "PlainError: from the depths" in text
    assert 'raise PlainError("from the depths")' in text
    assert "Stack (most recent call last):" in text


def test_handlers_and_filters_of_named_loggers_act_once(anywhere):
    class Tagging(logging.Filter):
        def filter(self, record):
            record.msg = f"tagged: {record.msg}"
            return "secret" not in record.msg

    logger, tagging = logging.getLogger("app.own"), Tagging()
    logger.addFilter(tagging)
    logger.propagate = False
    try:
        with listening() as root, listening("app.own") as own:
            run_branches(
                [lambda ctx: [logging.getLogger("app.own").info(text) for text in ("open", "secret")]], anywhere
            )
    finally:
        logger.removeFilter(tagging)
        logger.propagate = True
    assert own.texts == ["tagged: open"]
    assert "tagged: open" not in root.texts


def test_a_module_that_configures_logging_when_imported_does_not_double_records(anywhere, tmp_path, monkeypatch):
    module = f"configures_logging_{sum(map(ord, str(tmp_path)))}_{os.getpid()}_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(
        "import logging\nlog = logging.getLogger(__name__)\nlog.addHandler(logging.StreamHandler())\n"
        "log.setLevel(logging.INFO)\nlog.propagate = False\n"
        "def branch(ctx):\n    log.info('once and no more')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    errors = io.StringIO()
    with redirect_stderr(errors):
        imported = __import__(module)
        run_branches([imported.branch], anywhere)
    assert errors.getvalue().count("once and no more") == 1


@every_method
def test_a_handler_of_the_parent_that_raises_stops_nobody(start_method, capsys):
    class Raising(logging.Handler):
        def emit(self, record):
            raise ValueError("a bad handler")

    handler = Raising()
    logger = logging.getLogger("app.part")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        result = run_branches([lambda ctx: says(ctx) or "went on"], processes(start_method))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assert result.successful_results == ["went on"]
    assert "a bad handler" in capsys.readouterr().err


@every_method
@pytest.mark.parametrize("value", [2**70, "\udc80 lone", {1: {"a", "b"}}, float("nan"), b"\xff"])
def test_any_extra_travels_or_is_told_as_text(value, start_method):
    with listening() as root:
        run_branches(
            [lambda ctx: logging.getLogger("app").info("odd %s", "extra", extra={"odd": value})],
            processes(start_method),
        )
    assert [text for text in root.texts if text.startswith("odd")] == ["odd extra"]


@every_method
def test_a_process_that_a_branch_forks_logs_to_stderr(start_method, capsys):
    def branch(ctx):
        pid = os.fork()
        if pid == 0:
            logging.getLogger("app").warning("from a grandchild")
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert run_branches([branch], processes(start_method)).successful_results == [0]
    assert capsys.readouterr().err.count("from a grandchild") == 1


# warnings


class OwnWarning(UserWarning):
    def __init__(self, text, more):
        super().__init__(text)
        self.more = more


def warns(ctx):
    warnings.warn("watch out", stacklevel=1)
    return "went on"


@contextmanager
def recorded(action="always", **options):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter(action, **options)
        yield found


def test_a_warning_of_a_branch_is_shown_as_the_programs_own(anywhere):
    with recorded() as found:
        result = run_branches([warns], anywhere)
    assert result.successful_results == ["went on"]
    [shown] = [each for each in found if "watch out" in str(each.message)]
    assert shown.category is UserWarning
    assert isinstance(shown.message, UserWarning)
    assert os.path.basename(shown.filename) == os.path.basename(__file__)
    assert shown.lineno == warns.__code__.co_firstlineno + 1


@every_method
def test_a_warning_of_many_branches_is_shown_once_a_batch(start_method):
    with recorded() as found:
        run_branches([warns] * 6, processes(start_method))
        run_branches([warns] * 6, processes(start_method))
    assert [str(each.message) for each in found] == ["watch out"] * 2


def test_a_warning_that_is_ignored_here_is_ignored_there(anywhere):
    with recorded() as found:
        warnings.filterwarnings("ignore", message="watch")
        assert run_branches([warns], anywhere).success_count == 1
    assert not found


def test_a_warning_that_is_an_error_here_is_one_there(anywhere):
    with recorded():
        warnings.filterwarnings("error", category=UserWarning)
        result = run_branches([warns], anywhere)
    assert (result.failed_results[0].type, result.failed_results[0].message) == ("UserWarning", "watch out")
    with recorded():
        assert run_branches([warns], anywhere).success_count == 1


def test_captured_warnings_are_log_records(anywhere):
    with listening("py.warnings", logging.WARNING) as handler, warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        try:
            run_branches([warns], anywhere)
        finally:
            logging.captureWarnings(False)
    [text] = handler.texts
    assert "UserWarning: watch out" in text


def test_a_warning_of_an_odd_class_is_shown_too(anywhere):
    def branch(ctx):
        warnings.warn(OwnWarning("odd", more=1), stacklevel=1)

    with recorded() as found:
        assert run_branches([branch], anywhere).success_count == 1
    assert [(str(each.message), each.category) for each in found] == [("odd", OwnWarning)]


# prints


def test_prints_go_to_the_stdout_and_stderr_of_this_moment(anywhere):
    def branch(ctx):
        print("to stdout: äöü \U0001f600")
        print("to stderr", file=sys.stderr)

    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        run_branches([branch], anywhere)
    assert out.getvalue() == "to stdout: äöü \U0001f600\n"
    assert errors.getvalue() == "to stderr\n"


@every_method
def test_what_a_branch_printed_is_there_when_its_batch_has_ended(start_method):
    """Also what a child process or a C library wrote, past Python's own streams."""

    def branch(ctx, number):
        os.write(1, f"{number} by descriptor\n".encode())
        os.system(f"echo {number} by a child")
        print(number, "by print", flush=False)

    out = io.StringIO()
    with redirect_stdout(out):
        for number in range(5):
            run_branches([lambda ctx, number=number: branch(ctx, number)], processes(start_method))
            lines = out.getvalue().splitlines()
            assert lines[-3:] == [f"{number} by descriptor", f"{number} by a child", f"{number} by print"]


@every_method
def test_a_line_without_an_end_is_not_lost(start_method, tmp_path):
    source = """
        @durable_execution(executor=ProcessExecutor(workers=1, start_method=METHOD))
        def handler(event, context):
            context.parallel([lambda ctx: print("the first half", end=" ")])
            context.parallel([lambda ctx: print("and the second")])
            context.parallel([lambda ctx: print("no end", end="")])
        durapool.run(handler, id="halves", store=MemoryStore())
    """
    assert run_program(tmp_path, source, start_method).stdout == "the first half and the second\nno end\n"


@every_method
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_long_lines_of_many_workers_are_not_torn(stream, start_method, tmp_path):
    """Lines beyond what a pipe takes at once, in text of several bytes a letter, while the workers print together."""
    source = f"""
        def branch(ctx, item, index, inputs):
            letter = "aé\\u20ac\\U0001f600"[item]
            for number in range(20):
                print(letter * (30_000 + number), file=sys.{stream})

        @durable_execution(executor=ProcessExecutor(workers=4, start_method=METHOD))
        def handler(event, context):
            return context.map(range(4), branch).success_count
        assert durapool.run(handler, id="long", store=MemoryStore()) == 4
    """
    done = run_program(tmp_path, source, start_method, environment={"PYTHONIOENCODING": "utf-8"})
    lines = getattr(done, stream).splitlines()
    wanted = {letter * (30_000 + number) for letter in "aé\u20ac\U0001f600" for number in range(20)}
    assert len(lines) == 80
    assert set(lines) == wanted


@every_method
def test_a_stdout_that_nobody_reads_any_more_ends_no_branch(start_method, tmp_path):
    source = """
        read, write = os.pipe()
        os.dup2(write, 1)
        os.close(write)
        os.close(read)
        def branch(ctx, item, index, inputs):
            print("x" * 10_000)
            return item
        @durable_execution(executor=ProcessExecutor(workers=2, start_method=METHOD))
        def handler(event, context):
            return context.map(range(4), branch).get_results()
        sys.stderr.write(repr(durapool.run(handler, id="nobody", store=MemoryStore())))
        sys.stderr.flush()
        os._exit(0)
    """
    assert run_program(tmp_path, source, start_method).stderr.strip() == "[0, 1, 2, 3]"


@every_method
def test_prints_in_an_encoding_that_lacks_the_letters_are_escaped(start_method, tmp_path):
    source = """
        @durable_execution(executor=ProcessExecutor(workers=1, start_method=METHOD))
        def handler(event, context):
            return context.parallel([lambda ctx: print("\\u20ac")]).success_count
        assert durapool.run(handler, id="euro", store=MemoryStore()) == 1
    """
    done = run_program(tmp_path, source, start_method, environment={"PYTHONIOENCODING": "ascii"})
    assert done.stdout == "\\u20ac\n"
