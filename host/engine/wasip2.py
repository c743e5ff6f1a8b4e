"""WASI 0.2 in Python, asynchronous: io, clocks, random, cli; no files, and no sockets.

None of it is wasmtime's own, whose streams and pollables can't be mixed with ours, and whose sleep
holds the thread. So a guest that polls or blocks is suspended like one that makes a host call, and
holds nothing but its memory.

Where a guest could ask for any amount (random bytes, a read of a stream), it gets what is at hand
up to ``CHUNK_BYTES``, as WASI allows; where it must have all, it traps.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, TypeVar

from host.engine import wasi
from host.engine.component_guest import ComponentGuest, Lasting, Later, Table
from host.engine.descriptors import STDERR, STDOUT
from host.engine.guest import GuestFault
from lattice import limits

CHUNK_BYTES = 64 * limits.KIB
"""Bytes that a stream takes or gives at a time: each crosses as a value of 32 bytes."""

RANDOM_BYTES_MAX = limits.MIB
"""Random bytes per call of the function; it must give all or trap."""

SLEEP_S_MAX = 24 * 3600.0
"""A timer further away fires then: after every deadline there can be."""

POLLABLES_MAX = 1_000
"""Pollables that a guest may wait for at a time."""

TABLE = Table()
function = TABLE.put

T = TypeVar("T")


def ok(value: Any = None) -> dict[str, Any]:
    return {"ok": value}


def err(value: Any = None) -> dict[str, Any]:
    return {"err": value}


CLOSED = err({"closed": None})


class Pollable:
    """Something to wait for."""

    __slots__ = ()

    def is_ready(self) -> bool:
        raise NotImplementedError


class Timer(Pollable, Lasting):
    """Ready at a time of the monotonic clock; 0 for always."""

    __slots__ = ("due_ns",)

    def __init__(self, due_ns: int = 0) -> None:
        self.due_ns = due_ns

    def is_ready(self) -> bool:
        return self.due_ns <= time.monotonic_ns()


class Condition:
    """What may become true while the guest waits for it.

    Guests look at it from whatever thread they run on; it is prepared, waited for and woken on the
    event loop's.
    """

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: set[asyncio.Event] = set()

    def is_true(self) -> bool:
        raise NotImplementedError

    def prepare(self) -> None:
        """Begin what makes it true, if it has to be asked for; safe to call again."""

    def wake(self) -> None:
        """Have those who wait look again."""
        for each in self.waiting:
            each.set()


class Readiness(Pollable):
    """Ready while a condition is true."""

    __slots__ = ("condition",)

    def __init__(self, condition: Condition) -> None:
        self.condition = condition

    def is_ready(self) -> bool:
        return self.condition.is_true()


class InputStream:
    """Bytes that are all there already."""

    __slots__ = ("_content", "_position")

    def __init__(self, content: bytes = b"") -> None:
        self._content = content
        self._position = 0

    @property
    def is_at_end(self) -> bool:
        return self._position == len(self._content)

    def read(self, size: int) -> bytes:
        start = self._position
        self._position = min(start + min(size, CHUNK_BYTES), len(self._content))
        return self._content[start : self._position]


class Stdin(InputStream, Lasting):
    """Standard input: it is at its end."""

    __slots__ = ()


class OutputStream:
    """Where a guest writes to; subclasses say what becomes of it."""

    __slots__ = ()

    def room(self) -> int | None:
        """How much it would take now; ``None`` when it is closed."""
        return CHUNK_BYTES

    def write(self, guest: ComponentGuest, content: bytes) -> None:
        """Take bytes, no more than there was room for."""


class Console(OutputStream, Lasting):
    """Standard output or error: each line is logged."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, guest: ComponentGuest, content: bytes) -> None:
        if wasi.takes_output(guest, self._descriptor):
            wasi.write_console(guest, self._descriptor, content)


class Network(Lasting):
    """What sockets would be made of."""

    __slots__ = ()


def get(guest: ComponentGuest, number: int, kind: type[T]) -> T:
    """Give a resource that the guest refers to."""
    resource = guest.resources.get(number)
    if not isinstance(resource, kind):
        raise GuestFault("it passed a resource that is gone")
    return resource


POLL = "wasi:io/poll"


@function(POLL, "[method]pollable.ready", suspends=True)
def _ready(guest: ComponentGuest, pollable: int) -> bool | Later:
    what = get(guest, pollable, Pollable)
    if what.is_ready() or not isinstance(what, Readiness):
        return what.is_ready()
    return Later(lambda _host: _prepared(what.condition), lambda _done: what.is_ready())


def _prepared(condition: Condition) -> bytes:
    condition.prepare()
    return b""


@function(POLL, "[method]pollable.block", suspends=True)
def _block(guest: ComponentGuest, pollable: int) -> Later | None:
    what = get(guest, pollable, Pollable)
    if what.is_ready():
        return None
    return Later(lambda _host: until_ready([what]), lambda _done: None)


