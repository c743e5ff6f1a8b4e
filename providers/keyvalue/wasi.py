"""The operations of ``wasi:keyvalue``, for components and whoever else has a link of that name.

An operation is ``interface.function``; its payload is a msgpack array of the arguments but the
bucket, which is the link, and its answer the WIT ``result`` as a map of one: ``{"ok": …}`` or
``{"err": …}``. The resource ``cas`` is its parts here: ``atomics.current`` gives a value and its
version, and ``atomics.swap`` takes the version. The only ``err`` is ``cas-failed``, with what is
there instead; all else that fails does so with an error of the lattice's list.

Source: ``store.wit``, ``atomic.wit`` and ``batch.wit`` of WebAssembly/wasi-keyvalue, both drafts.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from lattice import errors
from lattice.wire import codec
from providers.keyvalue import bounds as sizes
from providers.keyvalue.bounds import I64, U63, Bounds
from providers.keyvalue.stores import VERSION_BYTES_MAX, Store, Versioned

PACKAGE = ("wasi", "keyvalue")
"""Namespace and package, as links name it."""


async def execute(store: Store, bounds: Bounds, operation: str, payload: bytes) -> bytes:
    """Execute one operation and return its encoded result.

    Raises:
        InvalidRequest: no such operation, or an argument is missing, of a wrong type or out of
            range.
        PayloadTooLarge: a key or a value is over its bound.
        LatticeError: what the store raises.
    """
    handler = OPERATIONS.get(operation)
    if handler is None:
        raise errors.InvalidRequest(f"wasi:keyvalue has no operation {operation[:100]!r}")
    return codec.pack(await handler(store, Arguments(operation, codec.unpack(payload), bounds)))


class Arguments:
    """A decoded payload, whose parts are checked as they are taken, one after another."""

    def __init__(self, operation: str, payload: Any, bounds: Bounds) -> None:
        self._operation = operation
        self._bounds = bounds
        if not isinstance(payload, list):
            raise self._wrong("payload", "an array of arguments")
        self._left = list(reversed(payload))

    def key(self) -> str:
        return self._key("key", self._next())

    def value(self) -> bytes:
        return self._value("value", self._next())

    def cursor(self) -> str | None:
        found = self._next()
        return None if found is None else self._key("cursor", found)

    def version(self) -> bytes | None:
        found = self._next()
        if not (found is None or (isinstance(found, bytes) and len(found) <= VERSION_BYTES_MAX)):
            raise self._wrong("version", f"nil or at most {VERSION_BYTES_MAX} bytes")
        return found

    def delta(self) -> int:
        found = self._next()
        # True and False are integers to Python, not to the interface.
        if type(found) is not int or found not in I64:
            raise self._wrong("delta", f"an integer from {I64.start} to {I64.stop - 1}")
        return found

    def is_unsigned(self) -> bool:
        found = self._next(default=False)
        if not isinstance(found, bool):
            raise self._wrong("unsigned", "a bool")
        return found

    def keys(self) -> list[str]:
        return [self._key("keys", key) for key in self._batch("keys")]

    def pairs(self) -> list[tuple[str, bytes]]:
        pairs = []
        for pair in self._batch("pairs"):
            match pair:
                case [key, value]:
                    pairs.append((self._key("pairs", key), self._value("pairs", value)))
                case _:
                    raise self._wrong("pairs", "an array of arrays of a key and a value")
        return pairs

    def _next(self, *, default: Any = None) -> Any:
        """The next argument; what is left out is nil, and what is there besides is ignored."""
        return self._left.pop() if self._left else default

    def _batch(self, name: str) -> list[Any]:
        found = self._next()
        if not isinstance(found, list):
            raise self._wrong(name, "an array")
        if len(found) > self._bounds.batch_keys_max:
            raise self._wrong(name, f"at most {self._bounds.batch_keys_max}, not {len(found)}")
        return found

    def _key(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or not value:
            raise self._wrong(name, "a string that is not empty")
        self._check_size(name, sizes.text_bytes(value), self._bounds.key_bytes_max)
        return value

    def _value(self, name: str, value: Any) -> bytes:
        if not isinstance(value, bytes):
            raise self._wrong(name, "bytes")
        self._check_size(name, len(value), self._bounds.value_bytes_max)
        return value

    def _check_size(self, name: str, size_bytes: int, bytes_max: int) -> None:
        if size_bytes > bytes_max:
            raise errors.PayloadTooLarge(f"{self._operation}: {name}", size_bytes, bytes_max)

    def _wrong(self, name: str, want: str) -> errors.InvalidRequest:
        return errors.InvalidRequest(
            f"{self._operation}: {name} must be {want}", detail={"field": name}
        )


Result = dict[str, Any]


def _ok(value: Any = None) -> Result:
    return {"ok": value}


def _versioned(found: Versioned) -> dict[str, Any]:
    return {"value": found.value, "version": found.version}


async def _get(store: Store, arguments: Arguments) -> Result:
    return _ok(await store.get(arguments.key()))


async def _set(store: Store, arguments: Arguments) -> Result:
    await store.set(arguments.key(), arguments.value(), expires_s=0)
    return _ok()


async def _delete(store: Store, arguments: Arguments) -> Result:
    await store.delete(arguments.key())
    return _ok()


async def _exists(store: Store, arguments: Arguments) -> Result:
    return _ok(await store.contains(arguments.key()))


async def _list_keys(store: Store, arguments: Arguments) -> Result:
    page = await store.list_keys(arguments.cursor())
    return _ok({"keys": page.keys, "cursor": page.cursor})


async def _increment(store: Store, arguments: Arguments) -> Result:
    key, delta = arguments.key(), arguments.delta()
    within = U63 if arguments.is_unsigned() else I64
    return _ok(await store.increment(key, delta, within=within))


async def _current(store: Store, arguments: Arguments) -> Result:
    return _ok(_versioned(await store.current(arguments.key())))


async def _swap(store: Store, arguments: Arguments) -> Result:
    found = await store.swap(arguments.key(), arguments.version(), arguments.value())
    return _ok() if found is None else {"err": {"cas-failed": _versioned(found)}}


async def _get_many(store: Store, arguments: Arguments) -> Result:
    return _ok(await store.get_many(arguments.keys()))


async def _set_many(store: Store, arguments: Arguments) -> Result:
    await store.set_many(arguments.pairs())
    return _ok()


async def _delete_many(store: Store, arguments: Arguments) -> Result:
    await store.delete_many(arguments.keys())
    return _ok()


OPERATIONS: Mapping[str, Callable[[Store, Arguments], Awaitable[Result]]] = {
    "store.get": _get,
    "store.set": _set,
    "store.delete": _delete,
    "store.exists": _exists,
    "store.list-keys": _list_keys,
    "atomics.increment": _increment,
    "atomics.current": _current,
    "atomics.swap": _swap,
    "batch.get-many": _get_many,
    "batch.set-many": _set_many,
    "batch.delete-many": _delete_many,
}
"""Every operation, by its name on the wire."""
