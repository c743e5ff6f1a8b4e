"""Bodies that flow through the HTTP client, in both directions, against real servers."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from lattice import errors, limits
from lattice.wire import http
from lattice.wire.streams import Source, Trailers
from providers.http_client.provider import HttpClient
from providers.sdk import Call, Link, Reply
from tests.contract.test_http_client import deadline
from tests.support.eventually import eventually
from tests.support.provider_context import FakeContext
from tests.support.sources import Fed
from tests.support.upstream import Exchange, Upstream, count

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

SIZE = 16 * limits.MIB
"""Far more than sockets and windows hold."""


class Begun:
    """A response that has begun: what came with it, and the rest."""

    def __init__(self, content: bytes, rest: Source) -> None:
        self._content = content
        self._rest = rest

    @property
    def trailers(self) -> Trailers:
        return self._rest.trailers

    async def read(self, size_max: int) -> bytes:
        if self._content:
            taken, self._content = self._content[:size_max], self._content[size_max:]
            return taken
        return await self._rest.read(size_max)

    def close(self) -> None:
        self._content = b""
        self._rest.close()


class Client:
    """A provider with one link, which leads to one server."""

    def __init__(self, provider: HttpClient, upstream: Upstream) -> None:
        self._provider = provider
        self._upstream = upstream
        self._link = self._linked()

    def _linked(self, **config: int) -> Link:
        said = {"allow": self._upstream.url, "max_request_body_bytes": f"{2 * SIZE}"}
        said |= {"max_response_body_bytes": f"{2 * SIZE}"}
        return Link(
            source_id="site",
            target="client",
            wit_namespace="wasi",
            wit_package="http",
            interfaces=["outgoing-handler"],
            target_config=said | {key: f"{value}" for key, value in config.items()},
        )

    async def relink(self, **config: int) -> None:
        self._link = self._linked(**config)
        await self._provider.put_link(self._link)

    async def send(
        self,
        source: Source | None = None,
        *,
        body: bytes = b"",
        length: int | None = None,
        takes_stream: bool = True,
    ) -> tuple[http.Response | http.ErrorCode, Source | None]:
        headers = [] if length is None else [("content-length", f"{length}".encode())]
        request = http.Request(
            method="POST",
            scheme="http",
            authority=self._upstream.authority,
            path="/",
            headers=headers,
            body=body,
            is_streamed=source is not None,
        )
        call = Call(
            source="site",
            link=self._link,
            interface=http.OUTGOING_INTERFACE,
            operation=http.OUTGOING_OPERATION,
            payload=http.pack_outgoing_request(request, http.Options()),
            deadline=deadline(30),
            stream=source,
            takes_stream=takes_stream,
        )
        reply = await self._provider.handle(call)
        assert isinstance(reply, Reply)
        return http.unpack_outcome(reply.payload), reply.stream

    async def begin(
        self, source: Source | None = None, *, body: bytes = b"", length: int | None = None
    ) -> Source:
        """Send a request whose response flows."""
        outcome, rest = await self.send(source, body=body, length=length)
        assert isinstance(outcome, http.Response)
        assert outcome.is_streamed
        assert rest is not None
        return Begun(outcome.body, rest)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as upstream:
        yield upstream


@pytest.fixture
async def client(upstream: Upstream) -> AsyncIterator[Client]:
    provider = HttpClient()
    await provider.start(FakeContext("client"), {})
    client = Client(provider, upstream)
    # One at a time: whatever keeps its place is noticed by the next.
    await client.relink(max_concurrent_requests=1)
    yield client
    await client.relink(max_concurrent_requests=1)
    upstream.serve = count
    outcome, _ = await client.send(body=b"four")
    assert isinstance(outcome, http.Response)
    assert outcome.body == b"4"
    await provider.stop()


async def read_all(source: Source) -> bytes:
    content = b""
    while piece := await source.read(limits.STREAM_PIECE_BYTES):
        content += piece
    return content


async def test_a_response_is_read_while_the_request_is_written(
    client: Client, upstream: Upstream
) -> None:
    source = Fed()
    source.trailers = [("x-sum", b"3")]
    rest = await client.begin(source, body=b"one")
    assert await rest.read(100) == b"one"
    for piece in (b"two", b"three"):
        source.feed(piece)
        assert await rest.read(100) == piece
    source.feed(b"")
    assert await rest.read(100) == b""
    assert rest.trailers == [("x-sum", b"3")]
    [exchange] = upstream.exchanges
    assert exchange.header("transfer-encoding") == "chunked"
    assert exchange.trailers == ["x-sum: 3"]
    # It went well in both directions, so that the connection is used again.
    upstream.serve = count
    await client.send(body=b"x")
    assert upstream.connections == 1


async def test_nothing_more_is_given_than_was_asked_for(client: Client) -> None:
    source = Fed(b"a")
    rest = await client.begin(source)
    assert await rest.read(3) == b"a"
    source.feed(b"bcdefghi")
    assert [await rest.read(3) for _ in range(3)] == [b"bcd", b"efg", b"hi"]
    source.feed(b"")
    assert await rest.read(3) == b""


async def test_a_source_is_read_no_faster_than_the_server_takes_it(
    client: Client, upstream: Upstream
) -> None:
    goes_on = asyncio.Event()

    async def wait_then_count(exchange: Exchange) -> None:
        await exchange.begin()
        await goes_on.wait()
        async for _ in exchange.pieces():
            pass
        await exchange.write_chunk(f"{exchange.body_bytes}".encode())
        await exchange.end()

    upstream.serve = wait_then_count
    source = Fed(*(bytes(65536) for _ in range(SIZE // 65536)), b"")
    rest = await client.begin(source, length=SIZE)
    read = await steady(lambda: source.reads)
    assert 0 < read < SIZE // 65536
    goes_on.set()
    assert await read_all(rest) == f"{SIZE}".encode()
    assert upstream.exchanges[0].header("content-length") == f"{SIZE}"


async def test_a_server_is_read_no_faster_than_its_response_is(
    client: Client, upstream: Upstream
) -> None:
    poured = 0

    async def pour(exchange: Exchange) -> None:
        nonlocal poured
        await exchange.begin(length=SIZE)
        for _ in range(SIZE // 65536):
            await exchange.write(bytes(65536))
            poured += 65536

    upstream.serve = pour
    rest = await client.begin()
    assert await steady(lambda: poured) < SIZE
    assert len(await read_all(rest)) == SIZE


async def steady(measured: Callable[[], int]) -> int:
    """Give a figure when it has stopped growing."""
    before = -1
    while (now := measured()) != before:
        before = now
        for _ in range(200):
            await asyncio.sleep(0.001)
    return now


async def test_a_body_that_breaks_off_takes_the_connection_with_it(
    client: Client, upstream: Upstream
) -> None:
    broken = errors.ActorError("it was dropped")
    source = Fed(b"some")
    rest = await client.begin(source)
    source.feed(broken)
    with pytest.raises(errors.ProviderError, match="body broke off: actor_error: it was dropped"):
        await read_all(rest)
    upstream.serve = count
    outcome, rest_of_none = await client.send(Fed(b"some", broken))
    assert outcome == {
        "internal-error": "the request's body broke off: actor_error: it was dropped"
    }
    assert rest_of_none is None
    await eventually(lambda: upstream.broken == 2)


@pytest.mark.parametrize("pieces", [(b"12345",), (b"123", b"")])
async def test_a_body_that_is_not_as_long_as_it_says_is_broken_off(
    client: Client, upstream: Upstream, pieces: tuple[bytes, ...]
) -> None:
    upstream.serve = count
    outcome, _ = await client.send(Fed(*pieces), length=4)
    assert isinstance(outcome, dict)
    assert "HTTP-request-body-size" in outcome
    await eventually(lambda: upstream.broken == 1)


async def test_a_body_over_the_limit_is_broken_off(client: Client, upstream: Upstream) -> None:
    await client.relink(max_request_body_bytes=10)
    upstream.serve = count
    source = Fed(b"12345", b"67890", b"!", b"")
    outcome, _ = await client.send(source)
    assert outcome == {"HTTP-request-body-size": 11}
    assert source.is_closed
    await eventually(lambda: upstream.broken == 1)
    outcome, _ = await client.send(Fed(), length=11)
    assert outcome == {"HTTP-request-body-size": 11}
    assert len(upstream.exchanges) == 1, "one that says so is not begun"


async def test_a_response_over_the_limit_is_broken_off(client: Client, upstream: Upstream) -> None:
    await client.relink(max_response_body_bytes=10)
    source = Fed(b"12345")
    rest = await client.begin(source)
    source.feed(b"678901")
    with pytest.raises(errors.ProviderError, match="over the limit of 10"):
        await read_all(rest)
    await eventually(lambda: upstream.broken == 1)


async def test_closing_the_response_ends_both_directions(
    client: Client, upstream: Upstream
) -> None:
    source = Fed(b"some")
    rest = await client.begin(source)
    rest.close()
    rest.close()
    await eventually(lambda: upstream.broken == 1 and source.is_closed)
    assert await rest.read(10) == b""


async def test_closing_wakes_whoever_reads(client: Client) -> None:
    rest = await client.begin(Fed(b"some"))
    assert await rest.read(10) == b"some"
    reading = asyncio.ensure_future(rest.read(10))
    await asyncio.sleep(0)
    rest.close()
    with pytest.raises(errors.ProviderError):
        await reading


async def test_a_read_that_is_cancelled_loses_nothing(client: Client) -> None:
    source = Fed(b"one")
    rest = await client.begin(source)
    assert await rest.read(10) == b"one"
    for piece in (b"two", b"three"):
        reading = asyncio.ensure_future(rest.read(10))
        await asyncio.sleep(0)
        reading.cancel()
        source.feed(piece)
        assert await rest.read(10) == piece
    source.feed(b"")
    assert await rest.read(10) == b""


async def test_what_flows_of_a_response_that_comes_early_is_sent_no_more(
    client: Client, upstream: Upstream
) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.begin(length=2)
        await exchange.write(b"no")
        await exchange.until_gone()

    upstream.serve = refuse
    source = Fed(b"some")
    outcome, rest = await client.send(source)
    assert isinstance(outcome, http.Response)
    assert outcome.body + (b"" if rest is None else await read_all(rest)) == b"no"
    await eventually(lambda: upstream.served == 1 and source.is_closed)


async def test_who_takes_no_stream_gets_the_response_whole(
    client: Client, upstream: Upstream
) -> None:
    source = Fed(b"one", b"two", b"")
    outcome, rest = await client.send(source, takes_stream=False)
    assert isinstance(outcome, http.Response)
    assert (outcome.body, outcome.is_streamed, rest) == (b"onetwo", False, None)
    [exchange] = upstream.exchanges
    assert exchange.body_bytes == 6


async def test_a_server_has_time_while_the_request_flows_and_a_limit_from_then_on(
    client: Client, upstream: Upstream
) -> None:
    await client.relink(first_byte_timeout_ms=100, between_bytes_timeout_ms=100)

    async def take_and_say_nothing(exchange: Exchange) -> None:
        async for _ in exchange.pieces():
            pass
        await exchange.until_gone()
        raise ConnectionResetError

    upstream.serve = take_and_say_nothing
    source = Fed()
    sending = asyncio.ensure_future(client.send(source))
    await asyncio.wait([sending], timeout=0.5)
    assert not sending.done()
    source.feed(b"")
    outcome, _ = await sending
    assert outcome == {"HTTP-response-timeout": None}
    await eventually(lambda: upstream.broken == 1)


async def test_a_request_that_flows_is_sent_over_no_kept_connection(
    client: Client, upstream: Upstream
) -> None:
    upstream.serve = count
    await client.send(body=b"x")
    await client.send(Fed(b"x", b""))
    assert upstream.connections == 2
