"""``wasi:http/outgoing-handler``: the same exchange for components.

The call carries what the interface's resources hold (``lattice.wire.http``). What goes wrong on the
way is the component's to handle, and comes as an error code; only a call that is no request at all
fails as a call.
"""

from lattice.wire import http
from lattice.wire.http import Options
from providers.http_client import targets
from providers.http_client.failures import Failure
from providers.http_client.messages import Request

PACKAGE = ("wasi", "http")
"""Namespace and package, as links name it."""

OPERATION = http.OUTGOING_OPERATION

DEFAULT_SCHEME = "https"
"""Of a request that names none; wasmtime's."""


def decode_request(payload: bytes) -> tuple[Request, Options]:
    """Read a component's request, and what its options say.

    Raises:
        InvalidRequest: it is not one.
        Failure: it can't be sent anywhere.
    """
    request, options = http.unpack_outgoing_request(payload)
    if request.authority is None:
        raise Failure("HTTP-request-URI-invalid", "the request has no authority")
    return (
        Request(
            target=targets.parse_authority(request.scheme or DEFAULT_SCHEME, request.authority),
            method=request.method,
            path=targets.parse_path(request.path),
            headers=request.headers,
            body=request.body,
            trailers=request.trailers,
            is_streamed=request.is_streamed,
        ),
        options,
    )


encode_outcome = http.pack_outcome
