"""What a call with an idempotency key may do, decided from what is remembered of that key."""

import hashlib

from lattice import errors, limits
from lattice.wire import codec
from lattice.wire.invocation import Invocation, parse_key
from lattice.wire.outcomes import Outcome


def record_name(invocation: Invocation) -> str:
    """Where the outcome of a call is remembered: one place per key, and per what it was sent to.

    Raises:
        InvalidRequest: the key can't be one.
    """
    key = parse_key(invocation.key or "", what="the idempotency key")
    scope = (invocation.target, invocation.source, invocation.interface, invocation.operation, key)
    # Packed, so that no two scopes run together; hashed, as keys are any text.
    return hashlib.sha256(codec.pack(scope)).hexdigest()


def digest_of(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()


def begun(invocation: Invocation, *, at: str, left_s: float, now_ms: int) -> Outcome:
    """What is remembered of a call that is about to be executed."""
    return Outcome(
        call_id=invocation.id,
        at=at,
        digest=digest_of(invocation.payload),
        until_ms=now_ms + int((left_s + limits.IDEMPOTENCY_GRACE_S) * 1000),
    )


def recall(outcome: Outcome, *, digest: bytes, now_ms: int) -> bytes | None:
    """The answer for a further call with the key; None while the first one runs.

    Raises:
        Conflict: the key belongs to a call with another payload.
        Unavailable: no outcome of the first call will come.
    """
    check_payload(outcome.digest, digest)
    if outcome.answer is None and now_ms > outcome.until_ms:
        raise errors.Unavailable(
            "a call with this idempotency key was begun, and its outcome is unknown: its host went"
            " away, or could not store it. Nothing is executed for this key while it is remembered,"
            f" {limits.IDEMPOTENCY_TTL_S:.0f} seconds: see what the call did, then use a new key",
            at=outcome.at,
        )
    return outcome.answer


def check_payload(first: bytes, digest: bytes) -> None:
    """Make sure that a key was not used for something else.

    Raises:
        Conflict: it was.
    """
    if digest != first:
        raise errors.Conflict(
            "this idempotency key was used for another payload; a new request needs a new key"
        )


def frees(error: errors.LatticeError) -> bool:
    """Whether a call failed before it could have had an effect, so that its key may be used again.

    Every other outcome is remembered, an unknown one as well: who asks again must not make it two.
    """
    return error.executed == "no"
