"""``wasi:keyvalue`` of both drafts: store, atomics and batch, over the link to a key-value store.

The link is that of ``wasi:keyvalue``, and a bucket's identifier is the link's name where a link has
it. Components know buckets that nobody made a link for, and choose links otherwise: then it is the
link that the guest has chosen, or the default one.

What goes over it are the operations of the key-value provider's page; most have the name of the
function, and their answer is its result. Kept here is only what the provider does not: the parts of
a ``cas``, and the first draft's cursors, which are numbers.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from host.engine import wit
from host.engine.component import Entry
from host.engine.component_guest import ComponentGuest, Lasting, Later, Table, call_named, told
from host.engine.guest import HostCalls
from host.engine.wasip2 import err, get, ok
from lattice import errors, names
from lattice.wire import codec

TABLE = Table()
function = TABLE.put

STORE = "wasi:keyvalue/store"
ATOMICS = "wasi:keyvalue/atomics"
BATCH = "wasi:keyvalue/batch"

CURSORS_MAX = 10_000
"""Pages of one bucket of the first draft; each cursor is a key, and is kept with the bucket."""


_STRING = wit.Primitive("string")
_VALUE = wit.Option(wit.List(wit.Primitive("u8")))
_VERSIONED = wit.Record((("value", _VALUE), ("version", _VALUE)))
_PAGE = wit.Record((("keys", wit.List(_STRING)), ("cursor", wit.Option(_STRING))))
_LOST = wit.Variant((("cas-failed", _VERSIONED),))

CHECKS = {
    operation: wit.checker(wit.Variant((("ok", ok), *failures)))
    for operation, ok, *failures in (
        ("store.get", _VALUE),
        ("store.set", None),
        ("store.delete", None),
        ("store.exists", wit.Primitive("bool")),
        ("store.list-keys", _PAGE),
        ("atomics.increment", wit.Primitive("s64")),
        ("atomics.current", _VERSIONED),
        ("atomics.swap", None, ("err", _LOST)),
        ("batch.get-many", wit.List(_VALUE)),
        ("batch.set-many", None),
        ("batch.delete-many", None),
    )
}
"""What the provider's operations answer; others may be linked in its place, and answer anything."""


class Bucket(Lasting):
    """A store that a guest has opened: the name of the link that leads there, if there is one.

    Else, or without a name, the link is the one that the guest has chosen, or the default one.
    """

    __slots__ = ("cursors", "link_name")

    def __init__(self, link_name: str) -> None:
        self.link_name = link_name
        self.cursors: list[str] = []
        """What the numbers mean that the first draft has for cursors, from 1."""


class Cas(Lasting):
    """What a key held, and the version that a swap compares."""

    __slots__ = ("bucket", "key", "value", "version")

    def __init__(self, bucket: Bucket, key: str, now: dict[str, Any]) -> None:
        self.bucket = bucket
        self.key = key
        self.value: bytes | None = now["value"]
        self.version: bytes | None = now["version"]


def _error(error: errors.LatticeError) -> dict[str, Any]:
    match error:
        case errors.NoLink():
            return {"no-such-store": None}
        case errors.Denied():
            return {"access-denied": None}
        case _:
            return {"other": told(error)}


def refused(error: errors.LatticeError) -> dict[str, Any]:
    return err(_error(error))


def _not_swapped(error: errors.LatticeError) -> dict[str, Any]:
    return err({"store-error": _error(error)})


def _unchanged(result: Any) -> Any:
    return result


def execute(
    guest: ComponentGuest,
    bucket: Bucket,
    operation: str,
    *arguments: Any,
    late: Callable[[], list[Any]] = list,
    finish: Callable[[Any], Any] = _unchanged,
    fail: Callable[[errors.LatticeError], Any] = refused,
) -> Later:
    """Execute an operation of the provider; ``finish`` makes the function's result of its own.

    ``late`` gives arguments that are known only once the guest is suspended.
    """

    def begin(host: HostCalls) -> bytes | Awaitable[Any]:
        payload = codec.pack([*arguments, *late()])
        size, limit = len(payload), guest.limits.request_bytes
        if size > limit:
            raise errors.PayloadTooLarge("the arguments", size, limit)
        interface = f"wasi:keyvalue/{operation.partition('.')[0]}"
        chosen = guest.link_name(interface, STORE)
        return call_named(host, bucket.link_name, interface, operation, payload, otherwise=chosen)

    def end(answer: bytes) -> Any:
        try:
            result = codec.unpack(answer)
            CHECKS[operation](result, operation, wit.Budget())
        except errors.NotExecuted as error:
            return fail(errors.ProviderError(f"the store's answer: {error.text}"))
        return finish(result)

    def tell(error: errors.LatticeError) -> Any:
        if isinstance(error, errors.NoLink | errors.Denied):
            # The guest gets a case without words.
            guest.log("warning", f"{operation} was not done: {told(error)}")
        return fail(error)

    return Later(begin, end, tell, is_host_call=True)


@function(STORE, "open")
def _open(guest: ComponentGuest, identifier: str) -> Any:
    return ok(guest.own("bucket", bucket(identifier)))


def bucket(identifier: str) -> Bucket:
    """Make the bucket that has an identifier."""
    try:
        names.parse_link_name(identifier)
    except errors.InvalidRequest:
        return Bucket("")
    return Bucket("" if identifier == names.DEFAULT_LINK else identifier)


