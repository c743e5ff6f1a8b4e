"""WASI 0.2 in Python, asynchronous: io, clocks, random, cli; and no sockets.

None of it is wasmtime's own, whose streams and pollables can't be mixed with ours, and whose sleep
holds the thread. So a guest that polls or blocks is suspended like one that makes a host call, and
holds nothing but its memory.

Where a guest could ask for any amount (random bytes, a read of a stream), it gets what is at hand
up to ``CHUNK_BYTES``, as WASI allows; where it must have all, it traps.
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, TypeVar

from host.engine import wasi
from host.engine.component_guest import ComponentGuest, Lasting, Later, Table
from host.engine.descriptors import STDERR, STDOUT
from host.engine.guest import GuestFault
from lattice import errors, limits

CHUNK_BYTES = 64 * limits.KIB
"""Bytes that a stream takes or gives at a time: each crosses as a value of 32 bytes."""

BLOCKING_WRITE_BYTES = 4096
"""What the writes that block take at a time, as WASI says."""

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
    """Bytes that a guest reads: those that are there already; subclasses may bring more."""

    __slots__ = ("_held",)

    def __init__(self, content: bytes = b"") -> None:
        # One attribute: what is put there on the loop's thread is seen as a whole on a guest's.
        self._held = (content, 0)

    @property
    def arrival(self) -> Condition | None:
        """What a guest waits for while it is not readable; None where it always is."""
        return None

    @property
    def is_held(self) -> bool:
        """Whether bytes are there."""
        content, position = self._held
        return position < len(content)

    @property
    def is_readable(self) -> bool:
        """Whether reading gives bytes, the end, or an error."""
        return True

    @property
    def is_at_end(self) -> bool:
        return not self.is_held

    def begin_fetch(self) -> None:
        """Have more brought, if there is more and it has to be asked for; safe to call again."""

    def put(self, content: bytes) -> None:
        """Have this read next, in the place of what is there."""
        self._held = (content, 0)

    def read(self, size: int) -> bytes:
        content, start = self._held
        if start == len(content):
            # Nothing is taken, and what may be put there just now is not lost.
            return b""
        end = min(start + min(size, CHUNK_BYTES), len(content))
        self._held = (content, end)
        return content[start:end]

    @property
    def failure(self) -> errors.LatticeError | None:
        """What it broke with."""
        return None


class Arrival(Condition):
    """A stream can be read on, be it bytes, its end, or an error."""

    __slots__ = ("_stream",)

    def __init__(self, stream: InputStream) -> None:
        super().__init__()
        self._stream = stream

    def is_true(self) -> bool:
        return self._stream.is_readable

    def prepare(self) -> None:
        self._stream.begin_fetch()


class Stdin(InputStream, Lasting):
    """Standard input: it is at its end."""

    __slots__ = ()


class BlockingInput(InputStream):
    """A stream that is read while the guest is suspended, as far as it asks for."""

    __slots__ = ()

    async def fetch(self, guest: ComponentGuest, size: int) -> Any:
        """Read, on the event loop's thread; gives what ``read`` does."""
        raise NotImplementedError


class StreamError:
    """Why a stream broke, for a guest to ask."""

    __slots__ = ("cause", "file_code", "http_code", "text")

    def __init__(
        self,
        text: str,
        *,
        cause: errors.LatticeError | None = None,
        file_code: str | None = None,
        http_code: dict[str, Any] | None = None,
    ) -> None:
        self.text = text
        self.cause = cause
        self.file_code = file_code
        """What ``wasi:filesystem`` calls it, if it is about a file."""
        self.http_code = http_code
        """What ``wasi:http`` calls it, if it is about a body."""


class OutputStream:
    """Where a guest writes to; subclasses say what becomes of it."""

    __slots__ = ()

    @property
    def vacancy(self) -> Condition | None:
        """What a guest waits for while there is no room; None where there always is."""
        return None

    def room(self) -> int | None:
        """How much it would take now; ``None`` when it is closed.

        Where it is not 0, it is ``BLOCKING_WRITE_BYTES`` at least.
        """
        return CHUNK_BYTES

    def write(self, guest: ComponentGuest, content: bytes) -> StreamError | None:  # noqa: ARG002
        """Take bytes, no more than there was room for; gives what is wrong with them."""
        return None


