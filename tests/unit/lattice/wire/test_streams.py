"""Questions for pieces of a stream, and the pieces."""

import pytest

from lattice import errors
from lattice.wire import codec, streams
from lattice.wire.streams import Piece, Question


@pytest.mark.parametrize("question", [Question(at=5, size_max=100), Question(stop=True)])
def test_a_question_arrives_as_it_was_asked(question: Question) -> None:
    assert streams.decode_question(streams.encode_question(question)) == question


@pytest.mark.parametrize(
    "piece",
    [
        Piece(at=0, content=b"some"),
        Piece(at=7, content=b""),
        Piece(at=7, content=b"", is_end=True),
        Piece(at=7, content=b"", is_end=True, trailers=[("x-sum", b"\xff")]),
    ],
)
def test_a_piece_arrives_as_it_was_given(piece: Piece) -> None:
    assert streams.decode_piece(streams.encode_piece(piece)) == piece


def test_an_error_arrives_with_its_code() -> None:
    error = errors.ActorTrapped("unreachable", backtrace="f", memory_bytes=1)
    piece = streams.decode_piece(streams.encode_piece(Piece(at=3, content=b"", error=error)))
    assert isinstance(piece.error, errors.ActorTrapped)
    assert piece.error.text == error.text


@pytest.mark.parametrize(
    "message",
    [
        None,
        {},
        {"v": 2, "stop": True},
        {"v": 1, "stop": 1, "at": 0},
        {"v": 1, "at": -1, "max": 1},
        {"v": 1, "at": 0, "max": 0},
        {"v": 1, "at": "0", "max": 1},
    ],
)
def test_what_is_no_question_is_refused(message: object) -> None:
    with pytest.raises(errors.InvalidRequest):
        streams.decode_question(codec.pack(message))


@pytest.mark.parametrize(
    "message",
    [
        None,
        {"v": 1, "at": 0},
        {"v": 1, "at": 0, "msg": "text"},
        {"v": 1, "at": 0, "msg": b"", "end": True, "tr": [["x"]]},
        {"v": 1, "at": 0, "msg": b"", "end": True, "tr": [["x", "text"]]},
        {"v": 1, "err": "broken"},
    ],
)
def test_what_is_no_piece_is_refused(message: object) -> None:
    with pytest.raises(errors.InvalidRequest):
        streams.decode_piece(codec.pack(message))


class Breaking:
    """Gives what it has, and breaks."""

    def __init__(self, *pieces: bytes) -> None:
        self.trailers = [("x-sum", b"1")]
        self.is_closed = False
        self._pieces = [*pieces]

    async def read(self, size_max: int) -> bytes:
        if not self._pieces:
            raise errors.Unavailable("it broke off")
        return self._pieces.pop(0)[:size_max]

    def close(self) -> None:
        self.is_closed = True


async def test_a_source_that_is_counted_is_the_same_source() -> None:
    sizes: list[int] = []
    source = Breaking(b"some", b"more", b"")
    counted = streams.counted(source, sizes.append)
    assert counted is not None
    assert [await counted.read(3), await counted.read(9), await counted.read(9)] == [
        b"som",
        b"more",
        b"",
    ]
    with pytest.raises(errors.Unavailable):
        await counted.read(9)
    assert sum(sizes) == 7
    assert counted.trailers is source.trailers
    counted.close()
    assert source.is_closed
    assert streams.counted(None, sizes.append) is None
