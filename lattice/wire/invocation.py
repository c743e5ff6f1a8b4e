"""A call and its answer: the envelopes of the call subjects, version 1.

Both are msgpack maps with short keys. Unknown keys are ignored, so that a newer peer may add some;
a missing or wrongly typed key is ``invalid_request``, naming it.
"""

import itertools
import re
import secrets
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, TypeVar

from lattice import errors, limits
from lattice.wire import codec
from lattice.wire.streams import Source

VERSION = 1

_T = TypeVar("_T")


_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,64}")
"""Of a stream: it becomes part of a subject."""

_process_prefix = secrets.token_urlsafe(9)
_counter = itertools.count()


def new_id() -> str:
    """A call id: unique per process by a counter, across processes by 72 random bits."""
    return f"{_process_prefix}.{next(_counter):x}"


@dataclass(slots=True, kw_only=True)
class Usage:
    """What a call cost on the host that executed it."""

    cpu_us: int = 0
    """CPU time in microseconds."""
    fuel: int | None = None
    """Instructions, roughly; None unless the host counts them."""
    memory_bytes: int = 0
    """Greatest size of the instance's memory."""
    host_calls: int = 0
    """Calls that the guest made to what is outside of it."""
    queue_us: int = 0
    """Microseconds that the call waited for an instance; 0 for one that ran at once."""


