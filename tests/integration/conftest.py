from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, lattice_cluster

APART = {"test_guest_codecs.py", "test_guest_templates.py"}
"""Their tests have nothing in common, and each has a compiler at work for long."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Keep the tests of a file in one process, which starts once what they share."""
    if item.path.name not in APART:
        item.add_marker(pytest.mark.xdist_group(item.path.name))


@pytest.fixture
async def cluster(compiled: Path) -> AsyncIterator[Cluster]:
    # One directory for all tests: what one has compiled, the others find in the cache.
    async with lattice_cluster(compiled) as cluster:
        yield cluster
