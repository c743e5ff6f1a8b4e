"""Cross-origin requests, answered for the actor: the part of the Fetch standard a server plays."""

from lattice import errors
from providers.http_server.contract import Response
from providers.http_server.problems import Refused
from providers.http_server.routing import Header
from providers.http_server.settings import Cors

_DECIDED_HERE = frozenset({b"access-control-allow-origin", b"access-control-expose-headers"})


def preflight(cors: Cors, method: str, header: Header) -> Response | None:
    """Answer a preflight; None for a request that is none and goes to the actor.

    Raises:
        Refused: from an origin that is not allowed.
    """
    if method != "OPTIONS" or "access-control-request-method" not in header:
        return None
    origin = header.get("origin", [""])[0]
    if not origin:
        return None
    if not _allows(cors, origin):
        raise Refused(403, errors.Denied(f"origin {origin[:100]} is not allowed here"))
    headers = [
        (b"access-control-allow-methods", _join(cors.methods)),
        (b"access-control-allow-headers", _join(cors.headers)),
        (b"access-control-max-age", str(cors.max_age_s).encode()),
    ]
    return Response(204, headers, b"")


def apply(
    cors: Cors, origin: str | None, headers: list[tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    """Return a response's headers, and with them what a page of that origin needs to read it.

    What the actor itself said on the matter is dropped: a browser refuses two allowed origins.
    """
    headers = [line for line in headers if line[0] not in _DECIDED_HERE]
    if cors.origins is not None:
        # A cache must not hand one origin's answer to another.
        headers.append((b"vary", b"origin"))
    if origin and _allows(cors, origin):
        allowed = b"*" if cors.origins is None else origin.encode("latin-1")
        headers.append((b"access-control-allow-origin", allowed))
        if cors.exposed_headers:
            headers.append((b"access-control-expose-headers", _join(cors.exposed_headers)))
    return headers


def _allows(cors: Cors, origin: str) -> bool:
    return cors.origins is None or origin.lower() in cors.origins


def _join(words: tuple[str, ...]) -> bytes:
    return ", ".join(words).encode("latin-1")