@dataclass(slots=True)
class Reply:
    """The answer of a callee that succeeded."""

    payload: bytes
    usage: Usage | None = None
    """None where the callee says nothing of it, or goes on after its answer."""
    stream: Source | None = None
    """What of the answer is still to come; for a caller that takes it."""
    stream_token: str | None = None
    """By which it is found, until it was borrowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadRef:
    """Where a payload too large for its envelope lies."""

    name: str
    size: int
    digest: str
    """Hexadecimal SHA-256 of the payload."""


# Not frozen: a frozen dataclass costs two microseconds more per call. Nobody changes one.
@dataclass(slots=True, kw_only=True)
class Invocation:
    """One call, as both ends see it."""

    source: str
    target: str
    interface: str
    """``wasmcloud:keyvalue``, ``wasi:keyvalue/store``; empty through the plain door."""
    operation: str
    payload: bytes
    deadline: float
    """Monotonic seconds of *this* process (the event loop's clock)."""
    link_name: str = "default"
    id: str = field(default_factory=new_id)
    """Unique; the same when the runtime repeats a call."""
    hops: int = 0
    """Calls between the origin and this one."""
    key: str | None = None
    """Idempotency key."""
    trace: str | None = None
    """W3C ``traceparent``."""
    stream: Source | None = None
    """What of the payload is still to come."""
    stream_token: str | None = None
    """By which it is found, until it was borrowed."""
    takes_stream: bool = False
    """Whether the answer may have a stream as well; else it comes whole."""
    copy_host: str | None = None
    """The host whose copy of the target is meant; None for any."""


def parse_key(text: str, *, what: str) -> str:
    """An idempotency key from outside.

    Raises:
        InvalidRequest: it can't be one; ``what`` says whose it is.
    """
    if not 1 <= len(text) <= limits.IDEMPOTENCY_KEY_CHARS_MAX:
        raise errors.InvalidRequest(
            f"{what} has {len(text)} characters: want 1 to {limits.IDEMPOTENCY_KEY_CHARS_MAX}"
        )
    if not (text.isascii() and text.isprintable()):
        raise errors.InvalidRequest(f"{what} has characters that are not printable ASCII")
    return text


def encode_request(
    invocation: Invocation,
    *,
    now: float,
    ref: PayloadRef | None = None,
    stream_token: str | None = None,
) -> bytes:
    """Encode with the time that is left, so that the clocks of two machines need not agree."""
    envelope: dict[str, Any] = {
        "v": VERSION,
        "id": invocation.id,
        "if": invocation.interface,
        "op": invocation.operation,
        "ln": invocation.link_name,
        "ttl": max(0, int((invocation.deadline - now) * 1000)),
        "hop": invocation.hops,
    }
    _put_payload(envelope, invocation.payload, ref)
    if invocation.key is not None:
        envelope["key"] = invocation.key
    if invocation.trace is not None:
        envelope["tr"] = invocation.trace
    if stream_token is not None:
        envelope["st"] = stream_token
    if invocation.takes_stream:
        envelope["ts"] = True
    return codec.pack(envelope)


def decode_request(
    data: bytes, *, source: str, target: str, now: float
) -> tuple[Invocation, PayloadRef | None]:
    """Decode a request; source and target come from the subject, which NATS permissions guard.

    Raises:
        InvalidRequest: not an envelope of this version, naming the key that is wrong.
    """
    envelope = codec.unpack(data)
    plain = _decode_plain(envelope, source, target, now)
    if plain is not None:
        return plain, None
    _check_envelope(envelope)
    invocation = Invocation(
        id=_field(envelope, "id", str),
        source=source,
        target=target,
        interface=_field(envelope, "if", str),
        operation=_field(envelope, "op", str),
        link_name=_field(envelope, "ln", str),
        payload=_optional(envelope, "msg", bytes) or b"",
        deadline=_deadline(_field(envelope, "ttl", int), now),
        hops=_count(envelope, "hop"),
        key=_optional(envelope, "key", str),
        trace=_optional(envelope, "tr", str),
        stream_token=_stream_token(envelope),
        takes_stream=_optional(envelope, "ts", bool) or False,
    )
    return invocation, _payload_ref(envelope)


_PLAIN = itemgetter("v", "id", "if", "op", "ln", "ttl", "hop", "msg")
_PLAIN_TYPES = (int, str, str, str, str, int, int, bytes)


def _decode_plain(envelope: Any, source: str, target: str, now: float) -> Invocation | None:
    """A request that has what all have and nothing else; None of any other, right or wrong.

    These are nearly all, and to look at their keys together takes a third of the time.
    """
    if type(envelope) is not dict or len(envelope) != len(_PLAIN_TYPES):
        return None
    try:
        parts = _PLAIN(envelope)
    except KeyError:
        return None
    if tuple(map(type, parts)) != _PLAIN_TYPES:
        return None
    version, call_id, interface, operation, link_name, ttl_ms, hops, payload = parts
    if version != VERSION or hops < 0:
        return None
    return Invocation(
        id=call_id,
        source=source,
        target=target,
        interface=interface,
        operation=operation,
        link_name=link_name,
        payload=payload,
        deadline=_deadline(ttl_ms, now),
        hops=hops,
    )


def _deadline(ttl_ms: int, now: float) -> float:
    return now + min(max(ttl_ms / 1000, 0), limits.CALL_TIMEOUT_S_MAX)


def encode_reply(
    call_id: str,
    reply: Reply,
    *,
    ref: PayloadRef | None = None,
    stream_token: str | None = None,
) -> bytes:
    envelope: dict[str, Any] = {"v": VERSION, "id": call_id}
    _put_payload(envelope, reply.payload, ref)
    if stream_token is not None:
        envelope["st"] = stream_token
    if (usage := reply.usage) is not None:
        envelope["use"] = {
            "cpu_us": usage.cpu_us,
            "fuel": usage.fuel,
            "mem": usage.memory_bytes,
            "calls": usage.host_calls,
            "queue_us": usage.queue_us,
        }
    return codec.pack(envelope)


def encode_error(call_id: str, error: errors.LatticeError) -> bytes:
    """Encode an error so that it arrives, if need be without its detail."""
    told = error.to_wire()
    told["text"] = error.text[: limits.ERROR_TEXT_CHARS].encode(errors="replace").decode()
    envelope = {"v": VERSION, "id": call_id, "err": told}
    try:
        data = codec.pack(envelope)
    except (TypeError, ValueError, OverflowError):
        data = None
    if data is None or len(data) > limits.INLINE_PAYLOAD_BYTES:
        told.pop("detail", None)
        data = codec.pack(envelope)
    return data


def decode_reply(data: bytes) -> tuple[Reply, PayloadRef | None]:
    """Decode an answer, raising the error that it carries.

    Raises:
        LatticeError: the callee's own, rebuilt.
        InternalError: not an envelope of this version; the call may have been executed.
    """
    try:
        envelope = _envelope(data)
        if (error := envelope.get("err")) is None:
            return _reply(envelope), _payload_ref(envelope)
        if not isinstance(error, dict):
            raise errors.InvalidRequest("envelope: 'err' is not a map")
    except errors.NotExecuted as malformed:
        raise errors.InternalError(f"the answer is malformed: {malformed.text}") from None
    raise errors.from_wire(error)


def encode_cancel(call_id: str) -> bytes:
    """What calls a call off; who calls what off stands in the subject."""
    return codec.pack({"v": VERSION, "id": call_id})


def decode_cancel(data: bytes) -> str:
    """The id of the call that is called off.

    Raises:
        InvalidRequest: not an envelope of this version, naming the key that is wrong.
    """
    return _field(_envelope(data), "id", str)


def _reply(envelope: dict[Any, Any]) -> Reply:
    usage = None
    if isinstance(cost := envelope.get("use"), dict):
        usage = Usage(
            cpu_us=_optional(cost, "cpu_us", int) or 0,
            fuel=_optional(cost, "fuel", int),
            memory_bytes=_optional(cost, "mem", int) or 0,
            host_calls=_optional(cost, "calls", int) or 0,
            queue_us=_optional(cost, "queue_us", int) or 0,
        )
    return Reply(
        _optional(envelope, "msg", bytes) or b"", usage, stream_token=_stream_token(envelope)
    )


def _envelope(data: bytes) -> dict[Any, Any]:
    return _check_envelope(codec.unpack(data))


def _check_envelope(envelope: Any) -> dict[Any, Any]:
    if not isinstance(envelope, dict):
        raise errors.InvalidRequest("envelope: not a map")
    if _field(envelope, "v", int) != VERSION:
        raise errors.InvalidRequest(f"envelope: version {envelope['v']} is not {VERSION}")
    return envelope


def _field(envelope: dict[Any, Any], key: str, kind: type[_T]) -> _T:
    value = envelope.get(key)
    # Exactly the type: True is an int to isinstance.
    if type(value) is not kind:
        raise errors.InvalidRequest(f"envelope: {key!r} is missing or not {kind.__name__}")
    return value


def _count(envelope: dict[Any, Any], key: str) -> int:
    if (count := _field(envelope, key, int)) < 0:
        raise errors.InvalidRequest(f"envelope: {key!r} is {count}, below 0")
    return count


def _optional(envelope: dict[Any, Any], key: str, kind: type[_T]) -> _T | None:
    return None if envelope.get(key) is None else _field(envelope, key, kind)


def _stream_token(envelope: dict[Any, Any]) -> str | None:
    if (token := _optional(envelope, "st", str)) is not None and not _TOKEN.fullmatch(token):
        raise errors.InvalidRequest("envelope: 'st' is no token")
    return token


def _put_payload(envelope: dict[str, Any], payload: bytes, ref: PayloadRef | None) -> None:
    if ref is None:
        envelope["msg"] = payload
    else:
        envelope["ref"] = {"name": ref.name, "size": ref.size, "digest": ref.digest}


def _payload_ref(envelope: dict[Any, Any]) -> PayloadRef | None:
    if (ref := envelope.get("ref")) is None:
        return None
    if not isinstance(ref, dict):
        raise errors.InvalidRequest("envelope: 'ref' is not a map")
    return PayloadRef(
        name=_field(ref, "name", str),
        size=_count(ref, "size"),
        digest=_field(ref, "digest", str),
    )
