"""Actors on a real lattice send HTTP requests, as far as their links let them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgpack
import pytest

from lattice import errors
from tests.support.cluster import ROOT, Cluster, LocalHost
from tests.support.eventually import eventually
from tests.support.origin import Asked, Origin, answer, writes

WAYS = pytest.mark.parametrize("way", ["builtin", "process"])


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        yield origin


@pytest.fixture
async def beta(cluster: Cluster) -> LocalHost:
    """The relay example on one host, which calls whatever it is told to; another one, empty."""
    alpha, beta = await cluster.start_hosts(2)
    wasm = (ROOT / "deploy/examples/relay/relay.wasm").read_bytes()
    await cluster.start_actor("relay", on=alpha, wasm=wasm)
    return beta


async def reach(cluster: Cluster, allow: str) -> None:
    await cluster.control.put_config("reach", {"allow": allow})
    await cluster.link("relay", "client", "wasmcloud:httpclient", target_config=["reach"])


async def fetch(cluster: Cluster, url: str, **request: Any) -> Any:
    """Have the actor send a request."""
    message = {
        "namespace": "wasmcloud:httpclient",
        "operation": "HttpClient.Request",
        "payload": msgpack.packb({"url": url, **request}),
    }
    return msgpack.unpackb(await cluster.call("relay", "Relay.Forward", msgpack.packb(message)))


@WAYS
async def test_an_actor_reaches_what_its_link_allows(
    cluster: Cluster, beta: LocalHost, origin: Origin, way: str
) -> None:
    await cluster.start_provider("client", f"lattice+{way}://http-client", on=beta)
    await reach(cluster, origin.url)
    origin.answers = writes(answer(b"pong" * 500_000, ("x-a", "1"), status="418 Teapot"))

    response = await fetch(
        cluster,
        f"{origin.url}/ping?a=b",
        method="POST",
        headers={"X-B": ["2"]},
        body=b"ping" * 500_000,
    )
    assert response["statusCode"] == 418
    assert response["header"]["x-a"] == ["1"]
    assert response["body"] == b"pong" * 500_000
    [asked] = origin.asked
    assert (asked.method, asked.path, asked.header("x-b")) == ("POST", "/ping?a=b", "2")
    assert asked.body == b"ping" * 500_000

    with pytest.raises(errors.ActorError) as failure:
        await fetch(cluster, "http://169.254.169.254/latest/meta-data/")
    assert failure.value.text == (
        "denied: http://169.254.169.254 is not allowed; if it shall be,"
        " add http://169.254.169.254 to allow of the link"
    )


async def test_what_a_link_allows_changes_while_it_is_used(
    cluster: Cluster, beta: LocalHost, origin: Origin
) -> None:
    await cluster.start_provider("client", "lattice+builtin://http-client", on=beta)
    await reach(cluster, origin.url)
    assert (await fetch(cluster, origin.url))["statusCode"] == 200

    await cluster.control.put_config("reach", {"allow": "https://elsewhere.example"})
    await eventually(lambda: not origin.open)
    with pytest.raises(errors.ActorError, match="denied"):
        await fetch(cluster, origin.url)


async def test_a_link_that_makes_no_sense_says_so_to_its_caller(
    cluster: Cluster, beta: LocalHost
) -> None:
    await cluster.start_provider("client", "lattice+builtin://http-client", on=beta)
    await reach(cluster, "example.com")

    with pytest.raises(errors.ActorError) as failure:
        await fetch(cluster, "https://example.com/")
    assert failure.value.text == (
        "invalid_request: allow has 'example.com': name the scheme too, for example"
        " https://example.com"
    )


@WAYS
async def test_a_caller_that_goes_away_takes_the_connection_along(
    cluster: Cluster, beta: LocalHost, origin: Origin, way: str
) -> None:
    await cluster.start_provider("client", f"lattice+{way}://http-client", on=beta)
    await reach(cluster, origin.url)

    async def stay_silent(_: Asked, __: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    origin.answers = stay_silent
    async with asyncio.TaskGroup() as group:
        call = group.create_task(fetch(cluster, origin.url))
        await eventually(lambda: origin.asked)
        call.cancel()
    await eventually(lambda: not origin.open)
