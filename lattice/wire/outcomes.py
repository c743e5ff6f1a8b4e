"""What is remembered of a call with an idempotency key: a msgpack map in a bucket, version 1.

``until`` is a Unix time, of the clock of the process that executes the call. Clocks that disagree
shift the moment at which others give an outcome up for lost; nothing is executed twice for that.
"""

from dataclasses import dataclass
from typing import Any

from lattice import errors
from lattice.wire import codec

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One call with a key: that it was begun, and what came of it."""

    call_id: str
    at: str
    """Id of the host that executes it."""
    digest: bytes
    """SHA-256 of the call's payload."""
    until_ms: int
    """Unix time by which the answer is here, or is not to be expected any more."""
    answer: bytes | None = None
    """The response envelope, as it was or would have been sent; None while the call runs."""


def encode(outcome: Outcome) -> bytes:
    fields: dict[str, Any] = {
        "v": VERSION,
        "id": outcome.call_id,
        "at": outcome.at,
        "sum": outcome.digest,
        "until": outcome.until_ms,
    }
    if outcome.answer is not None:
        fields["answer"] = outcome.answer
    return codec.pack(fields)


def decode(data: bytes) -> Outcome:
    """Read what was remembered.

    Raises:
        InternalError: it can't be read: not of this version, or damaged. The call it stands for
            may have been executed.
    """
    try:
        match codec.unpack(data):
            case {
                "v": 1,
                "id": str(call_id),
                "at": str(at),
                "sum": bytes(digest),
                "until": int(until_ms),
                **others,
            } if isinstance(answer := others.get("answer"), bytes | None):
                return Outcome(
                    call_id=call_id, at=at, digest=digest, until_ms=until_ms, answer=answer
                )
    except errors.InvalidRequest:
        pass
    raise errors.InternalError("what is remembered of this idempotency key can't be read")
