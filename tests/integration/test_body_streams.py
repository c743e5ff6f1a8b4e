"""Bodies that flow between an HTTP client and a component, on one host and across hosts."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from lattice import limits
from tests.support import command_line, components
from tests.support.cluster import Cluster, LocalHost
from tests.support.eventually import eventually

MIB = limits.MIB

SIZE = 40 * MIB
"""What flows where nobody may hold it: far more than ``HELD``."""

HELD = 24 * MIB
"""What the process may grow by: windows, sockets, and pieces on their way into guests."""

DISTANCES = pytest.mark.parametrize(
    "distance", ["one host", "two hosts", "a provider process", "a component between"]
)


class Site:
    """A component behind an HTTP server."""

    def __init__(self, cluster: Cluster, host: LocalHost, port: int) -> None:
        self.cluster = cluster
        self.host = host
        """Where the component runs."""
        self.port = port
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60)

    @property
    def running(self) -> int:
        return self.host.engine.instances

    async def connect(self, head: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send a request's head, and some of its body, over a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=64 * 1024)
        writer.write(head.replace("\n", "\r\n").encode())
        return reader, writer


@pytest.fixture
def distance() -> str:
    return "one host"


@pytest.fixture
async def site(cluster: Cluster, distance: str) -> AsyncIterator[Site]:
    alpha, beta = await cluster.start_hosts(2, cpu_time_s=60)
    port = command_line.free_port()
    await cluster.start_actor("site", wasm=components.guest("http_streams"), on=alpha)
    way = "process" if distance == "a provider process" else "builtin"
    at = alpha if distance == "one host" else beta
    await cluster.start_provider("http", f"lattice+{way}://http-server", on=at)
    await cluster.control.put_config(
        "where",
        {"address": f"127.0.0.1:{port}", "max_body_bytes": f"{200 * MIB}", "timeout_ms": "60000"},
    )
    first = "site"
    if distance == "a component between":
        first = "gate"
        await cluster.start_actor("gate", wasm=components.PASSES_ON, on=beta)
        await cluster.link("gate", "site", "wasi:http", interfaces=["incoming-handler"])
    await cluster.link(
        "http", first, "wasi:http", interfaces=["incoming-handler"], source_config=["where"]
    )
    await eventually(lambda: command_line.is_listening(port))
    site = Site(cluster, alpha, port)
    async with site.client:
        yield site
    await eventually(lambda: site.running + beta.engine.instances == 0)


@DISTANCES
async def test_a_client_reads_what_was_written_while_the_guest_goes_on(site: Site) -> None:
    async with site.client.stream("GET", "/tick?3,200") as response:
        assert response.status_code == 200
        assert response.headers["transfer-encoding"] == "chunked"
        lines = response.aiter_lines()
        assert await anext(lines) == "tick 0"
        assert [line async for line in lines] == ["tick 1", "tick 2"]


async def test_an_answer_that_is_complete_comes_whole(site: Site) -> None:
    response = await site.client.get("/read-nothing")
    assert (response.text, response.headers["content-length"]) == ("read nothing", "12")


async def test_a_complete_answer_is_given_although_the_guest_goes_on(site: Site) -> None:
    response = await site.client.get("/go-on?2000")
    assert (response.text, response.headers["content-length"]) == ("complete", "8")
    assert site.running == 1
    await eventually(lambda: site.running == 0)


@DISTANCES
async def test_a_large_body_flows_both_ways(site: Site) -> None:
    body = bytes(range(256)) * 4 * 1024 * 5
    echo = await site.client.post("/echo", content=body)
    assert echo.content == body


async def test_a_body_of_unknown_length_flows_in_while_it_is_sent(site: Site) -> None:
    reader, writer = await site.connect(
        "POST /echo HTTP/1.1\nhost: x\ntransfer-encoding: chunked\n\n5\nfirst\n"
    )
    await reader.readuntil(b"first\r\n")
    writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
    assert await reader.readuntil(b"0\r\n\r\n") == b"6\r\nsecond\r\n0\r\n\r\n"
    writer.close()


@DISTANCES
async def test_trailers_come_in_and_go_out(site: Site) -> None:
    reader, writer = await site.connect(
        "POST /echo HTTP/1.1\nhost: x\nte: trailers\ntransfer-encoding: chunked\n\n"
        "5\nhello\n0\nX-Sum: 42\n\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    assert await reader.readuntil(b"0\r\n") == b"5\r\nhello\r\n0\r\n"
    assert await reader.readuntil(b"\r\n\r\n") == b"x-sum: 42\r\n\r\n"
    writer.close()


@DISTANCES
async def test_a_guest_waits_for_a_client_that_does_not_read(site: Site) -> None:
    before = rss_bytes()
    reader, writer = await site.connect(f"GET /pour?{SIZE} HTTP/1.1\nhost: x\n\n")
    await reader.readuntil(b"\r\n\r\n")
    # However long it waits, the rest of it is not there.
    await site.client.get("/read-nothing")
    assert site.running == 1
    size = 0
    while piece := await reader.read(256 * 1024):
        size += len(piece)
        if piece.endswith(b"\r\n0\r\n\r\n"):
            break
    assert size > SIZE
    assert rss_bytes() - before < HELD
    writer.close()


@DISTANCES
async def test_a_client_waits_for_a_guest_that_does_not_read(site: Site) -> None:
    before = rss_bytes()

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(SIZE // MIB):
            yield bytes(MIB)

    headers = {"content-length": f"{SIZE}"}
    counted = await site.client.post("/count", content=pieces(), headers=headers)
    assert counted.text == f"{SIZE} whole"
    assert rss_bytes() - before < HELD


@DISTANCES
@pytest.mark.parametrize("way", ["panic", "forget"])
async def test_a_response_that_its_guest_does_not_complete_is_seen_to_be_broken(
    site: Site, way: str
) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await site.client.get(f"/pour-and-{way}?{MIB},50")
    assert (await site.client.get("/read-nothing")).status_code == 200


@DISTANCES
async def test_a_guest_whose_client_goes_away_is_unwound(site: Site) -> None:
    reader, writer = await site.connect("GET /pour-for-ever HTTP/1.1\nhost: x\n\n")
    await reader.readuntil(b"\r\n\r\n")
    assert site.running == 1
    writer.transport.abort()
    await eventually(lambda: site.running == 0)


@DISTANCES
async def test_a_body_that_breaks_off_is_an_error_that_the_guest_reads(site: Site) -> None:
    reader, writer = await site.connect(
        "POST /echo HTTP/1.1\nhost: x\ntransfer-encoding: chunked\n\n5\nhello\n"
    )
    await reader.readuntil(b"hello")
    assert site.running == 1
    writer.close()
    await eventually(lambda: site.running == 0)


@DISTANCES
async def test_a_body_over_the_limit_of_its_link_is_refused(cluster: Cluster, site: Site) -> None:
    await cluster.control.put_config(
        "where", {"address": f"127.0.0.1:{site.port}", "max_body_bytes": f"{MIB}"}
    )

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield bytes(100_000)

    async def is_refused() -> bool:
        try:
            refused = await site.client.post("/count", content=pieces())
        except httpx.WriteError:
            return False
        return refused.status_code == 413 or "payload_too_large" in refused.text

    async with asyncio.timeout(10):
        while not await is_refused():
            pass


async def test_a_host_that_stops_lets_bodies_flow_to_their_end(site: Site) -> None:
    async with site.client.stream("GET", "/tick?5,100") as response:
        lines = response.aiter_lines()
        assert await anext(lines) == "tick 0"
        stopping = asyncio.ensure_future(site.host.stop())
        assert [line async for line in lines] == ["tick 1", "tick 2", "tick 3", "tick 4"]
        await stopping


@DISTANCES
async def test_a_request_that_its_guest_does_not_read_is_answered(site: Site) -> None:
    reader, writer = await site.connect(
        f"POST /read-nothing HTTP/1.1\nhost: x\ncontent-length: {MIB}\n\n"
    )
    assert b"200 OK" in await reader.readuntil(b"read nothing")
    writer.write(bytes(MIB) + b"GET /read-nothing HTTP/1.1\r\nhost: x\r\n\r\n")
    assert b"200 OK" in await reader.readuntil(b"read nothing")
    writer.close()


async def test_a_response_to_head_has_no_body_however_it_is_made(site: Site) -> None:
    head = await site.client.head("/tick?3,50")
    assert (head.status_code, head.content) == (200, b"")
    await eventually(lambda: site.running == 0)


async def test_a_client_of_http_1_0_gets_the_body_whole(site: Site) -> None:
    reader, writer = await site.connect("GET /tick?3,10 HTTP/1.0\n\n")
    answer = await reader.read(-1)
    assert b"content-length: 21" in answer
    assert answer.endswith(b"\r\n\r\ntick 0\ntick 1\ntick 2\n")
    writer.close()


async def test_a_call_with_a_key_has_its_bodies_whole(site: Site) -> None:
    body = b"x" * 400_000
    for _ in range(2):
        echo = await site.client.post("/echo", content=body, headers={"idempotency-key": "k"})
        assert echo.content == body
        assert echo.headers["content-length"] == "400000"


@DISTANCES
async def test_many_bodies_flow_at_a_time(site: Site) -> None:
    async def echo(index: int) -> bool:
        body = bytes([index]) * MIB
        return (await site.client.post("/echo", content=body)).content == body

    assert all(await asyncio.gather(*(echo(index) for index in range(20))))


async def test_a_response_breaks_off_when_the_host_of_its_guest_is_killed(
    cluster: Cluster,
) -> None:
    (alpha,) = await cluster.start_hosts(1)
    doomed = await cluster.start_process()
    await cluster.start_actor("site", wasm=components.guest("http_streams"), on=doomed)
    port = command_line.free_port()
    await cluster.start_provider("http", "lattice+builtin://http-server", on=alpha)
    await cluster.control.put_config("where", {"address": f"127.0.0.1:{port}"})
    await cluster.link(
        "http", "site", "wasi:http", interfaces=["incoming-handler"], source_config=["where"]
    )
    await eventually(lambda: command_line.is_listening(port))
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
        client.stream("GET", "/tick?1000,10") as response,
    ):
        lines = response.aiter_lines()
        assert await anext(lines) == "tick 0"
        await doomed.kill()
        with pytest.raises(httpx.RemoteProtocolError):
            async for _ in lines:
                pass


@pytest.mark.parametrize("distance", ["two hosts"])
async def test_a_stream_outlives_a_restart_of_nats(cluster: Cluster, site: Site) -> None:
    async with site.client.stream("GET", "/tick?40,100") as response:
        lines = response.aiter_lines()
        assert await anext(lines) == "tick 0"
        await cluster.kill_nats()
        await cluster.revive_nats()
        assert [line async for line in lines] == [f"tick {index}" for index in range(1, 40)]


def rss_bytes() -> int:
    with open("/proc/self/statm") as figures:  # noqa: PTH123 - no file of ours
        return int(figures.read().split()[1]) * 4096
