"""Bodies that don't fit a message, on the wire: the reader asks for a piece, the owner answers it.

A message of a call names the stream by the subject that its owner listens on; who knows that may
read, and nobody can guess it. Both messages are msgpack maps. A question is ``{v, at, max}``: the
piece from byte ``at`` on, of ``max`` bytes at the most. Who asks for the same place again gets the
same piece, so that a question may be repeated when its answer is lost. ``{v, stop}`` says that
nothing more will be asked.

An answer is ``{v, at, msg}``. An empty ``msg`` with ``end`` is the end, with the trailers that
follow the body; without it, there is nothing yet, and the reader asks again. ``err`` is the error
that the stream broke with.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from lattice import errors
from lattice.wire import codec

VERSION = 1

Trailers = list[tuple[str, bytes]]
"""Names in lower case."""


class Source(Protocol):
    """Where bytes are read from, by one reader: what a message carries beside its payload."""

    @property
    def trailers(self) -> Trailers:
        """What follows the bytes; complete once the end was read."""
        ...

    async def read(self, size_max: int) -> bytes:
        """Wait for bytes, and give no more than so many; none at the end, and from then on.

        Cancelling it loses nothing.

        Raises:
            LatticeError: the stream is broken.
        """
        ...

    def close(self) -> None:
        """Want no more of it; safe at any time, and twice."""
        ...


class _Counted:
    """Another source, whose bytes are counted as they are read."""

    def __init__(self, source: Source, count: Callable[[int], None]) -> None:
        self._source = source
        self._count = count

    @property
    def trailers(self) -> Trailers:
        return self._source.trailers

    async def read(self, size_max: int) -> bytes:
        content = await self._source.read(size_max)
        self._count(len(content))
        return content

    def close(self) -> None:
        self._source.close()


def counted(source: Source | None, count: Callable[[int], None]) -> Source | None:
    """What reads from a source, if there is one, and tells how much was read each time."""
    return None if source is None else _Counted(source, count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    at: int = 0
    size_max: int = 0
    stop: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    at: int
    content: bytes
    is_end: bool = False
    trailers: Trailers = field(default_factory=list)
    error: errors.LatticeError | None = None


def encode_question(question: Question) -> bytes:
    if question.stop:
        return codec.pack({"v": VERSION, "stop": True})
    return codec.pack({"v": VERSION, "at": question.at, "max": question.size_max})


def decode_question(data: bytes) -> Question:
    """
    Raises:
        InvalidRequest: it is none.
    """
    match codec.unpack(data):
        case {"v": 1, "stop": True}:
            return Question(stop=True)
        case {"v": 1, "at": int(at), "max": int(size_max)} if at >= 0 and size_max > 0:
            return Question(at=at, size_max=size_max)
        case _:
            raise errors.InvalidRequest("it is no question for a piece of a stream")


def encode_piece(piece: Piece) -> bytes:
    message: dict[str, Any] = {"v": VERSION, "at": piece.at, "msg": piece.content}
    if piece.is_end:
        message["end"] = True
        message["tr"] = piece.trailers
    if piece.error is not None:
        message["err"] = piece.error.to_wire()
    return codec.pack(message)


def decode_piece(data: bytes) -> Piece:
    """
    Raises:
        InvalidRequest: it is none.
    """
    match codec.unpack(data):
        case {"v": 1, "err": dict(error)}:
            return Piece(at=0, content=b"", error=errors.from_wire(error))
        case {"v": 1, "at": int(at), "msg": b"", "end": True, "tr": list(trailers)}:
            return Piece(at=at, content=b"", is_end=True, trailers=_trailers(trailers))
        case {"v": 1, "at": int(at), "msg": bytes(content)}:
            return Piece(at=at, content=content)
        case _:
            raise errors.InvalidRequest("it is no piece of a stream")


def _trailers(entries: list[Any]) -> Trailers:
    found = []
    for each in entries:
        match each:
            case [str(name), bytes(value)]:
                found.append((name.lower(), value))
            case _:
                raise errors.InvalidRequest("a trailer of a stream is no name and bytes")
    return found
