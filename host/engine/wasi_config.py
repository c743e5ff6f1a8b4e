"""What the host answers without a link: ``wasi:config``, ``wasi:logging``, and the choice of links.

``wasmcloud:bus/lattice`` is how a wasmCloud component chooses the link for an interface by name.
"""

from typing import Any

from host.engine import wit
from host.engine.component_guest import ComponentGuest, Later, Table, told
from host.engine.guest import GuestFault
from host.engine.wasip2 import ok
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


@function("wasi:logging/logging", "log")
def _log(guest: ComponentGuest, level: str, context: str, message: str) -> None:
    guest.log(LEVELS[level], f"{context}: {message}" if context else message)


LATTICE = "wasmcloud:bus/lattice"


@function(LATTICE, "[constructor]call-target-interface")
def _target(guest: ComponentGuest, namespace: str, package: str, interface: str) -> wit.Own:
    return guest.own("call-target-interface", f"{namespace}:{package}/{interface}")


@function(LATTICE, "set-link-name")
def _set_link_name(guest: ComponentGuest, name: str, targets: list[int]) -> dict[str, Any]:
    try:
        names.parse_link_name(name)
    except errors.InvalidRequest as error:
        return {"err": error.text}
    for number in targets:
        guest.link_names[guest.take(number)] = name
    if len(guest.link_names) > LINK_NAMES_MAX:
        raise GuestFault(f"it chose links for more than {LINK_NAMES_MAX} interfaces")
    return ok()
