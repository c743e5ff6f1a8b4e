"""What the HTTP client promises over both of its faces, against real servers on real sockets."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol

import msgpack
import pytest

from lattice import errors, limits
from lattice.wire import http
from providers.http_client.addresses import Address
from providers.http_client.failures import Failure
from providers.http_client.provider import HttpClient
from providers.sdk import Call, Link, Reply
from tests.support.eventually import eventually
from tests.support.origin import (
    Asked,
    Certificate,
    Origin,
    answer,
    certificate_for,
    redirects,
    writes,
)
from tests.support.provider_context import FakeContext

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

LOOPBACK = "http://127.0.0.1:*"
LOOPBACK_TLS = "https://127.0.0.1:*"


@dataclass
class Names:
    """A resolver that answers what the test says; of several answers each in turn, then the last.

    Names that it does not know are addresses of 127.0.0.1.
    """

    answers: dict[str, list[list[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    is_mute: bool = False

    async def resolve(self, name: str) -> list[Address]:
        self.asked.append(name)
        if self.is_mute:
            await asyncio.Event().wait()
        found = self.answers.get(name, [["127.0.0.1"]])
        addresses = found.pop(0) if len(found) > 1 else found[0]
        if not addresses:
            raise Failure("DNS-error", f"{name} has no address", {"rcode": None, "info-code": None})
        return [ip_address(each) for each in addresses]


class Refused(Exception):
    """No response; ``case`` is WASI's. One face has words for it, the other a payload."""

    def __init__(self, case: str, *, text: str | None = None, payload: Any = None) -> None:
        super().__init__(f"{case}: {text or payload}")
        self.case = case
        self.text = text
        self.payload = payload


@dataclass
class Received:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)


def content(answer: bytes | Reply) -> bytes:
    """An answer that is whole."""
    if isinstance(answer, bytes):
        return answer
    assert answer.stream is None
    return answer.payload


class Face(Protocol):
    """One way to call the provider."""

    name: str

    def link(self, source: str, config: dict[str, str]) -> Link: ...

    async def send(
        self,
        provider: HttpClient,
        link: Link,
        url: str,
        *,
        method: str = "GET",
        headers: list[tuple[str, str]] | None = None,
        body: bytes = b"",
        timeout_s: float = 10,
    ) -> Received: ...


def deadline(timeout_s: float) -> float:
    return asyncio.get_running_loop().time() + timeout_s


class Wapc:
    """``wasmcloud:httpclient``."""

    name = "waPC"

    def link(self, source: str, config: dict[str, str]) -> Link:
        return Link(
            source_id=source,
            target="client",
            wit_namespace="wasmcloud",
            wit_package="httpclient",
            target_config=config,
        )

    async def send(
        self,
        provider: HttpClient,
        link: Link,
        url: str,
        *,
        method: str = "GET",
        headers: list[tuple[str, str]] | None = None,
        body: bytes = b"",
        timeout_s: float = 10,
    ) -> Received:
        header_map: dict[str, list[str]] = {}
        for name, value in headers or []:
            header_map.setdefault(name, []).append(value)
        payload = {"method": method, "url": url, "headers": header_map, "body": body}
        try:
            reply = await self.call(provider, link, payload, timeout_s=timeout_s)
        except errors.LatticeError as error:
            raise Refused(str(error.detail.get("case")), text=error.text) from error
        received = [(name, value) for name, values in reply["header"].items() for value in values]
        return Received(reply["statusCode"], received, reply["body"])

    async def call(
        self,
        provider: HttpClient,
        link: Link,
        payload: Any,
        *,
        operation: str = "HttpClient.Request",
        timeout_s: float = 10,
    ) -> Any:
        call = Call(
            source=link.source_id,
            link=link,
            interface="wasmcloud:httpclient",
            operation=operation,
            payload=msgpack.packb(payload),
            deadline=deadline(timeout_s),
        )
        return msgpack.unpackb(content(await provider.handle(call)))


class Wasi:
    """``wasi:http/outgoing-handler``."""

    name = "WASI"

    def link(self, source: str, config: dict[str, str]) -> Link:
        return Link(
            source_id=source,
            target="client",
            wit_namespace="wasi",
            wit_package="http",
            interfaces=["outgoing-handler"],
            target_config=config,
        )

    async def send(
        self,
        provider: HttpClient,
        link: Link,
        url: str,
        *,
        method: str = "GET",
        headers: list[tuple[str, str]] | None = None,
        body: bytes = b"",
        timeout_s: float = 10,
    ) -> Received:
        scheme, _, rest = url.partition("://")
        authority, slash, path = rest.partition("/")
        request = http.Request(
            method=method,
            scheme=scheme,
            authority=authority,
            path=slash + path,
            headers=[(name, value.encode("latin-1")) for name, value in headers or []],
            body=body,
        )
        response = await self.call(provider, link, request, http.Options(), timeout_s=timeout_s)
        received = [(name, value.decode("latin-1")) for name, value in response.headers]
        return Received(response.status, received, response.body)

    async def call(
        self,
        provider: HttpClient,
        link: Link,
        request: http.Request,
        options: http.Options,
        *,
        timeout_s: float = 10,
    ) -> http.Response:
        call = Call(
            source=link.source_id,
            link=link,
            interface=http.OUTGOING_INTERFACE,
            operation=http.OUTGOING_OPERATION,
            payload=http.pack_outgoing_request(request, options),
            deadline=deadline(timeout_s),
        )
        outcome = http.unpack_outcome(content(await provider.handle(call)))
        if isinstance(outcome, dict):
            [(case, payload)] = outcome.items()
            raise Refused(case, payload=payload)
        return outcome


