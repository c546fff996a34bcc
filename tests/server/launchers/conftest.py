"""One Slurm cluster for the tests of a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.slurm_cluster import SlurmCluster, missing, slurm_cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """A cluster of two nodes that Slurm's commands find."""
    if reason := missing():
        pytest.skip(reason)
    with (
        slurm_cluster(tmp_path_factory.mktemp("slurm") / "cluster") as running_cluster,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in running_cluster.environment.items():
            patch.setenv(name, value)
        yield running_cluster


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Wait after each test until all of its jobs have ended."""
    yield
    if "cluster" in request.fixturenames:
        request.getfixturevalue("cluster").wait_until_empty()
