"""What a host says of its own health: tasks, connections, its event loop, its bounds.

Our own, in msgpack. Counts grow from the start of the host. Unknown fields are ignored, so that a
newer host may say more.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lattice import errors, limits
from lattice.wire import codec
from lattice.wire.control import first_fault

TASKS_MAX = 200
"""Tasks that are told: all eternal ones of any host, and the oldest of those that serve calls."""

TEXT_CHARS_MAX = 8_000
"""Longest text in an answer: the stack of a blocked loop."""

Count = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(ge=0)]


class _Diagnostics(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="ignore", frozen=True, strict=True)


class TaskDiagnostics(_Diagnostics):
    """One background task."""

    group: str
    """Its owner."""
    name: str
    eternal: bool
    """Whether it has no good way to end, and is started again when it does."""
    age_s: Seconds
    restarts: Count = 0
    last_failure: str = ""


class FailureDiagnostics(_Diagnostics):
    """Tasks of one owner that served something, and failed without having handled it."""

    group: str
    count: Count
    last: str


class ConnectionDiagnostics(_Diagnostics):
    """One connection to NATS."""

    purpose: str
    connected: bool
    server: str
    round_trip_s: Seconds | None = None
    """Of the last probe that came back."""
    reconnects: Count = 0
    replaced: Count = 0
    """Times that it was found deaf and made anew."""
    replaced_for: str = ""
    """Why, the last time."""
    revived: Count = 0
    """Subscriptions that had ended inside the client and were started again."""
    subscriptions: Count = 0
    pending: Count = 0
    """Requests that wait for an answer."""
    outgoing_bytes: Count = 0
    dropped: Count = 0
    """Messages that their subscription had no room for."""
    dropped_by_subject: dict[str, Count] = {}


class StallDiagnostics(_Diagnostics):
    """Times that the event loop was blocked."""

    count: Count = 0
    worst_s: Seconds = 0.0
    last_s: Seconds = 0.0
    last_at: Seconds = 0.0
    """On the system's clock; 0 when there was none."""
    last_stack: str = ""
    frozen: Count = 0
    """Times that the whole process stood still, which is nobody's fault in it."""


class BoundDiagnostics(_Diagnostics):
    """Something that has a bound, and how much of it is taken."""

    name: str
    value: Count
    most: Count


class HostDiagnostics(_Diagnostics):
    """One host."""

    id: str
    name: str
    uptime_s: Count
    tasks: list[TaskDiagnostics] = []
    tasks_left_out: Count = 0
    tasks_of_loop: Count = 0
    """All that the event loop has, those of libraries included."""
    failures: list[FailureDiagnostics] = []
    connections: list[ConnectionDiagnostics] = []
    stalls: StallDiagnostics = StallDiagnostics()
    bounds: list[BoundDiagnostics] = []


def encode(host: HostDiagnostics) -> bytes:
    """Encode a host's answer; when it is too large, tasks are left out, those at the end first."""
    told: dict[str, Any] = host.model_dump()
    while True:
        data = codec.pack(told)
        if len(data) <= limits.WATCH_ANSWER_BYTES or not told["tasks"]:
            return data
        kept = len(told["tasks"]) // 2
        told["tasks_left_out"] += len(told["tasks"]) - kept
        told["tasks"] = told["tasks"][:kept]


def decode(data: bytes) -> HostDiagnostics:
    """Read a host's answer.

    Raises:
        InvalidRequest: not one, naming what is wrong.
    """
    try:
        return HostDiagnostics.model_validate(codec.unpack(data))
    except ValidationError as error:
        raise errors.InvalidRequest(f"diagnostics: {first_fault(error)}") from None
