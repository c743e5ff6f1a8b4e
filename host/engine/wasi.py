"""WASI preview 1 with nothing behind it but clocks, randomness and log lines.

Source: https://github.com/WebAssembly/WASI/blob/main/legacy/preview1/docs.md. The whole function
table is linked, because toolchains import much that their programs never call. There are three
descriptors (input at its end, output and errors to the log), no arguments, no environment, no
directories and no sockets. A bad pointer gets ``EFAULT``, as WASI says, where waPC traps.
"""

import ctypes
import os
import struct
import time
from typing import Any

from host.engine import ffi, guest
from host.engine.guest import Address, Guest, GuestFault, HostFunction, Words
from lattice import limits

MODULE = "wasi_snapshot_preview1"

SUCCESS, BADF, FAULT, INVAL, NOSYS, NOTSUP, PIPE, SPIPE = 0, 8, 21, 28, 52, 58, 64, 70

STDIN, STDOUT, STDERR = 0, 1, 2
LEVELS = {STDOUT: "info", STDERR: "warning"}
"""Level at which a line on a descriptor is logged."""

RANDOM_BYTES_MAX = 1024 * 1024
"""Random bytes per call: filling a whole memory would hold the event loop for a second."""

VECTORS_MAX = 1_024
"""Pieces of one write; ``IOV_MAX`` of Linux."""

SUBSCRIPTIONS_MAX = 1_024
"""Events one ``poll_oneoff`` may wait for."""

LINE_BYTES_MAX = 4 * limits.LOG_LINE_CHARS
"""Bytes of an unfinished line that are kept; what follows until its end is dropped."""

_SUBSCRIPTION = struct.Struct("<QB7xI4xQQH6x")  # userdata, tag, clock, timeout, precision, flags
_EVENT = struct.Struct("<QHB21x")  # userdata, error, type; the rest is of descriptors
_CLOCK_TAG, _WRITE_TAG = 0, 2
_ABSOLUTE = 1
_CHARACTER_DEVICE = 2


def flush_console(call: Guest) -> None:
    """Log the lines that the guest did not end before it did."""
    for descriptor, unfinished in (call.console or {}).items():
        if unfinished:
            call.log(LEVELS[descriptor], unfinished.decode(errors="replace"))
    call.console = None


def _word(words: Words, index: int) -> int:
    """A 32-bit argument of an immediate function."""
    value: int = words[4 * index]
    return value


def _put(call: Guest, caller: Address, pointer: int, content: bytes) -> None:
    call.write(caller, "wasi", (pointer, content))


def _sizes_get(call: Guest, caller: Address, words: Words) -> int:
    """``args_sizes_get`` and ``environ_sizes_get``: none, taking no bytes."""
    _put(call, caller, _word(words, 0), bytes(4))
    _put(call, caller, _word(words, 1), bytes(4))
    return SUCCESS


def _nothing_to_get(_call: Guest, _caller: Address, _words: Words) -> int:
    return SUCCESS


def _now_ns(call: Guest, clock: int) -> int | None:
    match clock:
        case 0:
            return time.time_ns()
        case 1:
            return time.monotonic_ns()
        case 2 | 3:
            # What the call used up to its current slice: enough for the programs that ask.
            cpu_ns: int = call.slot.cpu_ns
            return cpu_ns
        case _:
            return None


def _clock_time_get(call: Guest, caller: Address, words: Words) -> int:
    now_ns = _now_ns(call, _word(words, 0))
    if now_ns is None:
        return INVAL
    _put(call, caller, _word(words, 2), now_ns.to_bytes(8, "little"))
    return SUCCESS


def _clock_res_get(call: Guest, caller: Address, words: Words) -> int:
    if _now_ns(call, _word(words, 0)) is None:
        return INVAL
    _put(call, caller, _word(words, 1), (1_000).to_bytes(8, "little"))
    return SUCCESS


def _random_get(call: Guest, caller: Address, words: Words) -> int:
    pointer, length = _word(words, 0), _word(words, 1)
    if length > RANDOM_BYTES_MAX:
        return INVAL
    call.at(caller, "random_get", pointer, length)
    _put(call, caller, pointer, os.urandom(length))
    return SUCCESS


