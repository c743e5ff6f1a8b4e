"""WASI preview 1: the whole function table, and nothing behind it that an operator did not open.

Source: https://github.com/WebAssembly/WASI/blob/main/legacy/preview1/docs.md. Every function is
linked, because toolchains import much that their programs never call. Clocks, randomness and log
lines are always there; arguments, environment and directories only as far as the call's ``World``
has them; sockets never. A bad pointer gets ``EFAULT``, as WASI says, where waPC traps.

Here the guest's memory is read and written; what the functions do is in ``descriptors.py``. One
that may block copies what it needs and suspends the guest, and its results are written once they
are there.
"""

import ctypes
import functools
import itertools
import os
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from host.engine import ffi, guest, paths
from host.engine.descriptors import (
    OUTPUT_BYTES_MAX,
    STDERR,
    STDIN,
    STDOUT,
    WRITE_BYTES_MAX,
    Descriptors,
)
from host.engine.guest import Address, Done, Guest, GuestFault, HostFunction, Words, Work
from host.engine.preview1 import (
    BADF,
    EVENT,
    FAULT,
    INVAL,
    IO,
    NAMETOOLONG,
    NOSYS,
    SUBSCRIPTION,
    SUCCESS,
    WasiError,
    number_of,
)
from lattice import limits

log = structlog.get_logger()

MODULE = "wasi_snapshot_preview1"

LEVELS = {STDOUT: "info", STDERR: "warning"}
"""Level at which a line on a descriptor is logged."""

RANDOM_BYTES_MAX = 1024 * 1024
"""Random bytes per call: filling a whole memory would hold the event loop for a second."""

VECTORS_MAX = 1_024
"""Pieces of one read or write; ``IOV_MAX`` of Linux."""

SUBSCRIPTIONS_MAX = 1_024
"""Events one ``poll_oneoff`` may wait for."""

LINE_BYTES_MAX = 4 * limits.LOG_LINE_CHARS
"""Bytes of an unfinished line that are kept; what follows until its end is dropped."""

_CLOCK_TAG, _READ_TAG, _WRITE_TAG = 0, 1, 2
_ABSOLUTE = 1


def flush_console(call: Guest) -> None:
    """Log the lines that the guest did not end before it did."""
    if call.world.collects_output:
        return
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


def _strings_sizes_get(call: Guest, caller: Address, words: Words, strings: Sequence[bytes]) -> int:
    size = sum(len(each) + 1 for each in strings)
    _put(call, caller, _word(words, 0), len(strings).to_bytes(4, "little"))
    _put(call, caller, _word(words, 1), size.to_bytes(4, "little"))
    return SUCCESS


def _strings_get(call: Guest, caller: Address, words: Words, strings: Sequence[bytes]) -> int:
    """Write the strings, each with a zero behind it, and where each is."""
    pointers, buffer = _word(words, 0), _word(words, 1)
    sizes = [len(each) + 1 for each in strings]
    places = itertools.accumulate(sizes[:-1], initial=buffer) if sizes else ()
    call.write(
        caller,
        "wasi",
        (buffer, b"".join(each + b"\0" for each in strings)),
        (pointers, b"".join((place & 0xFFFFFFFF).to_bytes(4, "little") for place in places)),
    )
    return SUCCESS


def _args_sizes_get(call: Guest, caller: Address, words: Words) -> int:
    return _strings_sizes_get(call, caller, words, call.world.arguments)


def _args_get(call: Guest, caller: Address, words: Words) -> int:
    return _strings_get(call, caller, words, call.world.arguments)


def _environ_sizes_get(call: Guest, caller: Address, words: Words) -> int:
    return _strings_sizes_get(call, caller, words, call.world.environment)


def _environ_get(call: Guest, caller: Address, words: Words) -> int:
    return _strings_get(call, caller, words, call.world.environment)


def _sched_yield(_call: Guest, _caller: Address, _words: Words) -> int:
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
    """Write to the log at once, and to a file in its own time."""
    descriptor, vectors, count, counted = (words[8 * index + 2] for index in range(4))
    if call.descriptors is not None or descriptor not in LEVELS:
        console = call.open_descriptors().console(descriptor)
        if console is None:
            return _write_file(call, caller, words)
        if console not in LEVELS:
            return BADF
        descriptor = console
    if count > VECTORS_MAX:
        return INVAL
    pairs = call.read(caller, "fd_write", vectors, 8 * count)
    written = 0
    for pointer, length in struct.iter_unpack("<II", pairs):
        start = call.at(caller, "fd_write", pointer, length)
        _print(call, descriptor, start, length)
        written += length
    _put(call, caller, counted, (written & 0xFFFFFFFF).to_bytes(4, "little"))
    return SUCCESS


