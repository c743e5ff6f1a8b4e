"""Log lines on their way to who follows them: our own, in msgpack.

A follower says again and again what it wants (``Want``); hosts publish lines (``Lines``) while they
have heard it lately. Who asks for recent lines (``RecentRequest``) gets the same from each host.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lattice import errors, limits
from lattice.wire import codec
from lattice.wire.control import first_fault

LEVELS = ("debug", "info", "warning", "error", "critical")
"""From the least to the most serious."""

IDS_MAX = 1_000
"""Actors that one request may name."""

Level = Literal["debug", "info", "warning", "error", "critical"]
Ids = Annotated[list[str], Field(max_length=IDS_MAX)] | None
"""Which actors; None for all."""


def severity(level: str) -> int:
    return LEVELS.index(level)


# Not a model: one is made for every line that a guest writes.
@dataclass(slots=True, kw_only=True)
class Line:
    """A line about one actor."""

    actor: str
    number: int
    """Counts all lines of its host; two with the same number are the same line."""
    time_ms: int
    """Since 1970, by the host's clock."""
    level: Level
    text: str
    by: Literal["guest", "host"]
    """Who wrote it: the actor, or its host about it."""
    call: str = ""
    """Id of the call during which it was written, where that is known."""


@dataclass(slots=True, kw_only=True)
class Lines:
    """Lines of one host, in their order."""

    host: str
    name: str
    """The host's friendly name."""
    lines: list[Line]
    dropped: int = 0
    """Lines that there was no room or no time for, since the message before."""


class _Request(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="ignore", frozen=True, strict=True)

    ids: Ids = None
    level: Level = "debug"
    """The least serious level that is wanted."""


class Want(_Request):
    """What a follower wants until its time is up; 0 ms for no more."""

    follower: Annotated[str, Field(min_length=1, max_length=100)]
    ttl_ms: Annotated[int, Field(ge=0, le=int(limits.LOG_LEASE_S * 1000))]


class RecentRequest(_Request):
    """Asks for the last lines of those that a host keeps."""

    lines: Annotated[int, Field(ge=1, le=100_000)] = limits.LOG_LINES_KEPT


T = TypeVar("T")

_want = TypeAdapter(Want)
_recent = TypeAdapter(RecentRequest)
_lines = TypeAdapter(Lines)


def encode(value: Want | RecentRequest | Lines) -> bytes:
    kind: TypeAdapter[Any] = _lines if isinstance(value, Lines) else TypeAdapter(type(value))
    return codec.pack(kind.dump_python(value))


def decode_want(data: bytes) -> Want:
    """Read what a follower wants.

    Raises:
        InvalidRequest: not that, naming what is wrong.
    """
    return _decode(_want, data)


def decode_recent(data: bytes) -> RecentRequest:
    """Read a request for recent lines; nothing at all asks for all of them.

    Raises:
        InvalidRequest: as ``decode_want``.
    """
    return _decode(_recent, data) if data else RecentRequest()


def decode_lines(data: bytes) -> Lines:
    """Read a host's lines.

    Raises:
        InvalidRequest: as ``decode_want``.
    """
    return _decode(_lines, data)


def _decode(kind: TypeAdapter[T], data: bytes) -> T:
    try:
        return kind.validate_python(codec.unpack(data))
    except ValidationError as error:
        raise errors.InvalidRequest(f"logs: {first_fault(error)}") from None
