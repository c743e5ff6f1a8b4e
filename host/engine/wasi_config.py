"""What the host answers without a link: configuration, secrets, logging, and the choice of links.

``wasmcloud:secrets`` is answered from the configuration as well: there is no store of secrets.
``wasmcloud:bus/lattice`` is how a wasmCloud component chooses the link for an interface by name.
"""

from typing import Any

from host.engine import wit
from host.engine.component_guest import ComponentGuest, Lasting, Later, Table, told
from host.engine.guest import GuestFault, HostCalls
from host.engine.wasip2 import err, get, ok
from lattice import errors, names
from lattice.wire import codec

TABLE = Table()
function = TABLE.put

BUILTIN = "wasmcloud:builtin:config"

LINK_NAMES_MAX = 100
"""Interfaces for which one call may choose links."""

LEVELS = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "warn": "warning",
    "error": "error",
    "critical": "error",
}
"""wasi:logging's levels and ours."""


def _failed(error: errors.LatticeError) -> dict[str, Any]:
    return {"err": {"upstream": told(error)}}


@function("wasi:config/store", "get", suspends=True)
@function("wasi:config/runtime", "get", suspends=True)
def _get(_guest: ComponentGuest, key: str) -> Later:
    def found(answer: bytes) -> dict[str, Any]:
        entry = codec.unpack(answer)
        return ok(entry["value"] if entry["exists"] else None)

    return Later(lambda host: host.call("", BUILTIN, "Config.Get", codec.pack(key)), found, _failed)


@function("wasi:config/store", "get-all", suspends=True)
@function("wasi:config/runtime", "get-all", suspends=True)
def _get_all(_guest: ComponentGuest) -> Later:
    def found(answer: bytes) -> dict[str, Any]:
        return ok([[key, value] for key, value in sorted(codec.unpack(answer).items())])

    return Later(lambda host: host.call("", BUILTIN, "Config.GetAll", b""), found, _failed)


KEY_OF_SECRETS = "secret."
"""How keys of an actor's configuration begin that are its secrets."""


class Secret(Lasting):
    """A secret that a guest has asked for, and may reveal."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value


@function("wasmcloud:secrets/store", "get", suspends=True)
def _get_secret(guest: ComponentGuest, name: str) -> Later:
    def found(answer: bytes) -> dict[str, Any]:
        entry = codec.unpack(answer)
        if not entry["exists"]:
            return err({"not-found": None})
        return ok(guest.own("secret", Secret(entry["value"])))

    key = codec.pack(KEY_OF_SECRETS + name)
    return Later(lambda host: host.call("", BUILTIN, "Config.Get", key), found, _failed)


@function("wasmcloud:secrets/reveal", "reveal")
def _reveal(guest: ComponentGuest, number: int) -> dict[str, str]:
    return {"string": get(guest, number, Secret).value}


@function("wasi:logging/logging", "log")
def _log(guest: ComponentGuest, level: str, context: str, message: str) -> None:
    guest.log(LEVELS[level], f"{context}: {message}" if context else message)


LATTICE = "wasmcloud:bus/lattice"


@function(LATTICE, "[constructor]call-target-interface")
def _target(guest: ComponentGuest, namespace: str, package: str, interface: str) -> wit.Own:
    return guest.own("call-target-interface", f"{namespace}:{package}/{interface}")


@function(LATTICE, "set-link-name", suspends=True)
def _set_link_name(guest: ComponentGuest, name: str, targets: list[int]) -> Any:
    chosen = dict.fromkeys((guest.take(number) for number in targets), name)
    if len(guest.link_names | chosen) > LINK_NAMES_MAX:
        raise GuestFault(f"it chose links for more than {LINK_NAMES_MAX} interfaces")

    def begin(host: HostCalls) -> bytes:
        names.parse_link_name(name)
        # Version 1 can't tell of an absent link: there the call itself will.
        if _can_fail(guest):
            for interface in chosen:
                host.check_link(name, interface)
        guest.link_names |= chosen
        return b""

    def fail(error: errors.LatticeError) -> dict[str, str]:
        return err(told(error))

    return Later(begin, lambda _chosen: ok(), fail)


def _can_fail(guest: ComponentGuest) -> bool:
    assert guest.signature is not None, "it is suspended in this function"
    return guest.signature.function.result is not None
