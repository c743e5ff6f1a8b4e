"""Servers that are slow to start, one for all tests; and event loops that a suite may ask for."""

import asyncio
from collections.abc import Callable, Iterator, Mapping

import pytest
import uvloop

from tests.support.s3_server import S3Server, moto_server, versity_server


@pytest.fixture(scope="session")
def moto_service() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def versity_service() -> Iterator[S3Server]:
    with versity_server() as server:
        yield server


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Offer uvloop, whose sockets and TLS are its own, to ``asyncio(loop_factories=...)``.

    Hosts run on it and provider processes don't; so a suite that has sockets of its own is tried on
    both, and of the others what has several calls or much data on its way at once.
    """
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "asyncio": asyncio.new_event_loop
    }
    # Every asynchronous test has the mark, by pytest-asyncio's automatic mode.
    marker = item.get_closest_marker("asyncio")
    if marker is not None and "loop_factories" in marker.kwargs:
        factories["uvloop"] = uvloop.new_event_loop
    return factories
