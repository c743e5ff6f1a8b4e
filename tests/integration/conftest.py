from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, lattice_cluster


@pytest.fixture
async def cluster(compiled: Path) -> AsyncIterator[Cluster]:
    # One directory for all tests: what one has compiled, the others find in the cache.
    async with lattice_cluster(compiled) as cluster:
        yield cluster
