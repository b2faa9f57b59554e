"""The pytest plugin: the fixture `durable_runner`, its marker, and the executors that each such test runs under.

    @pytest.mark.durable_execution(handler=handler, lambda_function_name="my_function")
    def test_it(durable_runner):
        with durable_runner:
            result = durable_runner.run(input={}, timeout=10)

pytest imports this module in every test run of an environment that has durapool, so it loads nothing but pytest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from durapool.testing.runner import DurableFunctionTestRunner

_MARKER = "durable_execution"
_EXECUTORS = {"thread": ["thread"], "process": ["process"], "all": ["thread", "process"]}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--durapool-executor``."""
    parser.getgroup("durapool").addoption(
        "--durapool-executor",
        choices=sorted(_EXECUTORS),
        default=None,
        help="run each test that uses durable_runner under this executor (all: once under each); "
        "by default under the one that the handler names",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(handler, lambda_function_name=None): the handler that the durable_runner fixture runs",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per executor that the option names."""
    chosen = metafunc.config.getoption("--durapool-executor")
    if chosen is not None and "durable_runner" in metafunc.fixturenames:
        metafunc.parametrize("durable_runner", _EXECUTORS[chosen], indirect=True)


@pytest.fixture
def durable_runner(request: pytest.FixtureRequest) -> Iterator[DurableFunctionTestRunner]:
    """A runner of the handler that the test's ``durable_execution`` marker names; closed after the test."""
    from durapool.testing.runner import DurableFunctionTestRunner

    marker = request.node.get_closest_marker(_MARKER)
    if marker is None or not (marker.args or "handler" in marker.kwargs):
        raise pytest.UsageError(
            f"{request.node.nodeid} uses durable_runner without a handler: "
            f"mark it with @pytest.mark.{_MARKER}(handler=your_handler)"
        )
    runner = DurableFunctionTestRunner(
        handler=marker.kwargs["handler"] if "handler" in marker.kwargs else marker.args[0],
        executor=getattr(request, "param", None),
        function_name=marker.kwargs.get("lambda_function_name") or "test-function",
    )
    yield runner
    runner.close()