@dataclass
class Client:
    """A provider with one link, used over one face."""

    face: Face
    provider: HttpClient
    names: Names
    link: Link

    async def get(self, url: str, **options: Any) -> Received:
        return await self.face.send(self.provider, self.link, url, **options)

    async def relink(self, **config: str) -> None:
        """Put the link again, changed."""
        self.link = self.face.link(self.link.source_id, config)
        await self.provider.put_link(self.link)

    async def linked(self, source: str, **config: str) -> "Client":
        """Another link of the same provider."""
        link = self.face.link(source, config)
        await self.provider.put_link(link)
        return Client(self.face, self.provider, self.names, link)

    @property
    def open_connections(self) -> int:
        return self.provider._budget.connections


@asynccontextmanager
async def client_over(face: Face) -> AsyncIterator[Client]:
    names = Names()
    provider = HttpClient(names)
    await provider.start(FakeContext("client"), {})
    link = face.link("actor", {"allow": LOOPBACK})
    await provider.put_link(link)
    try:
        yield Client(face, provider, names, link)
    finally:
        await provider.stop()
        await eventually(lambda: provider._budget.connections == 0)
        assert provider._budget.bodies_bytes == 0


@pytest.fixture(params=[Wapc(), Wasi()], ids=lambda face: face.name)
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    async with client_over(request.param) as client:
        yield client


@pytest.fixture
async def wapc() -> AsyncIterator[Client]:
    async with client_over(Wapc()) as client:
        yield client


@pytest.fixture
async def wasi() -> AsyncIterator[Client]:
    async with client_over(Wasi()) as client:
        yield client


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        yield origin


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate_for(tmp_path_factory.mktemp("tls"), "DNS:shop.example", "IP:127.0.0.1")


async def refused(sending: Awaitable[Received], case: str, text: str = "") -> None:
    """Expect no response, for this reason."""
    with pytest.raises(Refused) as caught:
        await sending
    assert caught.value.case == case, caught.value
    assert caught.value.text is None or text in caught.value.text


async def test_a_request_arrives_as_it_was_sent_and_so_does_its_response(
    client: Client, origin: Origin
) -> None:
    body = bytes(range(256)) * 300
    origin.answers = writes(answer(body[::-1], ("X-Set", "a"), ("x-set", "b"), status="201 Made"))
    received = await client.get(
        f"{origin.url}/a/../b%20c?d=e&f",
        method="POST",
        headers=[("x-One", "1"), ("X-one", "2"), ("content-type", "text/plain")],
        body=body,
    )

    [asked] = origin.asked
    assert (asked.method, asked.path) == ("POST", "/a/../b%20c?d=e&f")
    assert asked.body == body
    assert [v for name, v in asked.headers if name.lower() == "x-one"] == ["1", "2"]
    assert asked.header("content-type") == "text/plain"
    assert asked.header("host") == f"127.0.0.1:{origin.port}"
    assert received.status == 201
    assert received.body == body[::-1]
    assert [v for name, v in received.headers if name == "x-set"] == ["a", "b"]


async def test_the_client_adds_nothing_that_it_does_not_need(
    client: Client, origin: Origin
) -> None:
    await client.get(origin.url)

    assert origin.asked == [Asked("GET", "/", [("host", f"127.0.0.1:{origin.port}")], b"")]


async def test_a_link_without_rules_allows_nothing(client: Client, origin: Origin) -> None:
    await client.relink()

    await refused(client.get(origin.url), "HTTP-request-denied", "add http://127.0.0.1")
    assert origin.connections == 0


async def test_a_refused_target_is_neither_looked_up_nor_connected_to(
    client: Client, origin: Origin
) -> None:
    await client.relink(allow=f"http://a.example:{origin.port}")

    await refused(client.get(f"http://b.example:{origin.port}/"), "HTTP-request-denied")
    await refused(client.get(f"http://a.example:{origin.port + 1}/"), "HTTP-request-denied")
    await refused(client.get(f"https://a.example:{origin.port}/"), "HTTP-request-denied")
    assert client.names.asked == []
    assert origin.connections == 0


async def test_a_name_that_leads_inside_is_refused(client: Client, origin: Origin) -> None:
    await client.relink(allow="http://*:*")

    await refused(client.get(f"http://evil.example:{origin.port}/"), "destination-IP-prohibited")
    await refused(client.get(f"http://127.0.0.1:{origin.port}/"), "destination-IP-prohibited")
    await refused(client.get(f"http://[::1]:{origin.port}/"), "destination-IP-prohibited")
    client.names.answers["mapped.example"] = [["::ffff:127.0.0.1"]]
    await refused(client.get(f"http://mapped.example:{origin.port}/"), "destination-IP-prohibited")
    assert origin.connections == 0


async def test_a_network_in_the_list_opens_it_for_names(client: Client, origin: Origin) -> None:
    await client.relink(allow=f"http://a.example:{origin.port} http://127.0.0.0/8:{origin.port}")

    assert (await client.get(f"http://a.example:{origin.port}/")).status == 200
    assert origin.asked[0].header("host") == f"a.example:{origin.port}"


async def test_of_several_addresses_only_those_allowed_are_connected_to(
    client: Client, origin: Origin
) -> None:
    async with Origin(host="127.0.0.2", port=origin.port) as inside:
        client.names.answers["a.example"] = [["127.0.0.2", "10.1.2.3", "127.0.0.1"]]
        await client.relink(allow="http://a.example:* http://127.0.0.1:*")

        assert (await client.get(f"http://a.example:{origin.port}/")).status == 200
        assert inside.connections == 0


