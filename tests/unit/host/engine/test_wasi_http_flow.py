"""Bodies that flow while a component reads and writes them (tests/guests)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from host.engine import Code, Engine, Execution
from lattice import errors, limits
from lattice.wire import http
from lattice.wire.streams import Source
from tests.support.components import DOUBLER, guest
from tests.support.engines import idle_engine
from tests.support.host_calls import Host, execution, run, until
from tests.support.sources import Fed


@pytest.fixture
async def engine(compiled: Path) -> AsyncIterator[Engine]:
    # Whose turn it is would else decide how much a response begins with.
    async with idle_engine(instances_max=8, cache_dir=compiled, epoch_tick_s=1.0) as engine:
        yield engine
    await until(lambda: len(engine.tasks) == 0)


@pytest.fixture
async def site(engine: Engine) -> Code:
    return await engine.load(guest("http_streams"))


def call(
    site: Code,
    path: str,
    source: Source | None = None,
    *,
    takes_stream: bool = True,
    host: Host | None = None,
    timeout_s: float = 30.0,
) -> Execution:
    request = http.Request(method="POST", path=path, is_streamed=source is not None)
    made = execution(
        site,
        http.pack_request(request),
        operation=http.OPERATION,
        host=host,
        timeout_s=timeout_s,
    )
    made.flow(source, takes_stream=takes_stream)
    return made


async def begun(flowing: Execution) -> tuple[http.Response, Source]:
    """Run it until its response has begun."""
    assert not flowing.start()
    response = http.unpack_response(await flowing.finish())
    assert flowing.goes_on
    assert response.is_streamed
    assert flowing.outflow is not None
    return response, flowing.outflow


async def test_a_response_that_is_complete_is_whole(site: Code) -> None:
    response = http.unpack_response(await run(call(site, "/read-nothing")))
    assert (response.body, response.is_streamed) == (b"read nothing", False)


async def test_who_takes_no_stream_gets_it_whole_when_the_guest_is_done(site: Code) -> None:
    flowing = call(site, "/tick?3,1", takes_stream=False)
    response = http.unpack_response(await run(flowing))
    assert (response.body, response.is_streamed) == (b"tick 0\ntick 1\ntick 2\n", False)


async def test_a_guest_fills_the_window_and_waits_for_a_reader(site: Code) -> None:
    flowing = call(site, f"/pour?{4 * limits.STREAM_WINDOW_BYTES}")
    response, outflow = await begun(flowing)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(flowing.finish())
        size = len(response.body)
        assert 0 < size <= limits.STREAM_WINDOW_BYTES
        while piece := await outflow.read(limits.STREAM_PIECE_BYTES):
            size += len(piece)
    assert size == 4 * limits.STREAM_WINDOW_BYTES
    assert not flowing.goes_on


async def test_a_reader_that_closes_ends_the_guest(site: Code) -> None:
    flowing = call(site, "/pour-for-ever")
    _, outflow = await begun(flowing)
    outflow.close()
    with pytest.raises(errors.Cancelled):
        await flowing.finish()


async def test_a_guest_that_traps_breaks_its_response(site: Code) -> None:
    flowing = call(site, "/pour-and-panic?10,1")
    response, outflow = await begun(flowing)
    with pytest.raises(errors.ActorTrapped):
        await flowing.finish()
    assert response.body == b"x" * 10
    with pytest.raises(errors.ActorTrapped):
        await outflow.read(10)


async def test_a_guest_that_does_not_finish_breaks_its_response(site: Code) -> None:
    flowing = call(site, "/pour-and-forget?10,1")
    _, outflow = await begun(flowing)
    with pytest.raises(errors.ActorError, match="did not finish its body"):
        await flowing.finish()
    with pytest.raises(errors.ActorError, match="did not finish its body"):
        await outflow.read(10)


async def test_a_deadline_breaks_a_response(site: Code) -> None:
    flowing = call(site, "/tick?1000,5", timeout_s=0.3)
    _, outflow = await begun(flowing)
    with pytest.raises(errors.DeadlineExceeded):
        await flowing.finish()
    await outflow.read(limits.STREAM_PIECE_BYTES)
    with pytest.raises(errors.DeadlineExceeded):
        await outflow.read(1)


async def test_a_guest_reads_as_it_comes_what_was_asked_for_then(site: Code) -> None:
    source = Fed()
    flowing = call(site, "/count?0", source)
    assert not flowing.start()
    async with asyncio.TaskGroup() as tasks:
        counted = tasks.create_task(flowing.finish())
        await until(lambda: source.reads == 1)
        for piece in (b"one", b"three", b""):
            source.feed(piece)
    assert http.unpack_response(counted.result()).body == b"8 whole"
    assert source.reads == 3
    assert source.is_closed


async def test_a_body_that_breaks_is_an_error_that_the_guest_reads(site: Code) -> None:
    source = Fed(b"some", errors.Cancelled("the client went away"))
    answer = http.unpack_response(await run(call(site, "/count?0", source)))
    assert answer.body == b"4 cancelled: the client went away"


async def test_trailers_follow_a_body_that_flows(site: Code) -> None:
    source = Fed(b"some")
    source.trailers = [("x-sum", b"4")]
    flowing = call(site, "/echo", source)
    _, outflow = await begun(flowing)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(flowing.finish())
        source.feed(b"")
        while await outflow.read(100):
            pass
    assert outflow.trailers == [("x-sum", b"4")]


async def test_a_call_that_is_abandoned_closes_what_it_reads(site: Code) -> None:
    source = Fed()
    flowing = call(site, "/count?0", source)
    assert not flowing.start()
    flowing.abandon()
    assert source.is_closed


async def test_what_takes_no_body_in_pieces_says_so(engine: Engine) -> None:
    doubler = await engine.load(DOUBLER)
    called = execution(doubler, b"", operation="ops.double")
    called.flow(Fed(), takes_stream=False)
    with pytest.raises(errors.InvalidRequest, match="no payload in pieces"):
        await run(called)
    request = http.pack_request(http.Request(method="GET", path="/", is_streamed=True))
    site = await engine.load(guest("http_streams"))
    with pytest.raises(errors.InvalidRequest, match="did not come with it"):
        await run(execution(site, request, operation=http.OPERATION))
