"""Bodies that flow through the HTTP server, without a connection."""

import asyncio
from typing import Any

import pytest

from lattice import errors, limits
from lattice.wire import http
from lattice.wire.invocation import Reply
from lattice.wire.streams import Source, Trailers
from providers.http_server.application import Application, BodyBudget, Endpoint
from providers.http_server.bodies import RequestBody
from providers.http_server.listener import CONNECTION
from providers.http_server.routing import Everything
from providers.http_server.settings import LinkSettings


class Pieces:
    """A source of these bytes, which then ends or breaks."""

    def __init__(self, *pieces: bytes, error: errors.LatticeError | None = None) -> None:
        self._pieces = list(pieces)
        self._error = error
        self.trailers: Trailers = []
        self.is_closed = False

    async def read(self, _size_max: int) -> bytes:
        if self._pieces:
            return self._pieces.pop(0)
        if self._error is not None:
            raise self._error
        return b""

    def close(self) -> None:
        self.is_closed = True


class Client:
    """Sends these messages, and takes the response."""

    def __init__(self, *pieces: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self._pieces = list(pieces)
        self.sent: list[dict[str, Any]] = []
        self.is_flowing = False
        self.is_broken_off = False
        self.trailers: list[tuple[bytes, bytes]] = []
        self.scope: dict[str, Any] = {
            "method": "POST",
            "scheme": "http",
            "http_version": "1.1",
            "raw_path": b"/",
            "query_string": b"",
            "headers": headers or [],
            CONNECTION: self,
        }

    async def receive(self) -> dict[str, Any]:
        if not self._pieces:
            return {"type": "http.disconnect"}
        body = self._pieces.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(self._pieces)}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def end_with(self, trailers: list[tuple[bytes, bytes]]) -> None:
        self.trailers = trailers

    def break_off(self) -> None:
        self.is_broken_off = True

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])


class Site:
    """A component that answers with a status and a stream, after it has read the request."""

    def __init__(self, source: Source | None, *, status: int = 200, reads: bool = True) -> None:
        self._source = source
        self._status = status
        self._reads = reads
        self.read = b""
        self.endpoint = Endpoint("site", "default", LinkSettings(), is_wasi=True)
        self.budget = BodyBudget()

    async def call(self, *_: Any, stream: Source | None, **_said: Any) -> Reply:
        while stream is not None and self._reads and (piece := await stream.read(limits.MIB)):
            self.read += piece
        head = http.Response(
            status=self._status, body=b"head ", is_streamed=self._source is not None
        )
        return Reply(http.pack_response(head), stream=self._source)

    async def answer(self, client: Client) -> None:
        application = Application(self.call, self.budget, Everything(self.endpoint))
        await application(client.scope, client.receive, client.send)
        assert self.endpoint.running == 0
        assert self.budget.held_bytes == 0


CHUNKED = [(b"transfer-encoding", b"chunked")]


async def test_a_response_is_sent_as_it_comes() -> None:
    client, source = Client(), Pieces(b"and ", b"tail")
    await Site(source).answer(client)
    assert (client.status, client.body) == (200, b"head and tail")
    assert [message.get("more_body", False) for message in client.sent[1:]] == [
        *(True, True, True),
        False,
    ]
    assert source.is_closed


async def test_trailers_are_for_clients_that_take_them() -> None:
    for headers, trailers in (([], []), ([(b"te", b"gzip, trailers;q=1")], [(b"x-sum", b"1")])):
        client, source = Client(headers=headers), Pieces()
        source.trailers = [("x-sum", b"1"), ("content-length", b"1")]
        await Site(source).answer(client)
        assert client.trailers == trailers


async def test_a_response_that_breaks_is_broken_off() -> None:
    client, source = Client(), Pieces(b"and ", error=errors.ActorTrapped("unreachable"))
    await Site(source).answer(client)
    assert client.body == b"head and "
    assert client.is_broken_off
    assert source.is_closed


async def test_a_head_that_is_none_lets_go_of_the_rest() -> None:
    client, source = Client(), Pieces(b"tail")
    await Site(source, status=150).answer(client)
    assert client.status == 502
    assert source.is_closed


@pytest.mark.parametrize("status", [204, 205, 304])
async def test_a_response_without_body_has_none(status: int) -> None:
    client, source = Client(), Pieces(b"tail")
    await Site(source, status=status).answer(client)
    assert (client.status, client.body) == (status, b"")
    assert source.is_closed


async def test_a_cancelled_request_lets_go_of_everything() -> None:
    client, source = Client(), Pieces(error=errors.Cancelled("x"))

    waits = asyncio.Event()

    async def wait(_size_max: int) -> bytes:
        waits.set()
        await asyncio.Event().wait()
        raise AssertionError

    source.read = wait  # type: ignore[method-assign]
    site = Site(source)
    request = asyncio.ensure_future(site.answer(client))
    await waits.wait()
    request.cancel()
    await request
    assert client.is_broken_off
    assert source.is_closed


async def test_a_request_without_length_is_read_by_who_serves_it() -> None:
    client, site = Client(b"some", b"thing more", headers=CHUNKED), Site(None)
    await site.answer(client)
    assert site.read == b"something more"


async def test_a_request_that_turns_out_too_large_is_refused() -> None:
    pieces = [bytes(limits.MIB)] * 5
    client, site = Client(*pieces, headers=CHUNKED), Site(None)
    await site.answer(client)
    assert client.status == 413


async def test_more_uploads_than_there_is_room_for_are_refused() -> None:
    client, site = Client(b"x", headers=CHUNKED), Site(None)
    site.budget.held_bytes = limits.HTTP_BODIES_BYTES_MAX
    application = Application(site.call, site.budget, Everything(site.endpoint))
    await application(client.scope, client.receive, client.send)
    assert client.status == 503
    assert site.budget.held_bytes == limits.HTTP_BODIES_BYTES_MAX
    assert site.endpoint.running == 0


async def test_a_body_comes_in_pieces_no_larger_than_asked_for() -> None:
    body = RequestBody(Client(b"0123456789").receive, size_max=10, trailers=lambda: [("a", b"b")])
    assert body.trailers == []
    assert [await body.read(4) for _ in range(4)] == [b"0123", b"4567", b"89", b""]
    assert body.trailers == [("a", b"b")]


async def test_a_client_that_goes_away_breaks_its_body() -> None:
    body = RequestBody(Client().receive, size_max=10, trailers=list)
    with pytest.raises(errors.Cancelled):
        await body.read(4)


async def test_a_closed_body_gives_nothing() -> None:
    body = RequestBody(Client(b"x", b"y").receive, size_max=10, trailers=list)
    body.close()
    with pytest.raises(errors.Cancelled):
        await body.read(4)