def _fd_write(call: Guest, caller: Address, words: Words) -> int:
    descriptor, vectors, count = _word(words, 0), _word(words, 1), _word(words, 2)
    if descriptor not in LEVELS:
        return BADF
    if count > VECTORS_MAX:
        return INVAL
    pairs = call.read(caller, "fd_write", vectors, 8 * count)
    written = 0
    for pointer, length in struct.iter_unpack("<II", pairs):
        start = call.at(caller, "fd_write", pointer, length)
        _print(call, descriptor, start, length)
        written += length
    _put(call, caller, _word(words, 3), (written & 0xFFFFFFFF).to_bytes(4, "little"))
    return SUCCESS


def _print(call: Guest, descriptor: int, start: Address, length: int) -> None:
    """Cut output into lines. Copies a piece at a time: the guest may write its whole memory."""
    if call.console is None:
        call.console = {STDOUT: bytearray(), STDERR: bytearray()}
    unfinished = call.console[descriptor]
    for done in range(0, length, LINE_BYTES_MAX):
        if call.lines_left <= 0:
            unfinished.clear()
            return
        piece = ctypes.string_at(start + done, min(LINE_BYTES_MAX, length - done))
        *ended, rest = piece.split(b"\n")
        for line in ended:
            unfinished += line[: LINE_BYTES_MAX - len(unfinished)]
            call.log(LEVELS[descriptor], unfinished.decode(errors="replace"))
            unfinished.clear()
        unfinished += rest[: LINE_BYTES_MAX - len(unfinished)]


def _fd_read(call: Guest, caller: Address, words: Words) -> int:
    if _word(words, 0) != STDIN:
        return BADF
    _put(call, caller, _word(words, 3), bytes(4))
    return SUCCESS


def _fd_fdstat_get(call: Guest, caller: Address, words: Words) -> int:
    if _word(words, 0) > STDERR:
        return BADF
    _put(call, caller, _word(words, 1), bytes([_CHARACTER_DEVICE]) + bytes(23))
    return SUCCESS


def _fd_filestat_get(call: Guest, caller: Address, words: Words) -> int:
    if _word(words, 0) > STDERR:
        return BADF
    _put(call, caller, _word(words, 1), bytes(16) + bytes([_CHARACTER_DEVICE]) + bytes(47))
    return SUCCESS


def _fd_seek(_call: Guest, _caller: Address, words: Words) -> int:
    return SPIPE if _word(words, 0) <= STDERR else BADF


def _fd_close(_call: Guest, _caller: Address, words: Words) -> int:
    return SUCCESS if _word(words, 0) <= STDERR else BADF


def _bad_descriptor(_call: Guest, _caller: Address, _words: Words) -> int:
    """Whatever works on files, directories or sockets: there is no such descriptor."""
    return BADF


def _not_here(_call: Guest, _caller: Address, _words: Words) -> int:
    return NOSYS


def _proc_exit(call: Guest, _caller: Address, words: Words) -> None:
    call.exit_code = _word(words, 0)
    raise GuestFault(f"proc_exit({call.exit_code})")


def _poll_oneoff(call: Guest, caller: Address, words: Words) -> int:
    """Sleep until the first of some clocks; descriptors are ready, or bad, at once.

    The events are written before the sleep: which they are is known, and afterwards the memory
    could not be reached through a live call.
    """
    given, taken, count, counted = (words[8 * index + 2] for index in range(4))
    if not 0 < count <= SUBSCRIPTIONS_MAX:
        return INVAL
    try:
        subscriptions = call.read(caller, "poll_oneoff", given, _SUBSCRIPTION.size * count)
        wait_ns, events = _events(call, subscriptions)
        _put(call, caller, taken, b"".join(events))
        _put(call, caller, counted, len(events).to_bytes(4, "little"))
    except GuestFault:
        return FAULT
    if wait_ns > 0:
        call.request = wait_ns / 1e9
    return SUCCESS


