"""A provider with a memory, and a link to it."""

from collections.abc import AsyncIterator

import pytest

from providers.blobstore.provider import Blobstore
from tests.support.blob_provider import FakeContext, link, started


@pytest.fixture
def context() -> FakeContext:
    return FakeContext()


@pytest.fixture
async def provider(context: FakeContext) -> AsyncIterator[Blobstore]:
    async with started({"backend": "memory"}, context) as provider:
        await provider.put_link(link())
        yield provider
