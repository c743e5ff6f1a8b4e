"""The proxy of the fault suite does to a connection what it says."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.eventually import eventually
from tests.support.proxy import Proxy


class Echo:
    """A server that sends back what it hears, and counts it."""

    def __init__(self) -> None:
        self.heard = b""
        self.connections = 0
        self.ended = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while chunk := await reader.read(1024):
                self.heard += chunk
                writer.write(chunk)
        except ConnectionResetError:
            pass
        finally:
            self.ended += 1
            writer.close()


class Client:
    """The other end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.heard = b""
        self.is_open = True
        self._reading = asyncio.create_task(self._read(reader))

    async def aclose(self) -> None:
        self.writer.transport.abort()
        await self._reading

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while chunk := await reader.read(1024):
                self.heard += chunk
        except ConnectionResetError:
            pass
        self.is_open = False


@pytest.fixture
async def echo() -> AsyncIterator[tuple[Echo, str]]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    yield echo, f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await eventually(lambda: echo.ended == echo.connections)


@pytest.fixture
async def proxy(echo: tuple[Echo, str]) -> AsyncIterator[Proxy]:
    async with Proxy(echo[1]) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[Client]:
    client = await connect(proxy)
    client.writer.write(b"one ")
    await eventually(lambda: client.heard == b"one ")
    yield client
    await client.aclose()


async def connect(proxy: Proxy) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2])))


async def test_what_is_held_back_arrives_later(
    proxy: Proxy, client: Client, echo: tuple[Echo, str]
) -> None:
    proxy.freeze()
    client.writer.write(b"two")
    other = await connect(proxy)
    other.writer.write(b"!")
    proxy.thaw()

    await eventually(lambda: client.heard == b"one two" and other.heard == b"!")
    assert client.is_open
    await other.aclose()


async def test_one_direction_alone_can_be_held_back(
    proxy: Proxy, client: Client, echo: tuple[Echo, str]
) -> None:
    proxy.freeze("down")
    client.writer.write(b"two")
    await eventually(lambda: echo[0].heard == b"one two")

    assert client.heard == b"one "
    proxy.thaw()
    await eventually(lambda: client.heard == b"one two")


async def test_a_half_open_connection_has_ended_for_the_server_alone(
    proxy: Proxy, client: Client, echo: tuple[Echo, str]
) -> None:
    proxy.half_open()
    await eventually(lambda: echo[0].ended == 1)

    assert client.is_open
    proxy.thaw()
    await eventually(lambda: not client.is_open)


async def test_a_reset_ends_both_ends(proxy: Proxy, client: Client, echo: tuple[Echo, str]) -> None:
    proxy.drop()

    await eventually(lambda: not client.is_open and echo[0].ended == 1)


async def test_a_refused_connection_never_reaches_the_server(
    proxy: Proxy, client: Client, echo: tuple[Echo, str]
) -> None:
    proxy.refusing = True
    other = await connect(proxy)

    await eventually(lambda: not other.is_open)
    assert echo[0].connections == 1
    await other.aclose()


@pytest.mark.parametrize(
    ("setting", "value"), [("loss", 1.0), ("bytes_per_s", 40.0), ("delay_s", 0.5)]
)
async def test_what_is_late_comes_after_what_is_not(
    proxy: Proxy, client: Client, echo: tuple[Echo, str], setting: str, value: float
) -> None:
    async with Proxy(echo[1]) as quick:
        other = await connect(quick)
        proxy.resend_s = 0.5
        setattr(proxy, setting, value)
        client.writer.write(b"twenty bytes of late.")
        other.writer.write(b"twenty bytes of quick")
        await eventually(lambda: b"quick" in other.heard)

        assert b"late" not in client.heard
        await eventually(lambda: b"late" in client.heard)
        await other.aclose()
