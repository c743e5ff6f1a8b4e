"""Fixtures for every test: a lattice of its own on a shared nats-server, and a check for leaks."""

import asyncio
import inspect
import os
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from lattice import errors, log
from lattice.bus import Bus
from lattice.bus.server import NatsServer
from tests.support.nats_server import STORE_BYTES_MAX, connected

LEAVING_S = 2.0
"""How long tasks that were cancelled at the end of a test may take to unwind."""

# How long an example takes says how busy the machine is; a test that hangs has its own time-out.
hypothesis.settings.register_profile("lattice", deadline=None)
hypothesis.settings.load_profile("lattice")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record", action="store_true", help="write tests/golden anew instead of comparing with it"
    )


def pytest_configure() -> None:
    # So it counts as configured, and our own plugin for pytest leaves it.
    structlog.configure()


@pytest.fixture(autouse=True)
def lines_stay_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no command that runs in this process decide which log lines later tests may see: loggers
    keep what was configured when they were first used.
    """
    monkeypatch.setattr(log, "configure", lambda **_settings: None)


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> None:
    """Fail an asynchronous test that leaves tasks behind."""
    function = getattr(request, "function", None)
    if inspect.iscoroutinefunction(getattr(function, "hypothesis", None) or function):
        request.getfixturevalue("no_task_left_over")


@pytest.fixture
async def no_task_left_over() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LEAVING_S
    while left := asyncio.all_tasks() - before - {asyncio.current_task()}:
        if loop.time() > deadline:
            pytest.fail(f"tasks left over: {sorted(map(repr, left))}")
        await asyncio.sleep(0.001)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where what one test has compiled is found by all others, also those of other processes."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "compiled"


@pytest.fixture(scope="session")
def nats() -> Iterator[NatsServer]:
    """One nats-server for all tests that leave it alone; ``nats_server()`` gives one to break.

    It lives on an event loop of its own, as each test has another one. A missing binary skips the
    test, but fails it where ``CI`` is set.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="nats-server", daemon=True)
    thread.start()
    try:
        starting = NatsServer.start(store_bytes_max=STORE_BYTES_MAX)
        server = asyncio.run_coroutine_threadsafe(starting, loop).result()
        yield server
        asyncio.run_coroutine_threadsafe(server.aclose(), loop).result()
    except errors.NotFound as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(error.text)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
async def bus(nats: NatsServer) -> AsyncIterator[Bus]:
    async with connected(nats) as bus:
        yield bus


@pytest.fixture
def lattice_name() -> str:
    """A lattice that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"
