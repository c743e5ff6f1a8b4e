"""Event loops that a suite of this folder may ask for, by ``mark.asyncio(loop_factories=...)``."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Hosts run on uvloop, whose sockets and TLS are its own; what has sockets is tried on both."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "asyncio": asyncio.new_event_loop
    }
    if item.get_closest_marker("asyncio") is not None:
        factories["uvloop"] = uvloop.new_event_loop
    return factories
