"""``wasi:http/incoming-handler``: the same exchange, with a component that serves WASI's interface.

The call carries what the interface's resources hold (``lattice.wire.http``). Unlike in
``wasmcloud:httpserver``, names and values of headers keep their order, and values their bytes.
Bodies that are large, or whose length nobody knows yet, flow in pieces in both directions.
"""

from collections.abc import Iterable

from lattice import errors
from lattice.wire import http
from providers.http_server import contract
from providers.http_server.contract import Response

INTERFACE, OPERATION = http.INTERFACE, http.OPERATION

PACKAGE = ("wasi", "http")
"""Namespace and package, as links name it."""


def encode_request(
    *,
    method: str,
    scheme: str,
    path: str,
    query: str,
    headers: Iterable[tuple[bytes, bytes]],
    body: bytes,
    is_streamed: bool = False,
    trailers: http.Headers | None = None,
) -> bytes:
    fields = [(name.decode("latin-1"), value) for name, value in headers]
    authority = next((value.decode("latin-1") for name, value in fields if name == "host"), None)
    return http.pack_request(
        http.Request(
            method=method,
            path=f"{path}?{query}" if query else path,
            scheme=scheme,
            authority=authority,
            headers=fields,
            body=body,
            is_streamed=is_streamed,
            trailers=trailers or [],
        )
    )


def checked_trailers(trailers: http.Headers) -> list[tuple[bytes, bytes]]:
    """What may follow a body, as it is sent.

    Raises:
        ActorError: it would break HTTP's framing; says how.
    """
    if not trailers:
        return []
    checked = Response(200, [], b"")
    for name, value in trailers:
        contract.take_header(checked, name, value.decode("latin-1"))
    return checked.headers


def decode_response(payload: bytes) -> Response:
    """Read a handler's answer.

    Raises:
        ActorError: it is not one, or would break HTTP's framing; says how.
    """
    try:
        answer = http.unpack_response(payload)
    except errors.NotExecuted as error:
        raise contract.malformed(error.text) from error
    if not contract.STATUS_MIN <= answer.status <= contract.STATUS_MAX:
        raise contract.malformed(
            f"status {answer.status} is not {contract.STATUS_MIN} to {contract.STATUS_MAX}"
        )
    response = Response(answer.status, [], answer.body, is_streamed=answer.is_streamed)
    response.trailers = checked_trailers(answer.trailers)
    for name, value in answer.headers:
        contract.take_header(response, name, value.decode("latin-1"))
    return response
