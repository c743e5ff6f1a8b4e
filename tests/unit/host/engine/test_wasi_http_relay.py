"""Components in the middle: handlers that pass requests on, and clients that send others'."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from host.engine import Code, Component, Engine, EngineSettings
from lattice import errors
from lattice.wire import codec, http
from tests.support.components import COMPOSED, PASSES_ON, REWRITES, exporting
from tests.support.host_calls import Host, execution, run, until
from tests.support.wat import assemble


@pytest.fixture
async def engine(compiled: Path) -> AsyncIterator[Engine]:
    engine = Engine(EngineSettings(instances_max=8, cache_dir=compiled))
    yield engine
    left = engine.statistics()
    engine.close()
    assert (left.instances, left.workers_busy) == (0, 0), "a call kept its instance"
    await until(lambda: len(engine.tasks) == 0)


@pytest.fixture
async def middle(engine: Engine) -> Code:
    return await engine.load(PASSES_ON)


@pytest.fixture
async def client(engine: Engine) -> Code:
    return await engine.load(REWRITES)


REQUEST = http.Request(
    method="PATCH",
    path="/a?b",
    scheme="https",
    authority="example.org",
    headers=[("host", b"example.org"), ("x-a", b"\xff"), ("x-a", b"2")],
    body=b"question",
    trailers=[("x-sum", b"8")],
)

RESPONSE = http.Response(
    status=418, headers=[("x-b", b"\xfe")], body=b"answer", trailers=[("x-end", b"yes")]
)

OPTIONS = http.Options(first_byte_timeout_s=2.0)


async def pass_on(middle: Code, host: Host, request: http.Request = REQUEST) -> http.Response:
    call = execution(middle, http.pack_request(request), operation=http.OPERATION, host=host)
    return http.unpack_response(await run(call))


async def test_a_request_is_passed_on_and_its_response_back_as_they_came(middle: Code) -> None:
    host = Host(lambda _request: http.pack_response(RESPONSE))
    assert await pass_on(middle, host) == RESPONSE
    [(link_name, interface, operation, payload)] = host.requests
    assert (link_name, interface, operation) == ("", http.INTERFACE, http.OPERATION)
    assert http.unpack_request(payload) == REQUEST


async def test_who_is_asked_over_a_link_for_outgoing_handler_passes_on_too(middle: Code) -> None:
    host = Host(lambda _request: http.pack_response(RESPONSE))
    payload = http.pack_outgoing_request(REQUEST, OPTIONS)
    call = execution(middle, payload, operation=http.OUTGOING_OPERATION, host=host)
    assert http.unpack_outcome(await run(call)) == RESPONSE
    assert host.requests[0][1:3] == (http.INTERFACE, http.OPERATION)


async def test_a_missing_link_says_how_to_put_it(middle: Code) -> None:
    def react(_request: object) -> bytes:
        raise errors.NoLink("gate", "default", http.INTERFACE)

    said = "lattice link put gate TARGET wasi http --interface incoming-handler"
    with pytest.raises(errors.ActorError, match=said):
        await pass_on(middle, Host(react))


async def test_what_is_not_reached_is_an_error_code_and_a_line_of_the_log(middle: Code) -> None:
    def react(_request: object) -> bytes:
        raise errors.NotRunning("site runs nowhere")

    host = Host(react)
    with pytest.raises(errors.ActorError, match="destination-unavailable"):
        await pass_on(middle, host)
    assert host.lines == [
        ("warning", "a request was not passed on: not_running: site runs nowhere")
    ]


async def test_an_answer_that_is_no_response_is_an_error(middle: Code) -> None:
    with pytest.raises(errors.ActorError, match="the answer to a request is none"):
        await pass_on(middle, Host(lambda _request: codec.pack(5)))


async def test_a_request_without_its_body_is_not_passed_on(middle: Code) -> None:
    request = http.Request(method="GET", path="/!")
    with pytest.raises(errors.ActorTrapped, match="passes on a request whose body it has taken"):
        await pass_on(middle, Host(), request)


async def test_a_request_that_is_not_passed_on_has_no_response(middle: Code) -> None:
    with pytest.raises(errors.ActorError, match="never set its response"):
        await pass_on(middle, Host(), http.Request(method="GET", path="/?"))


async def test_a_handler_and_what_stands_before_it_may_be_one_component(engine: Engine) -> None:
    composed, host = await engine.load(COMPOSED), Host()
    assert await pass_on(composed, host) == http.Response(status=200)
    assert host.requests == []


async def send(client: Code, host: Host) -> http.Response | http.ErrorCode:
    payload = http.pack_outgoing_request(REQUEST, OPTIONS)
    call = execution(client, payload, operation=http.OUTGOING_OPERATION, host=host)
    return http.unpack_outcome(await run(call))


async def test_a_component_sends_the_requests_of_others_as_it_likes(client: Code) -> None:
    host = Host(lambda _request: http.pack_outcome(RESPONSE))
    assert await send(client, host) == RESPONSE
    [(_, interface, operation, payload)] = host.requests
    assert (interface, operation) == (http.OUTGOING_INTERFACE, http.OUTGOING_OPERATION)
    request, options = http.unpack_outgoing_request(payload)
    assert request == http.Request(
        method="PATCH",
        path="/a?b",
        scheme="https",
        authority="behind.example",
        headers=REQUEST.headers[1:],
        body=b"question",
        trailers=[("x-sum", b"8")],
    )
    assert options == OPTIONS


async def test_why_a_request_of_another_failed_is_told_to_it(client: Code) -> None:
    code = {"DNS-error": {"rcode": "x", "info-code": 3}}
    assert await send(client, Host(lambda _request: http.pack_outcome(code))) == code


NONSENSE = assemble("""
  (component
    (import "wasi:http/types@0.2.0" (instance $types
      (export "outgoing-request" (type $request (sub resource)))
      (export "request-options" (type $options (sub resource)))))
    (alias export $types "outgoing-request" (type $request))
    (alias export $types "request-options" (type $options))
    (core module $main (func (export "handle") (param i32 i32 i32) (result i32) (local.get 0)))
    (core instance $main (instantiate $main))
    (func $handle
      (param "request" (own $request)) (param "options" (option (own $options))) (result u32)
      (canon lift (core func $main "handle")))
    (instance $handler (export "handle" (func $handle)))
    (export "wasi:http/outgoing-handler@0.2.0" (instance $handler)))
