"""Where a response sends the client on, and what of the request goes along.

Source: RFC 9110, section 15.4, and the Fetch standard where that leaves a choice.
"""

from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import urljoin

from lattice.wire.http import Headers, Response
from providers.http_client import targets
from providers.http_client.failures import Failure
from providers.http_client.messages import Request

STATUSES = frozenset({301, 302, 303, 307, 308})

HEADERS_FOR_OTHERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "content-encoding",
        "content-language",
        "content-type",
        "if-modified-since",
        "if-none-match",
        "pragma",
        "range",
        "traceparent",
        "user-agent",
    }
)
"""What another origin gets to see. Credentials have many names; these hold none."""

_BODY_HEADERS = frozenset({"content-encoding", "content-language", "content-type"})


def following(request: Request, response: Response) -> Request | None:
    """The request that a response asks for; None if it asks for none.

    It has been checked as a request, but not whether it may go where it goes.

    Raises:
        Failure: it leads nowhere.
    """
    location = next((value for name, value in response.headers if name == "location"), None)
    if response.status not in STATUSES or location is None:
        return None
    try:
        url = urljoin(f"{request.target}{request.path}", location.decode("ascii").strip())
        target, path = targets.parse_url(url)
    except ValueError:
        raise Failure(
            "HTTP-protocol-error", f"{request.target} redirects to what is not a URL"
        ) from None
    except Failure as failure:
        failure.is_after_redirect = True
        raise
    return _forgetting(
        replace(_rephrased(request, response.status), target=target, path=path),
        is_same_origin=target == request.target,
    )


def _rephrased(request: Request, status: int) -> Request:
    """As a GET without body, where the status or the custom of browsers wants that."""
    if (status == 303 and request.method not in ("GET", "HEAD")) or (
        status in (301, 302) and request.method == "POST"
    ):
        headers = _without(request.headers, _BODY_HEADERS)
        return replace(request, method="GET", headers=headers, body=b"", trailers=[])
    return request


def _forgetting(request: Request, *, is_same_origin: bool) -> Request:
    if is_same_origin:
        return request
    headers = [(name, value) for name, value in request.headers if name in HEADERS_FOR_OTHERS]
    return replace(request, headers=headers, trailers=[])


def _without(headers: Headers, names: Iterable[str]) -> Headers:
    return [(name, value) for name, value in headers if name not in names]
