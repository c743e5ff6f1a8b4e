"""Requests that a component sends: calls along its link, beside the guest (tests/guests)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from host.engine import Code, Engine
from host.engine.wasip2_http_errors import error_code
from lattice import errors, limits
from lattice.wire import codec, http
from tests.support.components import guest
from tests.support.engines import idle_engine
from tests.support.host_calls import Host, Request, execution, run, until

Reaction = Callable[[http.Request, http.Options], bytes | Awaitable[bytes]]


@pytest.fixture
async def engine(compiled: Path) -> AsyncIterator[Engine]:
    async with idle_engine(instances_max=8, cache_dir=compiled) as engine:
        yield engine
    await until(lambda: len(engine.tasks) == 0)


@pytest.fixture
async def sender(engine: Engine) -> Code:
    return await engine.load(guest("http_streams"))


def linked(reaction: Reaction) -> Host:
    """A host whose link leads to this."""

    def answer(request: Request) -> bytes | Awaitable[bytes]:
        _, namespace, operation, payload = request
        assert (namespace, operation) == (http.OUTGOING_INTERFACE, http.OUTGOING_OPERATION)
        return reaction(*http.unpack_outgoing_request(payload))

    return Host(answer)


async def ask(sender: Code, path: str, host: Host, *, body: bytes = b"") -> str:
    request = http.Request(
        method="POST", path=path, headers=[("x-to", b"example.org:8080")], body=body
    )
    call = execution(sender, http.pack_request(request), operation=http.OPERATION, host=host)
    return http.unpack_response(await run(call)).body.decode()


def said(text: str) -> bytes:
    return http.pack_outcome(http.Response(status=200, body=text.encode()))


async def test_a_request_goes_over_the_link_as_the_guest_made_it(sender: Code) -> None:
    seen: list[tuple[http.Request, http.Options]] = []

    def react(request: http.Request, options: http.Options) -> bytes:
        seen.append((request, options))
        headers = [("content-type", b"text/plain")]
        return http.pack_outcome(
            http.Response(status=418, headers=headers, body=b"short and stout")
        )

    host = linked(react)
    body = bytes(range(256)) * 1000
    answer = await ask(sender, "/relay", host, body=body)
    assert answer == "418 text/plain short and stout whole"
    [(request, options)] = seen
    assert request == http.Request(
        method="POST",
        path="/relayed",
        scheme="http",
        authority="example.org:8080",
        body=body,
        trailers=[("x-sum", b"256000")],
    )
    assert options == http.Options(first_byte_timeout_s=3.0)
    assert host.requests[0][0] == "", "the default link"


async def test_a_guest_has_several_requests_under_way_and_takes_what_comes_first(
    sender: Code,
) -> None:
    asked: dict[str, asyncio.Future[bytes]] = {}

    def react(request: http.Request, _options: http.Options) -> Awaitable[bytes]:
        assert request.path is not None
        return asked.setdefault(request.path, asyncio.get_running_loop().create_future())

    host = linked(react)
    async with asyncio.TaskGroup() as tasks:
        answer = tasks.create_task(ask(sender, "/fetch?3", host))
        await until(lambda: len(asked) == 3)
        for count, path in enumerate(("/2", "/0", "/1"), start=1):
            asked[path].set_result(said(path))
            await until(lambda count=count: len(host.lines) == count)  # type: ignore[misc]
    assert answer.result() == "200  /2 whole\n200  /0 whole\n200  /1 whole"


async def test_requests_beyond_the_limit_are_refused(sender: Code) -> None:
    waits = asyncio.Event()

    async def react(_request: http.Request, _options: http.Options) -> bytes:
        await waits.wait()
        return said("x")

    with pytest.raises(errors.ActorTrapped):
        await ask(sender, f"/fetch?{limits.OUTGOING_REQUESTS_PER_CALL_MAX + 1}", linked(react))


@pytest.mark.parametrize("way", ["/drop-future?20", "/leave?20"])
async def test_a_request_that_nobody_waits_for_is_cancelled(sender: Code, way: str) -> None:
    cancelled: list[str | None] = []

    async def react(request: http.Request, _options: http.Options) -> bytes:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(request.path)
            raise
        raise AssertionError

    assert await ask(sender, way, linked(react)) in ("dropped", "left")
    await until(lambda: len(cancelled) == 1)


async def test_a_body_that_is_dropped_sends_nothing(sender: Code) -> None:
    host = linked(lambda _request, _options: said("sent"))
    answer = await ask(sender, "/drop-body", host)
    assert "dropped before it was finished" in answer
    assert not host.requests


async def test_a_body_shorter_than_it_was_said_to_be_sends_nothing(sender: Code) -> None:
    host = linked(lambda _request, _options: said("sent"))
    answer = await ask(sender, "/short", host)
    assert answer.startswith("Err(ErrorCode::HttpRequestBodySize(Some(5)))")
    assert not host.requests


async def test_an_answer_can_be_taken_once(sender: Code) -> None:
    host = linked(lambda _request, _options: said("x"))
    assert await ask(sender, "/twice", host) == "Some(false)"


@pytest.mark.parametrize(
    ("outcome", "seen"),
    [
        ({"err": {"connection-refused": None}}, "ErrorCode::ConnectionRefused"),
        ({"err": {"DNS-error": {"rcode": "x", "info-code": 3}}}, "DnsErrorPayload"),
        ({"err": {"bad-luck": None}}, "the answer to a request is none"),
        ({"err": {"DNS-error": 3}}, "the answer to a request is none"),
        ({"ok": 5}, "the answer to a request is none"),
        (None, "the answer to a request is none"),
    ],
)
async def test_what_the_other_side_says_is_held_against_the_interface(
    sender: Code, outcome: Any, seen: str
) -> None:
    host = linked(lambda _request, _options: codec.pack(outcome))
    assert seen in await ask(sender, "/fetch?1", host)


async def test_a_missing_link_is_an_error_that_says_how_to_put_it(sender: Code) -> None:
    def react(_request: http.Request, _options: http.Options) -> bytes:
        raise errors.NoLink("site", "default", http.OUTGOING_INTERFACE)

    answer = await ask(sender, "/fetch?1", linked(react))
    assert "lattice link put site TARGET wasi http --interface outgoing-handler" in answer


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.Denied("no"), "HTTP-request-denied"),
        (errors.DeadlineExceeded("late"), "HTTP-response-timeout"),
        (errors.PayloadTooLarge("payload", 2, 1), "HTTP-request-body-size"),
        (errors.Overloaded("full"), "connection-limit-reached"),
        (errors.NotRunning("away"), "destination-unavailable"),
        (errors.Unavailable("away"), "destination-unavailable"),
        (errors.HopLimit(33, 32), "loop-detected"),
        (errors.ProviderError("broken"), "internal-error"),
    ],
)
def test_every_error_of_the_lattice_has_an_error_code(
    error: errors.LatticeError, code: str
) -> None:
    assert list(error_code(error)) == [code]


async def test_a_refusal_of_the_client_is_told_in_the_actors_log(sender: Code) -> None:
    host = linked(lambda _request, _options: codec.pack({"err": {"HTTP-request-denied": None}}))
    assert await ask(sender, "/fetch?1", host) == "ErrorCode::HttpRequestDenied"
    [line] = [line for level, line in host.lines if level == "warning"]
    assert line.startswith("an HTTP request failed: HTTP-request-denied; the log of")


async def test_a_missing_link_is_told_in_the_actors_log(sender: Code) -> None:
    def react(_request: http.Request, _options: http.Options) -> bytes:
        raise errors.NoLink("site", "default", http.OUTGOING_INTERFACE)

    host = linked(react)
    await ask(sender, "/fetch?1", host)
    [line] = [line for level, line in host.lines if level == "warning"]
    assert line.endswith("lattice link put site TARGET wasi http --interface outgoing-handler")


async def test_an_error_without_words_is_told_in_the_actors_log(sender: Code) -> None:
    def react(_request: http.Request, _options: http.Options) -> bytes:
        raise errors.NotRunning("http-client runs nowhere")

    host = linked(react)
    assert await ask(sender, "/fetch?1", host) == "ErrorCode::DestinationUnavailable"
    [line] = [line for level, line in host.lines if level == "warning"]
    assert "http-client runs nowhere" in line
