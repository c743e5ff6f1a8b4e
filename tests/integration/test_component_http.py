"""Components that send HTTP requests on real hosts, as far as their links let them."""

from collections.abc import AsyncIterator

import pytest

from lattice.wire import http
from tests.support import components
from tests.support.cluster import Cluster, LocalHost
from tests.support.origin import Origin, answer, writes


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        yield origin


@pytest.fixture
async def beta(cluster: Cluster) -> LocalHost:
    """A component that sends what it is told to on one host; another one, empty."""
    alpha, beta = await cluster.start_hosts(2)
    await cluster.start_actor("site", wasm=components.guest("http_streams"), on=alpha)
    return beta


async def link(cluster: Cluster, allow: str) -> None:
    await cluster.control.put_config("reach", {"allow": allow})
    await cluster.link(
        "site", "client", "wasi:http", interfaces=["outgoing-handler"], target_config=["reach"]
    )


async def ask(cluster: Cluster, origin: Origin, path: str, *, body: bytes = b"") -> str:
    to = origin.url.removeprefix("http://").encode()
    request = http.Request(method="POST", path=path, headers=[("x-to", to)], body=body)
    payload = http.pack_request(request)
    answer = await cluster.call("site", http.OPERATION, payload, interface=http.INTERFACE)
    return http.unpack_response(answer).body.decode()


@pytest.mark.parametrize("way", ["builtin", "process"])
async def test_a_component_reaches_what_its_link_allows(
    cluster: Cluster, beta: LocalHost, origin: Origin, way: str
) -> None:
    missing = await ask(cluster, origin, "/fetch?1")
    assert "lattice link put site TARGET wasi http --interface outgoing-handler" in missing
    await cluster.start_provider("client", f"lattice+{way}://http-client", on=beta)
    await link(cluster, origin.url)
    origin.answers = writes(answer(b"pong", ("content-type", "text/plain"), status="418 Teapot"))

    body = b"ping" * 500_000
    assert await ask(cluster, origin, "/relay", body=body) == "418 text/plain pong whole"
    [asked] = origin.asked
    assert (asked.method, asked.path, asked.body) == ("POST", "/relayed", body)
    assert asked.trailers == [("x-sum", "2000000")]

    assert (await ask(cluster, origin, "/fetch?5")).count("418 text/plain pong whole") == 5
    assert sorted(each.path for each in origin.asked[1:]) == ["/0", "/1", "/2", "/3", "/4"]


async def test_a_component_hears_of_what_its_link_does_not_allow(
    cluster: Cluster, beta: LocalHost, origin: Origin
) -> None:
    await cluster.start_provider("client", "lattice+builtin://http-client", on=beta)
    await link(cluster, "https://example.org")
    assert await ask(cluster, origin, "/fetch?1") == "ErrorCode::HttpRequestDenied"
    assert origin.asked == []
