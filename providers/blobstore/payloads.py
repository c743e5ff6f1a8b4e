"""Payloads of ``wasmcloud:blobstore``, as any version of its Rust interface writes and reads them.

Since 0.8 that is msgpack, with names of fields. Before, it is CBOR, where most versions write a
list of the fields in their order; all of them read a map.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from lattice.wire import cbor, codec

Fields: TypeAlias = Mapping[str, Mapping[str, None] | None]
"""Names of a structure's fields in their order, and what is in those that are structures again."""

CHUNK: Mapping[str, None] = dict.fromkeys(("objectId", "containerId", "bytes", "offset", "isLast"))
CONTAINER_OBJECT: Fields = dict.fromkeys(("containerId", "objectId"))

REQUESTS: Mapping[str, Fields] = {
    "Blobstore.ObjectExists": CONTAINER_OBJECT,
    "Blobstore.GetObjectInfo": CONTAINER_OBJECT,
    "Blobstore.ListObjects": dict.fromkeys(
        ("containerId", "startWith", "continuation", "endWith", "endBefore", "maxItems")
    ),
    "Blobstore.RemoveObjects": dict.fromkeys(("containerId", "objects")),
    "Blobstore.PutObject": {"chunk": CHUNK, "contentType": None, "contentEncoding": None},
    "Blobstore.PutChunk": {"chunk": CHUNK, "streamId": None, "cancelAndRemove": None},
    "Blobstore.GetObject": dict.fromkeys(("objectId", "containerId", "rangeStart", "rangeEnd")),
}
"""Operations whose request is a structure."""

CHUNK_RESPONSE: Fields = {"cancelDownload": None}


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


def unpack(payload: bytes, fields: Fields | None = None) -> Any:
    """Decode a payload; None if it is empty. A structure comes with the names of its fields.

    Raises:
        InvalidRequest: it is of neither encoding.
    """
    if not payload:
        return None
    return _named(encoding_of(payload).unpack(payload), fields)


def _named(value: Any, fields: Fields | None) -> Any:
    if not fields:
        return value
    if isinstance(value, list):
        # A later version may have added a field.
        value = dict(zip(fields, value, strict=False))
    if not isinstance(value, dict):
        return value
    return {name: _named(each, fields.get(name)) for name, each in value.items()}
