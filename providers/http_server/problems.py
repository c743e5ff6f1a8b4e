"""Failures as HTTP responses: RFC 9457 problem documents, by one table of codes.

Every one carries the lattice's error code in ``Lattice-Error`` as well, for clients and proxies
that don't read bodies.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus

from lattice import errors, limits
from providers.http_server.contract import Response

STATUS_BY_CODE: Mapping[str, int] = {
    "no_link": 503,
    "not_running": 503,
    "overloaded": 429,
    "draining": 503,
    "denied": 403,
    # The client's request was sound HTTP: it is the actor that does not take such a call.
    "invalid_request": 502,
    "payload_too_large": 413,
    "hop_limit": 508,
    # Of an idempotency key with another request; the status that its draft standard wants.
    "conflict": 422,
    "not_found": 502,
    "already_exists": 502,
    "deadline_exceeded": 504,
    "cancelled": 503,
    "unavailable": 503,
    "internal": 500,
    "actor_error": 502,
    "actor_trapped": 502,
    "cpu_exceeded": 502,
    "memory_exceeded": 502,
    "provider_error": 502,
}
"""Status of a call that failed, for every code of the list."""

RETRY_AFTER_S = 1
"""What 429 and 503 advise: mailboxes empty and hosts are replaced within about this time."""

MEDIA_TYPE = b"application/problem+json"


class Refused(Exception):
    """A request that this server refuses itself, with a status of its own."""

    def __init__(
        self, status: int, error: errors.LatticeError, *headers: tuple[bytes, bytes]
    ) -> None:
        super().__init__(error.text)
        self.status = status
        self.error = error
        self.headers = headers


def response(
    error: errors.LatticeError, *headers: tuple[bytes, bytes], status: int | None = None
) -> Response:
    """Describe a failure; ``status`` where the table's is not the one."""
    status = status or STATUS_BY_CODE[error.code]
    document = {
        "type": f"urn:lattice:error:{error.code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.text[: limits.ERROR_TEXT_CHARS],
        "code": error.code,
        "at": error.at,
    }
    lines = [
        (b"content-type", MEDIA_TYPE),
        # Otherwise caches may keep a 404 or 405 on a guess, past the next link put.
        (b"cache-control", b"no-store"),
        (b"lattice-error", error.code.encode()),
        *headers,
    ]
    if status in (429, 503):
        lines.append((b"retry-after", str(RETRY_AFTER_S).encode()))
    return Response(status, lines, json.dumps(document).encode())


def refused(refusal: Refused) -> Response:
    """Describe a refusal of this server."""
    return response(refusal.error, *refusal.headers, status=refusal.status)
