"""One local service and one endpoint for all tests here; functions run without semaphores and without /dev/shm."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from aws_tools import Deployment
from perf.local_lambda.endpoint import ignore
from perf.local_lambda.local import MODULE, LocalLambda
from perf.local_lambda.proxy import forward

from serverless import SITE, WHY_NOT, shadowed

TESTS = Path(__file__).parents[2]
PATHS = (Path(__file__).parent, TESTS / "guide", TESTS.parent / "examples")
"""Where functions find their modules."""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that functions have on their path, which takes away their semaphores."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(SITE)
    return folder


@pytest.fixture(scope="session")
def variables(site: Path) -> dict[str, str]:
    """Of all environments."""
    return {"PYTHONPATH": os.pathsep.join(map(str, (site, *PATHS))), "DURAPOOL_STORE": "memory"}


@pytest.fixture(scope="session")
def _session_lambda(tmp_path_factory: pytest.TempPathFactory, variables: dict[str, str]) -> Iterator[LocalLambda]:
    for module in ("boto3", MODULE):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install 'durapool[aws]' {MODULE}")
    invocable = {name: {} for name in ("plain", "missing")} | {
        f"{handler}-{executor}": {"DurableConfig": {"ExecutionTimeout": 60, "RetentionPeriodInDays": 1}}
        for handler in ("double", "fails")
        for executor in ("thread", "process", "sdk")
    }
    with LocalLambda(tmp_path_factory.mktemp("lambda"), variables=variables, invocable=invocable) as local:
        yield local


@pytest.fixture
def local(_session_lambda: LocalLambda) -> Iterator[LocalLambda]:
    """Lambda on this machine, whose timers are due at once."""
    yield _session_lambda
    _session_lambda.proxy.rule, _session_lambda.endpoint.seen = forward, ignore


@pytest.fixture
def deployed(local: LocalLambda, executor: str) -> Deployment:
    """Runs handlers on the executor, in containers that have no semaphores and no room in /dev/shm."""
    return Deployment(local, executor, command=() if WHY_NOT else shadowed("without room"))
