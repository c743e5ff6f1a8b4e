"""``wasi:http/outgoing-handler``: the guest's requests, which are calls along its link.

Such a call goes on beside the guest, which may have several under way and poll for all of them. It
is sent as soon as the guest waits for something: whole, when the request's body is finished by
then, or else with the rest of it flowing, as may the response's. It ends with the guest's own call,
and is cancelled when the guest drops what stands for it: the future, the response, or its body.
What goes wrong on the way is an error code, and a line in the actor's log: most languages tell
neither its case nor its text.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any, Self

from host.engine import wit
from host.engine.component_guest import Abandonable, ComponentGuest, Later, Table, told
from host.engine.guest import HostCalls
from host.engine.wasip2 import Condition, Readiness, err, get, ok
from host.engine.wasip2_http import METHODS, TYPES, Fields, declared_length, incoming_fields
from host.engine.wasip2_http_bodies import IncomingBody, OutgoingBody, Rest
from host.engine.wasip2_http_errors import check_error_code, error_code, in_words, internal
from lattice import errors, limits
from lattice.wire import http
from lattice.wire.invocation import Reply

TABLE = Table()
function = TABLE.put

HANDLER = http.OUTGOING_INTERFACE

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PATH = re.compile(r"[\x21-\x7e\x80-\U0010ffff]*")
_AUTHORITY = re.compile(r"[\x21-\x7e]+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


class OutgoingRequest:
    __slots__ = ("authority", "body", "headers", "method", "path", "scheme")

    def __init__(self, headers: Fields) -> None:
        self.method: dict[str, str | None] = {"get": None}
        self.path: str | None = None
        self.scheme: dict[str, str | None] | None = None
        self.authority: str | None = None
        self.headers = headers
        self.body: OutgoingBody | None = None

    def sent(self, *, is_streamed: bool) -> http.Request:
        """As it goes over the link: its body whole, or what is there of one that flows."""
        ((method, other_method),) = self.method.items()
        scheme = None
        if self.scheme is not None:
            ((name, other_scheme),) = self.scheme.items()
            scheme = other_scheme or name.lower()
        size_max = limits.STREAM_WINDOW_BYTES if is_streamed else limits.PAYLOAD_BYTES_MAX
        return http.Request(
            method=other_method or method.upper(),
            path=self.path,
            scheme=scheme,
            authority=self.authority,
            headers=self.headers.entries,
            body=b"" if self.body is None else self.body.take(size_max),
            trailers=[] if self.body is None or is_streamed else self.body.trailers,
            is_streamed=is_streamed,
        )


class RequestOptions:
    __slots__ = ("durations_ns",)

    def __init__(self) -> None:
        self.durations_ns: dict[str, int | None] = {}

    @classmethod
    def received(cls, options: http.Options) -> Self:
        """Those that came with another's request."""
        made = cls()
        made.durations_ns = {
            name: None if duration_s is None else int(duration_s * 1e9)
            for name, duration_s in (
                ("connect-timeout", options.connect_timeout_s),
                ("first-byte-timeout", options.first_byte_timeout_s),
                ("between-bytes-timeout", options.between_bytes_timeout_s),
            )
        }
        return made

    def duration_s(self, name: str) -> float | None:
        duration_ns = self.durations_ns.get(name)
        return None if duration_ns is None else duration_ns / 1e9

    def sent(self) -> http.Options:
        return http.Options(
            connect_timeout_s=self.duration_s("connect-timeout"),
            first_byte_timeout_s=self.duration_s("first-byte-timeout"),
            between_bytes_timeout_s=self.duration_s("between-bytes-timeout"),
        )


class IncomingResponse(Abandonable):
    __slots__ = ("is_consumed", "response", "rest")

    def __init__(self, response: http.Response, rest: Rest | None) -> None:
        self.response = response
        self.rest = rest
        """The rest of its body."""
        self.is_consumed = False

    def abandon(self) -> None:
        if self.rest is not None and not self.is_consumed:
            self.rest.give_up()


class FutureIncomingResponse(Condition, Abandonable):
    """A request under way, and then what came of it."""

    __slots__ = ("is_taken", "outcome", "rest", "task")

    def __init__(self) -> None:
        super().__init__()
        self.outcome: http.Response | http.ErrorCode | None = None
        self.rest: Rest | None = None
        """What of a response's body is still to come."""
        self.is_taken = False
        self.task: asyncio.Task[None] | None = None

    def is_true(self) -> bool:
        return self.outcome is not None

    def settle(self, outcome: http.Response | http.ErrorCode, rest: Rest | None) -> None:
        self.rest = rest
        self.outcome = outcome
        self.wake()

    def abandon(self) -> None:
        if self.task is not None and not self.is_taken:
            # From whatever thread the guest runs on.
            self.task.get_loop().call_soon_threadsafe(self._give_up)

    def _give_up(self) -> None:
        assert self.task is not None, "it was begun"
        self.task.cancel()
        if self.rest is not None:
            self.rest.close()


