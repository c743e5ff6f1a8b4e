"""HTTP for actors: requests and responses as plain values, over wasi:http."""

from dataclasses import dataclass, field

from componentize_py_types import Err, Ok
from wit_world.imports import types
from wit_world.imports.streams import InputStream, OutputStream, StreamError_Closed

READ_BYTES = 64 * 1024
WRITE_BYTES = 4096
"""What a stream takes at a time, at the most, when it is to wait for room."""


@dataclass
class Request:
    """A request, all of it."""

    method: str
    path: str
    """Without the query."""
    query: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass
class Response:
    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    @classmethod
    def text(cls, text: str, status: int = 200) -> "Response":
        return cls(status, [("content-type", "text/plain; charset=utf-8")], text.encode())


class Handler:
    """Derive ``IncomingHandler`` from it, and say what ``answer`` does."""

    def answer(self, request: Request) -> Response:
        raise NotImplementedError

    def handle(self, request: types.IncomingRequest, out: types.ResponseOutparam) -> None:
        _send(self.answer(_received(request)), out)


def _received(request: types.IncomingRequest) -> Request:
    path, _, query = (request.path_with_query() or "/").partition("?")
    headers = [(name, value.decode("latin-1")) for name, value in request.headers().entries()]
    with request.consume() as incoming, incoming.stream() as stream:
        body = _read_all(stream)
    return Request(_method(request), path, query, headers, body)


def _method(request: types.IncomingRequest) -> str:
    method = request.method()
    if isinstance(method, types.Method_Other):
        return method.value
    return type(method).__name__.removeprefix("Method_").upper()


def _read_all(stream: InputStream) -> bytes:
    body = bytearray()
    while True:
        try:
            body += stream.blocking_read(READ_BYTES)
        except Err as error:
            if isinstance(error.value, StreamError_Closed):
                return bytes(body)
            raise


def _send(response: Response, out: types.ResponseOutparam) -> None:
    fields = types.Fields.from_list(
        [(name, value.encode("latin-1")) for name, value in response.headers]
    )
    outgoing = types.OutgoingResponse(fields)
    outgoing.set_status_code(response.status)
    body = outgoing.body()
    types.ResponseOutparam.set(out, Ok(outgoing))
    with body.write() as stream:
        _write_all(stream, response.body)
    types.OutgoingBody.finish(body, None)


def _write_all(stream: OutputStream, content: bytes) -> None:
    for start in range(0, len(content), WRITE_BYTES):
        stream.blocking_write_and_flush(content[start : start + WRITE_BYTES])
