"""Every way a request can fail: one list for calls, control replies, events and exit messages.

An error crosses process borders as ``{code, text, at, detail}`` and is rebuilt from its code on the
other side, so a caller catches the same class whether the failure was local or three hosts away.
The tree is drawn by the question a caller must answer: *was it executed?*

::

    LatticeError
     ├── NotExecuted              it is safe to try again, here or elsewhere
     │    ├── NoLink              no_link
     │    ├── NotRunning          not_running        retried by the runtime
     │    ├── Overloaded          overloaded         retried by the runtime
     │    ├── Draining            draining           retried by the runtime
     │    ├── Denied              denied
     │    ├── InvalidRequest      invalid_request
     │    ├── PayloadTooLarge     payload_too_large
     │    ├── HopLimit            hop_limit
     │    ├── Conflict            conflict
     │    ├── NotFound            not_found
     │    └── AlreadyExists       already_exists
     ├── OutcomeUnknown           safe to repeat only with an idempotency key
     │    ├── DeadlineExceeded    deadline_exceeded
     │    ├── Cancelled           cancelled
     │    ├── Unavailable         unavailable
     │    └── InternalError       internal           a bug of ours
     └── Executed                 the callee ran, and failed
          ├── ActorError          actor_error
          ├── ActorTrapped        actor_trapped
          ├── CpuExceeded         cpu_exceeded
          ├── MemoryExceeded      memory_exceeded
          └── ProviderError       provider_error
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self


class LatticeError(Exception):
    """A failure with a code that every part of the lattice, and its clients, understand."""

    code: ClassVar[str]
    """Stable name of the failure; clients match on it."""
    executed: ClassVar[str]
    """``no``, ``yes`` or ``unknown``: whether the call had any effect."""
    retryable: ClassVar[bool] = False
    """Whether the runtime itself may try again within the deadline."""
    remedy: ClassVar[str] = ""
    """What a person can do about it; one sentence, may be empty."""

    def __init__(
        self, text: str, *, at: str | None = None, detail: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(text)
        self.text = text
        self.at = at
        """Id of the host on which it failed, where one is known."""
        self.detail = dict(detail or {})
        """Figures and names behind the text: values of msgpack and JSON only."""

    def to_wire(self) -> dict[str, Any]:
        """The error map of a response envelope."""
        wire: dict[str, Any] = {
            "code": self.code,
            "text": self.text,
            "retry": self.retryable,
            "at": self.at,
        }
        if self.detail:
            wire["detail"] = self.detail
        return wire

    @classmethod
    def from_parts(
        cls, text: str, *, at: str | None = None, detail: Mapping[str, Any] | None = None
    ) -> Self:
        """Rebuild an error whose text was composed elsewhere, past a subclass's own constructor."""
        error = cls.__new__(cls)
        LatticeError.__init__(error, text, at=at, detail=detail)
        return error

    def copy(self) -> Self:
        """A fresh one of an error that is kept: each raise of one adds to its traceback."""
        return self.from_parts(self.text, at=self.at, detail=self.detail)


class NotExecuted(LatticeError):
    """Nothing happened: the request was refused before it had any effect."""

    executed = "no"


class OutcomeUnknown(LatticeError):
    """Contact was lost while the request may or may not have been executed."""

    executed = "unknown"


class Executed(LatticeError):
    """The callee ran and failed."""

    executed = "yes"


class NoLink(NotExecuted):
    """The source has no link of that name for that interface."""

    code = "no_link"

    def __init__(
        self,
        source: str,
        link_name: str,
        interface: str,
        *,
        target: str = "TARGET",
        at: str | None = None,
    ) -> None:
        namespace, is_interface, package = interface.partition("/")[0].partition(":")
        if not is_interface:
            namespace, package = "NAMESPACE", "PACKAGE"
        command = f"lattice link put {source} {target} {namespace} {package}"
        if link_name != "default":
            command += f" --link-name {link_name}"
        super().__init__(
            f"{source} has no link named {link_name!r} for {interface}; put one with: {command}",
            at=at,
            detail={"source": source, "link_name": link_name, "interface": interface},
        )


class NotRunning(NotExecuted):
    """No host runs the target."""

    code = "not_running"
    retryable = True
    remedy = "see what runs with: lattice get inventory"


class Overloaded(NotExecuted):
    """A queue or a pool was full; nothing waits that has no room to wait in."""

    code = "overloaded"
    retryable = True
    remedy = (
        "see what holds it up with: lattice top, and lattice logs; where it is only busy,"
        " raise its count with: lattice scale component, or start it on more hosts"
    )


class Draining(NotExecuted):
    """The host is going away and takes no new work."""

    code = "draining"
    retryable = True


class Denied(NotExecuted):
    """Policy, claims or a permission said no."""

    code = "denied"