def _fd_read(call: Guest, caller: Address, words: Words) -> int:
    """Standard input is at its end; a file is read in its own time."""
    console = call.open_descriptors().console(words[2])
    if console is None:
        return _read_file(call, caller, words)
    if console != STDIN:
        return BADF
    _put(call, caller, words[26], bytes(4))
    return SUCCESS


def _print(call: Guest, descriptor: int, start: Address, length: int) -> None:
    """Take output. Copies a piece at a time: the guest may write its whole memory."""
    for done in range(0, length, LINE_BYTES_MAX):
        if not takes_output(call, descriptor):
            return
        piece = ctypes.string_at(start + done, min(LINE_BYTES_MAX, length - done))
        write_console(call, descriptor, piece)


def takes_output(call: Guest, descriptor: int) -> bool:
    """Whether anything becomes of what is written; if not, what was kept of it is dropped."""
    if call.world.collects_output:
        return len((call.console or {}).get(descriptor, b"")) < OUTPUT_BYTES_MAX
    if call.lines_left > 0:
        return True
    if call.console is not None:
        call.console[descriptor].clear()
    return False


def write_console(call: Guest, descriptor: int, piece: bytes) -> None:
    """Take a piece of output; each line that ends in it is logged, unless output is collected."""
    if call.console is None:
        call.console = {STDOUT: bytearray(), STDERR: bytearray()}
    unfinished = call.console[descriptor]
    if call.world.collects_output:
        unfinished += piece[: OUTPUT_BYTES_MAX - len(unfinished)]
        return
    *ended, rest = piece.split(b"\n")
    for line in ended:
        unfinished += line[: LINE_BYTES_MAX - len(unfinished)]
        call.log(LEVELS[descriptor], unfinished.decode(errors="replace"))
        unfinished.clear()
    unfinished += rest[: LINE_BYTES_MAX - len(unfinished)]


def _not_here(_call: Guest, _caller: Address, _words: Words) -> int:
    return NOSYS


def _proc_exit(call: Guest, _caller: Address, words: Words) -> None:
    call.exit_code = _word(words, 0)
    raise GuestFault(f"proc_exit({call.exit_code})")


def _poll_oneoff(call: Guest, caller: Address, words: Words) -> int:
    """Sleep until the first of some clocks; descriptors are ready, or bad, at once.

    The events are written before the sleep: which they are is known.
    """
    given, taken, count, counted = (words[8 * index + 2] for index in range(4))
    if not 0 < count <= SUBSCRIPTIONS_MAX:
        return INVAL
    subscriptions = call.read(caller, "poll_oneoff", given, SUBSCRIPTION.size * count)
    wait_ns, events = _events(call, subscriptions)
    _put(call, caller, taken, b"".join(events))
    _put(call, caller, counted, len(events).to_bytes(4, "little"))
    if wait_ns > 0:
        call.request = wait_ns / 1e9
    return SUCCESS


def _events(call: Guest, subscriptions: bytes) -> tuple[int, list[bytes]]:
    """When the first events happen, in nanoseconds from now, and which they are."""
    due = []
    for each in SUBSCRIPTION.iter_unpack(subscriptions):
        userdata, tag, clock, timeout_ns, _, flags = each
        error, wait_ns, ready_bytes = SUCCESS, 0, 0
        if tag == _CLOCK_TAG:
            now_ns = _now_ns(call, clock)
            if now_ns is None:
                error = INVAL
            else:
                wait_ns = max(0, timeout_ns - now_ns) if flags & _ABSOLUTE else timeout_ns
        elif tag > _WRITE_TAG:
            error = INVAL
        # In the others the clock's place holds the descriptor.
        elif clock not in (descriptors := call.open_descriptors()):
            error = BADF
        elif tag == _READ_TAG:
            ready_bytes = descriptors.ready_bytes(clock)
        due.append((wait_ns, EVENT.pack(userdata, error, tag, ready_bytes, 0)))
    first_ns = min(wait_ns for wait_ns, _ in due)
    return first_ns, [event for wait_ns, event in due if wait_ns == first_ns]


def _immediate(function: HostFunction) -> Any:
    return guest.immediate(_answering(function))


def _answering(function: HostFunction) -> HostFunction:
    """A lie about the memory gets an error number, as long as the program has not left."""

    def answer(call: Guest, caller: Address, words: Words) -> int | None:
        try:
            return function(call, caller, words)
        except GuestFault:
            if call.exit_code is not None:
                raise
            return FAULT

    return answer


_LETTERS = {"i": ffi.I32, "l": ffi.I64}

Entry = tuple[tuple[str, ...], tuple[str, ...], Any]
"""Parameters, results and callback of a function."""


def _function(parameters: str, function: HostFunction) -> Entry:
    return tuple(_LETTERS[each] for each in parameters), (ffi.I32,), _immediate(function)


