"""How large keys, values and collections may become; one set of bounds for every backend.

Each is a provider configuration key of the same name, whose default and ceiling stand here.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from lattice import errors, limits

I32 = range(-(2**31), 2**31)
I64 = range(-(2**63), 2**63)
U63 = range(2**63)
"""What numbers may be: those of ``wasmcloud:keyvalue``, and those of ``wasi:keyvalue``. Backends
compute in 64 bits with a sign."""

KEY_BYTES_CEILING = 1_024
"""A NATS subject of the longest key, every byte of it escaped, still fits a 4 KiB control line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Sizes are in bytes; of text, as UTF-8."""

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

    batch_keys_max: int = 1_000
    """Keys of one batch: NATS works them off in as many requests."""

    page_keys_max: int = 1_000
    """Keys of one page of a listing; NATS reads each of them to see that it is still there."""

    listed_keys_max: int = 50_000
    """Keys of a bucket that can be listed. All but SQLite look at every name to make one page: of
    50,000 a NATS server tells in a tenth of a second and 4 MB, and of the longest in 75 MB."""

    reply_bytes_max: int = 8 * limits.MIB
    """Values or items one reply may carry: half a call's largest payload."""

    memory_bytes_max: int = 64 * limits.MIB
    """One bucket of the memory backend: it shares its process with actors."""

    sqlite_bytes_max: int = 1_024 * limits.MIB
    """The file of one SQLite bucket: no actor may fill the disk that others need."""


CEILINGS = {
    "key_bytes_max": KEY_BYTES_CEILING,
    "value_bytes_max": limits.PAYLOAD_BYTES_MAX // 2,
    "item_bytes_max": limits.PAYLOAD_BYTES_MAX // 2,
    "items_max": 1_000_000,
    "sets_max": 1_000,
    "batch_keys_max": 10_000,
    "page_keys_max": 10_000,
    "listed_keys_max": 1_000_000,
    "reply_bytes_max": limits.PAYLOAD_BYTES_MAX - limits.ENVELOPE_BYTES_MARGIN,
    "memory_bytes_max": 64 * limits.KIB * limits.MIB,
    "sqlite_bytes_max": 1_024 * limits.KIB * limits.MIB,
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


def check_reply(sizes_bytes: Iterable[int], bounds: Bounds) -> None:
    """Refuse to send more than one reply may carry, given the size of each part.

    Raises:
        PayloadTooLarge: it is more, naming both numbers.
    """
    size_bytes = sum(sizes_bytes)
    if size_bytes > bounds.reply_bytes_max:
        raise errors.PayloadTooLarge("reply", size_bytes, bounds.reply_bytes_max)


def full(name: str, bounds: Bounds) -> errors.InvalidRequest:
    return errors.InvalidRequest(
        f"key {name!r} is at its limit of {bounds.items_max} items",
        detail={"key": name, "limit": bounds.items_max},
    )


def check_listed(keys: int, bounds: Bounds) -> None:
    """Refuse to look at more names than may be listed.

    Raises:
        InvalidRequest: there are more, naming both numbers.
    """
    if keys > bounds.listed_keys_max:
        raise errors.InvalidRequest(
            f"the bucket has {keys} keys, and listing is limited to {bounds.listed_keys_max} "
            "(listed_keys_max)",
            detail={"size": keys, "limit": bounds.listed_keys_max},
        )


def too_many(name: str, bounds: Bounds) -> errors.InvalidRequest:
    return errors.InvalidRequest(
        f"key {name!r} holds more items than one reply may carry, {bounds.items_max}",
        detail={"key": name, "limit": bounds.items_max},
    )
