"""The pytest plugin: fixture, marker and option, in a pytest of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

HANDLER = """
import pytest
from durapool import durable_execution

@durable_execution
def handler(event, context):
    def where(ctx):
        import os
        return os.getpid()
    import os
    pids = context.parallel([where, where]).get_results()
    return ["thread" if set(pids) == {os.getpid()} else "process", event]
"""

TEST = """
@pytest.mark.durable_execution(handler=handler, lambda_function_name="my_function")
def test_it(durable_runner):
    with durable_runner:
        result = durable_runner.run(input={"a": 1}, timeout=30)
    print("ran on", result.result[0])
    assert result.result[1] == {"a": 1}
"""


def outcome(pytester: pytest.Pytester, source: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(source)
    pytester.makeini("[pytest]\nfilterwarnings = error\naddopts = --strict-markers\n")
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-rP", *arguments, timeout=60)


def test_a_marked_test_gets_a_runner_of_its_handler(pytester: pytest.Pytester) -> None:
    result = outcome(pytester, HANDLER + TEST)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["ran on thread"])


@pytest.mark.parametrize(("option", "executors"), [("thread", ["thread"]), ("process", ["process"])])
def test_the_option_names_the_executor(pytester: pytest.Pytester, option: str, executors: list[str]) -> None:
    result = outcome(pytester, HANDLER + TEST, f"--durapool-executor={option}")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"ran on {name}" for name in executors])


def test_all_runs_each_such_test_under_each_executor_and_others_once(pytester: pytest.Pytester) -> None:
    plain = "\ndef test_plain():\n    pass\n"
    result = outcome(pytester, HANDLER + TEST + plain, "--durapool-executor=all")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines_random(["ran on thread", "ran on process", "*test_it?thread?*", "*test_it?process?*"])


def test_a_marker_on_a_class_serves_its_tests(pytester: pytest.Pytester) -> None:
    source = """
@pytest.mark.durable_execution(handler=handler)
class TestIt:
    def test_one(self, durable_runner):
        with durable_runner:
            assert durable_runner.run(timeout=30).result[1] is None
"""
    outcome(pytester, HANDLER + source).assert_outcomes(passed=1)


def test_a_runner_without_a_marker_is_a_clear_error(pytester: pytest.Pytester) -> None:
    result = outcome(pytester, "def test_it(durable_runner):\n    pass\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*@pytest.mark.durable_execution(handler=your_handler)*"])


def test_an_unknown_executor_is_a_usage_error(pytester: pytest.Pytester) -> None:
    result = outcome(pytester, HANDLER + TEST, "--durapool-executor=cluster")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_the_plugin_loads_nothing_heavy() -> None:
    code = (
        "import pytest, sys; before = set(sys.modules); import durapool.testing.plugin; "
        "print(sorted(name for name in set(sys.modules) - before))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "['durapool', 'durapool.testing', 'durapool.testing.plugin']"
