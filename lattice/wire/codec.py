"""msgpack with bounds; the only place that imports it."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgpack

from lattice import errors, limits

NEWER_PREFIX = 0xC1
"""Later wasmCloud 0.x SDKs put this byte, which msgpack never uses, in front of a payload."""

pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack
"""Encode plain values: None, bool, int, float, str, bytes, list, dict. Not for threads."""


def unpack(data: bytes, *, bytes_max: int = limits.PAYLOAD_BYTES_MAX) -> Any:
    """Decode one message, whole.

    Lengths inside the message are bounded by its own size, so no header can ask for more memory
    than the sender spent; nesting is bounded by the decoder's stack of about a thousand.

    Raises:
        InvalidRequest: not msgpack, trailing bytes, or a string that is not UTF-8.
        PayloadTooLarge: over ``bytes_max``.
    """
    if len(data) > bytes_max:
        raise errors.PayloadTooLarge("message", len(data), bytes_max)
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=False)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise errors.InvalidRequest(f"not a msgpack message: {error}") from error


def unpack_payload(data: bytes) -> Any:
    """Decode a contract's payload, which may carry the newer SDKs' prefix byte.

    Raises:
        InvalidRequest: as ``unpack``.
    """
    if data and data[0] == NEWER_PREFIX:
        data = data[1:]
    return unpack(data)


def named(value: Any, fields: Iterable[str]) -> Any:
    """A structure of a contract, by the names of its fields.

    Serializers of Rust may write a list of its fields in their order, and wasmCloud took that. What
    such a list has too much is passed over, as unknown names are. All else stays as it is.
    """
    return dict(zip(fields, value, strict=False)) if isinstance(value, list) else value


def as_bytes(value: Any) -> bytes | None:
    """The bytes of a contract's field, in any of the ways that guests write them; else None.

    Serializers of Rust write a plain ``Vec<u8>`` as a list of numbers, and wasmCloud took that.
    """
    match value:
        case bytes():
            return value
        case str():
            return value.encode()
        case list():
            with suppress(TypeError, ValueError):
                return bytes(value)
    return None
