from collections.abc import AsyncIterator

import pytest

from tests.support.cluster import Cluster, lattice_cluster


@pytest.fixture
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    # One directory for all tests: what one has compiled, the others find in the cache.
    async with lattice_cluster(tmp_path_factory.getbasetemp() / "hosts") as cluster:
        yield cluster