class InvalidRequest(NotExecuted):
    """A malformed envelope, an unknown operation, a value out of range."""

    code = "invalid_request"


class PayloadTooLarge(NotExecuted):
    """A payload over its limit, naming both numbers."""

    code = "payload_too_large"

    def __init__(self, what: str, size: int, limit: int, *, at: str | None = None) -> None:
        super().__init__(
            f"{what} is {size} bytes, over the limit of {limit}",
            at=at,
            detail={"size": size, "limit": limit},
        )


class HopLimit(NotExecuted):
    """The chain of calls is deeper than allowed: most often a cycle."""

    code = "hop_limit"

    def __init__(self, hops: int, limit: int, *, at: str | None = None) -> None:
        super().__init__(
            f"the call is {hops} hops from its origin, over the limit of {limit}: a cycle?",
            at=at,
            detail={"hops": hops, "limit": limit},
        )


class Conflict(NotExecuted):
    """A compare-and-set lost, or a link exists with another target."""

    code = "conflict"


class NotFound(NotExecuted):
    """The control plane knows nothing of that name."""

    code = "not_found"


class AlreadyExists(NotExecuted):
    """Something of that name is there already."""

    code = "already_exists"


class DeadlineExceeded(OutcomeUnknown):
    """Time ran out."""

    code = "deadline_exceeded"


class Expired(DeadlineExceeded):
    """Time ran out before anything was executed: known where it happened, and to nobody else."""

    executed = "no"


class Cancelled(OutcomeUnknown):
    """The caller went away or asked to stop."""

    code = "cancelled"


class Unavailable(OutcomeUnknown):
    """NATS, the target's process or what stands behind it is away, or went away meanwhile."""

    code = "unavailable"
    remedy = "see that it runs, and that whoever needs it can reach it"


class NatsAway(Unavailable):
    """NATS itself, seen from this very process: from any other one NATS brings the news."""

    remedy = "see that NATS runs, and that --nats or LATTICE_NATS_URL names it"


class InternalError(OutcomeUnknown):
    """A bug of ours; the text carries a reference into the log of the host it names."""

    code = "internal"


class ActorError(Executed):
    """The guest answered with an error; its own text is carried."""

    code = "actor_error"


class ActorTrapped(Executed):
    """The guest trapped; ``detail`` has the trap's kind and the backtrace with function names."""

    code = "actor_trapped"

    def __init__(
        self, kind: str, *, backtrace: str = "", memory_bytes: int = 0, at: str | None = None
    ) -> None:
        super().__init__(
            f"the actor trapped: {kind}",
            at=at,
            detail={"kind": kind, "backtrace": backtrace, "memory_bytes": memory_bytes},
        )


class _BudgetExceeded(Executed):
    resource: ClassVar[str]
    unit: ClassVar[str]

    def __init__(self, measured: int, limit: int, *, at: str | None = None) -> None:
        super().__init__(
            f"the actor used {measured} {self.unit} of {self.resource}, over its limit of {limit}",
            at=at,
            detail={"measured": measured, "limit": limit, "unit": self.unit},
        )


class CpuExceeded(_BudgetExceeded):
    """The guest used up its CPU time, in microseconds."""

    code = "cpu_exceeded"
    resource = "CPU time"
    unit = "us"


class MemoryExceeded(_BudgetExceeded):
    """The guest asked for more memory than it may have, in bytes."""

    code = "memory_exceeded"
    resource = "memory"
    unit = "bytes"


class ProviderError(Executed):
    """The provider answered with an error."""

    code = "provider_error"


def _leaves(cls: type[LatticeError]) -> Iterator[type[LatticeError]]:
    for child in cls.__subclasses__():
        if "code" in vars(child):
            yield child
        yield from _leaves(child)


BY_CODE: Mapping[str, type[LatticeError]] = {cls.code: cls for cls in _leaves(LatticeError)}
"""Every code of the list and its class."""


def from_wire(wire: Mapping[str, Any]) -> LatticeError:
    """Rebuild the error that a peer sent.

    A code that this version does not know becomes ``InternalError`` naming it, never a crash: newer
    hosts may share the lattice.
    """
    code, text, at, detail = (wire.get(key) for key in ("code", "text", "at", "detail"))
    text = text if isinstance(text, str) else ""
    at = at if isinstance(at, str) else None
    detail = _printable(detail) if isinstance(detail, Mapping) else None
    cls = BY_CODE.get(code) if isinstance(code, str) else None
    if cls is None:
        return InternalError(f"unknown error code {code!r}: {text}", at=at, detail=detail)
    return cls.from_parts(text, at=at, detail=detail)


def _printable(detail: Mapping[Any, Any]) -> dict[str, Any]:
    """The part of a peer's detail that can be shown as JSON: msgpack has values that can't."""
    return {
        key: value
        for key, value in detail.items()
        if isinstance(key, str) and isinstance(value, str | int | float | None)
    }