async def send(
    guest: ComponentGuest,
    host: HostCalls,
    link_name: str,
    outgoing: OutgoingRequest,
    options: http.Options,
    due: asyncio.Event,
) -> tuple[http.Response | http.ErrorCode, Rest | None]:
    """Send a request when it is due, and wait for its response; gives what came of it."""
    body, rest = outgoing.body, None
    try:
        await due.wait()
        if body is not None and body.error is not None:
            raise body.error
        stream = None if body is None or body.is_finished else body
        payload = http.pack_outgoing_request(outgoing.sent(is_streamed=stream is not None), options)
        reply = await host.exchange(link_name, HANDLER, http.OUTGOING_OPERATION, payload, stream)
        if reply.stream is not None:
            rest = Rest(guest, reply.stream, stream)
        outcome = decoded(reply, http.unpack_outcome)
        if isinstance(outcome, dict):
            said = f"{in_words(outcome)}; the log of whoever it was sent through may say more"
            host.log("warning", f"an HTTP request failed: {said}")
        return outcome, rest
    except errors.LatticeError as error:
        code = error_code(error)
        host.log("warning", f"an HTTP request failed: {code.get('internal-error') or told(error)}")
        return code, None
    finally:
        # It may flow as long as its response does.
        if body is not None and rest is None:
            body.close()


def _due(guest: ComponentGuest, body: OutgoingBody | None) -> asyncio.Event:
    """When a body is whole, or never will be, or its guest waits before that."""
    due = asyncio.Event()
    if body is None or body.is_settled:
        due.set()
    else:
        body.settled = due.set
        body.prepare()
        guest.at_wait.append(due.set)
    return due


def decoded(
    reply: Reply, unpack: Callable[[bytes], http.Response | http.ErrorCode]
) -> http.Response | http.ErrorCode:
    """Decode the answer of whoever is linked, and hold it against the interface."""
    try:
        outcome = unpack(reply.payload)
        if isinstance(outcome, dict):
            check_error_code(outcome, "error-code", wit.Budget())
        elif outcome.is_streamed != (reply.stream is not None):
            raise errors.InvalidRequest("the rest of the response's body did not come with it")
    except errors.LatticeError as error:
        return internal(f"the answer to a request is none: {error.text}")
    return outcome


REQUEST = "[method]outgoing-request."


@function(TYPES, "[constructor]outgoing-request")
def _request(guest: ComponentGuest, headers: int) -> wit.Own:
    fields = guest.take(headers)
    fields.is_mutable = False
    return guest.own("outgoing-request", OutgoingRequest(fields))


@function(TYPES, f"{REQUEST}method")
def _method(guest: ComponentGuest, number: int) -> dict[str, str | None]:
    return get(guest, number, OutgoingRequest).method


@function(TYPES, f"{REQUEST}set-method")
def _set_method(guest: ComponentGuest, number: int, method: dict[str, str | None]) -> Any:
    ((_, other),) = method.items()
    if other is not None and not _TOKEN.fullmatch(other):
        return err()
    if other is not None and other.isupper() and other.lower() in METHODS:
        method = {other.lower(): None}
    get(guest, number, OutgoingRequest).method = method
    return ok()


@function(TYPES, f"{REQUEST}path-with-query")
def _path(guest: ComponentGuest, number: int) -> str | None:
    return get(guest, number, OutgoingRequest).path


@function(TYPES, f"{REQUEST}set-path-with-query")
def _set_path(guest: ComponentGuest, number: int, path: str | None) -> Any:
    if path is not None and not _PATH.fullmatch(path):
        return err()
    get(guest, number, OutgoingRequest).path = path
    return ok()


@function(TYPES, f"{REQUEST}scheme")
def _scheme(guest: ComponentGuest, number: int) -> dict[str, str | None] | None:
    return get(guest, number, OutgoingRequest).scheme


@function(TYPES, f"{REQUEST}set-scheme")
def _set_scheme(guest: ComponentGuest, number: int, scheme: dict[str, str | None] | None) -> Any:
    if scheme is not None and (other := scheme.get("other")) and not _SCHEME.fullmatch(other):
        return err()
    get(guest, number, OutgoingRequest).scheme = scheme
    return ok()


