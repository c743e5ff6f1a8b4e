"""An HTTP handler made with an ordinary toolchain: Rust and the ``wasi`` crate (tests/guests)."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from host.engine import CallLimits, Code, Engine, ReusePolicy
from host.engine.wasip2_http import incoming_fields
from lattice import errors, limits
from lattice.wire import http
from tests.support.components import guest
from tests.support.engines import idle_engine
from tests.support.host_calls import Host, execution, run
from tests.support.wat import assemble


@pytest.fixture
async def engine(compiled: Path) -> AsyncIterator[Engine]:
    async with idle_engine(instances_max=64, cache_dir=compiled) as engine:
        yield engine


@pytest.fixture
async def handler(engine: Engine) -> Code:
    return await engine.load(guest("http_handler"))


def answering(before: str = "", after: str = "") -> bytes:
    """A handler that makes ``$response`` and sets it; this is done before, and after that."""
    return assemble(f"""
  (component
    (import "wasi:io/streams@0.2.0" (instance $streams
      (export "output-stream" (type $output (sub resource)))
      (type $error-itself (variant (case "closed")))
      (export "stream-error" (type $error (eq $error-itself)))
      (export "[method]output-stream.check-write"
        (func (param "self" (borrow $output)) (result (result u64 (error $error)))))
      (export "[method]output-stream.write" (func
        (param "self" (borrow $output)) (param "contents" (list u8))
        (result (result (error $error)))))))
    (alias export $streams "output-stream" (type $output))
    (import "wasi:http/types@0.2.0" (instance $http
      (alias outer 1 $output (type $outer))
      (export "output-stream" (type $output (eq $outer)))
      (export "fields" (type $fields (sub resource)))
      (export "incoming-request" (type $request (sub resource)))
      (export "response-outparam" (type $outparam (sub resource)))
      (export "outgoing-response" (type $response (sub resource)))
      (export "outgoing-body" (type $body (sub resource)))
      (type $code-itself (variant (case "internal-error" (option string))))
      (export "error-code" (type $code (eq $code-itself)))
      (export "[constructor]fields" (func (result (own $fields))))
      (export "[constructor]outgoing-response"
        (func (param "headers" (own $fields)) (result (own $response))))
      (export "[method]outgoing-response.body"
        (func (param "self" (borrow $response)) (result (result (own $body)))))
      (export "[method]outgoing-body.write"
        (func (param "self" (borrow $body)) (result (result (own $output)))))
      (export "[static]outgoing-body.finish" (func (param "this" (own $body))
        (param "trailers" (option (own $fields))) (result (result (error $code)))))
      (export "[static]response-outparam.set" (func
        (param "param" (own $outparam))
        (param "response" (result (own $response) (error $code)))))))
    (alias export $http "incoming-request" (type $request))
    (alias export $http "response-outparam" (type $outparam))
    (core module $memory (memory (export "memory") 20)
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
    (core instance $memory (instantiate $memory))
    (core func $fields (canon lower (func $http "[constructor]fields")))
    (core func $response (canon lower (func $http "[constructor]outgoing-response")))
    (core func $body (canon lower (func $http "[method]outgoing-response.body")
      (memory (core memory $memory "memory"))))
    (core func $stream (canon lower (func $http "[method]outgoing-body.write")
      (memory (core memory $memory "memory"))))
    (core func $room (canon lower (func $streams "[method]output-stream.check-write")
      (memory (core memory $memory "memory"))))
    (core func $write (canon lower (func $streams "[method]output-stream.write")
      (memory (core memory $memory "memory"))))
    (core func $drop (canon resource.drop $output))
    (core func $finish (canon lower (func $http "[static]outgoing-body.finish")
      (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
    (core func $set (canon lower (func $http "[static]response-outparam.set")
      (memory (core memory $memory "memory"))))
    (core module $main
      (import "memory" "memory" (memory 20))
      (import "http" "fields" (func $fields (result i32)))
      (import "http" "response" (func $response (param i32) (result i32)))
      (import "http" "body" (func $body (param i32 i32)))
      (import "http" "stream" (func $stream (param i32 i32)))
      (import "http" "room" (func $room (param i32 i32)))
      (import "http" "write" (func $write (param i32 i32 i32 i32)))
      (import "http" "drop" (func $drop (param i32)))
      (import "http" "finish" (func $finish (param i32 i32 i32 i32)))
      (import "http" "set" (func $set (param i32 i32 i32 i32 i32 i32)))
      (func (export "handle") (param $request i32) (param $outparam i32)
        (local $response i32) (local $body i32) (local $stream i32)
        (local.set $response (call $response (call $fields)))
        {before}
        (call $set (local.get $outparam) (i32.const 0) (local.get $response)
          (i32.const 0) (i32.const 0) (i32.const 0))
        {after}))
    (core instance $main (instantiate $main (with "memory" (instance $memory))
      (with "http" (instance
        (export "fields" (func $fields)) (export "response" (func $response))
        (export "body" (func $body)) (export "stream" (func $stream))
        (export "room" (func $room)) (export "write" (func $write))
        (export "drop" (func $drop)) (export "finish" (func $finish))
        (export "set" (func $set))))))
    (func $handle (param "request" (own $request)) (param "out" (own $outparam))
      (canon lift (core func $main "handle")))
    (instance $handler (export "handle" (func $handle)))
    (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
""")


BODY = """
  (call $body (local.get $response) (i32.const 0))
  (local.set $body (i32.load (i32.const 4)))
"""
"""Takes the body of a response, which must be finished from then on."""

AT_ONCE = """
  (call $stream (local.get $body) (i32.const 0))
  (local.set $stream (i32.load (i32.const 4)))
  (call $room (local.get $stream) (i32.const 0))
  (call $write (local.get $stream) (i32.const 64) (i32.wrap_i64 (i64.load (i32.const 8)))
    (i32.const 32))
  (call $drop (local.get $stream))
  (call $finish (local.get $body) (i32.const 0) (i32.const 0) (i32.const 0))
"""
"""Writes as much as there is room for at first, and finishes the body."""


async def ask(
    handler: Code,
    path: str,
    *,
    method: str = "GET",
    body: bytes = b"",
    headers: http.Headers | None = None,
    host: Host | None = None,
    call_limits: CallLimits | None = None,
) -> http.Response:
    request = http.Request(
        method=method, path=path, authority="example.org", headers=headers or [], body=body
    )
    payload = http.pack_request(request)
    call = execution(handler, payload, operation=http.OPERATION, host=host, limits=call_limits)
    return http.unpack_response(await run(call))


async def test_a_request_is_answered(handler: Code) -> None:
    assert await ask(handler, "/hello") == http.Response(
        status=200, body=b"hello from a component\n"
    )


async def test_a_body_comes_in_and_goes_out_in_pieces(handler: Code) -> None:
    body = bytes(range(256)) * 1000
    response = await ask(
        handler, "/echo", method="POST", body=body, headers=[("content-type", b"image/png")]
    )
    assert response.body == body
    assert response.headers == [("content-type", b"image/png")]


async def test_a_body_may_be_larger_than_what_crosses_at_a_time(handler: Code) -> None:
    body = bytes(range(256)) * 12_000
    assert len(body) > limits.WIT_CROSSING_MAX
    assert (await ask(handler, "/echo", method="POST", body=body)).body == body


async def test_the_handler_sees_the_request_as_it_was(handler: Code) -> None:
    response = await ask(handler, "/describe?a=b%20c", method="BREW")
    assert response.status == 201
    assert response.body == (b'BREW /describe?a=b%20c Some(Scheme::Http) Some("example.org")')
    assert response.headers == [("x-lattice", b"yes")]


async def test_trailers_follow_the_body(handler: Code) -> None:
    response = await ask(handler, "/trailers")
    assert (response.body, response.trailers) == (b"with trailers", [("x-sum", b"13")])


async def test_guests_that_sleep_do_not_hold_the_loop(handler: Code) -> None:
    began = time.monotonic()
    answers = await asyncio.gather(*(ask(handler, "/sleep?200") for _ in range(40)))
    assert {each.body for each in answers} == {b"slept"}
    assert time.monotonic() - began < 40 * 0.2, "they slept one after another"


async def test_what_a_guest_prints_are_log_lines(handler: Code) -> None:
    host = Host()
    await ask(handler, "/log?here", host=host)
    assert host.lines == [("info", "a line from here"), ("warning", "a complaint")]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/never", "never set its response"),
        ("/forget", "never set its response"),
        ("/refuse", "failed with internal-error: it hurts"),
        ("/too-little", "wrote 5 bytes of the 500 it promised"),
    ],
)
async def test_a_handler_without_a_proper_response_is_an_error(
    handler: Code, path: str, said: str
) -> None:
    with pytest.raises(errors.ActorError, match=said):
        await ask(handler, path)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/wait-for-nothing", "polls nothing, which would wait for ever"),
        ("/exit", "exited with status"),
        ("/panic", "unreachable"),
    ],
)
async def test_a_handler_that_breaks_the_rules_traps(handler: Code, path: str, said: str) -> None:
    with pytest.raises(errors.ActorTrapped, match=said):
        await ask(handler, path)


async def test_a_handler_that_traps_after_its_whole_response_has_answered(engine: Engine) -> None:
    host = Host()
    handler = await engine.load(answering(after="unreachable"))
    assert await ask(handler, "/", host=host) == http.Response(status=200)
    assert host.lines == [
        (
            "warning",
            "it had answered, and then failed: actor_trapped: the actor trapped: unreachable",
        )
    ]


async def test_a_handler_that_traps_before_it_finished_its_body_has_not_answered(
    engine: Engine,
) -> None:
    handler = await engine.load(answering(BODY, "unreachable"))
    with pytest.raises(errors.ActorTrapped):
        await ask(handler, "/")


async def test_an_instance_that_answered_and_trapped_serves_no_other_call(engine: Engine) -> None:
    handler = await engine.load(answering(after="unreachable"))
    payload = http.pack_request(http.Request(method="GET", path="/"))
    kept = engine.instances(ReusePolicy())
    await run(execution(handler, payload, operation=http.OPERATION, instances=kept))
    assert len(kept) == 0


async def test_what_is_more_than_the_content_length_is_not_written(handler: Code) -> None:
    host = Host()
    # It does not expect that.
    with pytest.raises(errors.ActorTrapped, match="unreachable"):
        await ask(handler, "/too-much", host=host)
    assert ("warning", "it writes 14 bytes of body, and its content-length is 5") in host.lines


async def test_a_handler_may_write_a_mebibyte_at_once(engine: Engine) -> None:
    response = await ask(await engine.load(answering(BODY, AT_ONCE)), "/")
    assert len(response.body) == limits.MIB


async def test_a_mebibyte_that_was_written_at_once_flows(engine: Engine) -> None:
    handler = await engine.load(answering(BODY, AT_ONCE))
    payload = http.pack_request(http.Request(method="GET", path="/"))
    call = execution(handler, payload, operation=http.OPERATION)
    call.flow(None, takes_stream=True)
    response = http.unpack_response(await run(call))
    assert response.is_streamed
    assert call.outflow is not None
    size = len(response.body)
    assert size <= limits.STREAM_WINDOW_BYTES
    while piece := await call.outflow.read(limits.STREAM_PIECE_BYTES):
        size += len(piece)
    assert size == limits.MIB
    assert await call.finish() == b""


async def test_a_response_over_the_limit_ends_the_call(handler: Code) -> None:
    small = CallLimits(response_bytes=100_000)
    assert len((await ask(handler, "/large?90000", call_limits=small)).body) == 90_000
    with pytest.raises(errors.ActorError, match="over the limit of 100000"):
        await ask(handler, "/large?200000", call_limits=small)


@pytest.mark.parametrize(
    "payload",
    [b"", b"\x90", b"\x91\x01", b"\x91\x81\xa4body\x01", b"\x91\x81\xa7headers\x91\x01"],
    ids=["nothing", "no request", "a number", "a body of a number", "headers of a number"],
)
async def test_what_is_no_request_is_refused(handler: Code, payload: bytes) -> None:
    with pytest.raises(errors.InvalidRequest):
        await run(execution(handler, payload, operation=http.OPERATION))


def test_headers_that_a_guest_could_not_give_again_do_not_reach_it() -> None:
    came: http.Headers = [
        ("host", b"example.org"),
        ("connection", b"close"),
        ("accept", b"*/*"),
        ("te", b"trailers"),
        ("proxy-authorization", b"Basic x"),
        ("x-any", b"1"),
    ]
    fields = incoming_fields(came)
    assert fields.entries == [("accept", b"*/*"), ("te", b"trailers"), ("x-any", b"1")]
    assert not fields.is_mutable