async def test_a_dead_address_gives_way_to_the_next(client: Client, origin: Origin) -> None:
    client.names.answers["a.example"] = [["127.0.0.3", "127.0.0.1"]]
    await client.relink(allow="http://a.example:* http://127.0.0.0/8:*")

    assert (await client.get(f"http://a.example:{origin.port}/")).status == 200


async def test_a_name_server_that_changes_its_mind_leads_nowhere_else(
    client: Client, origin: Origin
) -> None:
    async with Origin(host="127.0.0.2", port=origin.port) as inside:
        # The first answer is judged and connected to; the second comes when it would be too late.
        client.names.answers["rebinds.example"] = [["127.0.0.1"], ["127.0.0.2"]]
        await client.relink(allow="http://rebinds.example:* http://127.0.0.1:*")
        url = f"http://rebinds.example:{origin.port}/"

        assert (await client.get(url)).status == 200
        assert client.names.asked == ["rebinds.example"]
        await client.relink(allow="http://rebinds.example:* http://127.0.0.1:*")
        await refused(client.get(url), "destination-IP-prohibited")

        assert client.names.asked == ["rebinds.example"] * 2
        assert (len(origin.asked), inside.connections) == (1, 0)


async def test_nothing_but_the_resolver_looks_names_up(
    client: Client, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.relink(allow="http://a.example:* http://127.0.0.1:*")

    def look_up(*_arguments: Any, **_options: Any) -> Any:
        raise AssertionError("a second lookup")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert (await client.get(f"http://a.example:{origin.port}/")).status == 200


async def test_proxies_of_the_environment_are_not_asked(
    client: Client, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Origin() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert (await client.get(origin.url)).status == 200
        assert proxy.connections == 0


async def test_a_name_without_address_is_a_dns_error(client: Client) -> None:
    await client.relink(allow="http://gone.example")
    client.names.answers["gone.example"] = [[]]

    await refused(client.get("http://gone.example/"), "DNS-error", "has no address")


async def test_name_servers_have_as_long_as_a_connection_may_take(client: Client) -> None:
    await client.relink(allow="http://slow.example", connect_timeout_ms="30")
    client.names.is_mute = True

    await refused(client.get("http://slow.example/"), "DNS-timeout")


async def test_a_port_where_nobody_listens_is_refused(client: Client) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        await refused(client.get(f"http://127.0.0.1:{port}/"), "connection-refused")


async def test_tls_is_asked_for_by_name_and_checked_by_it(
    client: Client, certificate: Certificate
) -> None:
    async with Origin(tls=certificate.server_context) as origin:
        await client.relink(
            allow="https://*:* https://127.0.0.1:*", ca_file=str(certificate.certificate)
        )
        received = await client.get(f"https://shop.example:{origin.port}/")
        assert received.body == b"hello"
        assert origin.names == ["shop.example"]
        assert origin.asked[0].header("host") == f"shop.example:{origin.port}"

        assert (await client.get(f"https://127.0.0.1:{origin.port}/")).status == 200
        await refused(
            client.get(f"https://other.example:{origin.port}/"), "TLS-certificate-error", "ca_file"
        )
        assert len(origin.asked) == 2


async def test_a_certificate_of_nobody_is_not_trusted(
    client: Client, certificate: Certificate
) -> None:
    await client.relink(allow=LOOPBACK_TLS)
    async with Origin(tls=certificate.server_context) as origin:
        await refused(client.get(origin.url), "TLS-certificate-error", "ca_file of the link")
        assert origin.asked == []


async def test_a_server_without_tls_is_told_from_one_with_it(client: Client) -> None:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    await client.relink(allow=LOOPBACK_TLS)
    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await refused(client.get(f"https://127.0.0.1:{port}/"), "TLS-protocol-error")


async def test_a_server_that_refuses_our_tls_says_why(client: Client) -> None:
    async def alert(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        # A fatal handshake_failure, in a record of its own.
        writer.write(b"\x15\x03\x03\x00\x02\x02\x28")
        await reader.read()
        writer.transport.abort()

    await client.relink(allow=LOOPBACK_TLS)
    async with await asyncio.start_server(alert, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await refused(
            client.get(f"https://127.0.0.1:{port}/"), "TLS-alert-received", "HANDSHAKE_FAILURE"
        )


async def test_a_handshake_that_is_never_answered_ends_with_the_time_to_connect(
    client: Client, origin: Origin
) -> None:
    origin.is_accepting = False
    await client.relink(allow=LOOPBACK_TLS, connect_timeout_ms="30")

    await refused(client.get(f"https://127.0.0.1:{origin.port}/"), "connection-timeout")
    await eventually(lambda: client.open_connections == 0)


async def silent(_: Asked, __: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def stalls_after(data: bytes) -> Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]:
    async def stall(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await asyncio.Event().wait()

    return stall


async def test_a_server_that_does_not_begin_is_given_up(client: Client, origin: Origin) -> None:
    origin.answers = silent
    await client.relink(allow=LOOPBACK, first_byte_timeout_ms="30")

    await refused(client.get(origin.url), "HTTP-response-timeout", "0.03 s")
    await eventually(lambda: not origin.open)


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
    ],
    ids=["in its head", "in a body of known length", "between chunks", "in an open body"],
)
async def test_a_server_that_stops_in_the_middle_is_given_up(
    client: Client, origin: Origin, sent: bytes
) -> None:
    origin.answers = stalls_after(sent)
    await client.relink(allow=LOOPBACK, between_bytes_timeout_ms="30")

    await refused(client.get(origin.url), "connection-read-timeout", "0.03 s")
    await eventually(lambda: not origin.open)


async def test_a_server_that_takes_nothing_is_given_up(client: Client, origin: Origin) -> None:
    origin.is_accepting = False
    await client.relink(
        allow=LOOPBACK, between_bytes_timeout_ms="50", max_request_body_bytes=str(15 * limits.MIB)
    )
    # More than both systems' buffers and the server's own take in.
    body = b"x" * 15 * limits.MIB

    await refused(client.get(origin.url, method="PUT", body=body), "connection-write-timeout")


@pytest.mark.parametrize("answers", [silent, stalls_after(b"HTTP/1.1 200 OK\r\n\r\nhello")])
async def test_the_deadline_of_the_call_ends_everything(
    client: Client, origin: Origin, answers: Any
) -> None:
    origin.answers = answers

    await refused(client.get(origin.url, timeout_s=0.1), "HTTP-response-timeout", "deadline")
    await eventually(lambda: not origin.open)


async def test_cancelling_a_call_closes_its_connection(client: Client, origin: Origin) -> None:
    origin.answers = silent
    async with asyncio.TaskGroup() as group:
        call = group.create_task(client.get(origin.url))
        await eventually(lambda: origin.asked)
        call.cancel()
    await eventually(lambda: not origin.open)
    assert client.open_connections == 0


TOO_LARGE = "HTTP-response-body-size"


@pytest.mark.parametrize(
    ("sent", "case"),
    [
        (answer(b"x" * 1001), TOO_LARGE),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n", TOO_LARGE),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3e9\r\n"
            + b"x" * 1001
            + b"\r\n0\r\n\r\n",
            TOO_LARGE,
        ),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001, TOO_LARGE),
        (
            b"HTTP/1.1 200 OK\r\nx: " + b"x" * 70_000 + b"\r\n\r\n",
            "HTTP-response-header-section-size",
        ),
        (
            b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000,
            "HTTP-response-header-section-size",
        ),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17, "HTTP-protocol-error"),
        (b"", "connection-terminated"),
        (b"HTTP/1.1 200 OK\r\ncontent-", "HTTP-response-incomplete"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", "HTTP-response-incomplete"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello", "HTTP-response-incomplete"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "HTTP-response-incomplete",
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n",
            "HTTP-protocol-error",
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\nhello\r\n",
            "HTTP-protocol-error",
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloxx0\r\n\r\n",
            "HTTP-protocol-error",
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "HTTP-protocol-error"),
        (b"HTTP/2 200\r\n\r\n", "HTTP-protocol-error"),
        (b"\x16\x03\x01\x00\x05hello\r\n\r\n", "HTTP-protocol-error"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "HTTP-protocol-error"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "HTTP-protocol-error"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            "HTTP-protocol-error",
        ),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", "HTTP-protocol-error"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n",
            "HTTP-protocol-error",
        ),
    ],
)
async def test_rubbish_and_excess_end_in_an_error_that_names_them(
    client: Client, origin: Origin, sent: bytes, case: str
) -> None:
    origin.answers = writes(sent, closes=True)
    await client.relink(allow=LOOPBACK, max_response_body_bytes="1000")

    await refused(client.get(origin.url), case)
    await eventually(lambda: client.open_connections == 0)
    origin.answers = writes(answer(b"x" * 1000))
    assert len((await client.get(origin.url)).body) == 1000