class BlockingOutput(OutputStream):
    """A stream that is written to while the guest is suspended."""

    __slots__ = ()

    async def store(self, guest: ComponentGuest, content: bytes) -> Any:
        """Write, on the event loop's thread; gives what ``write`` does."""
        raise NotImplementedError


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
    return get(guest, number, StreamError).text


STREAMS = "wasi:io/streams"
_INPUT, _OUTPUT = "[method]input-stream.", "[method]output-stream."


@function(STREAMS, f"{_INPUT}read", suspends=True)
def _read(guest: ComponentGuest, stream: int, size: int) -> Any:
    return _take(guest, get(guest, stream, InputStream), size, waits=False)


@function(STREAMS, f"{_INPUT}blocking-read", suspends=True)
def _blocking_read(guest: ComponentGuest, stream: int, size: int) -> Any:
    return _take(guest, get(guest, stream, InputStream), size, waits=True)


@function(STREAMS, f"{_INPUT}skip", suspends=True)
def _skip(guest: ComponentGuest, stream: int, size: int) -> Any:
    return _take(guest, get(guest, stream, InputStream), size, waits=False, made=_counted)


@function(STREAMS, f"{_INPUT}blocking-skip", suspends=True)
def _blocking_skip(guest: ComponentGuest, stream: int, size: int) -> Any:
    return _take(guest, get(guest, stream, InputStream), size, waits=True, made=_counted)


def _take(
    guest: ComponentGuest,
    source: InputStream,
    size: int,
    *,
    waits: bool,
    made: Callable[[Any], Any] = lambda pieces: pieces,
) -> Any:
    """Give what is there, and where nothing is, have more come or wait for it."""
    if isinstance(source, BlockingInput):
        return Later(lambda _host: source.fetch(guest, size), made)
    arrival = source.arrival
    if source.is_readable or arrival is None:
        return made(_pieces(guest, source, size))
    return Later(
        lambda _host: until_true(arrival) if waits else _prepared(arrival),
        lambda _done: made(_pieces(guest, source, size)),
    )


def _pieces(guest: ComponentGuest, source: InputStream, size: int) -> Any:
    if source.is_held:
        return ok(source.read(size))
    if source.is_at_end:
        return CLOSED
    if (cause := source.failure) is not None:
        error = StreamError(f"{cause.code}: {cause.text}", cause=cause)
        return err({"last-operation-failed": guest.own("error", error)})
    return ok(b"")


def _counted(pieces: Any) -> Any:
    return ok(len(pieces["ok"])) if "ok" in pieces else pieces


@function(STREAMS, f"{_INPUT}subscribe")
def _subscribe_input(guest: ComponentGuest, stream: int) -> Any:
    return guest.own("pollable", _pollable(get(guest, stream, InputStream).arrival))


@function(STREAMS, f"{_OUTPUT}subscribe")
def _subscribe_output(guest: ComponentGuest, stream: int) -> Any:
    return guest.own("pollable", _pollable(get(guest, stream, OutputStream).vacancy))


def _pollable(condition: Condition | None) -> Pollable:
    return Timer() if condition is None else Readiness(condition)


@function(STREAMS, f"{_OUTPUT}check-write")
def _check_write(guest: ComponentGuest, stream: int) -> Any:
    room = get(guest, stream, OutputStream).room()
    return CLOSED if room is None else ok(room)


@function(STREAMS, f"{_OUTPUT}write", suspends=True)
def _write(guest: ComponentGuest, stream: int, content: bytes) -> Any:
    return _put(guest, get(guest, stream, OutputStream), content)


@function(STREAMS, f"{_OUTPUT}blocking-write-and-flush", suspends=True)
def _blocking_write(guest: ComponentGuest, stream: int, content: bytes) -> Any:
    if len(content) > BLOCKING_WRITE_BYTES:
        raise _too_much(len(content), BLOCKING_WRITE_BYTES)
    sink = get(guest, stream, OutputStream)
    return _when_vacant(sink, lambda: _put(guest, sink, content))


