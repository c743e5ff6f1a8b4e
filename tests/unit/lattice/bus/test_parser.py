"""What the lean parser hands over is what the client's own would, however the bytes come in."""

import asyncio
import itertools
import random
from typing import Any

import pytest
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from lattice.bus.parser import LeanParser

STREAM = (
    b"MSG a.b 1 5\r\nhello\r\n"
    b"MSG a.b 12 _INBOX.x 0\r\n\r\n"
    b"PING\r\n"
    b"+OK\r\n"
    b"MSG \xff\xfe 3 reply 4\r\n\r\n\r\n\r\n"
    b"HMSG a.c 4 reply 12 17\r\nNATS/1.0\r\n\r\nhello\r\n"
    b"HMSG a.c 4 12 12\r\nNATS/1.0\r\n\r\n\r\n"
    b"-ERR 'Permissions Violation'\r\n"
    b'INFO {"connect_urls": []}\r\n'
    b"PONG\r\n"
    b"MSG large 5 5000\r\n" + b"MSG x 1 1\r\n" * 454 + b"123456\r\n"
    b"MSG a.b 1 2\r\nok\r\n"
)


class Client:
    """Notes what a parser hands over."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    async def _process_msg(self, *parts: Any) -> None:
        self.heard.append(parts)

    async def _process_ping(self) -> None:
        self.heard.append("ping")

    async def _process_pong(self) -> None:
        self.heard.append("pong")

    async def _process_err(self, text: str) -> None:
        self.heard.append(text)

    async def _process_info(self, facts: dict[str, Any]) -> None:
        self.heard.append(facts)


async def heard_of(parser_class: type[Parser], pieces: list[bytes]) -> list[Any]:
    client = Client()
    parser = parser_class(client)
    for piece in pieces:
        await parser.parse(piece)
    assert not parser.buf
    return client.heard


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(at), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


async def test_a_stream_in_one_piece_is_read_as_by_the_clients_own() -> None:
    expected = await heard_of(Parser, [STREAM])
    assert len(expected) == 11
    assert await heard_of(LeanParser, [STREAM]) == expected


@pytest.mark.parametrize("size", [1, 2, 7, 100])
async def test_it_may_be_cut_anywhere(size: int) -> None:
    pieces = [STREAM[begin : begin + size] for begin in range(0, len(STREAM), size)]
    assert await heard_of(LeanParser, pieces) == await heard_of(Parser, [STREAM])


async def test_it_may_be_cut_at_random() -> None:
    chance = random.Random(1)
    expected = await heard_of(Parser, [STREAM])
    for _ in range(100):
        pieces = cut(STREAM, chance.sample(range(len(STREAM)), 5))
        assert await heard_of(LeanParser, pieces) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"\r\n",
        b"WHAT\r\n",
        b"MSG\r\n",
        b"MSG a 1\r\n",
        b"MSG a x 1\r\n",
        b"MSG a 1 -9\r\n",
        b"MSG a 1 b 1 1\r\n",
        b"HMSG\r\n",
        b"HMSG a 1 9 8\r\n",
        b"HMSG a 1 -1 8\r\n",
    ],
)
async def test_what_is_no_line_of_the_protocol_is_an_error(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        await LeanParser(Client()).parse(line)


async def test_nothing_is_handed_over_twice_when_a_hand_over_is_cancelled() -> None:
    class Stopped(Client):
        async def _process_msg(self, *parts: Any) -> None:
            await super()._process_msg(*parts)
            raise asyncio.CancelledError

    client = Stopped()
    parser = LeanParser(client)
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError):
            await parser.parse(b"MSG a 1 1\r\nx\r\n")
    await parser.parse()
    assert len(client.heard) == 2


async def test_nothing_of_a_connection_that_was_given_up_is_handed_over() -> None:
    class Reset(Client):
        async def _process_msg(self, *parts: Any) -> None:
            await super()._process_msg(*parts)
            parser.reset()

    client = Reset()
    parser = LeanParser(client)
    await parser.parse(b"MSG a 1 1\r\nx\r\nMSG a 1 1\r\ny\r\nMSG a 1 1\r\n")
    assert len(client.heard) == 1
    assert not parser.buf
