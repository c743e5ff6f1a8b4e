"""The waPC guest ABI, which wasmCloud calls wasmbus: nine functions, under both module names.

Source: https://github.com/wapc/wapc.io (docs/spec.md) and wasmCloud 0.82's variant of it, which is
stricter: a request is handed out once, and asking for a host response or host error that is not
there traps. The guest allocates all of its memory; calls on an instance are strictly serial.
"""

from collections.abc import Sequence
from typing import Any

from host.engine import ffi, guest
from host.engine.guest import Address, Guest, GuestFault, Request, Words
from lattice import limits

MODULES = ("wapc", "wasmbus")
"""Import modules under which the functions are found."""

ENTRY = "__guest_call"
ENTRY_SIGNATURE = ffi.signature((ffi.I32, ffi.I32), (ffi.I32,))
START_SIGNATURE = ffi.signature((), ())

STARTS = ("_initialize", "_start", "wapc_init")
"""Functions run on a fresh instance before the call, where exported: the order of waPC hosts."""

NAME_BYTES_MAX = 1_000
"""Longest binding, namespace or operation of a host call; ids and contracts are far shorter."""

GUEST_ERROR_BYTES_MAX = 4 * limits.ERROR_TEXT_CHARS
"""Bytes copied of a guest's error text: UTF-8 takes up to four for a character."""

LOG_BYTES_MAX = 4 * limits.LOG_LINE_CHARS
"""Bytes copied of one log line."""


def _guest_request(call: Guest, caller: Address, words: Words) -> None:
    if call.slot.requested:
        raise GuestFault("__guest_request: the request was taken already")
    call.slot.requested = 1
    pieces = (words[0], call.operation), (words[4], call.payload)
    call.write(caller, "__guest_request", *pieces)


def _guest_response(call: Guest, caller: Address, words: Words) -> None:
    length = words[4]
    if length > call.limits.response_bytes:
        call.oversize = length
        raise GuestFault(f"__guest_response: {length} bytes are over the limit")
    call.response = call.read(caller, "__guest_response", words[0], length)
    call.slot.responded = 0


def _guest_error(call: Guest, caller: Address, words: Words) -> None:
    pointer, length = words[0], words[4]
    call.at(caller, "__guest_error", pointer, length)
    copied = call.read(caller, "__guest_error", pointer, min(length, GUEST_ERROR_BYTES_MAX))
    call.error = copied.decode(errors="replace")[: limits.ERROR_TEXT_CHARS]


def _host_response_len(call: Guest, _caller: Address, _words: Words) -> int:
    return call.slot.host_response_bytes if call.slot.host_responded else 0


def _host_response(call: Guest, caller: Address, words: Words) -> None:
    if not call.slot.host_responded:
        raise GuestFault("__host_response: there is none")
    call.slot.host_responded = 0
    call.write(caller, "__host_response", (words[0], call.host_response))


def _host_error_len(call: Guest, _caller: Address, _words: Words) -> int:
    return len(call.host_error or b"")


def _host_error(call: Guest, caller: Address, words: Words) -> None:
    error = call.host_error
    if error is None:
        raise GuestFault("__host_error: there is none")
    call.host_error = None
    call.write(caller, "__host_error", (words[0], error))


def _console_log(call: Guest, caller: Address, words: Words) -> None:
    pointer, length = words[0], words[4]
    call.at(caller, "__console_log", pointer, length)
    copied = call.read(caller, "__console_log", pointer, min(length, LOG_BYTES_MAX))
    call.log("info", copied.decode(errors="replace"))


def _host_call(call: Guest, caller: Address, words: Words) -> int:
    # An argument is a wasmtime_val_t here: a kind of 8 bytes, then the value, 32 bytes in all.
    call.host_error = None
    call.slot.host_responded = 0
    # An argument is a wasmtime_val_t here: a kind of 8 bytes, then the value, 32 bytes in all.
    places = [(words[index], words[index + 8]) for index in (2, 18, 34, 50)]
    for pointer, length in places:
        call.at(caller, "__host_call", pointer, length)
    *names, (_, length) = places
    if (longest := max(length for _, length in names)) > NAME_BYTES_MAX:
        call.host_error = f"invalid_request: a name of {longest} bytes in a host call".encode()
        return 0
    if length > call.limits.request_bytes:
        call.host_error = (
            f"payload_too_large: the payload is {length} bytes,"
            f" over the limit of {call.limits.request_bytes}"
        ).encode()
        return 0
    read_request(
        call, [call.read(caller, "__host_call", pointer, length) for pointer, length in places]
    )
    return 0


def read_request(call: Guest, parts: Sequence[bytes]) -> None:
    """Take a host call's binding, namespace, operation and payload, or note what is wrong."""
    binding, namespace, operation, payload = parts
    try:
        call.request = Request(binding.decode(), namespace.decode(), operation.decode(), payload)
    except UnicodeDecodeError:
        call.host_error = b"invalid_request: a name in a host call is not UTF-8"


_TWO, _ONE, _NONE = (ffi.I32, ffi.I32), (ffi.I32,), ()

FUNCTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...], Any]] = {
    "__guest_request": (_TWO, _NONE, guest.immediate(_guest_request)),
    "__guest_response": (_TWO, _NONE, guest.immediate(_guest_response)),
    "__guest_error": (_TWO, _NONE, guest.immediate(_guest_error)),
    "__host_response_len": (_NONE, _ONE, guest.immediate(_host_response_len)),
    "__host_response": (_ONE, _NONE, guest.immediate(_host_response)),
    "__host_error_len": (_NONE, _ONE, guest.immediate(_host_error_len)),
    "__host_error": (_ONE, _NONE, guest.immediate(_host_error)),
    "__console_log": (_TWO, _NONE, guest.immediate(_console_log)),
    "__host_call": ((ffi.I32,) * 8, _ONE, guest.suspending(_host_call)),
}
"""Name, parameters, results and callback of each; the callbacks live as long as the process."""