@function(STREAMS, f"{_OUTPUT}write-zeroes", suspends=True)
def _write_zeroes(guest: ComponentGuest, stream: int, size: int) -> Any:
    if size > CHUNK_BYTES:
        raise _too_much(size, CHUNK_BYTES)
    return _put(guest, get(guest, stream, OutputStream), bytes(size))


@function(STREAMS, f"{_OUTPUT}blocking-write-zeroes-and-flush", suspends=True)
def _blocking_write_zeroes(guest: ComponentGuest, stream: int, size: int) -> Any:
    if size > BLOCKING_WRITE_BYTES:
        raise _too_much(size, BLOCKING_WRITE_BYTES)
    sink = get(guest, stream, OutputStream)
    return _when_vacant(sink, lambda: _put(guest, sink, bytes(size)))


def _when_vacant(sink: OutputStream, give: Callable[[], Any]) -> Any:
    vacancy = sink.vacancy
    if sink.room() != 0 or vacancy is None:
        return give()
    return Later(lambda _host: until_true(vacancy), lambda _done: give())


def _put(guest: ComponentGuest, sink: OutputStream, content: bytes) -> Any:
    if (room := sink.room()) is None:
        return CLOSED
    if len(content) > room:
        raise _too_much(len(content), room)
    if isinstance(sink, BlockingOutput):
        return Later(lambda _host: sink.store(guest, content), lambda result: result)
    return _written(guest, sink, content) or ok()


def _written(guest: ComponentGuest, sink: OutputStream, content: bytes) -> Any:
    """Write; gives the error, if there is one."""
    if (error := sink.write(guest, content)) is None:
        return None
    return err({"last-operation-failed": guest.own("error", error)})


def _too_much(size: int, room: int) -> GuestFault:
    return GuestFault(f"it writes {size} bytes, more than the {room} allowed")


@function(STREAMS, f"{_OUTPUT}flush", f"{_OUTPUT}blocking-flush")
def _flush(guest: ComponentGuest, stream: int) -> Any:
    # What was written is on its way by itself.
    return CLOSED if get(guest, stream, OutputStream).room() is None else ok()


@function(STREAMS, f"{_OUTPUT}splice", suspends=True)
def _splice(guest: ComponentGuest, stream: int, source: int, size: int) -> Any:
    sink, origin = get(guest, stream, OutputStream), get(guest, source, InputStream)
    if isinstance(sink, BlockingOutput) or isinstance(origin, BlockingInput):
        return _moved(guest, sink, origin, size)
    return _spliced(guest, sink, _pieces_for(guest, sink, origin, size))


@function(STREAMS, f"{_OUTPUT}blocking-splice", suspends=True)
def _blocking_splice(guest: ComponentGuest, stream: int, source: int, size: int) -> Any:
    sink, origin = get(guest, stream, OutputStream), get(guest, source, InputStream)
    if isinstance(sink, BlockingOutput) or isinstance(origin, BlockingInput):
        return _moved(guest, sink, origin, size, waits=True)
    if origin.is_readable and sink.room() != 0:
        return _spliced(guest, sink, _pieces_for(guest, sink, origin, size))
    return Later(
        lambda _host: _until_both(sink, origin),
        lambda _done: _spliced(guest, sink, _pieces_for(guest, sink, origin, size)),
    )


async def _until_both(sink: OutputStream, origin: InputStream) -> None:
    """Wait until the one can be read and the other written to."""
    if (arrival := origin.arrival) is not None:
        await until_true(arrival)
    if (vacancy := sink.vacancy) is not None:
        await until_true(vacancy)


def _moved(
    guest: ComponentGuest,
    sink: OutputStream,
    origin: InputStream,
    size: int,
    *,
    waits: bool = False,
) -> Later:
    """Splice where one of the two is worked on while the guest is suspended."""

    async def move() -> Any:
        if waits:
            await _until_both(sink, origin)
        if (room := sink.room()) is None:
            return CLOSED
        if isinstance(origin, BlockingInput):
            pieces = await origin.fetch(guest, min(size, room))
        else:
            pieces = _pieces(guest, origin, min(size, room))
        if isinstance(sink, BlockingOutput) and "ok" in pieces:
            written = await sink.store(guest, pieces["ok"])
            return pieces if "ok" in written else written
        return pieces

    def finish(pieces: Any) -> Any:
        if isinstance(sink, BlockingOutput):
            return _counted(pieces)
        return _spliced(guest, sink, pieces)

    return Later(lambda _host: move(), finish)