async def test_a_reset_ends_a_body_that_only_the_connection_bounds(
    client: Client, origin: Origin
) -> None:
    async def reset(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhello")
        await writer.drain()
        await gate.wait()
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
        )
        writer.transport.abort()

    gate = asyncio.Event()
    origin.answers = reset
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(refused(client.get(origin.url), "HTTP-response-incomplete"))
        await eventually(lambda: client.provider._budget.bodies_bytes == 5)
        gate.set()
    assert sending.done()


async def test_chunks_of_a_byte_each_are_an_attack(client: Client, origin: Origin) -> None:
    await client.relink(allow=LOOPBACK)
    origin.answers = writes(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 11_000
    )

    await refused(client.get(origin.url), "HTTP-protocol-error", "10040 parts for")


async def test_small_chunks_are_fine_otherwise(client: Client, origin: Origin) -> None:
    origin.answers = writes(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        + b"1;ext=x\r\nx\r\n" * 5_000
        + b"0\r\n\r\n"
    )

    assert (await client.get(origin.url)).body == b"x" * 5_000


async def test_a_body_keeps_its_coding(client: Client, origin: Origin) -> None:
    packed = gzip.compress(b"hello" * 100)
    origin.answers = writes(answer(packed, ("content-encoding", "gzip")))

    received = await client.get(origin.url)
    assert received.body == packed
    assert received.header("content-encoding") == "gzip"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-a", "1\r\nx-b: 2"),
        ("x-a", "1\nx-b: 2"),
        ("x-a", "1\rx-b: 2"),
        ("x-a", "\0"),
        ("x-a", "\x7f"),
        ("x-a\r\nx-b", "1"),
        ("x a", "1"),
        ("x-a:", "1"),
        ("", "1"),
        ("ä", "1"),
    ],
)
async def test_no_header_writes_another(
    client: Client, origin: Origin, name: str, value: str
) -> None:
    sending = client.get(origin.url, headers=[(name, value)])
    await refused(sending, "HTTP-request-header-size")
    assert origin.connections == 0


