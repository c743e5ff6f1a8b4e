"""The HTTP client of loads, against sockets that answer what a test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lattice import errors
from lattice.cli.http_load import HttpLoad, Request
from tests.support.eventually import eventually

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


class Server:
    """Answers each request with the same bytes."""

    def __init__(self, answer: bytes, *, closes: bool = False) -> None:
        self.answer = answer
        self.closes = closes
        self.requests: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.requests.append(head)
                writer.write(self.answer)
                if self.closes:
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def loading(
    server: Server, *, method: str = "GET", timeout_s: float = 30.0
) -> AsyncIterator[HttpLoad]:
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    request = Request.to(
        f"http://127.0.0.1:{port}/a?b=c", method=method, headers={"X-One": "1"}, body=b""
    )
    load = HttpLoad(request, timeout_s=timeout_s)
    try:
        yield load
    finally:
        load.close()
        listener.close()


async def test_a_request_is_sent_as_asked_for_and_its_connection_used_again() -> None:
    server = Server(OK)
    async with loading(server) as load:
        for _ in range(3):
            await load.send()

    assert (len(server.requests), server.connections) == (3, 1)
    lines = server.requests[0].decode().split("\r\n")
    assert lines[0] == "GET /a?b=c HTTP/1.1"
    assert "X-One: 1" in lines


async def test_an_answer_that_closes_is_followed_by_a_new_connection() -> None:
    server = Server(OK.replace(b"content-length", b"connection: close\r\ncontent-length"))
    async with loading(server) as load:
        await load.send()
        await load.send()

    assert server.connections == 2


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async with loading(Server(b"HTTP/1.1 200 OK\r\n\r\nhi", closes=True)) as load:
        await load.send()


async def test_an_answer_that_is_cut_short_is_a_failure() -> None:
    async with loading(Server(OK[:-1], closes=True)) as load:
        with pytest.raises(errors.Unavailable):
            await load.send()


async def test_a_connection_that_was_closed_while_it_was_not_used_is_no_failure() -> None:
    server = Server(OK, closes=True)
    async with loading(server) as load:
        await load.send()
        await eventually(lambda: load._free[0].is_over)
        await load.send()

    assert server.connections == 2


async def test_an_answer_to_head_ends_with_its_headers() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
    async with loading(server, method="HEAD") as load:
        await load.send()
        await load.send()

    assert server.connections == 1


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (
            b"HTTP/1.1 503 No\r\nlattice-error: overloaded\r\ncontent-length: 0\r\n\r\n",
            "overloaded",
        ),
        (b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n", "invalid_request"),
        (b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", "internal"),
        (b"SSH-2.0-OpenSSH\r\n", "unavailable"),
    ],
    ids=["of the lattice", "below 500", "from 500", "not HTTP"],
)
async def test_a_failure_has_the_code_that_says_what_it_was(answer: bytes, code: str) -> None:
    async with loading(Server(answer)) as load:
        with pytest.raises(errors.LatticeError) as failure:
            await load.send()

    assert failure.value.code == code


async def test_a_connection_that_breaks_is_unavailable() -> None:
    async with loading(Server(b"", closes=True)) as load:
        with pytest.raises(errors.Unavailable):
            await load.send()


async def test_a_server_that_does_not_answer_is_too_late() -> None:
    async with loading(Server(b""), timeout_s=0.01) as load:
        with pytest.raises(errors.DeadlineExceeded):
            await load.send()


@pytest.mark.parametrize(
    ("url", "headers"),
    [("http:///x", {}), ("http://a:b/", {}), ("http://a/ü", {}), ("http://a/", {"X": "1\r\nY: 2"})],
)
def test_what_is_no_request_of_http_is_refused(url: str, headers: dict[str, str]) -> None:
    with pytest.raises(errors.InvalidRequest):
        Request.to(url, method="GET", headers=headers, body=b"")
