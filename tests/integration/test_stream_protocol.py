"""Streams between two processes, as two connections to a real NATS are."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from lattice import errors, limits
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus
from lattice.streams import Borrowed, Streams
from lattice.wire import streams as wire
from lattice.wire.streams import Question, Trailers
from tests.support.eventually import eventually
from tests.support.nats_server import connected, nats_server

SUBJECT = "wasmbus.rpc.default.site.stream.0123456789abcdef"


class Bytes:
    """A source that a test fills."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[bytes | errors.LatticeError] = asyncio.Queue()
        self.trailers: Trailers = []
        self.reads = 0
        self.is_closed = False

    async def read(self, size_max: int) -> bytes:
        self.reads += 1
        piece = await self.pieces.get()
        if isinstance(piece, errors.LatticeError):
            raise piece
        assert len(piece) <= size_max
        return piece

    def close(self) -> None:
        self.is_closed = True


class Pair:
    def __init__(self, owner: Bus, reader: Bus) -> None:
        self.lent = Streams(owner, TaskGroup("owner"))
        self.borrowed = Streams(reader, TaskGroup("reader"))
        self.source = Bytes()
        self.owner_bus = owner
        self.reader_bus = reader

    async def flow(self, *, timeout_s: float = 30.0) -> Borrowed:
        await self.lent.lend(self.source, SUBJECT, token="0123456789abcdef")
        # In life the answer that names the stream comes behind its subscription.
        await self.owner_bus.flush()
        deadline = asyncio.get_running_loop().time() + timeout_s
        return self.borrowed.borrow(SUBJECT, deadline=deadline)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with nats_server() as server, connected(server) as owner, connected(server) as reader:
        pair = Pair(owner, reader)
        yield pair
        await pair.borrowed.aclose()
        await pair.lent.aclose()


async def test_pieces_come_in_order_and_then_the_end_with_trailers(pair: Pair) -> None:
    reader = await pair.flow()
    for piece in (b"one", b"two", b""):
        pair.source.pieces.put_nowait(piece)
    pair.source.trailers = [("x-sum", b"6")]
    assert [await reader.read(10) for _ in range(4)] == [b"one", b"two", b"", b""]
    assert reader.trailers == [("x-sum", b"6")]
    await eventually(lambda: len(pair.lent) == 0)


async def test_nothing_is_read_that_nobody_asked_for(pair: Pair) -> None:
    reader = await pair.flow()
    for _ in range(5):
        pair.source.pieces.put_nowait(b"piece")
    assert await reader.read(10) == b"piece"
    assert pair.source.reads == 1


async def test_what_breaks_the_source_is_what_its_reader_hears(pair: Pair) -> None:
    reader = await pair.flow()
    pair.source.pieces.put_nowait(errors.ActorError("it gave up"))
    with pytest.raises(errors.ActorError, match="it gave up"):
        await reader.read(10)


async def test_a_reader_that_closes_has_the_source_closed(pair: Pair) -> None:
    reader = await pair.flow()
    reader.close()
    await eventually(lambda: pair.source.is_closed)
    assert len(pair.lent) == 0


async def test_a_piece_is_given_again_when_its_answer_was_lost(pair: Pair) -> None:
    reader = await pair.flow()
    pair.source.pieces.put_nowait(b"once")
    await pair.reader_bus.request(
        SUBJECT,
        wire.encode_question(Question(at=0, size_max=10)),
        deadline=asyncio.get_running_loop().time() + 5,
    )
    assert await reader.read(10) == b"once"
    assert pair.source.reads == 1


async def test_a_slow_source_is_not_taken_to_be_gone(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STREAM_PATIENCE_S", 0.01)
    reader = await pair.flow()
    reading = asyncio.ensure_future(reader.read(10))
    await eventually(lambda: pair.source.reads > 5)
    pair.source.pieces.put_nowait(b"late")
    assert await reading == b"late"


async def test_a_source_that_nobody_reads_is_given_up(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STREAM_SILENCE_S", 0.05)
    await pair.flow()
    await eventually(lambda: pair.source.is_closed)
    assert len(pair.lent) == 0


async def test_a_reader_learns_that_the_owner_is_gone(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STREAM_GRACE_S", 0.2)
    reader = await pair.flow()
    await pair.lent.aclose()
    with pytest.raises(errors.Unavailable, match="is gone"):
        await reader.read(10)


async def test_a_stream_ends_at_the_deadline_of_its_call(pair: Pair) -> None:
    reader = await pair.flow(timeout_s=0.2)
    with pytest.raises(errors.DeadlineExceeded):
        await reader.read(10)


async def test_a_process_lends_a_bounded_number_of_streams(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STREAMS_MAX", 1)
    await pair.flow()
    with pytest.raises(errors.Overloaded):
        await pair.lent.lend(Bytes(), SUBJECT + "2", token="0123456789abcdef")