@pytest.mark.parametrize("method", ["CONNECT", "connect", "TRACE", "GET /x HTTP/1.1\r\n", "", "é"])
async def test_methods_that_lead_past_the_rules_are_refused(
    client: Client, origin: Origin, method: str
) -> None:
    if method == "":
        # No method is GET.
        await client.get(origin.url, method=method)
        assert origin.asked[0].method == "GET"
        return
    await refused(client.get(origin.url, method=method), "HTTP-request-method-invalid")
    assert origin.connections == 0


async def test_what_a_request_may_have_is_bounded(client: Client, origin: Origin) -> None:
    await client.relink(allow=LOOPBACK, max_request_body_bytes="10")

    await refused(
        client.get(origin.url, method="PUT", body=b"x" * 11),
        "HTTP-request-body-size",
        "11 bytes, over the limit of 10",
    )
    await refused(
        client.get(origin.url, headers=[("x", "y" * 66_000)]), "HTTP-request-header-section-size"
    )
    await refused(client.get(f"{origin.url}/{'a' * 17_000}"), "HTTP-request-URI-too-long")
    await refused(
        client.get(origin.url, headers=[("content-length", "5")], body=b"four"),
        "HTTP-request-body-size",
    )
    assert origin.connections == 0
    assert (await client.get(origin.url, method="PUT", body=b"x" * 10)).status == 200