@function(STORE, "[method]bucket.get", suspends=True)
def _get(guest: ComponentGuest, number: int, key: str) -> Later:
    return execute(guest, get(guest, number, Bucket), "store.get", key)


@function(STORE, "[method]bucket.set", suspends=True)
def _set(guest: ComponentGuest, number: int, key: str, value: bytes) -> Later:
    return execute(guest, get(guest, number, Bucket), "store.set", key, value)


@function(STORE, "[method]bucket.delete", suspends=True)
def _delete(guest: ComponentGuest, number: int, key: str) -> Later:
    return execute(guest, get(guest, number, Bucket), "store.delete", key)


@function(STORE, "[method]bucket.exists", suspends=True)
def _exists(guest: ComponentGuest, number: int, key: str) -> Later:
    return execute(guest, get(guest, number, Bucket), "store.exists", key)


@function(STORE, "[method]bucket.list-keys", suspends=True)
def _list_keys(guest: ComponentGuest, number: int, cursor: str | int | None) -> Any:
    bucket = get(guest, number, Bucket)
    if cursor == 0:
        # Where the first draft begins, to some.
        cursor = None
    elif isinstance(cursor, int):
        if not 0 < cursor <= len(bucket.cursors):
            return err({"other": f"cursor {cursor} is none that this bucket gave"})
        cursor = bucket.cursors[cursor - 1]

    def finish(result: Any) -> Any:
        after = result["ok"]["cursor"]
        if after is None or not _is_first_draft(guest):
            return result
        if len(bucket.cursors) == CURSORS_MAX:
            return err({"other": f"the bucket gave {CURSORS_MAX} cursors, the limit"})
        bucket.cursors.append(after)
        return ok({"keys": result["ok"]["keys"], "cursor": len(bucket.cursors)})

    return execute(guest, bucket, "store.list-keys", cursor, finish=finish)


@function(ATOMICS, "increment", suspends=True)
def _increment(guest: ComponentGuest, number: int, key: str, delta: int) -> Later:
    return execute(
        guest,
        get(guest, number, Bucket),
        "atomics.increment",
        *(key, delta),
        late=lambda: [_is_first_draft(guest)],
    )


@function(ATOMICS, "[static]cas.new", suspends=True)
def _new_cas(guest: ComponentGuest, number: int, key: str) -> Later:
    bucket = get(guest, number, Bucket)

    def finish(result: Any) -> Any:
        return ok(guest.own("cas", Cas(bucket, key, result["ok"])))

    return execute(guest, bucket, "atomics.current", key, finish=finish)


@function(ATOMICS, "[method]cas.current")
def _current(guest: ComponentGuest, number: int) -> Any:
    return ok(get(guest, number, Cas).value)


@function(ATOMICS, "swap", suspends=True)
def _swap(guest: ComponentGuest, number: int, value: bytes) -> Later:
    cas = get(guest, number, Cas)
    guest.take(number)

    def finish(result: Any) -> Any:
        if "ok" in result:
            return result
        now = Cas(cas.bucket, cas.key, result["err"]["cas-failed"])
        return err({"cas-failed": guest.own("cas", now)})

    return execute(
        guest,
        cas.bucket,
        "atomics.swap",
        *(cas.key, cas.version, value),
        finish=finish,
        fail=_not_swapped,
    )


@function(BATCH, "get-many", suspends=True)
def _get_many(guest: ComponentGuest, number: int, keys: list[str]) -> Later:
    def finish(result: Any) -> Any:
        if len(result["ok"]) != len(keys):
            return err({"other": f"the store answered {len(keys)} keys with {len(result['ok'])}"})
        pairs = [[key, value] for key, value in zip(keys, result["ok"], strict=True)]
        if _is_first_draft(guest):
            return ok([None if value is None else [key, value] for key, value in pairs])
        return ok(pairs)

    return execute(guest, get(guest, number, Bucket), "batch.get-many", keys, finish=finish)


@function(BATCH, "set-many", suspends=True)
def _set_many(guest: ComponentGuest, number: int, pairs: list[tuple[str, bytes]]) -> Later:
    return execute(guest, get(guest, number, Bucket), "batch.set-many", pairs)


@function(BATCH, "delete-many", suspends=True)
def _delete_many(guest: ComponentGuest, number: int, keys: list[str]) -> Later:
    return execute(guest, get(guest, number, Bucket), "batch.delete-many", keys)


def _is_first_draft(guest: ComponentGuest) -> bool:
    """Whether the function that the guest is suspended in is of ``0.2.0-draft``, by its result.

    What differs there: cursors and sums are without a sign, and a missing key is no pair.
    """
    assert guest.signature is not None, "it is suspended in this function"
    match guest.signature.function.result:
        case wit.Result(wit.Primitive("u64")):
            return True
        case wit.Result(wit.Record(fields)):
            return ("cursor", wit.Option(wit.Primitive("u64"))) in fields
        case wit.Result(wit.List(wit.Option())):
            return True
        case _:
            return False


class Watching(Entry):
    """An exported function of ``watcher``: called with the identifier of its bucket."""

    def arguments(self, guest: ComponentGuest, payload: bytes) -> list[Any]:
        arguments = super().arguments(guest, payload)
        if not isinstance(arguments, list) or not arguments or not isinstance(arguments[0], str):
            raise errors.InvalidRequest(
                f"{self.name} wants an array that begins with a bucket's id"
            )
        return [guest.own("bucket", bucket(arguments[0])), *arguments[1:]]