_PARAMETERS = {
    "u32": "i",
    "u64": "l",
    "path": "ii",
    "content": "ii",
    "vectors": "ii",
    "buffer": "ii",
    "u32*": "i",
    "u64*": "i",
    "fdstat*": "i",
    "filestat*": "i",
    "prestat*": "i",
}
"""How what a function takes is passed. ``content`` is a list of pieces of memory to write out;
``vectors``, a list of pieces, and ``buffer``, one, are room for a result and go to the function as
a number of bytes; a star marks the place of a result of a fixed size."""

_SIZES = {"u32*": 4, "u64*": 8, "fdstat*": 24, "filestat*": 64, "prestat*": 8}


def _descriptor_function(
    kinds: str, operation: Callable[..., Any], *, blocks: bool = True
) -> Entry:
    """The entry of a function of descriptors, told by what it takes."""
    parameters = "".join(_PARAMETERS[kind] for kind in kinds.split())
    callback = guest.suspending(_answering(_operate(kinds, operation, blocks=blocks)))
    return tuple(_LETTERS[each] for each in parameters), (ffi.I32,), callback


def _operate(
    kinds: str, operation: Callable[..., Any], *, blocks: bool = True
) -> Callable[[Guest, Address, Words], int]:
    """Make the host function of an operation: take its arguments, do it, put its results."""
    wanted = kinds.split()
    # A bad descriptor is a bad descriptor, whatever else is wrong.
    is_first = wanted[0] == "u32"

    def function(call: Guest, caller: Address, words: Words) -> int:
        descriptors = call.open_descriptors()
        if is_first and words[2] not in descriptors:
            return BADF
        arguments: list[int | bytes] = []
        rooms: list[list[tuple[int, int]]] = []
        # An argument is a wasmtime_val_t: a kind of 8 bytes, then the value, 32 bytes in all.
        index = 2
        for kind in wanted:
            first = words[index]
            if kind == "u32":
                arguments.append(first)
            elif kind == "u64":
                arguments.append(first | words[index + 1] << 32)
            elif kind in _SIZES:
                rooms.append([(first, _SIZES[kind])])
            elif kind == "path":
                if (length := words[index + 8]) > paths.PATH_BYTES_MAX:
                    return NAMETOOLONG
                arguments.append(call.read(caller, "wasi", first, length))
            elif kind == "buffer":
                arguments.append(length := words[index + 8])
                rooms.append([(first, length)])
            elif (count := words[index + 8]) > VECTORS_MAX:
                return INVAL
            else:
                pairs = call.read(caller, "wasi", first, 8 * count)
                pieces = list(struct.iter_unpack("<II", pairs))
                if kind == "content":
                    arguments.append(_gather(call, caller, pieces))
                else:
                    arguments.append(sum(length for _, length in pieces))
                    rooms.append(pieces)
            index += 8 * len(_PARAMETERS[kind])
        # Looked at now: afterwards the guest is suspended, and its memory stays as it is.
        for pointer, length in itertools.chain.from_iterable(rooms):
            call.at(caller, "wasi", pointer, length)
        work = functools.partial(_work, descriptors, operation, arguments, rooms)
        if blocks and descriptors.may_block:
            call.request = Work(work)
            return SUCCESS
        done = work()
        call.write(caller, "wasi", *done.pieces)
        return done.result

    return function


def _gather(call: Guest, caller: Address, pieces: list[tuple[int, int]]) -> bytes:
    """Copy what is to be written, up to what is written at a time."""
    gathered = bytearray()
    for pointer, length in pieces:
        start = call.at(caller, "wasi", pointer, length)
        gathered += ctypes.string_at(start, min(length, WRITE_BYTES_MAX - len(gathered)))
    return bytes(gathered)


def _work(
    descriptors: Descriptors,
    operation: Callable[..., Any],
    arguments: list[int | bytes],
    rooms: list[list[tuple[int, int]]],
) -> Done:
    """Do an operation, and say what goes where in the guest's memory."""
    try:
        outcome = descriptors.perform(functools.partial(operation, descriptors, *arguments))
    except (OSError, WasiError) as error:
        return Done(number_of(error))
    except Exception as error:
        log.error("operation on a file failed", exc_info=error)
        return Done(IO)
    if not rooms:
        return Done(SUCCESS)
    pieces: list[tuple[int, bytes]] = []
    for result, room in zip(
        outcome if isinstance(outcome, tuple) else (outcome,), rooms, strict=True
    ):
        rest = result.to_bytes(room[0][1], "little") if isinstance(result, int) else result
        for pointer, length in room:
            if not rest:
                break
            pieces.append((pointer, rest[:length]))
            rest = rest[length:]
    return Done(SUCCESS, pieces)


