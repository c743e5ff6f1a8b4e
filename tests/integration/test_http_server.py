"""The HTTP server provider with real sockets and real clients; only the actor is a fake."""

import asyncio
import gc
import json
import re
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop

from lattice import errors, limits
from lattice.wire import codec
from lattice.wire.invocation import Usage
from providers.http_server import listener
from providers.http_server.problems import STATUS_BY_CODE
from providers.http_server.provider import HttpServer
from providers.sdk import Link
from tests.support.eventually import eventually
from tests.support.provider_context import FakeContext, Received

LOOPBACK = "127.0.0.1:0"
PATIENCE_S = 10.0
"""How long a test waits for what it expects; reached only when it fails."""


async def hello(received: Received) -> bytes:
    return answer(body=f"hello from {received.target}".encode())


def answer(**response: Any) -> bytes:
    return codec.pack(response)


@dataclass
class Served:
    """A running provider and its fake actor."""

    provider: HttpServer
    actor: FakeContext

    async def link(self, target: str = "echo", **config: str) -> Link:
        link = link_to(target, **config)
        await self.provider.put_link(link)
        return link

    def url(self, path: str = "/", *, index: int = -1) -> str:
        return f"http://{self.provider.addresses[index]}{path}"

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["Connection"]:
        address = self.provider.addresses[-1]
        reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            yield Connection(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@dataclass
class Connection:
    """A client that says exactly what it is told to."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, text: str | bytes) -> None:
        self.writer.write(text if isinstance(text, bytes) else text.encode())
        await self.writer.drain()

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(PATIENCE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status_line, *lines = head.strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(status_line.split(" ")[1]), headers, body

    async def rest(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


class Gate:
    """An actor that answers when it is told to."""

    def __init__(self) -> None:
        self._open = asyncio.Event()

    def open(self) -> None:
        self._open.set()

    async def __call__(self, received: Received) -> bytes:
        await self._open.wait()
        return answer(body=b"done")


def link_to(target: str, *, name: str = "default", **config: str) -> Link:
    return Link(
        source_id="http",
        target=target,
        name=name,
        wit_namespace="wasmcloud",
        wit_package="httpserver",
        source_config={"address": LOOPBACK} | config,
    )


@asynccontextmanager
async def serving(**config: str) -> AsyncIterator[Served]:
    provider, actor = HttpServer(), FakeContext("http", answer=hello)
    try:
        await provider.start(actor, config)
        yield Served(provider, actor)
    finally:
        await provider.stop()
    left = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert left == []


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False) as client:
        yield client


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["lattice-error"] == code
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert (document["status"], document["code"]) == (status, code)
    return document


async def test_a_request_becomes_a_call_and_its_answer_a_response(
    served: Served, client: httpx.AsyncClient
) -> None:
    await served.link("counter", name="front")

    async def created(received: Received) -> bytes:
        return answer(statusCode=201, header={"X-Count": ["1"]}, body=b"\x00body")

    served.actor.answer = created
    response = await client.put(
        served.url("/a%20b/%2F?q=1&r=%20"), content=b"in", headers={"X-Thing": "7"}
    )
    assert (response.status_code, response.content) == (201, b"\x00body")
    assert response.headers["x-count"] == "1"
    assert response.headers["content-length"] == "5"
    assert "date" in response.headers
    assert "server" not in response.headers

    [call] = served.actor.calls
    assert (call.target, call.interface, call.operation, call.link_name) == (
        "counter",
        "wasmcloud:httpserver",
        "HttpServer.HandleRequest",
        "front",
    )
    assert call.content["method"] == "PUT"
    assert call.content["path"] == "/a%20b/%2F"
    assert call.content["queryString"] == "q=1&r=%20"
    assert call.content["header"]["x-thing"] == ["7"]
    assert call.content["body"] == b"in"
    assert call.timeout_s == pytest.approx(limits.CALL_TIMEOUT_S, abs=1)


async def test_repeated_headers_arrive_as_a_list(served: Served) -> None:
    await served.link()
    async with served.connection() as connection:
        await connection.send("GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-a: 2\r\n\r\n")
        await connection.response()
    assert served.actor.calls[0].content["header"]["x-a"] == ["1", "2"]


async def test_a_body_in_chunks_is_put_together(served: Served, client: httpx.AsyncClient) -> None:
    await served.link()

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 10_000

    await client.post(served.url(), content=chunks())
    assert served.actor.calls[0].content["body"] == b"x" * 1_000_000


async def test_trailers_do_not_become_headers(served: Served) -> None:
    await served.link()
    async with served.connection() as connection:
        await connection.send(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi"
        )
        await connection.send("\r\n0\r\nAuthorization: forged\r\n\r\n")
        await connection.response()
    assert served.actor.calls[0].content["body"] == b"hi"
    assert "authorization" not in served.actor.calls[0].content["header"]


async def test_a_client_that_expects_100_continue_is_told_to(served: Served) -> None:
    await served.link()
    async with served.connection() as connection:
        await connection.send(
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        assert (await connection.response())[0] == 100
        await connection.send("hi")
        assert (await connection.response())[0] == 200


async def test_key_and_trace_of_the_client_are_passed_on(
    served: Served, client: httpx.AsyncClient
) -> None:
    await served.link()
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await client.get(served.url(), headers={"Idempotency-Key": "order-7", "traceparent": trace})
    await client.get(served.url(), headers={"traceparent": "nonsense"})
    first, second = served.actor.calls
    assert (first.key, first.trace) == ("order-7", trace)
    assert (second.key, second.trace) == (None, None)
    response = await client.get(served.url(), headers={"Idempotency-Key": "x" * 256})
    assert_problem(response, 400, "invalid_request")


async def test_a_response_to_head_has_no_body(served: Served, client: httpx.AsyncClient) -> None:
    await served.link()
    response = await client.head(served.url())
    assert response.headers["content-length"] == str(len("hello from echo"))
    assert response.content == b""

    async def only_length(received: Received) -> bytes:
        return answer(header={"Content-Length": ["42"]})

    served.actor.answer = only_length
    assert (await client.head(served.url())).headers["content-length"] == "42"
    assert (await client.head(served.url("/"))).status_code == 200


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_is_sent_without(
    served: Served, client: httpx.AsyncClient, status: int
) -> None:
    await served.link()

    async def with_body(received: Received) -> bytes:
        return answer(statusCode=status, body=b"must not be sent")

    served.actor.answer = with_body
    for _ in range(2):
        response = await client.get(served.url())
        assert (response.status_code, response.content) == (status, b"")
        assert "content-length" not in response.headers


async def test_headers_of_the_connection_are_not_the_actors_to_send(
    served: Served, client: httpx.AsyncClient
) -> None:
    await served.link()

    async def meddling(received: Received) -> bytes:
        return answer(
            header={
                "Transfer-Encoding": ["chunked"],
                "Content-Length": ["1"],
                "Connection": ["close"],
                "X-Kept": ["1"],
            },
            body=b"whole",
        )

    served.actor.answer = meddling
    response = await client.get(served.url())
    assert response.content == b"whole"
    assert "transfer-encoding" not in response.headers
    assert "connection" not in response.headers
    assert response.headers["x-kept"] == "1"


@pytest.mark.parametrize("error", errors.BY_CODE.values(), ids=errors.BY_CODE)
async def test_every_failure_of_a_call_is_a_problem(
    served: Served, client: httpx.AsyncClient, error: type[errors.LatticeError]
) -> None:
    await served.link()

    async def failing(received: Received) -> bytes:
        raise error.from_parts("why it failed", at="NHOST")

    served.actor.answer = failing
    response = await client.get(served.url())
    document = assert_problem(response, STATUS_BY_CODE[error.code], error.code)
    assert (document["detail"], document["at"]) == ("why it failed", "NHOST")
    assert ("retry-after" in response.headers) == (response.status_code in (429, 503))


async def test_a_bug_is_internal_and_says_where_to_look(
    served: Served, client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    await served.link()

    async def buggy(received: Received) -> bytes:
        raise ZeroDivisionError("secret detail")

    served.actor.answer = buggy
    document = assert_problem(await client.get(served.url()), 500, "internal")
    assert "secret" not in document["detail"]
    assert document["detail"].split()[-1] in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"not msgpack",
        codec.pack({"statusCode": 99}),
        codec.pack({"statusCode": 600}),
        codec.pack({"header": {"X-A": ["b\r\nSet-Cookie: c=d"]}}),
        codec.pack({"header": {"X-A\r\nSet-Cookie": ["c=d"]}}),
    ],
    ids=["empty", "noise", "status 99", "status 600", "line end in value", "line end in name"],
)
async def test_a_malformed_response_is_a_bad_gateway(
    served: Served, client: httpx.AsyncClient, payload: bytes
) -> None:
    await served.link()

    async def malformed(received: Received) -> bytes:
        return payload

    served.actor.answer = malformed
    response = await client.get(served.url())
    assert_problem(response, 502, "actor_error")
    assert "set-cookie" not in response.headers


async def test_a_declared_body_over_the_limit_is_refused_before_it_is_read(served: Served) -> None:
    await served.link(max_body_bytes="10")
    async with served.connection() as connection:
        await connection.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n")
        status, headers, body = await connection.response()
    assert (status, headers["lattice-error"]) == (413, "payload_too_large")
    assert "11 bytes, over the limit of 10" in json.loads(body)["detail"]
    assert served.actor.calls == []


async def test_a_streamed_body_over_the_limit_is_refused_while_it_streams(
    served: Served, client: httpx.AsyncClient
) -> None:
    await served.link(max_body_bytes="100000")
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 50_000_000:
            sent += 50_000
            yield b"x" * 50_000

    response = await client.post(served.url(), content=endless())
    assert_problem(response, 413, "payload_too_large")
    assert served.actor.calls == []


async def test_a_connection_is_of_use_again_after_a_refused_body_ended(served: Served) -> None:
    await served.link(max_body_bytes="10")
    async with served.connection() as connection:
        await connection.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n")
        assert (await connection.response())[0] == 413
        await connection.send(b"x" * 200_000)
        await connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await connection.response())[0] == 200


async def test_a_refused_body_that_never_ends_is_cut_off(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HTTP_LINGER_S", 0.01)
    monkeypatch.setattr(listener, "SWEEP_S", 0.01)
    await served.link(max_body_bytes="10")
    async with served.connection() as connection:
        await connection.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n")
        assert (await connection.response())[0] == 413
        assert await connection.rest() == b""


async def test_bodies_of_all_requests_together_are_bounded(
    served: Served, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HTTP_BODIES_BYTES_MAX", 1000)
    await served.link()
    served.actor.answer = gate = Gate()
    first = asyncio.ensure_future(client.post(served.url(), content=b"x" * 900))
    await eventually(lambda: served.actor.running == 1)
    assert_problem(await client.post(served.url(), content=b"x" * 200), 503, "overloaded")
    gate.open()
    assert (await first).status_code == 200
    assert (await client.post(served.url(), content=b"x" * 900)).status_code == 200


async def test_a_body_that_does_not_arrive_in_time_is_a_408(served: Served) -> None:
    await served.link(timeout_ms="50")
    async with served.connection() as connection:
        await connection.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nslow")
        status, headers, _ = await connection.response()
    assert (status, headers["lattice-error"]) == (408, "deadline_exceeded")
    assert served.actor.calls == []


async def test_a_head_that_does_not_arrive_in_time_is_a_408(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HTTP_HEAD_TIMEOUT_S", 0.01)
    monkeypatch.setattr(listener, "SWEEP_S", 0.01)
    await served.link()
    async with served.connection() as connection, served.connection() as silent:
        await connection.send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow")
        status, headers, _ = await connection.response()
        assert (status, headers["lattice-error"]) == (408, "deadline_exceeded")
        assert await connection.rest() == b""
        assert await silent.rest() == b""


async def test_an_idle_connection_is_closed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HTTP_KEEP_ALIVE_S", 0.01)
    monkeypatch.setattr(listener, "SWEEP_S", 0.01)
    await served.link()
    async with served.connection() as connection:
        await connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await connection.response())[0] == 200
        assert await connection.rest() == b""


@pytest.mark.parametrize(
    ("start", "endless", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: a\r\n", "X-A: " + "b" * 1000 + "\r\n", 431),
        ("GET /", "b" * 1000, 431),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;",
            "x" * 1000,
            431,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            "X-A: " + "b" * 1000 + "\r\n",
            431,
        ),
    ],
    ids=["headers", "request line", "chunk extension", "trailers"],
)
async def test_what_never_ends_is_cut_off(
    served: Served, start: str, endless: str, status: int
) -> None:
    await served.link()
    async with served.connection() as connection:
        await connection.send(start)

        async def pour() -> None:
            with suppress(ConnectionError):
                for _ in range(10_000):
                    await connection.send(endless)

        pouring = asyncio.ensure_future(pour())
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            assert (await connection.response())[0] == status
        await pouring
        await connection.rest()
    await eventually(lambda: served.actor.running == 0)
    assert served.actor.calls == []


async def test_connections_over_the_limit_are_closed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HTTP_CONNECTIONS_MAX", 1)
    await served.link()
    async with served.connection() as first:
        await first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await first.response())[0] == 200
        async with served.connection() as second:
            assert await second.rest() == b""
        await first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await first.response())[0] == 200


async def test_a_client_that_reads_nothing_is_cut_off(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HTTP_STALL_S", 0.05)
    monkeypatch.setattr(listener, "SWEEP_S", 0.01)
    await served.link()

    async def large(received: Received) -> bytes:
        return answer(body=b"x" * 12_000_000)

    served.actor.answer = large
    address = served.provider.addresses[0]
    with closing(socket.create_connection((address.host, address.port))) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await eventually(lambda: len(served.actor.calls) == 1)
        await served.provider.delete_link(link_to("echo"))
        # Its listener is gone once the connection is, which the client keeps open.
        await eventually(lambda: not served.provider._draining)


async def test_requests_over_the_links_limit_are_told_to_come_back(
    served: Served, client: httpx.AsyncClient
) -> None:
    await served.link(max_concurrent_requests="1")
    served.actor.answer = gate = Gate()
    first = asyncio.ensure_future(client.get(served.url()))
    await eventually(lambda: served.actor.running == 1)
    response = await client.get(served.url())
    assert_problem(response, 503, "overloaded")
    assert response.headers["retry-after"] == "1"
    gate.open()
    assert (await first).status_code == 200
    assert (await client.get(served.url())).status_code == 200


async def test_a_link_sets_the_deadline_and_a_client_may_only_shorten_it(
    served: Served, client: httpx.AsyncClient
) -> None:
    await served.link(timeout_ms="2000")
    for asked in (None, "500", "60000", "9" * 30):
        await client.get(served.url(), headers={"Lattice-Timeout-Ms": asked} if asked else {})
    assert [call.timeout_s for call in served.actor.calls] == [2.0, 0.5, 2.0, 2.0]


@pytest.mark.parametrize("asked", ["0", "-1", "soon", "1.5", ""])
async def test_a_deadline_that_is_none_is_refused(
    served: Served, client: httpx.AsyncClient, asked: str
) -> None:
    await served.link()
    response = await client.get(served.url(), headers={"Lattice-Timeout-Ms": asked})
    assert_problem(response, 400, "invalid_request")


async def test_an_actor_that_takes_too_long_is_a_gateway_timeout(
    served: Served, client: httpx.AsyncClient
) -> None:
    await served.link(timeout_ms="20")
    served.actor.answer = Gate()
    document = assert_problem(await client.get(served.url()), 504, "deadline_exceeded")
    assert document["at"] == served.actor.host_id


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_call_is_cancelled_when_its_client_goes_away(served: Served, method: str) -> None:
    await served.link()
    served.actor.answer = Gate()
    async with served.connection() as connection:
        await connection.send(f"{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        await eventually(lambda: served.actor.running == 1)
    await eventually(lambda: served.actor.cancelled == 1)
    assert served.actor.running == 0


async def test_a_client_that_goes_away_within_its_body_calls_nobody(served: Served) -> None:
    await served.link()
    async with served.connection() as connection:
        await connection.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhi")
    async with served.connection() as connection:
        await connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await connection.response()
    assert [call.content["method"] for call in served.actor.calls] == ["GET"]


async def test_a_connection_carries_many_requests(
    served: Served, client: httpx.AsyncClient
) -> None:
    await served.link()
    streams = set()
    for _ in range(3):
        response = await client.get(served.url())
        streams.add(response.extensions["network_stream"])
    assert len(streams) == 1


async def test_requests_leave_nothing_to_the_garbage_collector(served: Served) -> None:
    await served.link()
    requests = 50
    async with served.connection() as connection:

        async def ask(times: int) -> None:
            for _ in range(times):
                await connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                await connection.response()

        await ask(5)
        # What an earlier test left may take more than one round: finalizers let go of more.
        while gc.collect():
            pass
        gc.disable()
        try:
            await ask(requests)
            assert gc.collect() < requests
        finally:
            gc.enable()


async def test_a_link_may_want_a_connection_for_each(
    served: Served, client: httpx.AsyncClient
) -> None:
    await served.link(disable_keepalive="true")
    assert (await client.get(served.url())).headers["connection"] == "close"
    async with served.connection() as connection:
        await connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await connection.response()
        assert await connection.rest() == b""


async def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    await served.link()

    async def slow_first(received: Received) -> bytes:
        path = received.content["path"]
        for _ in range(10 - int(path[1:])):
            await asyncio.sleep(0)
        return answer(body=path.encode())

    served.actor.answer = slow_first
    async with served.connection() as connection:
        await connection.send("".join(f"GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n" for i in range(10)))
        bodies = [(await connection.response())[2] for _ in range(10)]
    assert bodies == [f"/{i}".encode() for i in range(10)]


async def test_requests_sent_too_far_ahead_are_refused(served: Served) -> None:
    await served.link()
    served.actor.answer = gate = Gate()
    ahead = limits.HTTP_PIPELINE_MAX
    async with served.connection() as connection:
        await connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n" * (ahead + 100))
        await eventually(lambda: served.actor.running == 1)
        gate.open()
        statuses = [(await connection.response())[0] for _ in range(ahead + 2)]
        assert statuses == [200] * (ahead + 1) + [429]
        assert await connection.rest() == b""
    assert len(served.actor.calls) == ahead + 1


async def test_requests_of_many_connections_run_at_once(
    served: Served, client: httpx.AsyncClient
) -> None:
    await served.link()
    served.actor.answer = gate = Gate()
    requests = [asyncio.ensure_future(client.get(served.url())) for _ in range(50)]
    await eventually(lambda: served.actor.running == 50)
    gate.open()
    assert {response.status_code for response in await asyncio.gather(*requests)} == {200}


async def test_noise_is_a_bad_request_in_our_words(served: Served) -> None:
    await served.link()
    async with served.connection() as connection:
        await connection.send("NOISE\r\n\r\n")
        status, headers, body = await connection.response()
        assert (status, headers["lattice-error"]) == (400, "invalid_request")
        assert json.loads(body)["status"] == 400
        assert await connection.rest() == b""


async def test_noise_behind_a_request_does_not_answer_it(served: Served) -> None:
    await served.link()
    served.actor.answer = gate = Gate()
    async with served.connection() as connection:
        await connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await eventually(lambda: served.actor.running == 1)
        await connection.send("NOISE\r\n\r\n")
        gate.open()
        assert (await connection.response())[2] == b"done"
        assert (await connection.response())[0] == 400
        assert await connection.rest() == b""


async def test_a_broken_chunk_is_a_bad_request(served: Served) -> None:
    await served.link()
    async with served.connection() as connection:
        await connection.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        await connection.send("zz\r\n")
        assert (await connection.response())[0] == 400
    assert served.actor.calls == []


async def test_a_request_with_two_lengths_is_refused(served: Served) -> None:
    await served.link()
    async with served.connection() as connection:
        await connection.send(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        assert (await connection.response())[0] == 400
    assert served.actor.calls == []


@pytest.mark.parametrize("target", ["*", "http://other.example/x", "/ü"])
async def test_odd_request_targets_break_nothing(served: Served, target: str) -> None:
    await served.link()
    async with served.connection() as connection:
        await connection.send(f"OPTIONS {target} HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await connection.response())[0] in (200, 400)
    async with served.connection() as connection:
        await connection.send("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n")
        await connection.response()


async def test_an_upgrade_that_nobody_offers_is_ignored(served: Served) -> None:
    await served.link()
    async with served.connection() as connection:
        await connection.send(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        )
        assert (await connection.response())[0] == 200
        await connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await connection.response())[0] == 200


async def test_paths_and_hosts_choose_the_link(client: httpx.AsyncClient) -> None:
    async with serving(routing_mode="path", default_address=LOOPBACK) as served:
        await served.link("root", path="/*")
        await served.link("api", path="/api/*")
        assert len(served.provider.addresses) == 1
        assert (await client.get(served.url("/api/x"))).text == "hello from api"
        assert (await client.get(served.url("/apix"))).text == "hello from root"
    async with serving(routing_mode="host", header="X-Tenant", default_address=LOOPBACK) as served:
        await served.link("one", host="one.example")
        url = served.url()
        assert (await client.get(url, headers={"x-tenant": "ONE.example"})).text.endswith("one")
        assert_problem(await client.get(url, headers={"x-tenant": "two"}), 404, "not_found")
        assert_problem(await client.get(url), 400, "invalid_request")


async def test_an_unknown_path_is_not_found(client: httpx.AsyncClient) -> None:
    async with serving(routing_mode="path", default_address=LOOPBACK) as served:
        response = await client.get(served.url("/nobody"))
        assert_problem(response, 404, "not_found")
        assert response.headers["cache-control"] == "no-store"


async def test_two_links_have_two_addresses(served: Served, client: httpx.AsyncClient) -> None:
    await served.link("one")
    await served.link("two")
    assert (await client.get(served.url(index=0))).text == "hello from one"
    assert (await client.get(served.url(index=1))).text == "hello from two"


async def test_an_address_in_use_is_an_error_that_names_it(served: Served) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(errors.AlreadyExists, match=address):
            await served.link(address=address)
    await served.link(address=address)
    with pytest.raises(errors.Conflict, match=address):
        await served.link("other", address=address)
    with pytest.raises(errors.AlreadyExists, match=r"0\.0\.0\.0"):
        await served.link("other", address=address.replace("127.0.0.1", "0.0.0.0"))


async def test_an_address_of_another_machine_is_refused(served: Served) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"192\.0\.2\.1:80"):
        await served.link(address="192.0.2.1:80")


async def test_a_provider_whose_address_is_taken_does_not_start() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        provider = HttpServer()
        with pytest.raises(errors.AlreadyExists, match=address):
            await provider.start(
                FakeContext("http"), {"routing_mode": "path", "default_address": address}
            )
        await provider.stop()


async def test_a_changed_link_applies_at_once_on_an_open_connection(served: Served) -> None:
    await served.link()
    async with served.connection() as connection:
        await connection.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        assert (await connection.response())[0] == 200
        await served.link(readonly_mode="true")
        await connection.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        status, headers, _ = await connection.response()
        assert (status, headers["allow"]) == (405, "GET, HEAD")
        await connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await connection.response())[0] == 200


async def test_an_equal_link_makes_no_difference(served: Served) -> None:
    await served.link()
    before = served.provider.addresses
    await served.link()
    assert served.provider.addresses == before


async def test_a_link_moves_to_another_address(served: Served, client: httpx.AsyncClient) -> None:
    await served.link()
    old = served.url()
    await served.link(address="127.0.0.2:0")
    assert len(served.provider.addresses) == 1
    assert (await client.get(served.url())).status_code == 200
    with pytest.raises(httpx.ConnectError):
        await client.get(old)


async def test_a_link_moves_to_all_interfaces_on_the_port_it_has(
    served: Served, client: httpx.AsyncClient
) -> None:
    await served.link()
    port = served.provider.addresses[0].port
    for address in (f"127.0.0.1:{port}", f"0.0.0.0:{port}", f"127.0.0.1:{port}"):
        await served.link(address=address)
        # A connection of its own: the pooled one may be closing at this very moment.
        response = await client.get(f"http://127.0.0.1:{port}/", headers={"Connection": "close"})
        assert response.status_code == 200


async def test_a_change_that_cannot_work_leaves_the_link_as_it_was(
    served: Served, client: httpx.AsyncClient
) -> None:
    await served.link()
    with pytest.raises(errors.InvalidRequest, match="timeout_ms"):
        await served.link(timeout_ms="never")
    with pytest.raises(errors.InvalidRequest, match="tls_cert_file"):
        await served.link(tls_cert_file="/nowhere", tls_priv_key_file="/nowhere")
    assert (await client.get(served.url())).status_code == 200


async def test_a_deleted_link_closes_its_address_while_requests_end(
    served: Served, client: httpx.AsyncClient
) -> None:
    link = await served.link()
    served.actor.answer = gate = Gate()
    url = served.url()
    running = asyncio.ensure_future(client.get(url))
    await eventually(lambda: served.actor.running == 1)
    async with served.connection() as idle:
        await served.provider.delete_link(link)
        assert await idle.rest() == b""
    with pytest.raises(httpx.ConnectError):
        await client.get(url)
    gate.open()
    assert (await running).text == "done"
    await served.provider.delete_link(link)


async def test_a_deleted_links_address_is_free_for_the_next(
    served: Served, client: httpx.AsyncClient
) -> None:
    link = await served.link()
    address = str(served.provider.addresses[0])
    await served.provider.delete_link(link)
    await served.link("next", address=address)
    assert (await client.get(served.url())).text == "hello from next"


async def test_a_deleted_route_is_not_found_while_its_requests_end(
    client: httpx.AsyncClient,
) -> None:
    async with serving(routing_mode="path", default_address=LOOPBACK) as served:
        link = await served.link(path="/a")
        served.actor.answer = gate = Gate()
        running = asyncio.ensure_future(client.get(served.url("/a")))
        await eventually(lambda: served.actor.running == 1)
        await served.provider.delete_link(link)
        assert_problem(await client.get(served.url("/a")), 404, "not_found")
        gate.open()
        assert (await running).text == "done"


async def test_the_routing_mode_changes_while_links_stay(
    served: Served, client: httpx.AsyncClient
) -> None:
    await served.link("one", path="/one")
    await served.link("two", path="/two")
    await served.provider.update_config({"routing_mode": "path", "default_address": LOOPBACK})
    assert (await client.get(served.url("/two"))).text == "hello from two"
    assert len(served.provider.addresses) == 1


async def test_a_configuration_that_a_link_cannot_follow_is_refused(
    served: Served, client: httpx.AsyncClient
) -> None:
    await served.link("one")
    with pytest.raises(errors.InvalidRequest, match="path is missing"):
        await served.provider.update_config({"routing_mode": "path", "default_address": LOOPBACK})
    assert (await client.get(served.url())).status_code == 200


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"wit_namespace": "wasi", "wit_package": "cli"}, "not wasi:cli"),
        ({"wit_package": "keyvalue"}, "not wasmcloud:keyvalue"),
        ({"source_id": "echo", "target": "http"}, "is the source of its links"),
    ],
)
async def test_links_it_cannot_serve_are_refused(
    served: Served, change: dict[str, str], text: str
) -> None:
    with pytest.raises(errors.InvalidRequest, match=text):
        await served.provider.put_link(link_to("echo").model_copy(update=change))


async def test_cors_is_answered_for_the_actor(served: Served, client: httpx.AsyncClient) -> None:
    await served.link(cors_allowed_origins='["https://a.example"]', readonly_mode="true")
    origin = {"Origin": "https://a.example"}
    preflight = origin | {"Access-Control-Request-Method": "PUT"}
    response = await client.options(served.url(), headers=preflight)
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == "https://a.example"
    assert response.headers["access-control-max-age"] == "300"
    assert served.actor.calls == []

    response = await client.get(served.url(), headers=origin)
    assert response.headers["access-control-allow-origin"] == "https://a.example"
    refused = await client.post(served.url(), headers=origin)
    assert_problem(refused, 405, "denied")
    assert refused.headers["access-control-allow-origin"] == "https://a.example"

    elsewhere = {"Origin": "https://b.example"}
    response = await client.options(served.url(), headers=preflight | elsewhere)
    assert_problem(response, 403, "denied")
    response = await client.get(served.url(), headers=elsewhere)
    assert "access-control-allow-origin" not in response.headers
    assert response.headers["vary"] == "origin"


async def test_without_cors_settings_the_actor_answers_preflights(
    served: Served, client: httpx.AsyncClient
) -> None:
    await served.link()
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "PUT"}
    await client.options(served.url(), headers=headers)
    assert served.actor.calls[0].content["method"] == "OPTIONS"


async def test_cache_control_is_added_where_the_actor_said_nothing(
    served: Served, client: httpx.AsyncClient
) -> None:
    await served.link(cache_control="max-age=60")
    assert (await client.get(served.url())).headers["cache-control"] == "max-age=60"

    async def private(received: Received) -> bytes:
        return answer(header={"Cache-Control": ["private"]})

    served.actor.answer = private
    assert (await client.get(served.url())).headers["cache-control"] == "private"


async def test_a_response_says_what_the_call_took(
    served: Served, client: httpx.AsyncClient
) -> None:
    served.actor.usage = Usage(cpu_us=1_234, queue_us=56_000)
    await served.link()

    timing = (await client.get(served.url())).headers["server-timing"]

    assert re.fullmatch(r"cpu;dur=1\.234, queue;dur=56\.000, total;dur=\d+\.\d{3}", timing)


async def test_what_a_call_took_is_the_whole_of_it_where_the_actor_says_nothing(
    served: Served, client: httpx.AsyncClient
) -> None:
    await served.link()

    timing = (await client.get(served.url())).headers["server-timing"]

    assert re.fullmatch(r"total;dur=\d+\.\d{3}", timing)


async def test_a_link_may_keep_to_itself_what_calls_take(
    served: Served, client: httpx.AsyncClient
) -> None:
    await served.link(disable_server_timing="true")

    assert "server-timing" not in (await client.get(served.url())).headers


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
    command += f" -keyout {key} -out {cert} -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(command.split(), check=True, capture_output=True)
    return cert, key


async def test_tls_is_served_and_switched_on_where_it_was_off(
    served: Served, client: httpx.AsyncClient, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    await served.link()
    address = str(served.provider.addresses[0])
    await served.link(address=address)
    assert (await client.get(f"http://{address}/")).status_code == 200
    await served.link(address=address, tls_cert_file=str(cert), tls_priv_key_file=str(key))
    trust = ssl.create_default_context(cafile=str(cert))
    async with httpx.AsyncClient(verify=trust, trust_env=False) as trusting:
        assert (await trusting.get(f"https://{address}/")).text == "hello from echo"


@pytest.fixture
def locked_key(certificate: tuple[Path, Path], tmp_path: Path) -> Path:
    locked = tmp_path / "locked.pem"
    command = f"openssl ec -in {certificate[1]} -out {locked} -aes128 -passout pass:x"
    subprocess.run(command.split(), check=True, capture_output=True)
    return locked


async def test_a_key_with_a_passphrase_is_refused_and_not_asked_for(
    served: Served, certificate: tuple[Path, Path], locked_key: Path
) -> None:
    with pytest.raises(errors.InvalidRequest, match="encrypted"):
        await served.link(tls_cert_file=str(certificate[0]), tls_priv_key_file=str(locked_key))


async def test_health_names_the_address_that_does_not_listen(served: Served) -> None:
    await served.link()
    assert (await served.provider.health()).healthy
    served.provider._sites[link_to("echo").key].listener.stop_accepting()
    health = await served.provider.health()
    assert not health.healthy
    assert LOOPBACK in (health.message or "")


async def test_stopping_lets_running_requests_end(
    served: Served, client: httpx.AsyncClient
) -> None:
    await served.link()
    served.actor.answer = gate = Gate()
    url = served.url()
    running = asyncio.ensure_future(client.get(url))
    await eventually(lambda: served.actor.running == 1)
    stopping = asyncio.ensure_future(served.provider.stop())
    await eventually(lambda: not served.provider.addresses)
    with pytest.raises(httpx.ConnectError):
        await client.get(url)
    gate.open()
    assert (await running).text == "done"
    await stopping


async def test_stopping_cuts_off_what_does_not_end(
    served: Served, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HTTP_STOP_S", 0.01)
    await served.link()
    served.actor.answer = Gate()
    running = asyncio.ensure_future(client.get(served.url()))
    await eventually(lambda: served.actor.running == 1)
    await served.provider.stop()
    assert served.actor.cancelled == 1
    assert_problem(await running, 503, "cancelled")


async def test_stopping_twice_and_before_starting_is_harmless(served: Served) -> None:
    await HttpServer().stop()
    await served.link()
    await served.provider.stop()
    await served.provider.stop()


def test_it_works_on_uvloop_as_well() -> None:
    async def use() -> None:
        # Kept-alive connections may be closing at the very moment they are used again.
        one_each = httpx.AsyncClient(trust_env=False, headers={"Connection": "close"})
        async with serving() as served, one_each as client:
            link = await served.link()
            address = str(served.provider.addresses[0])
            assert (await client.post(served.url(), content=b"x" * 300_000)).status_code == 200
            await served.provider.delete_link(link)
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://{address}/")
            await served.link("next", address=address)
            await served.link("next", address=address.replace("127.0.0.1", "0.0.0.0"))
            assert (await client.get(f"http://{address}/")).text == "hello from next"
            served.actor.answer = Gate()
            async with served.connection() as connection:
                await connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                await eventually(lambda: served.actor.running == 1)
            await eventually(lambda: served.actor.cancelled == 1)

    uvloop.run(use())