def _events(call: Guest, subscriptions: bytes) -> tuple[int, list[bytes]]:
    """When the first events happen, in nanoseconds from now, and which they are."""
    due = []
    for each in _SUBSCRIPTION.iter_unpack(subscriptions):
        userdata, tag, clock, timeout_ns, _, flags = each
        error, wait_ns = SUCCESS, 0
        if tag == _CLOCK_TAG:
            now_ns = _now_ns(call, clock)
            if now_ns is None:
                error = INVAL
            else:
                wait_ns = max(0, timeout_ns - now_ns) if flags & _ABSOLUTE else timeout_ns
        elif (STDIN if tag != _WRITE_TAG else STDERR) < clock:
            # In these the clock's place holds the descriptor.
            error = BADF
        due.append((wait_ns, _EVENT.pack(userdata, error, tag)))
    first_ns = min(wait_ns for wait_ns, _ in due)
    return first_ns, [event for wait_ns, event in due if wait_ns == first_ns]


def _immediate(function: HostFunction) -> Any:
    def answer(call: Guest, caller: Address, words: Words) -> int | None:
        try:
            return function(call, caller, words)
        except GuestFault:
            if call.exit_code is not None:
                raise
            return FAULT

    return guest.immediate(answer)


_LETTERS = {"i": ffi.I32, "l": ffi.I64}


def _function(
    parameters: str, function: HostFunction
) -> tuple[tuple[str, ...], tuple[str, ...], Any]:
    return tuple(_LETTERS[each] for each in parameters), (ffi.I32,), _immediate(function)


FUNCTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...], Any]] = {
    "args_get": _function("ii", _nothing_to_get),
    "args_sizes_get": _function("ii", _sizes_get),
    "environ_get": _function("ii", _nothing_to_get),
    "environ_sizes_get": _function("ii", _sizes_get),
    "clock_res_get": _function("ii", _clock_res_get),
    "clock_time_get": _function("ili", _clock_time_get),
    "fd_advise": _function("illi", _bad_descriptor),
    "fd_allocate": _function("ill", _bad_descriptor),
    "fd_close": _function("i", _fd_close),
    "fd_datasync": _function("i", _bad_descriptor),
    "fd_fdstat_get": _function("ii", _fd_fdstat_get),
    "fd_fdstat_set_flags": _function("ii", _bad_descriptor),
    "fd_fdstat_set_rights": _function("ill", _bad_descriptor),
    "fd_filestat_get": _function("ii", _fd_filestat_get),
    "fd_filestat_set_size": _function("il", _bad_descriptor),
    "fd_filestat_set_times": _function("illi", _bad_descriptor),
    "fd_pread": _function("iiili", _bad_descriptor),
    "fd_prestat_get": _function("ii", _bad_descriptor),
    "fd_prestat_dir_name": _function("iii", _bad_descriptor),
    "fd_pwrite": _function("iiili", _bad_descriptor),
    "fd_read": _function("iiii", _fd_read),
    "fd_readdir": _function("iiili", _bad_descriptor),
    "fd_renumber": _function("ii", _bad_descriptor),
    "fd_seek": _function("ilii", _fd_seek),
    "fd_sync": _function("i", _bad_descriptor),
    "fd_tell": _function("ii", _fd_seek),
    "fd_write": _function("iiii", _fd_write),
    "path_create_directory": _function("iii", _bad_descriptor),
    "path_filestat_get": _function("iiiii", _bad_descriptor),
    "path_filestat_set_times": _function("iiiilli", _bad_descriptor),
    "path_link": _function("iiiiiii", _bad_descriptor),
    "path_open": _function("iiiiillii", _bad_descriptor),
    "path_readlink": _function("iiiiii", _bad_descriptor),
    "path_remove_directory": _function("iii", _bad_descriptor),
    "path_rename": _function("iiiiii", _bad_descriptor),
    "path_symlink": _function("iiiii", _bad_descriptor),
    "path_unlink_file": _function("iii", _bad_descriptor),
    "poll_oneoff": ((ffi.I32,) * 4, (ffi.I32,), guest.suspending(_poll_oneoff)),
    "proc_exit": ((ffi.I32,), (), guest.immediate(_proc_exit)),
    "proc_raise": _function("i", _not_here),
    "random_get": _function("ii", _random_get),
    "sched_yield": _function("", _nothing_to_get),
    "sock_accept": _function("iii", _bad_descriptor),
    "sock_recv": _function("iiiiii", _bad_descriptor),
    "sock_send": _function("iiiii", _bad_descriptor),
    "sock_shutdown": _function("ii", _bad_descriptor),
}
"""Name, parameters, results and callback of each; the callbacks live as long as the process."""
