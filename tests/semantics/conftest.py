"""The executors whose semantics are compared: those of all tests, and clusters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

LOCAL = ("thread", "process:2")
CLUSTERS = ("dask", "ray")


@pytest.fixture(params=[*LOCAL, "dask", pytest.param("ray", marks=pytest.mark.ray)])
def executor(request: pytest.FixtureRequest) -> str:
    """Each executor in turn: whatever uses this fixture must not see a difference."""
    name = str(request.param)
    if name in CLUSTERS:
        request.getfixturevalue(f"{name}_cluster")
    return name


@pytest.fixture(scope="session")
def dask_cluster() -> Iterator[str]:
    """The address of the Dask cluster of this session: the one that "dask" without an address uses."""
    pytest.importorskip("distributed", reason="distributed is not installed: pip install durapool[dask]")
    from durapool.cluster.dask_local import local_dask
    from durapool.pool import registry

    cluster = local_dask()
    yield cluster.address
    registry.close_all()
    cluster.release()