_write_file = _operate("u32 content u32*", Descriptors.fd_write)
_read_file = _operate("u32 vectors u32*", Descriptors.fd_read)

_FOUR = (ffi.I32,) * 4

FUNCTIONS: dict[str, Entry] = {
    "args_get": _function("ii", _args_get),
    "args_sizes_get": _function("ii", _args_sizes_get),
    "environ_get": _function("ii", _environ_get),
    "environ_sizes_get": _function("ii", _environ_sizes_get),
    "clock_res_get": _function("ii", _clock_res_get),
    "clock_time_get": _function("ili", _clock_time_get),
    "fd_advise": _descriptor_function("u32 u64 u64 u32", Descriptors.fd_advise),
    "fd_allocate": _descriptor_function("u32 u64 u64", Descriptors.fd_allocate),
    "fd_close": _descriptor_function("u32", Descriptors.fd_close),
    "fd_datasync": _descriptor_function("u32", Descriptors.fd_datasync),
    "fd_fdstat_get": _descriptor_function("u32 fdstat*", Descriptors.fd_fdstat_get),
    "fd_fdstat_set_flags": _descriptor_function("u32 u32", Descriptors.fd_fdstat_set_flags),
    "fd_fdstat_set_rights": _descriptor_function("u32 u64 u64", Descriptors.fd_fdstat_set_rights),
    "fd_filestat_get": _descriptor_function("u32 filestat*", Descriptors.fd_filestat_get),
    "fd_filestat_set_size": _descriptor_function("u32 u64", Descriptors.fd_filestat_set_size),
    "fd_filestat_set_times": _descriptor_function(
        "u32 u64 u64 u32", Descriptors.fd_filestat_set_times
    ),
    "fd_pread": _descriptor_function("u32 vectors u64 u32*", Descriptors.fd_pread),
    "fd_prestat_get": _descriptor_function(
        "u32 prestat*", Descriptors.fd_prestat_get, blocks=False
    ),
    "fd_prestat_dir_name": _descriptor_function(
        "u32 buffer", Descriptors.fd_prestat_dir_name, blocks=False
    ),
    "fd_pwrite": _descriptor_function("u32 content u64 u32*", Descriptors.fd_pwrite),
    "fd_read": (_FOUR, (ffi.I32,), guest.suspending(_answering(_fd_read))),
    "fd_readdir": _descriptor_function("u32 buffer u64 u32*", Descriptors.fd_readdir),
    "fd_renumber": _descriptor_function("u32 u32", Descriptors.fd_renumber),
    "fd_seek": _descriptor_function("u32 u64 u32 u64*", Descriptors.fd_seek),
    "fd_sync": _descriptor_function("u32", Descriptors.fd_sync),
    "fd_tell": _descriptor_function("u32 u64*", Descriptors.fd_tell),
    "fd_write": (_FOUR, (ffi.I32,), guest.suspending(_answering(_fd_write))),
    "path_create_directory": _descriptor_function("u32 path", Descriptors.path_create_directory),
    "path_filestat_get": _descriptor_function(
        "u32 u32 path filestat*", Descriptors.path_filestat_get
    ),
    "path_filestat_set_times": _descriptor_function(
        "u32 u32 path u64 u64 u32", Descriptors.path_filestat_set_times
    ),
    "path_link": _descriptor_function("u32 u32 path u32 path", Descriptors.path_link),
    "path_open": _descriptor_function("u32 u32 path u32 u64 u64 u32 u32*", Descriptors.path_open),
    "path_readlink": _descriptor_function("u32 path buffer u32*", Descriptors.path_readlink),
    "path_remove_directory": _descriptor_function("u32 path", Descriptors.path_remove_directory),
    "path_rename": _descriptor_function("u32 path u32 path", Descriptors.path_rename),
    "path_symlink": _descriptor_function("path u32 path", Descriptors.path_symlink),
    "path_unlink_file": _descriptor_function("u32 path", Descriptors.path_unlink_file),
    "poll_oneoff": (_FOUR, (ffi.I32,), guest.suspending(_answering(_poll_oneoff))),
    "proc_exit": ((ffi.I32,), (), guest.immediate(_proc_exit)),
    "proc_raise": _function("i", _not_here),
    "random_get": _function("ii", _random_get),
    "sched_yield": _function("", _sched_yield),
    "sock_accept": _descriptor_function("u32 u32 u32", Descriptors.no_socket),
    "sock_recv": _descriptor_function("u32 u32 u32 u32 u32 u32", Descriptors.no_socket),
    "sock_send": _descriptor_function("u32 u32 u32 u32 u32", Descriptors.no_socket),
    "sock_shutdown": _descriptor_function("u32 u32", Descriptors.no_socket),
}
"""Parameters, results and callback of each; the callbacks live as long as the process."""