""")
"""Gives a number for a response."""


async def test_what_is_no_response_ends_the_call_of_who_gave_it(engine: Engine) -> None:
    with pytest.raises(errors.ActorError, match="gave neither a response nor an error"):
        await send(await engine.load(NONSENSE), Host())


class Endless:
    """A body that goes on."""

    trailers: http.Headers = []

    async def read(self, size_max: int) -> bytes:
        return bytes(size_max)

    def close(self) -> None:
        """Nothing is held."""


async def test_a_handler_of_other_types_is_not_called_and_takes_nothing(engine: Engine) -> None:
    component = await engine.load(exporting(("wasi:http/outgoing-handler@0.2.0", "handle", 1)))
    request = http.Request(method="POST", path="/", is_streamed=True)
    payload = http.pack_outgoing_request(request, OPTIONS)
    call = execution(component, payload, operation=http.OUTGOING_OPERATION)
    call.flow(Endless(), takes_stream=True)
    with pytest.raises(errors.InvalidRequest):
        await run(call)
    assert len(engine.tasks) == 0


async def test_who_handles_and_sends_requests_is_called_for_each_by_its_own_interface(
    engine: Engine,
) -> None:
    interfaces = ("wasi:http/incoming-handler", "wasi:http/outgoing-handler")
    component = await engine.load(
        exporting(*((f"{each}@0.2.0", "handle", 1) for each in interfaces))
    )
    assert isinstance(component, Component)
    for interface in interfaces:
        operation = f"{interface.partition('/')[2]}.handle"
        for entry in (component.entry(operation), component.entry(operation, interface)):
            assert (entry.interface, entry.name) == (f"{interface}@0.2.0", operation)