async def test_headers_of_the_connection_stay_on_it(client: Client, origin: Origin) -> None:
    origin.answers = writes(
        answer(
            b"",
            ("Connection", "keep-alive, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "Basic"),
            ("upgrade", "h2c"),
            ("x-yours", "2"),
        )
    )
    received = await client.get(
        origin.url,
        headers=[
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("host", "inside.example"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("expect", "100-continue"),
            ("proxy-authorization", "Basic x"),
            ("x-kept", "2"),
        ],
    )

    assert origin.asked[0].headers == [("host", f"127.0.0.1:{origin.port}"), ("x-kept", "2")]
    assert received.headers == [("content-length", "0"), ("x-yours", "2")]


@pytest.mark.parametrize(
    ("method", "sent"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 99999999\r\n\r\n"),
    ],
)
async def test_a_response_may_have_no_body_by_its_nature(
    client: Client, origin: Origin, method: str, sent: bytes
) -> None:
    origin.answers = writes(sent)

    assert (await client.get(origin.url, method=method)).body == b""
    assert (await client.get(origin.url, method=method)).body == b""
    assert origin.connections == 1


async def test_an_http_1_0_server_is_understood(client: Client, origin: Origin) -> None:
    origin.answers = writes(b"HTTP/1.0 200 OK\r\n\r\nuntil the end", closes=True)

    assert (await client.get(origin.url)).body == b"until the end"


async def test_a_server_may_answer_before_it_took_the_body(client: Client) -> None:
    answered = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(answer(b"too much", status="413 Too Large"))
        await answered.wait()
        writer.transport.abort()

    await client.relink(allow=LOOPBACK, max_request_body_bytes=str(15 * limits.MIB))
    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        received = await client.get(
            f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/",
            method="PUT",
            body=b"x" * 15 * limits.MIB,
        )
        assert (received.status, received.body) == (413, b"too much")
        # What is left of the request would be taken for another one.
        await eventually(lambda: client.open_connections == 0)
        answered.set()


async def test_one_connection_serves_one_request_after_the_other(
    client: Client, origin: Origin
) -> None:
    for _ in range(5):
        await client.get(origin.url, method="POST", body=b"x")
    assert origin.connections == 1


async def test_links_do_not_share_connections(client: Client, origin: Origin) -> None:
    other = await client.linked("other", allow=LOOPBACK)
    await client.get(origin.url)
    await other.get(origin.url)

    assert origin.connections == 2


async def test_names_do_not_share_connections(client: Client, origin: Origin) -> None:
    await client.relink(allow=f"http://*:* {LOOPBACK}")
    await client.get(f"http://a.example:{origin.port}/")
    await client.get(f"http://b.example:{origin.port}/")

    assert origin.connections == 2


async def test_a_changed_link_starts_with_connections_of_its_own(
    client: Client, origin: Origin
) -> None:
    await client.get(origin.url)
    await client.relink(allow="https://elsewhere.example")

    await eventually(lambda: not origin.open)
    await refused(client.get(origin.url), "HTTP-request-denied")
    await client.relink(allow=LOOPBACK)
    await client.get(origin.url)
    assert origin.connections == 2


async def test_a_request_outlives_its_link_and_its_connection_does_not(
    client: Client, origin: Origin
) -> None:
    gate = asyncio.Event()

    async def wait(_: Asked, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        writer.write(answer())

    origin.answers = wait
    async with asyncio.TaskGroup() as group:
        call = group.create_task(client.get(origin.url))
        await eventually(lambda: origin.asked)
        await client.provider.delete_link(client.link)
        gate.set()
    assert call.result().body == b"hello"
    await eventually(lambda: not origin.open)


async def test_idle_connections_are_closed_after_their_time(client: Client, origin: Origin) -> None:
    await client.relink(allow=LOOPBACK, idle_timeout_ms="20")
    await client.get(origin.url)
    await eventually(lambda: not origin.open)
    await client.get(origin.url)
    assert origin.connections == 2


async def test_no_more_connections_are_kept_than_the_link_says(
    client: Client, origin: Origin
) -> None:
    await client.relink(allow=LOOPBACK, max_idle_connections="2")
    gate = asyncio.Event()

    async def wait(_: Asked, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        writer.write(answer())

    origin.answers = wait
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(client.get(origin.url))
        await eventually(lambda: len(origin.asked) == 5)
        gate.set()
    await eventually(lambda: len(origin.open) == 2)
    assert client.open_connections == 2


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used(
    client: Client, origin: Origin
) -> None:
    await client.get(origin.url)
    origin.writers[0].close()
    await eventually(lambda: client.open_connections == 0)

    assert (await client.get(origin.url, method="POST")).status == 200


async def test_a_connection_closed_when_it_is_used_again_is_replaced_if_that_is_safe(
    client: Client, origin: Origin
) -> None:
    async def close_second(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if len(origin.asked) in (2, 4):
            writer.close()
        else:
            writer.write(answer())

    origin.answers = close_second
    await client.get(origin.url)
    assert (await client.get(origin.url)).status == 200
    assert [asked.method for asked in origin.asked] == ["GET"] * 3

    await refused(client.get(origin.url, method="POST"), "connection-terminated")
    # Not sent again: the server may have done what it was asked to.
    assert [asked.method for asked in origin.asked] == ["GET"] * 3 + ["POST"]


async def test_bytes_that_nobody_asked_for_answer_no_later_request(
    client: Client, origin: Origin
) -> None:
    origin.answers = writes(answer(b"first") + answer(b"forged"))
    assert (await client.get(origin.url)).body == b"first"
    origin.answers = writes(answer(b"second"))
    assert (await client.get(origin.url)).body == b"second"

    origin.writers[-1].write(answer(b"forged"))
    await eventually(lambda: client.open_connections == 0)
    assert (await client.get(origin.url)).body == b"second"


async def test_a_link_has_a_bound_of_requests_at_a_time(client: Client, origin: Origin) -> None:
    await client.relink(allow=LOOPBACK, max_concurrent_requests="2")
    gate = asyncio.Event()

    async def wait(_: Asked, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        writer.write(answer())

    origin.answers = wait
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(client.get(origin.url))
        await eventually(lambda: len(origin.asked) == 2)
        await refused(client.get(origin.url), "connection-limit-reached", "max_concurrent_requests")
        gate.set()
    assert (await client.get(origin.url)).status == 200


async def test_a_provider_has_a_bound_of_connections(client: Client, origin: Origin) -> None:
    client.provider._budget.connections_max = 1
    other = await client.linked("other", allow=LOOPBACK)
    await client.get(origin.url)

    await refused(other.get(origin.url), "connection-limit-reached")
    # Its own idle connection makes room for another of the same link.
    await client.relink(allow=f"http://a.example:* {LOOPBACK}")
    await eventually(lambda: client.open_connections == 0)
    await client.get(origin.url)
    assert (await client.get(f"http://a.example:{origin.port}/")).status == 200


async def test_a_provider_has_a_bound_of_bodies(client: Client, origin: Origin) -> None:
    client.provider._budget.bodies_bytes_max = 1000

    await refused(
        client.get(origin.url, method="PUT", body=b"x" * 1001), "connection-limit-reached"
    )
    assert origin.connections == 0
    origin.answers = writes(answer(b"x" * 600))
    # Whoever was heard must not be told that nothing happened.
    await refused(client.get(origin.url, method="PUT", body=b"x" * 401), TOO_LARGE)
    assert (await client.get(origin.url, method="PUT", body=b"x" * 400)).status == 200


async def test_wasi_leaves_redirects_to_the_component(wasi: Client, origin: Origin) -> None:
    origin.answers = redirects("/elsewhere")

    received = await wasi.get(origin.url)
    assert (received.status, received.header("location")) == (302, "/elsewhere")
    assert len(origin.asked) == 1


@pytest.fixture
async def elsewhere() -> AsyncIterator[Origin]:
    async with Origin(writes(answer(b"elsewhere"))) as elsewhere:
        yield elsewhere


async def test_wapc_follows_redirects(wapc: Client, origin: Origin, elsewhere: Origin) -> None:
    origin.answers = redirects(f"{elsewhere.url}/a?b")

    assert (await wapc.get(origin.url)).body == b"elsewhere"
    assert elsewhere.asked[0].path == "/a?b"


@pytest.mark.parametrize(
    ("location", "path"),
    [("next", "/a/next"), ("/next", "/next"), ("?q", "/a/b?q"), ("../c", "/c"), ("#f", "/a/b")],
)
async def test_a_redirect_is_read_from_where_it_comes(
    wapc: Client, origin: Origin, location: str, path: str
) -> None:
    async def once(_: Asked, writer: asyncio.StreamWriter) -> None:
        is_first = len(origin.asked) == 1
        writer.write(
            answer(b"", ("location", location), status="302 Found") if is_first else answer()
        )

    origin.answers = once
    await wapc.get(f"{origin.url}/a/b")
    assert [asked.path for asked in origin.asked] == ["/a/b", path]


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2:{port}/",
        "//127.0.0.2:{port}/",
        "http://localhost:{port}/",
        "http://inside.example:{port}/",
        "http://[::ffff:127.0.0.2]:{port}/",
        "http://2130706434:{port}/",
        "http://0x7f000002:{port}/",
        "http://user@127.0.0.2:{port}/",
        "http:\\\\127.0.0.2:{port}/",
        "file:///etc/passwd",
        "gopher://127.0.0.2:{port}/",
        "http://[::1",
        "javascript:alert(1)",
    ],
)
async def test_each_redirect_is_judged_anew(wapc: Client, origin: Origin, location: str) -> None:
    async with Origin(host="127.0.0.2", port=origin.port) as inside:
        wapc.names.answers["inside.example"] = [["127.0.0.2"]]
        await wapc.relink(allow="http://127.0.0.1:* http://inside.example:*")
        origin.answers = redirects(location.format(port=origin.port), "307 Temporary Redirect")

        with pytest.raises(Refused) as caught:
            await wapc.get(origin.url, method="POST", body=b"x")
        # The first server has executed it: nothing that says "not executed" would be true.
        assert isinstance(caught.value.__cause__, errors.ProviderError)
        assert (len(origin.asked), inside.connections) == (1, 0)


async def test_another_origin_gets_no_credentials(
    wapc: Client, origin: Origin, elsewhere: Origin
) -> None:
    secrets = [
        ("authorization", "Bearer x"),
        ("cookie", "a=b"),
        ("x-api-key", "x"),
        ("private-token", "x"),
    ]
    plain = [("accept", "text/html"), ("user-agent", "test")]
    origin.answers = redirects(f"{elsewhere.url}/", "307 Temporary Redirect")
    await wapc.get(origin.url, method="PUT", headers=secrets + plain, body=b"x")

    assert elsewhere.asked[0].headers == [
        ("host", f"127.0.0.1:{elsewhere.port}"),
        *plain,
        ("content-length", "1"),
    ]

    async def once(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(
            answer()
            if asked.path == "/again"
            else answer(b"", ("location", "/again"), status="302 Found")
        )

    origin.answers = once
    await wapc.get(origin.url, headers=secrets)
    assert origin.asked[-1].header("authorization") == "Bearer x"


@pytest.mark.parametrize(
    ("status", "method", "method_then", "body_then"),
    [
        ("301 Moved", "POST", "GET", b""),
        ("302 Found", "POST", "GET", b""),
        ("302 Found", "PUT", "PUT", b"x"),
        ("303 See Other", "PUT", "GET", b""),
        ("303 See Other", "HEAD", "HEAD", b""),
        ("307 Temporary Redirect", "POST", "POST", b"x"),
        ("308 Permanent Redirect", "POST", "POST", b"x"),
    ],
)
async def test_the_status_of_a_redirect_says_what_is_sent_again(
    wapc: Client,
    origin: Origin,
    elsewhere: Origin,
    status: str,
    method: str,
    method_then: str,
    body_then: bytes,
) -> None:
    origin.answers = redirects(elsewhere.url, status)
    elsewhere.answers = writes(answer(b""))
    body = b"" if method == "HEAD" else b"x"
    await wapc.get(origin.url, method=method, headers=[("content-type", "a/b")], body=body)

    [asked] = elsewhere.asked
    assert (asked.method, asked.body) == (method_then, body_then)
    assert (asked.header("content-type") is not None) == (method_then == method)


@pytest.mark.parametrize("status", ["300 Many", "304 Not Modified", "305 Use Proxy", "200 OK"])
async def test_other_responses_with_a_location_are_responses(
    wapc: Client, origin: Origin, status: str
) -> None:
    origin.answers = redirects("/elsewhere", status)
    assert (await wapc.get(origin.url)).status == int(status[:3])


async def test_redirects_have_a_bound(wapc: Client, origin: Origin) -> None:
    origin.answers = redirects("/again")
    await wapc.relink(allow=LOOPBACK, redirects_max="3")

    await refused(wapc.get(origin.url), "loop-detected", "after 3 redirects")
    assert len(origin.asked) == 4

    await wapc.relink(allow=LOOPBACK, redirects_max="0")
    assert (await wapc.get(origin.url)).status == 302


async def test_trailers_go_both_ways(wasi: Client, origin: Origin) -> None:
    origin.answers = writes(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n"
        b"5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n"
    )
    face = wasi.face
    assert isinstance(face, Wasi)
    response = await face.call(
        wasi.provider,
        wasi.link,
        http.Request(
            method="POST",
            scheme="http",
            authority=f"127.0.0.1:{origin.port}",
            path="/",
            body=b"abc",
            trailers=[("x-digest", b"9"), ("content-length", b"1")],
        ),
        http.Options(),
    )

    assert (response.body, response.trailers) == (b"hello", [("x-sum", b"7")])
    assert "trailer" not in dict(response.headers)
    assert origin.asked[0].body == b"abc"
    assert origin.asked[0].trailers == [("x-digest", "9")]


@pytest.mark.parametrize(
    ("options", "answers", "case"),
    [
        (http.Options(first_byte_timeout_s=0.03), silent, "HTTP-response-timeout"),
        (
            http.Options(between_bytes_timeout_s=0.03),
            stalls_after(b"HTTP/1.1 200 OK\r\n\r\nhello"),
            "connection-read-timeout",
        ),
    ],
)
async def test_a_component_may_shorten_the_timeouts(
    wasi: Client, origin: Origin, options: http.Options, answers: Any, case: str
) -> None:
    origin.answers = answers
    face = wasi.face
    assert isinstance(face, Wasi)
    request = http.Request(
        method="GET", scheme="http", authority=f"127.0.0.1:{origin.port}", path=None
    )
    with pytest.raises(Refused) as caught:
        await face.call(wasi.provider, wasi.link, request, options)
    assert caught.value.case == case


async def test_a_component_may_not_lengthen_them(wasi: Client, origin: Origin) -> None:
    origin.answers = silent
    await wasi.relink(allow=LOOPBACK, first_byte_timeout_ms="30")
    face = wasi.face
    assert isinstance(face, Wasi)
    request = http.Request(
        method="GET", scheme="http", authority=f"127.0.0.1:{origin.port}", path=None
    )
    with pytest.raises(Refused, match="HTTP-response-timeout"):
        await face.call(wasi.provider, wasi.link, request, http.Options(first_byte_timeout_s=60))


async def test_a_component_gets_the_code_with_what_it_carries(wasi: Client, origin: Origin) -> None:
    await wasi.relink(allow=LOOPBACK, max_request_body_bytes="1")

    with pytest.raises(Refused) as caught:
        await wasi.get(origin.url, method="PUT", body=b"xx")
    assert caught.value.payload == 2
    with pytest.raises(Refused) as caught:
        await wasi.get(origin.url, headers=[("x-a", "\n")])
    assert caught.value.payload == {"field-name": "x-a", "field-size": 1}


async def test_wapc_takes_bytes_in_every_form_that_wasmcloud_took(
    wapc: Client, origin: Origin
) -> None:
    face = wapc.face
    assert isinstance(face, Wapc)
    for body in (b"abc", [97, 98, 99], "abc"):
        request = {"method": "PUT", "url": origin.url, "body": body}
        reply = await face.call(wapc.provider, wapc.link, request)
        assert reply == {
            "statusCode": 200,
            "header": {"content-length": ["5"]},
            "body": b"hello",
        }
    assert [asked.body for asked in origin.asked] == [b"abc"] * 3


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (7, "wants a map"),
        ({}, "url must be a string"),
        ({"url": 7}, "url must be a string"),
        ({"url": "http://a.example", "method": 7}, "method must be"),
        ({"url": "http://a.example", "headers": []}, "headers must be"),
        ({"url": "http://a.example", "headers": {"a": "b"}}, "headers must be"),
        ({"url": "http://a.example", "headers": {"a": [7]}}, "headers must be"),
        ({"url": "http://a.example", "headers": {7: []}}, "headers must be"),
        ({"url": "http://a.example", "headers": {"a": ["ż"]}}, "header a must be"),
        ({"url": "http://a.example", "body": 7}, "body must be bytes"),
        ({"url": "http://a.example", "body": [256]}, "body must be bytes"),
    ],
)
async def test_a_payload_that_is_no_request_is_refused(
    wapc: Client, payload: Any, why: str
) -> None:
    face = wapc.face
    assert isinstance(face, Wapc)
    with pytest.raises(errors.InvalidRequest, match=why):
        await face.call(wapc.provider, wapc.link, payload)


async def test_operations_that_do_not_exist_are_refused(wapc: Client) -> None:
    face = wapc.face
    assert isinstance(face, Wapc)
    with pytest.raises(errors.InvalidRequest, match="wasmcloud:httpclient has no operation"):
        await face.call(wapc.provider, wapc.link, {}, operation="HttpClient.Dance")


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"allow": "example.com"}, "name the scheme too"),
        ({"redirects_max": "many"}, "redirects_max is 'many'; want a whole number from 0 to 50"),
        ({"connect_timeout_ms": "0"}, "connect_timeout_ms"),
        ({"ca_file": "/nowhere.pem"}, "ca_file is '/nowhere.pem'"),
        ({"load_native_certs": "yes"}, "want true or false"),
        ({"allow": "https://a.example", "ALLOW": "https://b.example"}, "given twice"),
    ],
)
async def test_a_link_that_makes_no_sense_is_refused_and_allows_nothing_any_more(
    client: Client, config: dict[str, str], why: str
) -> None:
    for _ in range(2):
        with pytest.raises(errors.InvalidRequest) as caught:
            await client.relink(**config)
        assert why in caught.value.text
    with pytest.raises((errors.NoLink, Refused)):
        await client.get("http://127.0.0.1/")
    await client.relink(allow=LOOPBACK)
    await refused(client.get("https://example.com/"), "HTTP-request-denied")


