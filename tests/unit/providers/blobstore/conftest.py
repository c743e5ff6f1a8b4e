"""A provider with a memory, and a link to it."""

from collections.abc import AsyncIterator

import pytest

from providers.blobstore.provider import Blobstore
from tests.support import blob_provider
from tests.support.blob_provider import link, started
from tests.support.provider_context import FakeContext


@pytest.fixture
def context() -> FakeContext:
    return blob_provider.context()


@pytest.fixture
async def provider(context: FakeContext) -> AsyncIterator[Blobstore]:
    async with started({"backend": "memory"}, context) as provider:
        await provider.put_link(link())
        yield provider
