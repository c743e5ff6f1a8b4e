"""The operations of ``wasmcloud:keyvalue``: payloads in, store calls, payloads out.

Values are text here; those that are not, another face wrote, or another program.

Source: ``keyvalue.smithy`` of wasmCloud/interfaces, 0.1.1. A payload is one msgpack value: a
string, a list of strings, or a map with the named fields; unknown fields are ignored.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from lattice import errors
from lattice.wire import codec
from providers.keyvalue import bounds as sizes
from providers.keyvalue.bounds import I32, Bounds
from providers.keyvalue.stores import Store

PACKAGE = ("wasmcloud", "keyvalue")
"""Namespace and package of the contract, as links name it."""

_U32 = range(2**32)


async def execute(store: Store, bounds: Bounds, operation: str, payload: bytes) -> bytes:
    """Execute one operation and return its encoded result.

    Raises:
        InvalidRequest: no such operation, a field is missing, of a wrong type or out of range.
        PayloadTooLarge: a key, value or item is over its bound.
        LatticeError: what the store raises.
    """
    handler = OPERATIONS.get(operation)
    if handler is None:
        raise errors.InvalidRequest(f"wasmcloud:keyvalue has no operation {operation[:100]!r}")
    request = codec.unpack_payload(payload)
    if (fields := STRUCTURES.get(operation)) is not None:
        request = codec.named(request, fields)
    return await handler(store, Request(operation, request, bounds))


class Request:
    """A decoded payload, whose parts are checked as they are taken."""

    def __init__(self, operation: str, payload: Any, bounds: Bounds) -> None:
        self._operation = operation
        self._payload = payload
        self._bounds = bounds

    def sole_key(self) -> str:
        """The payload itself, a key."""
        return self._checked_key("payload", self._payload)

    def sole_keys(self) -> list[str]:
        """The payload itself, a list of keys."""
        if not isinstance(self._payload, list) or not self._payload:
            raise self._wrong("payload", "a list of strings, at least one")
        if len(self._payload) > self._bounds.sets_max:
            raise self._wrong("payload", f"at most {self._bounds.sets_max} names")
        return [self._checked_key("payload", key) for key in self._payload]

    def key(self, field: str) -> str:
        return self._checked_key(field, self._field(field))

    def value(self, field: str) -> str:
        return self._text(field, self._field(field), self._bounds.value_bytes_max)

    def item(self, field: str) -> str:
        return self._text(field, self._field(field), self._bounds.item_bytes_max)

    def i32(self, field: str) -> int:
        return self._integer(field, self._field(field), I32)

    def u32(self, field: str, *, default: int) -> int:
        return self._integer(field, self._field(field, default), _U32)

    def _field(self, field: str, default: Any = None) -> Any:
        if not isinstance(self._payload, dict):
            raise self._wrong("payload", "a map of named fields")
        return self._payload.get(field, default)

    def _checked_key(self, field: str, value: Any) -> str:
        key = self._text(field, value, self._bounds.key_bytes_max)
        if not key:
            raise self._wrong(field, "a string that is not empty")
        return key

    def _text(self, field: str, value: Any, bytes_max: int) -> str:
        if not isinstance(value, str):
            raise self._wrong(field, "a string")
        size_bytes = sizes.text_bytes(value)
        if size_bytes > bytes_max:
            raise errors.PayloadTooLarge(f"{self._operation}: {field}", size_bytes, bytes_max)
        return value

    def _integer(self, field: str, value: Any, within: range) -> int:
        # True and False are integers to Python, not to the contract.
        if type(value) is not int or value not in within:
            raise self._wrong(field, f"an integer from {within.start} to {within.stop - 1}")
        return value

    def _wrong(self, field: str, want: str) -> errors.InvalidRequest:
        return errors.InvalidRequest(
            f"{self._operation}: {field} must be {want}", detail={"field": field}
        )


async def _increment(store: Store, request: Request) -> bytes:
    return codec.pack(await store.increment(request.key("key"), request.i32("value")))


async def _contains(store: Store, request: Request) -> bytes:
    return codec.pack(await store.contains(request.sole_key()))


async def _del(store: Store, request: Request) -> bytes:
    return codec.pack(await store.delete(request.sole_key()))


async def _get(store: Store, request: Request) -> bytes:
    key = request.sole_key()
    value = await store.get(key)
    return codec.pack({"value": _text(key, value or b""), "exists": value is not None})


def _text(key: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise errors.ProviderError(f"key {key!r} holds bytes that are not UTF-8 text") from None


async def _set(store: Store, request: Request) -> bytes:
    value = request.value("value").encode()
    await store.set(request.key("key"), value, expires_s=request.u32("expires", default=0))
    return b""


async def _list_add(store: Store, request: Request) -> bytes:
    return codec.pack(await store.list_add(request.key("listName"), request.item("value")))


async def _list_clear(store: Store, request: Request) -> bytes:
    return codec.pack(await store.list_clear(request.sole_key()))


async def _list_del(store: Store, request: Request) -> bytes:
    return codec.pack(await store.list_del(request.key("listName"), request.item("value")))


async def _list_range(store: Store, request: Request) -> bytes:
    found = await store.list_range(
        request.key("listName"), request.i32("start"), request.i32("stop")
    )
    return codec.pack(found)


async def _set_add(store: Store, request: Request) -> bytes:
    return codec.pack(await store.set_add(request.key("setName"), request.item("value")))


async def _set_del(store: Store, request: Request) -> bytes:
    return codec.pack(await store.set_del(request.key("setName"), request.item("value")))


async def _set_clear(store: Store, request: Request) -> bytes:
    return codec.pack(await store.set_clear(request.sole_key()))


async def _set_query(store: Store, request: Request) -> bytes:
    return _members(await store.set_union([request.sole_key()]))


async def _set_union(store: Store, request: Request) -> bytes:
    return _members(await store.set_union(request.sole_keys()))


async def _set_intersection(store: Store, request: Request) -> bytes:
    return _members(await store.set_intersection(request.sole_keys()))


def _members(found: frozenset[str]) -> bytes:
    """A set has no order; one is given to it so that equal sets are equal bytes."""
    return codec.pack(sorted(found))


OPERATIONS: Mapping[str, Callable[[Store, Request], Awaitable[bytes]]] = {
    "KeyValue.Increment": _increment,
    "KeyValue.Contains": _contains,
    "KeyValue.Del": _del,
    "KeyValue.Get": _get,
    "KeyValue.Set": _set,
    "KeyValue.ListAdd": _list_add,
    "KeyValue.ListClear": _list_clear,
    "KeyValue.ListDel": _list_del,
    "KeyValue.ListRange": _list_range,
    "KeyValue.SetAdd": _set_add,
    "KeyValue.SetDel": _set_del,
    "KeyValue.SetClear": _set_clear,
    "KeyValue.SetQuery": _set_query,
    "KeyValue.SetUnion": _set_union,
    "KeyValue.SetIntersection": _set_intersection,
}
"""Every operation, by its name on the wire."""

STRUCTURES: Mapping[str, tuple[str, ...]] = {
    "KeyValue.Increment": ("key", "value"),
    "KeyValue.Set": ("key", "value", "expires"),
    "KeyValue.ListAdd": ("listName", "value"),
    "KeyValue.ListDel": ("listName", "value"),
    "KeyValue.ListRange": ("listName", "start", "stop"),
    "KeyValue.SetAdd": ("setName", "value"),
    "KeyValue.SetDel": ("setName", "value"),
}
"""Fields of the requests that are structures, in their order."""
