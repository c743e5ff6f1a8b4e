"""``fermyon:spin`` of version 2, as much of it as the host has by other names.

``key-value`` is ``wasi:keyvalue`` over the same link, ``variables`` the actor's configuration.
"""

import inspect
from typing import Any

from host.engine import wasi_keyvalue
from host.engine.component_guest import ComponentGuest, Later, Table, told
from host.engine.guest import HostCalls
from host.engine.wasi_config import BUILTIN
from host.engine.wasi_keyvalue import Bucket
from host.engine.wasip2 import err, get, ok
from lattice import errors
from lattice.wire import codec

TABLE = Table()
function = TABLE.put

KEY_VALUE = "fermyon:spin/key-value"
VARIABLES = "fermyon:spin/variables"

KEYS_MAX = 10_000
"""Keys that a guest gets at once: Spin has no pages."""


@function(KEY_VALUE, "[static]store.open")
def _open(guest: ComponentGuest, label: str) -> Any:
    return ok(guest.own("store", wasi_keyvalue.bucket(label)))


@function(KEY_VALUE, "[method]store.get", suspends=True)
def _get(guest: ComponentGuest, number: int, key: str) -> Later:
    return wasi_keyvalue.execute(guest, get(guest, number, Bucket), "store.get", key)


@function(KEY_VALUE, "[method]store.set", suspends=True)
def _set(guest: ComponentGuest, number: int, key: str, value: bytes) -> Later:
    return wasi_keyvalue.execute(guest, get(guest, number, Bucket), "store.set", key, value)


@function(KEY_VALUE, "[method]store.delete", suspends=True)
def _delete(guest: ComponentGuest, number: int, key: str) -> Later:
    return wasi_keyvalue.execute(guest, get(guest, number, Bucket), "store.delete", key)


@function(KEY_VALUE, "[method]store.exists", suspends=True)
def _exists(guest: ComponentGuest, number: int, key: str) -> Later:
    return wasi_keyvalue.execute(guest, get(guest, number, Bucket), "store.exists", key)


@function(KEY_VALUE, "[method]store.get-keys", suspends=True)
def _get_keys(guest: ComponentGuest, number: int) -> Later:
    bucket = get(guest, number, Bucket)

    async def work(host: HostCalls) -> list[str]:
        keys: list[str] = []
        cursor: str | None = None
        while True:
            page = wasi_keyvalue.execute(guest, bucket, "store.list-keys", cursor)
            answer = page.begin(host)
            result = page.finish(await answer if inspect.isawaitable(answer) else answer)
            if "err" in result:
                raise errors.ProviderError(str(result["err"]))
            keys += result["ok"]["keys"]
            cursor = result["ok"]["cursor"]
            if len(keys) > KEYS_MAX:
                raise errors.PayloadTooLarge("keys of a store at once", len(keys), KEYS_MAX)
            if cursor is None:
                return keys

    return Later(work, ok, wasi_keyvalue.refused, is_host_call=True)


@function(VARIABLES, "get", suspends=True)
def _variable(_guest: ComponentGuest, name: str) -> Later:
    def found(answer: bytes) -> dict[str, Any]:
        entry = codec.unpack(answer)
        return ok(entry["value"]) if entry["exists"] else err({"undefined": name})

    def failed(error: errors.LatticeError) -> dict[str, Any]:
        return err({"provider": told(error)})

    return Later(lambda host: host.call("", BUILTIN, "Config.Get", codec.pack(name)), found, failed)