async def test_a_file_of_certificates_that_holds_none_is_refused(
    client: Client, tmp_path: Path
) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    with pytest.raises(errors.InvalidRequest, match="can't be read as PEM"):
        await client.relink(ca_file=str(tmp_path / "empty.pem"))


async def test_the_providers_configuration_is_the_default_of_its_links(
    client: Client, origin: Origin
) -> None:
    await client.provider.update_config({"allow": LOOPBACK, "max_response_body_bytes": "4"})
    await client.relink()
    await refused(client.get(origin.url), TOO_LARGE)
    await client.relink(max_response_body_bytes="5")
    assert (await client.get(origin.url)).status == 200

    await client.provider.update_config({})
    await client.relink()
    await refused(client.get(origin.url), "HTTP-request-denied")
    with pytest.raises(errors.InvalidRequest):
        await client.provider.update_config({"allow": "rubbish"})
    await client.relink(allow=LOOPBACK)
    assert (await client.get(origin.url)).status == 200


async def test_another_package_and_an_unknown_link_are_refused(client: Client) -> None:
    async with AsyncExitStack() as stack:
        strange = Link(
            source_id="actor", target="client", wit_namespace="wasmcloud", wit_package="keyvalue"
        )
        with pytest.raises(errors.InvalidRequest, match="serves wasmcloud:httpclient and"):
            await client.provider.put_link(strange)
        await client.provider.delete_link(client.link)
        stack.push_async_callback(client.provider.delete_link, client.link)
        with pytest.raises((errors.NoLink, Refused)):
            await client.get("http://127.0.0.1/")
