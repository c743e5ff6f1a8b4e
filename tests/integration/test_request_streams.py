"""Requests that components send while their bodies flow, on one host and across hosts."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from lattice import errors, limits
from lattice.control.figures import FiguresClient
from lattice.wire import http
from tests.support import command_line, components
from tests.support.cluster import Cluster, LocalHost
from tests.support.eventually import eventually
from tests.support.upstream import Exchange, Upstream, count

MIB = limits.MIB

SIZE = 40 * MIB
"""What flows where nobody may hold it: far more than ``HELD``."""

HELD = 24 * MIB
"""What the process may grow by: windows, sockets, and pieces on their way into guests."""

DISTANCES = pytest.mark.parametrize("distance", ["one host", "two hosts", "a provider process"])

WINDOWS = 2 * limits.STREAM_WINDOW_BYTES
"""More than is held of a body that flows before it is sent."""


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Site:
    """A component that sends requests, to a server that the test is."""

    def __init__(self, cluster: Cluster, host: LocalHost, upstream: Upstream) -> None:
        self.cluster = cluster
        self.host = host
        """Where the component runs."""
        self.upstream = upstream

    async def ask(self, path: str, *, timeout_s: float = 30) -> str:
        request = http.Request(
            method="POST", path=path, headers=[("x-to", self.upstream.authority.encode())]
        )
        answer = await self.cluster.call(
            "site",
            http.OPERATION,
            http.pack_request(request),
            interface=http.INTERFACE,
            timeout_s=timeout_s,
        )
        return http.unpack_response(answer).body.decode()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as upstream:
        yield upstream


@pytest.fixture
def distance() -> str:
    return "one host"


@pytest.fixture
async def site(cluster: Cluster, distance: str, upstream: Upstream) -> AsyncIterator[Site]:
    alpha, beta = await cluster.start_hosts(2, cpu_time_s=60)
    await cluster.start_actor("site", wasm=components.guest("http_streams"), on=alpha)
    way = "process" if distance == "a provider process" else "builtin"
    at = alpha if distance == "one host" else beta
    await cluster.start_provider("client", f"lattice+{way}://http-client", on=at)
    await reach(cluster, upstream, max_request_body_bytes=200 * MIB)
    await cluster.link(
        "site", "client", "wasi:http", interfaces=["outgoing-handler"], target_config=["reach"]
    )
    yield Site(cluster, alpha, upstream)
    await eventually(lambda: alpha.engine.instances == 0)
    await eventually(lambda: upstream.broken + upstream.served == len(upstream.exchanges))


async def until_all_are_broken(upstream: Upstream) -> None:
    """Return when the server has lost all requests, such as it ever saw; none was complete."""
    await eventually(lambda: upstream.broken == len(upstream.exchanges))
    assert upstream.served == 0


async def reach(cluster: Cluster, upstream: Upstream, **more: int) -> None:
    config = {"allow": upstream.url, "max_response_body_bytes": f"{200 * MIB}"}
    await cluster.control.put_config("reach", config | {key: f"{more[key]}" for key in more})


@DISTANCES
async def test_a_request_and_its_response_take_turns(site: Site) -> None:
    answer = await site.ask("/converse?20")
    lines = "".join(f"line {each}\n" for each in range(20))
    assert answer == f"{lines}whole x-lines=20"
    [exchange] = site.upstream.exchanges
    assert exchange.header("transfer-encoding") == "chunked"
    assert exchange.trailers == ["x-lines: 20"]


@DISTANCES
async def test_a_large_request_is_sent_while_it_is_written(site: Site) -> None:
    site.upstream.serve = count
    assert await site.ask(f"/pour-up?{SIZE}") == f"Ok({SIZE}) Ok(()) 200  {SIZE} whole"
    assert site.upstream.exchanges[0].header("transfer-encoding") == "chunked"
    assert (await site.ask(f"/pour-up?{MIB},{MIB}")).endswith(f" {MIB} whole")
    assert site.upstream.exchanges[1].header("content-length") == f"{MIB}"
    assert site.upstream.connections == 2


async def test_a_request_that_is_complete_when_its_guest_waits_is_sent_whole(site: Site) -> None:
    site.upstream.serve = count
    for _ in range(3):
        assert await site.ask("/pour-up?100000") == "Ok(100000) Ok(()) 200  100000 whole"
    assert [each.header("content-length") for each in site.upstream.exchanges] == ["100000"] * 3
    assert site.upstream.connections == 1, "a whole one goes over a kept connection"


@DISTANCES
async def test_a_request_whose_body_is_dropped_is_seen_to_be_broken(site: Site) -> None:
    answer = await site.ask(f"/pour-up-and-drop?{WINDOWS}")
    assert "the request's body broke off: it was dropped before it was finished" in answer
    assert await site.ask(f"/pour-up-and-drop?{WINDOWS},1") != "whole"
    await until_all_are_broken(site.upstream)


@DISTANCES
@pytest.mark.parametrize("begins", [0, 1])
async def test_a_request_ends_with_the_call_of_its_guest(site: Site, begins: int) -> None:
    assert await site.ask(f"/pour-up-and-leave?{WINDOWS},{begins}") == "left"
    with pytest.raises(errors.ActorTrapped):
        await site.ask(f"/pour-up-and-panic?{WINDOWS},{begins}")
    await until_all_are_broken(site.upstream)


@DISTANCES
async def test_a_deadline_ends_both_directions(site: Site) -> None:
    stuck = asyncio.Event()

    async def begin_and_wait(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.write_chunk(b"some")
        stuck.set()
        await exchange.until_gone()
        raise ConnectionResetError

    site.upstream.serve = begin_and_wait
    with pytest.raises(errors.DeadlineExceeded):
        await site.ask("/converse?1", timeout_s=1)
    assert stuck.is_set()
    await eventually(lambda: site.upstream.broken == 1)


@DISTANCES
async def test_a_call_that_is_cancelled_ends_both_directions(site: Site) -> None:
    reading = asyncio.Event()

    async def read_slowly(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.write_chunk(b"some")
        reading.set()
        async for _ in exchange.pieces():
            await asyncio.sleep(0.01)

    site.upstream.serve = read_slowly
    asking = asyncio.ensure_future(site.ask(f"/pour-up?{1000 * MIB}"))
    await reading.wait()
    asking.cancel()
    await eventually(lambda: site.upstream.broken == 1)


@DISTANCES
async def test_a_server_that_leaves_is_an_error_for_who_writes_and_who_reads(site: Site) -> None:
    async def leave(exchange: Exchange) -> None:
        await anext(exchange.pieces())
        exchange.abort()
        raise ConnectionResetError

    site.upstream.serve = leave
    answer = await site.ask(f"/pour-up?{4 * MIB}")
    assert "no more is taken" in answer
    assert "ConnectionTerminated" in answer


@DISTANCES
async def test_a_server_that_answers_early_is_heard(site: Site) -> None:
    async def refuse(exchange: Exchange) -> None:
        await anext(exchange.pieces())
        await exchange.begin(length=3)
        await exchange.write(b"no!")
        await exchange.until_gone()
        raise ConnectionResetError

    site.upstream.serve = refuse
    answer = await site.ask(f"/pour-up?{100 * MIB}")
    assert "no more is taken" in answer
    assert answer.endswith("200  no! whole")


@DISTANCES
async def test_a_body_is_held_to_its_content_length(site: Site) -> None:
    answer = await site.ask(f"/pour-up?{WINDOWS + 1},{WINDOWS}")
    assert answer.startswith('Err("no more is taken")')
    assert f"HttpRequestBodySize(Some({WINDOWS + 1}))" in answer
    assert f"its content-length is {WINDOWS}" in answer
    answer = await site.ask(f"/pour-up?{WINDOWS},{WINDOWS + 1}")
    assert f"HttpRequestBodySize(Some({WINDOWS}))" in answer
    assert f"said to be {WINDOWS + 1} bytes, and ended after {WINDOWS}" in answer
    await until_all_are_broken(site.upstream)


@DISTANCES
async def test_a_body_over_the_limit_of_its_link_is_refused(
    cluster: Cluster, site: Site, upstream: Upstream
) -> None:
    upstream.serve = count
    await reach(cluster, upstream, max_request_body_bytes=MIB)

    async def is_refused() -> bool:
        return "HttpRequestBodySize" in await site.ask(f"/pour-up?{4 * MIB}")

    async with asyncio.timeout(10):
        while not await is_refused():
            pass


@DISTANCES
@pytest.mark.parametrize("read", [0, 100])
async def test_a_response_that_is_dropped_is_not_sent_on(site: Site, read: int) -> None:
    async def pour(exchange: Exchange) -> None:
        await exchange.begin()
        while True:
            await exchange.write_chunk(bytes(65536))

    site.upstream.serve = pour
    assert await site.ask(f"/drop-response?{read}") == "dropped"
    await eventually(lambda: site.upstream.broken == 1)


@DISTANCES
async def test_a_response_that_breaks_off_is_an_error_that_the_guest_reads(site: Site) -> None:
    async def break_off(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.write_chunk(b"some")
        await exchange.write_chunk(bytes(WINDOWS))
        exchange.abort()
        raise ConnectionResetError

    site.upstream.serve = break_off
    assert "closed within the response" in await site.ask("/fetch?1")


# Both directions at once, from a client through a component to a server and back.


@pytest.fixture
async def port(cluster: Cluster, site: Site) -> int:
    port = command_line.free_port()
    await cluster.start_provider("http", "lattice+builtin://http-server", on=site.host)
    await cluster.control.put_config(
        "where",
        {"address": f"127.0.0.1:{port}", "max_body_bytes": f"{200 * MIB}", "timeout_ms": "60000"},
    )
    await cluster.link(
        "http", "site", "wasi:http", interfaces=["incoming-handler"], source_config=["where"]
    )
    await eventually(lambda: command_line.is_listening(port))
    return port


async def read_zeros(reader: asyncio.StreamReader) -> int:
    """Read a body in chunks, and give its size."""
    size = 0
    while length := int(await reader.readuntil(b"\r\n"), 16):
        while length:
            piece = await reader.read(length)
            assert piece, "it broke off"
            assert not piece.strip(b"\0")
            length -= len(piece)
            size += len(piece)
        await reader.readexactly(2)
    return size


@DISTANCES
async def test_a_proxy_holds_neither_of_the_bodies_that_it_passes_on(site: Site, port: int) -> None:
    before = rss_bytes()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=65536)
    writer.write(
        b"POST /proxy HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\nx-to: %b\r\n\r\n"
        % (SIZE, site.upstream.authority.encode())
    )

    async def pour() -> None:
        for _ in range(SIZE // MIB):
            writer.write(bytes(MIB))
            await writer.drain()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(pour())
        await reader.readuntil(b"\r\n\r\n")
        assert await read_zeros(reader) == SIZE
    assert rss_bytes() - before < HELD
    writer.close()


async def begin_echo(site: Site, port: int, *headers: bytes) -> Streams:
    """Have a client and a server exchange a first piece through the proxy."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    to = b"x-to: " + site.upstream.authority.encode()
    framing = b"transfer-encoding: chunked"
    head = b"\r\n".join([b"POST /proxy HTTP/1.1", b"host: x", framing, to, *headers, b"", b""])
    writer.write(head + b"5\r\nfirst\r\n")
    await reader.readuntil(b"first\r\n")
    return reader, writer


