"""Components in the middle: those that import the handler that they export themselves.

One that imports ``incoming-handler`` hands a request on as it came, with the place for its
response. That is a call along the link for that interface; the response becomes the component's
own. One that exports ``outgoing-handler`` gets another's request before it is sent, and gives what
stands for its response, which it can only have from the ``outgoing-handler`` that it imports.

Bodies are pumped through, in both directions, at the pace of who reads them. The guest's call ends
when the response is complete.
"""

from typing import Any

from host.engine import wit
from host.engine.component_guest import ComponentGuest, Later, Table
from host.engine.guest import GuestFault, HostCalls
from host.engine.wasip2 import until_true
from host.engine.wasip2_http import (
    Fields,
    IncomingRequest,
    LinkedHandler,
    OutgoingResponse,
    check_stream,
    incoming_fields,
    method_case,
    scheme_case,
)
from host.engine.wasip2_http_bodies import OutgoingBody, Rest
from host.engine.wasip2_http_errors import check_error_code, error_code
from host.engine.wasip2_http_outgoing import (
    FutureIncomingResponse,
    OutgoingRequest,
    RequestOptions,
    decoded,
)
from lattice import errors
from lattice.wire import http
from lattice.wire.streams import Source

TABLE = Table()
function = TABLE.put


async def pump(source: Source, body: OutgoingBody, guest: ComponentGuest) -> None:
    """Write a body as it comes, and finish it.

    Raises:
        LatticeError: the source is broken.
        GuestFault: the body is to be whole, and larger than it may be.
    """
    while not body.is_closed:
        await until_true(body.vacancy)
        if not (room := body.room()):
            return
        if not (content := await source.read(room)):
            body.finish(source.trailers)
            return
        body.write(guest, content)


def give(
    guest: ComponentGuest, outcome: http.Response | http.ErrorCode, rest: Rest | None
) -> Later | None:
    """Make what another has answered the guest's own answer; gives what has to be waited for."""
    if not isinstance(outcome, http.Response):
        guest.answer = outcome
        return None
    answer = OutgoingResponse(Fields(outcome.headers))
    answer.status = outcome.status
    answer.body = body = OutgoingBody(
        None, guest.limits.response_bytes, is_bounded=guest.takes_stream
    )
    body.put(outcome.body)
    guest.answer = answer
    if rest is None:
        body.finish(outcome.trailers)
        return None
    source = rest

    async def begin(_host: HostCalls) -> None:
        await pump(source, body, guest)

    return Later(begin, lambda _none: None)


@function(http.INTERFACE, "handle", suspends=True)
def _handle(guest: ComponentGuest, number: int, out: int) -> Later:
    incoming: IncomingRequest = guest.take(number)
    guest.take(out)
    if incoming.is_consumed:
        raise GuestFault("it passes on a request whose body it has taken")
    link_name = guest.link_name(http.INTERFACE)

    async def begin(host: HostCalls) -> Any:
        payload = http.pack_request(incoming.request)
        try:
            reply = await host.exchange(
                link_name, http.INTERFACE, http.OPERATION, payload, incoming.source
            )
        except errors.LatticeError as error:
            code = error_code(error, "incoming-handler")
            if "internal-error" not in code:
                host.log("warning", f"a request was not passed on: {error.code}: {error.text}")
            return code, None
        rest = None if reply.stream is None else Rest(guest, reply.stream, None)
        return decoded(reply, http.unpack_response), rest

    def finish(answered: tuple[http.Response | http.ErrorCode, Rest | None]) -> Any:
        return give(guest, *answered)

    return Later(begin, finish, is_host_call=True)


class OutgoingHandler(LinkedHandler):
    """The exported ``handle`` of ``outgoing-handler``."""

    operation = None

    def arguments(self, guest: ComponentGuest, payload: bytes) -> list[Any]:
        request, options = http.unpack_outgoing_request(payload)
        check_stream(guest, request)
        outgoing = OutgoingRequest(incoming_fields(request.headers))
        outgoing.method = method_case(request.method)
        outgoing.path = request.path
        outgoing.scheme = None if request.scheme is None else scheme_case(request.scheme)
        outgoing.authority = request.authority
        outgoing.body = _body(guest, request)
        return [
            guest.own("outgoing-request", outgoing),
            guest.own("request-options", RequestOptions.received(options)),
        ]

    def response(self, guest: ComponentGuest, result: Any) -> bytes | Later:
        if guest.answer is not None:
            return super().response(guest, result)
        match result:
            case {"err": code}:
                check_error_code(code, "error-code", wit.Budget())
                return http.pack_outcome(code)
            case {"ok": int(number)}:
                future = guest.resources.pop(number, None)
            case _:
                future = None
        if not isinstance(future, FutureIncomingResponse):
            raise errors.ActorError("its outgoing-handler gave neither a response nor an error")

        async def begin(_host: HostCalls) -> None:
            await until_true(future)

        def finish(_none: None) -> Any:
            assert future.outcome is not None, "it was waited for"
            return give(guest, future.outcome, future.rest)

        return Later(begin, finish)


def _body(guest: ComponentGuest, request: http.Request) -> OutgoingBody:
    """The body that its sender has begun, and may be writing."""
    source = guest.source
    body = OutgoingBody(
        None, guest.limits.request_bytes, is_request=True, is_bounded=source is not None
    )
    body.put(request.body)
    if source is None:
        body.finish(request.trailers)
        return body
    coming = source

    async def fill() -> None:
        try:
            await pump(coming, body, guest)
        except errors.LatticeError as error:
            body.fail(error)

    # Not before it is certain that there will be a guest, whose end is its own.
    guest.at_wait.append(lambda: guest.begin(fill(), name="body of another's request"))
    return body