def _pieces_for(guest: ComponentGuest, sink: OutputStream, origin: InputStream, size: int) -> Any:
    room = sink.room()
    return CLOSED if room is None else _pieces(guest, origin, min(size, room))


def _spliced(guest: ComponentGuest, sink: OutputStream, pieces: Any) -> Any:
    failed = _written(guest, sink, pieces["ok"]) if "ok" in pieces else None
    return failed or _counted(pieces)


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


@function("wasi:sockets/instance-network", "instance-network")
def _network(guest: ComponentGuest) -> Any:
    return guest.own("network", Network())


class Socket(Lasting):
    """A socket that can be made and looked at, and leads nowhere."""

    __slots__ = ("family",)

    def __init__(self, family: str) -> None:
        self.family = family


@function("wasi:sockets/tcp-create-socket", "create-tcp-socket")
def _tcp_socket(guest: ComponentGuest, family: str) -> Any:
    return ok(guest.own("tcp-socket", Socket(family)))


@function("wasi:sockets/udp-create-socket", "create-udp-socket")
def _udp_socket(guest: ComponentGuest, family: str) -> Any:
    return ok(guest.own("udp-socket", Socket(family)))


TCP, UDP = "wasi:sockets/tcp", "wasi:sockets/udp"
_TCP_METHOD, _UDP_METHOD = "[method]tcp-socket.", "[method]udp-socket."


@function(TCP, f"{_TCP_METHOD}start-bind", f"{_TCP_METHOD}start-connect")
@function(UDP, f"{_UDP_METHOD}start-bind", f"{_UDP_METHOD}stream")
def _denied(_guest: ComponentGuest, *_what: Any) -> Any:
    return err("access-denied")


@function(
    TCP,
    *(
        f"{_TCP_METHOD}{each}"
        for each in (
            *("finish-bind", "finish-connect", "start-listen", "finish-listen", "accept"),
            *("local-address", "remote-address", "shutdown"),
        )
    ),
)
@function(
    UDP, *(f"{_UDP_METHOD}{each}" for each in ("finish-bind", "local-address", "remote-address"))
)
def _never_began(_guest: ComponentGuest, *_what: Any) -> Any:
    return err("invalid-state")


_TCP_SETTINGS = (
    *("keep-alive-enabled", "keep-alive-idle-time", "keep-alive-interval", "keep-alive-count"),
    *("hop-limit", "receive-buffer-size", "send-buffer-size"),
)
_UDP_SETTINGS = ("unicast-hop-limit", "receive-buffer-size", "send-buffer-size")


@function(TCP, *(f"{_TCP_METHOD}{each}" for each in _TCP_SETTINGS))
@function(TCP, *(f"{_TCP_METHOD}set-{each}" for each in (*_TCP_SETTINGS, "listen-backlog-size")))
@function(UDP, *(f"{_UDP_METHOD}{each}" for each in _UDP_SETTINGS))
@function(UDP, *(f"{_UDP_METHOD}set-{each}" for each in _UDP_SETTINGS))
def _no_setting(_guest: ComponentGuest, *_what: Any) -> Any:
    return err("not-supported")


@function(TCP, f"{_TCP_METHOD}is-listening")
def _listens(_guest: ComponentGuest, _socket: int) -> bool:
    return False


@function(TCP, f"{_TCP_METHOD}address-family")
@function(UDP, f"{_UDP_METHOD}address-family")
def _family(guest: ComponentGuest, socket: int) -> str:
    return get(guest, socket, Socket).family


@function(TCP, f"{_TCP_METHOD}subscribe")
@function(UDP, f"{_UDP_METHOD}subscribe")
def _subscribe_socket(guest: ComponentGuest, _socket: int) -> Any:
    return guest.own("pollable", Timer())


@function("wasi:sockets/ip-name-lookup", "resolve-addresses")
def _not_resolved(_guest: ComponentGuest, _network: int, _name: str) -> Any:
    return err("permanent-resolver-failure")
