"""What a host does and what its actors' calls came to, in numbers: our own, in msgpack.

Whatever counts something grows from the start of the actor on that host; a reader that wants a rate
asks twice. Unknown fields are ignored, so that a newer host may say more.
"""

from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
)

from lattice import errors, limits
from lattice.wire import codec
from lattice.wire.control import first_fault
from lattice.wire.histogram import Histogram

IDS_MAX = 1_000
"""Actors that one request may name."""


def _histogram(value: object) -> Histogram:
    if isinstance(value, Histogram):
        return value
    if not isinstance(value, list):
        raise errors.InvalidRequest("histogram: not a list")
    return Histogram.from_pairs(value)


Count = Annotated[int, Field(ge=0, lt=2**63)]
Share = Annotated[float, Field(ge=0, le=1)]
Durations = Annotated[Histogram, PlainValidator(_histogram), PlainSerializer(Histogram.pairs)]
"""Microseconds."""


class _Figures(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="ignore", frozen=True, strict=True)


class LinkFigures(_Figures):
    """Calls that an actor's guests made over one link."""

    name: str
    interface: str
    """Namespace and package."""
    target: str
    calls: Count
    failures: Count
    durations: Durations
    bytes_in: Count = 0
    """Payloads of the answers, and what of them flowed, as it was read."""
    bytes_out: Count = 0
    """The same of the calls."""
    cpu_us: Count = 0
    """What the calls cost at the target, where that is an actor."""


class ActorFigures(_Figures):
    """One actor on one host, or on several together."""

    id: str
    count: Count
    """Instances that may run at once."""
    running: Count
    waiting: Count
    completed: Count = 0
    failed: Count = 0
    """Executed without success, or given up while they waited."""
    trapped: Count = 0
    """Those of them that a trap or a limit ended."""
    cancelled: Count = 0
    """Those of them that were called off: the caller went away, or the actor was stopped."""
    refused: Count = 0
    """Not executed: no room, no time left, throttled, or about to stop."""
    throttled_ms: Count = 0
    """Above 0 while calls are refused because the last ones trapped; the longest of all hosts."""
    bytes_in: Count = 0
    """Payloads of the calls, and what of them flowed, as it was read."""
    bytes_out: Count = 0
    """The same of the answers."""
    cpu_us: Count = 0
    fuel: Count = 0
    """Instructions, roughly; 0 on hosts that do not count them."""
    host_calls: Count = 0
    memory_bytes: Count = 0
    """The most that one instance has had."""
    durations: Durations = Field(default_factory=Histogram)
    queued: Durations = Field(default_factory=Histogram)
    """Waits of the calls that had to; the others waited for nothing."""
    links: list[LinkFigures] = []


class HostFigures(_Figures):
    """A host, and its actors: all that were asked for, or the busiest of them."""

    id: str
    name: str
    uptime_s: Count
    load: Share
    """Share of its instances that run."""
    running: Count
    waiting: Count
    instances_max: Count
    memory_bytes: Count
    """Resident memory of the host's process; 0 where the system does not tell."""
    draining: bool
    guest_memory_bytes: Count = 0
    """Of the instances that run for more than one slice."""
    guest_memory_bytes_max: Count = 0
    retried: Count = 0
    """Calls from here that were repeated because they had not been executed."""
    retries_refused: Count = 0
    """Repetitions that would have been beyond the budget for them."""
    modules_loaded: Count = 0
    """Modules whose compiled code is in memory."""
    code_bytes: Count = 0
    code_bytes_max: Count = 0
    evictions: Count = 0
    """Times that an idle module's code was dropped to make room."""
    reloads: Count = 0
    """Times that it was loaded again for the next call."""
    actors: list[ActorFigures] = []
    left_out: Count = 0
    """Actors for which there was no room."""


class FiguresRequest(_Figures):
    """Asks for some actors only; without ids, for as many as there is room for."""

    ids: Annotated[list[str], Field(max_length=IDS_MAX)] | None = None


M = TypeVar("M", bound=_Figures)


def encode_request(request: FiguresRequest) -> bytes:
    return codec.pack(request.model_dump(exclude_none=True))


def decode_request(data: bytes) -> FiguresRequest:
    """Read a request; nothing at all asks for everything.

    Raises:
        InvalidRequest: not one, naming what is wrong.
    """
    return _decode(FiguresRequest, data) if data else FiguresRequest()


def encode_host(host: HostFigures, actors: Iterable[ActorFigures], *, total: int) -> bytes:
    """Encode a host with as many of its actors as there is room for, in their order.

    ``total``: how many there are.
    """
    told: list[dict[str, Any]] = []
    room = limits.WATCH_ANSWER_BYTES
    for actor in actors:
        fields = actor.model_dump()
        room -= len(codec.pack(fields))
        if room < 0:
            break
        told.append(fields)
    answer = host.model_dump() | {"actors": told, "left_out": total - len(told)}
    return codec.pack(answer)


def decode_host(data: bytes) -> HostFigures:
    """Read a host's answer.

    Raises:
        InvalidRequest: not one, naming what is wrong.
    """
    return _decode(HostFigures, data)


def together(figures: Iterable[ActorFigures]) -> ActorFigures:
    """Several hosts' figures of one actor as if they were one host's; there is at least one."""
    each = list(figures)
    durations, queued = Histogram(), Histogram()
    links: dict[tuple[str, str, str], LinkFigures] = {}
    for one in each:
        durations.merge(one.durations)
        queued.merge(one.queued)
        for link in one.links:
            key = (link.name, link.interface, link.target)
            links[key] = _link_together(links[key], link) if key in links else link
    return ActorFigures(
        id=each[0].id,
        **{name: sum(getattr(one, name) for one in each) for name in _SUMMED},
        memory_bytes=max(one.memory_bytes for one in each),
        throttled_ms=max(one.throttled_ms for one in each),
        durations=durations,
        queued=queued,
        links=list(links.values()),
    )


_SUMMED = (
    "count",
    "running",
    "waiting",
    "completed",
    "failed",
    "trapped",
    "cancelled",
    "refused",
    "bytes_in",
    "bytes_out",
    "cpu_us",
    "fuel",
    "host_calls",
)

_LINK_SUMMED = ("calls", "failures", "bytes_in", "bytes_out", "cpu_us")


def _link_together(one: LinkFigures, other: LinkFigures) -> LinkFigures:
    durations = Histogram()
    durations.merge(one.durations)
    durations.merge(other.durations)
    return LinkFigures(
        name=one.name,
        interface=one.interface,
        target=one.target,
        durations=durations,
        **{name: getattr(one, name) + getattr(other, name) for name in _LINK_SUMMED},
    )


def _decode(model: type[M], data: bytes) -> M:
    try:
        return model.model_validate(codec.unpack(data))
    except ValidationError as error:
        raise errors.InvalidRequest(f"figures: {first_fault(error)}") from None