@function(POLL, "poll", suspends=True)
def _poll(guest: ComponentGuest, pollables: list[int]) -> Any:
    if not pollables:
        raise GuestFault("it polls nothing, which would wait for ever")
    if len(pollables) > POLLABLES_MAX:
        raise GuestFault(f"it polls {len(pollables)} pollables, over the limit of {POLLABLES_MAX}")
    whats = [get(guest, each, Pollable) for each in pollables]

    if those_ready := [index for index, what in enumerate(whats) if what.is_ready()]:
        return those_ready

    def those_due(_done: None) -> list[int]:
        if those_ready := [index for index, what in enumerate(whats) if what.is_ready()]:
            return those_ready
        # The clock of the loop, by which was slept, may be a little ahead of the guest's.
        due_ns = min(what.due_ns for what in whats if isinstance(what, Timer))
        return [
            index
            for index, what in enumerate(whats)
            if isinstance(what, Timer) and what.due_ns <= due_ns
        ]

    return Later(lambda _host: until_ready(whats), those_due)


async def until_ready(pollables: Sequence[Pollable]) -> None:
    """Return when one of them is ready."""
    due_ns = min((each.due_ns for each in pollables if isinstance(each, Timer)), default=None)
    if conditions := {each.condition for each in pollables if isinstance(each, Readiness)}:
        await _until_true(conditions, due_ns)
    elif due_ns is not None:
        await asyncio.sleep(_seconds_to(due_ns))


async def until_true(condition: Condition) -> None:
    """Return when it is true."""
    await _until_true({condition}, None)


async def _until_true(conditions: AbstractSet[Condition], due_ns: int | None) -> None:
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    for each in conditions:
        each.prepare()
        each.waiting.add(woken)
    timer = None if due_ns is None else loop.call_later(_seconds_to(due_ns), woken.set)
    try:
        while not any(each.is_true() for each in conditions):
            await woken.wait()
            if timer is not None and timer.when() <= loop.time():
                return
            woken.clear()
    finally:
        for each in conditions:
            each.waiting.discard(woken)
        if timer is not None:
            timer.cancel()


def _seconds_to(due_ns: int) -> float:
    return min(max(0.0, (due_ns - time.monotonic_ns()) / 1e9), SLEEP_S_MAX)


ERROR = "wasi:io/error"


@function(ERROR, "[method]error.to-debug-string")
def _error_text(guest: ComponentGuest, number: int) -> str:
    return get(guest, number, str)


STREAMS = "wasi:io/streams"
_INPUT, _OUTPUT = "[method]input-stream.", "[method]output-stream."


@function(STREAMS, f"{_INPUT}read", f"{_INPUT}blocking-read")
def _read(guest: ComponentGuest, stream: int, size: int) -> Any:
    source = get(guest, stream, InputStream)
    return CLOSED if source.is_at_end else ok(source.read(size))


@function(STREAMS, f"{_INPUT}skip", f"{_INPUT}blocking-skip")
def _skip(guest: ComponentGuest, stream: int, size: int) -> Any:
    source = get(guest, stream, InputStream)
    return CLOSED if source.is_at_end else ok(len(source.read(size)))


@function(STREAMS, f"{_INPUT}subscribe", f"{_OUTPUT}subscribe")
def _subscribe(guest: ComponentGuest, _stream: int) -> Any:
    return guest.own("pollable", Timer())


@function(STREAMS, f"{_OUTPUT}check-write")
def _check_write(guest: ComponentGuest, stream: int) -> Any:
    room = get(guest, stream, OutputStream).room()
    return CLOSED if room is None else ok(room)


@function(STREAMS, f"{_OUTPUT}write")
def _write(guest: ComponentGuest, stream: int, content: bytes) -> Any:
    return _put(guest, stream, content, CHUNK_BYTES)


@function(STREAMS, f"{_OUTPUT}blocking-write-and-flush")
def _blocking_write(guest: ComponentGuest, stream: int, content: bytes) -> Any:
    return _put(guest, stream, content, 4096)


def _put(guest: ComponentGuest, stream: int, content: bytes, most: int) -> Any:
    sink = get(guest, stream, OutputStream)
    if (room := sink.room()) is None:
        return CLOSED
    if len(content) > min(room, most):
        raise GuestFault(f"it writes {len(content)} bytes, more than the {min(room, most)} allowed")
    sink.write(guest, content)
    return ok()


@function(STREAMS, f"{_OUTPUT}write-zeroes", f"{_OUTPUT}blocking-write-zeroes-and-flush")
def _write_zeroes(guest: ComponentGuest, stream: int, size: int) -> Any:
    if size > CHUNK_BYTES:
        raise GuestFault(f"it writes {size} bytes, more than the {CHUNK_BYTES} allowed")
    return _put(guest, stream, bytes(size), CHUNK_BYTES)


@function(STREAMS, f"{_OUTPUT}flush", f"{_OUTPUT}blocking-flush")
def _flush(guest: ComponentGuest, stream: int) -> Any:
    return CLOSED if get(guest, stream, OutputStream).room() is None else ok()