async def test_a_proxy_passes_on_pieces_and_trailers_as_they_come(site: Site, port: int) -> None:
    reader, writer = await begin_echo(site, port, b"te: trailers")
    writer.write(b"6\r\nsecond\r\n0\r\nx-sum: 11\r\n\r\n")
    end = await reader.readuntil(b"x-sum: 11\r\n\r\n")
    assert end == b"6\r\nsecond\r\n0\r\nx-sum: 11\r\n\r\n"
    writer.close()


@DISTANCES
async def test_a_client_that_goes_away_is_seen_by_the_server_behind_a_proxy(
    site: Site, port: int
) -> None:
    _, writer = await begin_echo(site, port)
    writer.transport.abort()
    await eventually(lambda: site.upstream.broken == 1)


@pytest.mark.parametrize("distance", ["two hosts"])
async def test_bodies_outlive_a_restart_of_nats(cluster: Cluster, site: Site, port: int) -> None:
    reader, writer = await begin_echo(site, port)
    await cluster.kill_nats()
    await cluster.revive_nats()
    writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
    assert await reader.readuntil(b"0\r\n\r\n") == b"6\r\nsecond\r\n0\r\n\r\n"
    writer.close()


@pytest.mark.parametrize("distance", ["two hosts"])
async def test_both_directions_end_when_nats_stays_away(
    cluster: Cluster, site: Site, port: int
) -> None:
    reader, writer = await begin_echo(site, port, b"lattice-timeout-ms: 2000")
    await cluster.kill_nats()
    assert b"0\r\n\r\n" not in await reader.read(-1)
    await eventually(lambda: site.upstream.broken == 1)
    await cluster.revive_nats()
    writer.close()


