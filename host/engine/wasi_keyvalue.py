"""``wasi:keyvalue`` of both drafts: store, atomics and batch, over the link to a key-value store.

The link is that of ``wasi:keyvalue``; what goes over it are the operations of
``wasmcloud:keyvalue``, which any of our key-value providers serves. A bucket's identifier is the
name of the link: ``default``, or nothing, is the default one.

That contract keeps text, and has neither a listing of keys nor compare-and-set: values that are
not UTF-8, ``list-keys`` and ``swap`` are answered with an error that says so.
"""

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from host.engine import wit
from host.engine.component_guest import ComponentGuest, Lasting, Later, Table
from host.engine.guest import GuestFault, HostCalls
from host.engine.wasip2 import err, get, ok
from lattice import errors, limits, names
from lattice.wire import codec

TABLE = Table()
function = TABLE.put

STORE = "wasi:keyvalue/store"
ATOMICS = "wasi:keyvalue/atomics"
BATCH = "wasi:keyvalue/batch"

BATCH_KEYS_MAX = 1_000
"""Keys of one batch: they are worked off one after another."""

_I32_MIN, _I32_MAX = -(2**31), 2**31 - 1


class Bucket(Lasting):
    """A store that a guest has opened: the name of the link that leads there."""

    __slots__ = ("link_name",)

    def __init__(self, link_name: str) -> None:
        self.link_name = link_name

    async def execute(self, host: HostCalls, operation: str, argument: Any) -> Any:
        """Execute an operation of the contract; gives its decoded result."""
        answer = host.call(self.link_name, STORE, operation, codec.pack(argument))
        if inspect.isawaitable(answer):
            answer = await answer
        assert isinstance(answer, bytes)
        return codec.unpack(answer) if answer else None


class _Refused(Exception):
    """What is asked can't be done; the text is for the guest."""


def _refusal(error: errors.LatticeError) -> dict[str, Any]:
    match error:
        case errors.NoLink():
            return err({"no-such-store": None})
        case errors.Denied():
            return err({"access-denied": None})
        case _:
            return err({"other": f"{error.code}: {error.text}"[: limits.ERROR_TEXT_CHARS]})


Work = Callable[[HostCalls], Coroutine[Any, Any, Any]]


def _later(work: Work) -> Later:
    async def begin(host: HostCalls) -> Any:
        try:
            return ok(await work(host))
        except _Refused as refused:
            return err({"other": str(refused)})

    return Later(begin, lambda result: result, _refusal, is_host_call=True)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise _Refused("the value is not UTF-8, and the store keeps text") from None


def _check_batch(count: int) -> None:
    if count > BATCH_KEYS_MAX:
        raise GuestFault(f"a batch of {count} keys is over the limit of {BATCH_KEYS_MAX}")


@function(STORE, "open")
def _open(guest: ComponentGuest, identifier: str) -> Any:
    name = identifier if identifier not in ("", "default") else guest.link_name(STORE)
    try:
        if name:
            names.parse_link_name(name)
    except errors.InvalidRequest:
        return err({"no-such-store": None})
    return ok(guest.own("bucket", Bucket(name)))


@function(STORE, "[method]bucket.get", suspends=True)
def _get(guest: ComponentGuest, number: int, key: str) -> Later:
    bucket = get(guest, number, Bucket)

    async def work(host: HostCalls) -> bytes | None:
        return await _value(bucket, host, key)

    return _later(work)


@function(STORE, "[method]bucket.set", suspends=True)
def _set(guest: ComponentGuest, number: int, key: str, value: bytes) -> Later:
    bucket = get(guest, number, Bucket)

    async def work(host: HostCalls) -> None:
        await _put(bucket, host, key, value)

    return _later(work)


async def _value(bucket: Bucket, host: HostCalls, key: str) -> bytes | None:
    match await bucket.execute(host, "KeyValue.Get", key):
        case {"exists": True, "value": str(value)}:
            return value.encode()
        case {"exists": False}:
            return None
        case _:
            raise _Refused("the store gave an answer that is none")


async def _put(bucket: Bucket, host: HostCalls, key: str, value: bytes) -> None:
    await bucket.execute(host, "KeyValue.Set", {"key": key, "value": _text(value), "expires": 0})


@function(STORE, "[method]bucket.delete", suspends=True)
def _delete(guest: ComponentGuest, number: int, key: str) -> Later:
    bucket = get(guest, number, Bucket)

    async def work(host: HostCalls) -> None:
        await bucket.execute(host, "KeyValue.Del", key)

    return _later(work)


@function(STORE, "[method]bucket.exists", suspends=True)
def _exists(guest: ComponentGuest, number: int, key: str) -> Later:
    bucket = get(guest, number, Bucket)

    async def work(host: HostCalls) -> bool:
        return bool(await bucket.execute(host, "KeyValue.Contains", key))

    return _later(work)


@function(STORE, "[method]bucket.list-keys")
def _list_keys(_guest: ComponentGuest, _number: int, _cursor: Any) -> Any:
    return err({"other": "the key-value store can't list its keys"})


@function(ATOMICS, "increment", suspends=True)
def _increment(guest: ComponentGuest, number: int, key: str, delta: int) -> Later:
    bucket = get(guest, number, Bucket)

    async def work(host: HostCalls) -> int:
        if not _I32_MIN <= delta <= _I32_MAX:
            raise _Refused(f"{delta} is more than the key-value store can add at a time")
        value = await bucket.execute(host, "KeyValue.Increment", {"key": key, "value": delta})
        if not isinstance(value, int):
            raise _Refused("the store gave an answer that is none")
        return value

    return _later(work)


@function(ATOMICS, "[static]cas.new")
def _cas(_guest: ComponentGuest, _bucket: int, _key: str) -> Any:
    return err({"other": "the key-value store has no compare-and-set"})


@function(BATCH, "get-many", suspends=True)
def _get_many(guest: ComponentGuest, number: int, keys: list[str]) -> Later:
    bucket = get(guest, number, Bucket)
    _check_batch(len(keys))

    async def work(host: HostCalls) -> list[Any]:
        assert guest.signature is not None, "it is suspended in this function"
        is_draft2 = _gives_perhaps_a_value(guest.signature.function)
        found: list[Any] = []
        for key in keys:
            value = await _value(bucket, host, key)
            if is_draft2:
                found.append([key, value])
            else:
                found.append(None if value is None else [key, value])
        return found

    return _later(work)


def _gives_perhaps_a_value(function: wit.Function) -> bool:
    """Whether ``get-many`` gives each key with perhaps a value (draft2), or perhaps a pair."""
    match function.result:
        case wit.Result(wit.List(wit.Tuple()), _):
            return True
        case _:
            return False


@function(BATCH, "set-many", suspends=True)
def _set_many(guest: ComponentGuest, number: int, pairs: list[tuple[str, bytes]]) -> Later:
    bucket = get(guest, number, Bucket)
    _check_batch(len(pairs))

    async def work(host: HostCalls) -> None:
        for key, value in pairs:
            await _put(bucket, host, key, value)

    return _later(work)


@function(BATCH, "delete-many", suspends=True)
def _delete_many(guest: ComponentGuest, number: int, keys: list[str]) -> Later:
    bucket = get(guest, number, Bucket)
    _check_batch(len(keys))

    async def work(host: HostCalls) -> None:
        for key in keys:
            await bucket.execute(host, "KeyValue.Del", key)

    return _later(work)
