"""Payloads of ``wasmcloud:blobstore``, as any version of its Rust interface writes and reads them.

Since 0.8 that is msgpack. Before, it is CBOR, in which most versions write structures as lists of
their fields; all of them read maps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lattice.wire import cbor, codec


@dataclass(frozen=True, slots=True)
class Encoding:
    pack: Callable[[Any], bytes]
    unpack: Callable[[bytes], Any]
    """Raises ``InvalidRequest`` for what is not of this encoding."""


MSGPACK = Encoding(codec.pack, codec.unpack_payload)
CBOR = Encoding(cbor.pack, cbor.unpack)


def encoding_of(payload: bytes) -> Encoding:
    """Who writes like this reads it too. Nothing at all is msgpack, which everybody reads."""
    return CBOR if cbor.is_cbor(payload) else MSGPACK


def unpack(payload: bytes) -> Any:
    """Decode a payload; None if it is empty.

    Raises:
        InvalidRequest: it is of neither encoding.
    """
    return encoding_of(payload).unpack(payload) if payload else None