@DISTANCES
async def test_a_server_waits_for_a_client_that_does_not_read(site: Site, port: int) -> None:
    poured = 0

    async def pour_out(exchange: Exchange) -> None:
        nonlocal poured
        await exchange.begin()
        async for _ in exchange.pieces():
            pass
        for _ in range(SIZE // 65536):
            await exchange.write_chunk(bytes(65536))
            poured += 65536
        await exchange.end()

    site.upstream.serve = pour_out
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=65536)
    writer.write(
        b"POST /proxy HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nx-to: %b\r\n\r\n"
        % site.upstream.authority.encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    # However long it waits, the rest of it is not there.
    for _ in range(20):
        assert await site.ask("/read-nothing") == "read nothing"
    assert poured < HELD
    assert await read_zeros(reader) == SIZE
    writer.close()


@DISTANCES
async def test_what_flows_is_counted_for_the_component_and_its_link(site: Site, port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=65536)
    writer.write(
        b"POST /proxy HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\nx-to: %b\r\n\r\n"
        % (MIB, site.upstream.authority.encode())
    )
    writer.write(bytes(MIB))
    await reader.readuntil(b"\r\n\r\n")
    assert await read_zeros(reader) == MIB
    writer.close()

    [(running, _)] = site.host.host._actors.counted()
    await eventually(lambda: running.tally.completed == 1)
    hosts = await FiguresClient(site.cluster.bus, site.cluster.lattice).hosts("site")
    [actor] = [each for host in hosts for each in host.actors]
    [link] = actor.links
    # Beside the bodies there are the payloads: heads of messages.
    for counted in (actor.bytes_in, actor.bytes_out, link.bytes_in, link.bytes_out):
        assert MIB < counted < MIB + 4096


# A component behind a component.


@pytest.fixture(params=["one host", "two hosts", "others between"])
async def chain(
    cluster: Cluster, request: pytest.FixtureRequest, upstream: Upstream
) -> AsyncIterator[Site]:
    """A component whose requests another one answers."""
    alpha, beta = await cluster.start_hosts(2, cpu_time_s=60)
    await cluster.start_actor("site", wasm=components.guest("http_streams"), on=alpha)
    at = alpha if request.param == "one host" else beta
    await cluster.start_actor("echo", wasm=components.guest("http_streams"), on=at)
    first = "echo"
    if request.param == "others between":
        first = "client"
        await cluster.start_actor("client", wasm=components.REWRITES, on=alpha)
        await cluster.start_actor("gate", wasm=components.PASSES_ON, on=beta)
        await cluster.link("client", "gate", "wasi:http", interfaces=["outgoing-handler"])
        await cluster.link("gate", "echo", "wasi:http", interfaces=["incoming-handler"])
    await cluster.link("site", first, "wasi:http", interfaces=["outgoing-handler"])
    yield Site(cluster, alpha, upstream)
    await eventually(lambda: alpha.engine.instances + beta.engine.instances == 0)


async def test_a_component_answers_the_requests_of_another(chain: Site) -> None:
    assert await chain.ask("/fetch?2") == "200  no such path whole\n200  no such path whole"
    answer = await chain.ask("/converse?20")
    assert answer == "".join(f"line {each}\n" for each in range(20)) + "whole x-lines=20"


async def test_bodies_flow_between_components_and_end_together(chain: Site) -> None:
    assert await chain.ask("/pour-up?100") == "Ok(100) Ok(()) 200  no such path whole"
    answer = await chain.ask(f"/pour-up?{100 * MIB}")
    assert "no more is taken" in answer
    assert answer.endswith("200  no such path whole")


def rss_bytes() -> int:
    with open("/proc/self/statm") as figures:  # noqa: PTH123 - no file of ours
        return int(figures.read().split()[1]) * 4096
