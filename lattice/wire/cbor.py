"""CBOR as wasmCloud's SDKs for 0.x write and read it, with bounds; the only place that imports it.

Source: ``wasmbus-rpc`` 0.7 to 0.14, for contracts whose ``protocol`` is ``"2"``. A byte before the
message tells it from msgpack. What these SDKs read may be a map where they write a list of fields;
they know no tags, and nothing of indefinite length.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Never

import cbor2

from lattice import errors, limits

PREFIX = b"\x7f"
"""No payload of msgpack begins with it, nor a value of this CBOR."""

DEPTH_MAX = 16
"""Lists and maps within one another; the contracts have three."""


class Timestamp(dict[str, int]):
    """``{sec, nsec}``, which in this CBOR are two items where there should be one."""


def is_cbor(payload: bytes) -> bool:
    return payload.startswith(PREFIX)


def pack(value: Any) -> bytes:
    """Encode plain values, as msgpack's ``codec.pack``."""
    return PREFIX + cbor2.dumps(value, encoders={Timestamp: _encode_timestamp})


def unpack(payload: bytes, *, bytes_max: int = limits.PAYLOAD_BYTES_MAX) -> Any:
    """Decode a payload, with its prefix. What follows the value is passed over.

    Lengths inside the message are bounded by its own size.

    Raises:
        InvalidRequest: not what these SDKs write, or nested too deeply.
        PayloadTooLarge: over ``bytes_max``.
    """
    if len(payload) > bytes_max:
        raise errors.PayloadTooLarge("message", len(payload), bytes_max)
    try:
        return cbor2.loads(
            payload[len(PREFIX) :],
            semantic_decoders=_NO_TAGS,
            max_depth=DEPTH_MAX,
            allow_indefinite=False,
            strict_hashable_types=True,
        )
    except cbor2.CBORError as error:
        raise errors.InvalidRequest(f"not a CBOR message: {error}") from error


def _encode_timestamp(encoder: cbor2.CBOREncoder, value: Timestamp) -> None:
    encoder.encode(value["sec"])
    encoder.encode(value["nsec"])


class _NoTags(Mapping[int, Callable[[Any, bool], Never]]):
    """Refuses every tag: the library would make dates, patterns and fractions of them."""

    def __getitem__(self, tag: int) -> Callable[[Any, bool], Never]:
        def refuse(_value: Any, _is_immutable: bool) -> Never:
            raise ValueError(f"tag {tag} is not known")

        return refuse

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0


_NO_TAGS = _NoTags()
