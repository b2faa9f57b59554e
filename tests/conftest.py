"""What all tests share: the executors that semantics are checked under."""

from __future__ import annotations

import compileall
import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import durapool

pytest_plugins = ["pytester"]

# a shell that runs the tests in the background has them ignored, and the programs that tests start would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# the programs that tests start would compile the package anew, each of them, where the environment forbids to keep that
compileall.compile_dir(Path(durapool.__file__).parent, quiet=1)

# the same examples every time, however long they take, so that what a change fails by is the change; others on request
settings.register_profile(
    "durapool",
    derandomize="DURAPOOL_TORTURE" not in os.environ,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("durapool")

EXECUTORS = ("thread", "process:2")
LONG = ("torture", "perf", "docs", "examples", "cluster")  # directories whose files take longest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files come first, so that no process is left alone with one at the end."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> str:
    """Each executor in turn: whatever uses this fixture must not see a difference."""
    return str(request.param)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """The Ray cluster of this session, which "ray" without an address uses: of two CPUs, as tests expect, or more."""
    if find_spec("ray") is None:
        pytest.skip("ray is not installed: pip install durapool[ray]")
    from durapool.cluster.engine import open_engine
    from durapool.executors import RayExecutor

    engine = open_engine(RayExecutor(workers=2))
    yield
    engine.close()