@function(STREAMS, f"{_OUTPUT}splice", f"{_OUTPUT}blocking-splice")
def _splice(guest: ComponentGuest, stream: int, source: int, size: int) -> Any:
    sink, origin = get(guest, stream, OutputStream), get(guest, source, InputStream)
    if (room := sink.room()) is None or origin.is_at_end:
        return CLOSED
    content = origin.read(min(size, room))
    sink.write(guest, content)
    return ok(len(content))


MONOTONIC = "wasi:clocks/monotonic-clock"


@function(MONOTONIC, "now")
def _now(_guest: ComponentGuest) -> int:
    return time.monotonic_ns()


@function(MONOTONIC, "resolution")
def _resolution(_guest: ComponentGuest) -> int:
    return 1


@function(MONOTONIC, "subscribe-instant")
def _subscribe_instant(guest: ComponentGuest, due_ns: int) -> Any:
    return guest.own("pollable", Timer(due_ns))


@function(MONOTONIC, "subscribe-duration")
def _subscribe_duration(guest: ComponentGuest, duration_ns: int) -> Any:
    return guest.own("pollable", Timer(time.monotonic_ns() + duration_ns))


WALL = "wasi:clocks/wall-clock"


@function(WALL, "now")
def _wall_now(_guest: ComponentGuest) -> dict[str, int]:
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    return {"seconds": seconds, "nanoseconds": nanoseconds}


@function(WALL, "resolution")
def _wall_resolution(_guest: ComponentGuest) -> dict[str, int]:
    return {"seconds": 0, "nanoseconds": 1}


@function("wasi:random/random", "get-random-bytes")
@function("wasi:random/insecure", "get-insecure-random-bytes")
def _random_bytes(_guest: ComponentGuest, size: int) -> bytes:
    if size > RANDOM_BYTES_MAX:
        raise GuestFault(f"it wants {size} random bytes, over the limit of {RANDOM_BYTES_MAX}")
    return os.urandom(size)


@function("wasi:random/random", "get-random-u64")
@function("wasi:random/insecure", "get-insecure-random-u64")
def _random_number(_guest: ComponentGuest) -> int:
    return int.from_bytes(os.urandom(8), "little")


@function("wasi:random/insecure-seed", "insecure-seed")
def _seed(guest: ComponentGuest) -> list[int]:
    return [_random_number(guest), _random_number(guest)]


@function("wasi:cli/environment", "get-environment")
def _environment(guest: ComponentGuest) -> list[list[str]]:
    named = (each.decode(errors="replace").partition("=") for each in guest.world.environment)
    return [[name, value] for name, _, value in named]


@function("wasi:cli/environment", "get-arguments")
def _arguments(guest: ComponentGuest) -> list[str]:
    return [each.decode(errors="replace") for each in guest.world.arguments]


@function("wasi:filesystem/preopens", "get-directories")
def _none_there(_guest: ComponentGuest) -> list[Any]:
    return []


@function("wasi:cli/environment", "initial-cwd")
@function("wasi:cli/terminal-stdin", "get-terminal-stdin")
@function("wasi:cli/terminal-stdout", "get-terminal-stdout")
@function("wasi:cli/terminal-stderr", "get-terminal-stderr")
def _not_there(_guest: ComponentGuest) -> None:
    return None


@function("wasi:cli/stdin", "get-stdin")
def _stdin(guest: ComponentGuest) -> Any:
    return guest.own("input-stream", Stdin())


@function("wasi:cli/stdout", "get-stdout")
def _stdout(guest: ComponentGuest) -> Any:
    return guest.own("output-stream", Console(STDOUT))


@function("wasi:cli/stderr", "get-stderr")
def _stderr(guest: ComponentGuest) -> Any:
    return guest.own("output-stream", Console(STDERR))


@function("wasi:cli/exit", "exit")
def _exit(guest: ComponentGuest, status: dict[str, None]) -> None:
    guest.exit_code = int("err" in status)
    raise GuestFault("exited")


@function("wasi:cli/exit", "exit-with-code")
def _exit_with_code(guest: ComponentGuest, code: int) -> None:
    guest.exit_code = code
    raise GuestFault("exited")


@function("wasi:filesystem/types", "filesystem-error-code")
def _no_code(_guest: ComponentGuest, _error: int) -> None:
    return None


@function("wasi:sockets/instance-network", "instance-network")
def _network(guest: ComponentGuest) -> Any:
    return guest.own("network", Network())


@function("wasi:sockets/tcp-create-socket", "create-tcp-socket")
@function("wasi:sockets/udp-create-socket", "create-udp-socket")
def _denied(_guest: ComponentGuest, _family: str) -> Any:
    return err("access-denied")


@function("wasi:sockets/ip-name-lookup", "resolve-addresses")
def _not_resolved(_guest: ComponentGuest, _network: int, _name: str) -> Any:
    return err("access-denied")