@function(TYPES, f"{REQUEST}authority")
def _authority(guest: ComponentGuest, number: int) -> str | None:
    return get(guest, number, OutgoingRequest).authority


@function(TYPES, f"{REQUEST}set-authority")
def _set_authority(guest: ComponentGuest, number: int, authority: str | None) -> Any:
    if authority is not None and not _AUTHORITY.fullmatch(authority):
        return err()
    get(guest, number, OutgoingRequest).authority = authority
    return ok()


@function(TYPES, f"{REQUEST}headers")
def _headers(guest: ComponentGuest, number: int) -> wit.Own:
    return guest.own("fields", Fields(get(guest, number, OutgoingRequest).headers.entries))


@function(TYPES, f"{REQUEST}body")
def _body(guest: ComponentGuest, number: int) -> Any:
    request = get(guest, number, OutgoingRequest)
    if request.body is not None:
        return err()
    request.body = OutgoingBody(
        declared_length(request.headers), guest.limits.request_bytes, is_request=True
    )
    return ok(guest.own("outgoing-body", request.body))


@function(TYPES, "[constructor]request-options")
def _options(guest: ComponentGuest) -> wit.Own:
    return guest.own("request-options", RequestOptions())


def _add_option(name: str) -> None:
    @function(TYPES, f"[method]request-options.{name}")
    def _duration(guest: ComponentGuest, number: int) -> int | None:
        return get(guest, number, RequestOptions).durations_ns.get(name)

    @function(TYPES, f"[method]request-options.set-{name}")
    def _set_duration(guest: ComponentGuest, number: int, duration_ns: int | None) -> Any:
        get(guest, number, RequestOptions).durations_ns[name] = duration_ns
        return ok()


for _each in ("connect-timeout", "first-byte-timeout", "between-bytes-timeout"):
    _add_option(_each)


@function(HANDLER, "handle", suspends=True)
def _handle(guest: ComponentGuest, number: int, options: int | None) -> Any:
    outgoing = guest.take(number)
    said = RequestOptions() if options is None else guest.take(options)
    if len(guest.under_way) + len(guest.flowing) >= limits.OUTGOING_REQUESTS_PER_CALL_MAX:
        return err({"connection-limit-reached": None})
    if outgoing.body is not None:
        # From here on it has a reader.
        outgoing.body.is_bounded = True
    future = FutureIncomingResponse()
    link_name = guest.link_name(HANDLER)

    def begin(host: HostCalls) -> bytes:
        due = _due(guest, outgoing.body)

        async def work() -> None:
            future.settle(*await send(guest, host, link_name, outgoing, said.sent(), due))

        future.task = guest.begin(work(), name="an actor's HTTP request")
        return b""

    def finish(_begun: bytes) -> Any:
        return ok(guest.own("future-incoming-response", future))

    return Later(begin, finish, is_host_call=True)


FUTURE = "[method]future-incoming-response."


@function(TYPES, f"{FUTURE}subscribe")
def _subscribe(guest: ComponentGuest, number: int) -> wit.Own:
    return guest.own("pollable", Readiness(get(guest, number, FutureIncomingResponse)))


@function(TYPES, f"{FUTURE}get")
def _get(guest: ComponentGuest, number: int) -> Any:
    future = get(guest, number, FutureIncomingResponse)
    if (outcome := future.outcome) is None:
        return None
    if future.is_taken:
        return err()
    future.is_taken = True
    if isinstance(outcome, http.Response):
        response = IncomingResponse(outcome, future.rest)
        return ok(ok(guest.own("incoming-response", response)))
    return ok(err(outcome))


RESPONSE = "[method]incoming-response."


@function(TYPES, f"{RESPONSE}status")
def _status(guest: ComponentGuest, number: int) -> int:
    return get(guest, number, IncomingResponse).response.status


@function(TYPES, f"{RESPONSE}headers")
def _response_headers(guest: ComponentGuest, number: int) -> wit.Own:
    return guest.own(
        "fields", incoming_fields(get(guest, number, IncomingResponse).response.headers)
    )


@function(TYPES, f"{RESPONSE}consume")
def _consume(guest: ComponentGuest, number: int) -> Any:
    incoming = get(guest, number, IncomingResponse)
    if incoming.is_consumed:
        return err()
    incoming.is_consumed = True
    response = incoming.response
    body = IncomingBody(guest, response.body, response.trailers, incoming.rest)
    return ok(guest.own("incoming-body", body))
