"""How large keys, values and collections may become; one set of bounds for every backend.

Each is a provider configuration key of the same name, whose default and ceiling stand here.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from lattice import errors, limits

KEY_BYTES_CEILING = 1_024
"""A NATS subject of the longest key, every byte of it escaped, still fits a 4 KiB control line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Sizes are of UTF-8 text, in bytes."""

    key_bytes_max: int = 512
    """Keys are names; a longer one is most often a value in the wrong place."""

    value_bytes_max: int = 512 * limits.KIB
    """Value of one key. Below NATS's default ``max_payload``, so every backend can hold it."""

    item_bytes_max: int = 64 * limits.KIB
    """One item of a list or a set. Times ``items_max`` it bounds what one read can move."""

    items_max: int = 10_000
    """Items of one list or set: a backend may rewrite a collection whole to change one item."""

    sets_max: int = 100
    """Sets that one union or intersection may name: all are read at once."""

    reply_bytes_max: int = 8 * limits.MIB
    """Items one reply may carry: half a call's largest payload."""

    memory_bytes_max: int = 64 * limits.MIB
    """Everything the memory backend may hold: it shares its process with actors."""


CEILINGS = {
    "key_bytes_max": KEY_BYTES_CEILING,
    "value_bytes_max": limits.PAYLOAD_BYTES_MAX // 2,
    "item_bytes_max": limits.PAYLOAD_BYTES_MAX // 2,
    "items_max": 1_000_000,
    "sets_max": 1_000,
    "reply_bytes_max": limits.PAYLOAD_BYTES_MAX - limits.ENVELOPE_BYTES_MARGIN,
    "memory_bytes_max": 64 * limits.KIB * limits.MIB,
}
"""What an operator may set at most: beyond these a single call could hold up its whole process."""


def text_bytes(text: str) -> int:
    """Size of a text as UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def check_room(name: str, length: int, bounds: Bounds) -> None:
    """Refuse one more item for a list or a set that is full.

    Raises:
        InvalidRequest: it is.
    """
    if length >= bounds.items_max:
        raise full(name, bounds)


def check_reply(items: Iterable[str], bounds: Bounds) -> None:
    """Refuse to send more than one reply may carry.

    Raises:
        PayloadTooLarge: it is more, naming both numbers.
    """
    size_bytes = sum(map(text_bytes, items))
    if size_bytes > bounds.reply_bytes_max:
        raise errors.PayloadTooLarge("reply", size_bytes, bounds.reply_bytes_max)


def full(name: str, bounds: Bounds) -> errors.InvalidRequest:
    return errors.InvalidRequest(
        f"key {name!r} is at its limit of {bounds.items_max} items",
        detail={"key": name, "limit": bounds.items_max},
    )


def too_many(name: str, bounds: Bounds) -> errors.InvalidRequest:
    return errors.InvalidRequest(
        f"key {name!r} holds more items than one reply may carry, {bounds.items_max}",
        detail={"key": name, "limit": bounds.items_max},
    )
