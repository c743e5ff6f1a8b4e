"""One instance's side of one call: what its host functions read and write.

Host functions run *on the guest's stack*, whose margin is small, and possibly in a worker thread.
So they only copy between this object and the guest's memory and return; whatever takes more (a
call along a link, writing a log line) is noted here, and done by the execution on its own stack
once the guest is suspended or has ended.

Pointers and lengths come from the guest, which may lie: each is checked against the memory's
current size, every time, in Python's unbounded integers. No address of the memory is kept: it
moves when the memory grows.
"""

import ctypes
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from host.engine import ffi
from host.engine.descriptors import NOTHING, Descriptors, World
from lattice import limits
from lattice.wire.invocation import Reply
from lattice.wire.streams import Source

Address = ffi.Address
Words = Any
"""A callback's arguments as ``ctypes`` hands them over: a pointer to 32-bit words."""


class HostCalls(Protocol):
    """What a guest may reach: implemented by the layer above, one object per call.

    Its methods are called on the event loop's thread, never on the guest's stack.
    """

    def call(
        self, binding: str, namespace: str, operation: str, payload: bytes
    ) -> bytes | Awaitable[bytes]:
        """Do what the guest asks of the lattice.

        With bytes the guest goes on at once; with an awaitable it stays suspended until that is
        done, and the awaitable is cancelled when the call ends before it does. A
        ``LatticeError``, raised or awaited, reaches the guest as its host error
        ``"{code}: {text}"`` and never as a trap.
        """

    async def exchange(
        self, binding: str, namespace: str, operation: str, payload: bytes, stream: Source | None
    ) -> Reply:
        """As ``call``, along a link, with what of the payload is still to come.

        The answer may have a stream as well, which is the caller's to read to its end or to close;
        ``stream`` may be read until then, and is the caller's to close thereafter.
        """
        ...

    def check_link(self, binding: str, namespace: str) -> None:
        """Look whether a call by this name over this interface would have a link to take.

        Raises:
            NoLink: it would not.
            InvalidRequest: the namespace is neither an interface nor an id.
        """

    def log(self, level: str, text: str) -> None:
        """Take one line the guest wrote, already cut to size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """What one call may use."""

    memory_bytes: int = limits.MEMORY_BYTES
    """Linear memory of the instance; the module's own minimum must fit in it."""
    cpu_time_s: float = limits.CPU_TIME_S
    """CPU time over all slices of the call; instantiation and start functions count."""
    request_bytes: int = limits.PAYLOAD_BYTES_MAX
    """Largest payload of one host call; a larger one is a host error, and is not copied."""
    response_bytes: int = limits.PAYLOAD_BYTES_MAX
    """Largest response; a larger one ends the call, and is not copied."""
    log_lines: int = limits.LOG_LINES_PER_CALL
    """Lines the call may log; the rest is dropped and counted."""


DEFAULT_LIMITS = CallLimits()


class Request(NamedTuple):
    """A host call the guest waits for."""

    binding: str
    namespace: str
    operation: str
    payload: bytes


class Done(NamedTuple):
    """What came of something that the guest waited for."""

    result: int
    """What its call gives."""
    pieces: Sequence[tuple[int, bytes]] = ()
    """What goes where in its memory, as was found to fit when it made the call."""


class Work(NamedTuple):
    """Something that may block, done in a thread while the guest is suspended."""

    perform: Callable[[], Done]


class GuestFault(Exception):
    """The guest broke the rules of its ABI: it traps, with this text as the reason."""


NOWHERE = ffi.Slot()
"""Stands for the slot of a call that has none yet, or no more."""


class Guest:
    """State of one call as its guest sees it."""

    __slots__ = (
        "base",
        "console",
        "descriptors",
        "error",
        "exit_code",
        "failure",
        "fault",
        "host_error",
        "host_response",
        "limits",
        "lines",
        "lines_left",
        "operation",
        "oversize",
        "payload",
        "request",
        "response",
        "slot",
        "world",
    )

    def __init__(
        self, operation: bytes, payload: bytes, limits: CallLimits, world: World = NOTHING
    ) -> None:
        self.operation = operation
        self.payload = payload
        self.limits = limits
        self.slot = NOWHERE
        """What is shared with the library while the call runs."""
        self.base: Address = 0
        """Its address."""
        self.response: bytes | None = None
        """A response that had no room in the slot."""
        self.oversize = 0
        """Size of a response that was over its limit."""
        self.error: str | None = None
        self.host_response = b""
        """Keeps alive what the slot refers to."""
        self.host_error: bytes | None = None
        self.request: Any = None
        """What the guest is suspended for: a host call (``Request``), work on files (``Work``) or
        seconds to sleep; a component's ``Later``."""
        self.exit_code: int | None = None
        self.fault = ""
        """Why a host function made the guest trap."""
        self.failure: BaseException | None = None
        """What went wrong in a host function of ours."""
        self.lines: list[tuple[str, str]] | None = None
        self.lines_left = limits.log_lines
        self.console: dict[int, bytearray] | None = None
        self.world = world
        """What it finds through WASI."""
        self.descriptors: Descriptors | None = None
        """Made when a function of WASI first needs them."""

    def read(self, caller: Address, function: str, pointer: int, length: int) -> bytes:
        """Copy a piece of the guest's memory.

        Raises:
            GuestFault: it does not lie within the memory.
        """
        return ctypes.string_at(self.at(caller, function, pointer, length), length)

    def write(self, caller: Address, function: str, *pieces: tuple[int, bytes]) -> None:
        """Copy pieces, each with the place it goes to, into the guest's memory: all or none.

        Raises:
            GuestFault: there is no room for one of them.
        """
        context, memory = self.slot.context, self._memory(caller)
        size = ffi.memory_size(context, memory)
        for pointer, content in pieces:
            if pointer + len(content) > size:
                raise _outside(function, pointer, len(content), size)
        data = ffi.memory_data(context, memory)
        for pointer, content in pieces:
            ctypes.memmove(data + pointer, content, len(content))

    def at(self, caller: Address, function: str, pointer: int, length: int) -> Address:
        """Give the address of a piece of memory, valid until the guest runs again."""
        context, memory = self.slot.context, self._memory(caller)
        size = ffi.memory_size(context, memory)
        if pointer + length > size:
            raise _outside(function, pointer, length, size)
        return ffi.memory_data(context, memory) + pointer

    def deliver(self, pieces: Sequence[tuple[int, bytes]]) -> None:
        """Write pieces that were found to fit into the memory before the guest was suspended."""
        data = ffi.memory_data(self.slot.context, self.base + MEMORY)
        for pointer, content in pieces:
            ctypes.memmove(data + pointer, content, len(content))

    def open_descriptors(self) -> Descriptors:
        """What it has open, made when it is first asked for."""
        if self.descriptors is None:
            self.descriptors = Descriptors(self.world)
        return self.descriptors

    def memory_size(self) -> int:
        """Bytes of its memory now; 0 while the instance is being made."""
        slot = self.slot
        return ffi.memory_size(slot.context, self.base + MEMORY) if slot.phase else 0

    def pieces(self) -> list[bytes]:
        """Copy what the guest's host call names: binding, namespace, operation, payload.

        That they lie within the memory was seen when it was called; it is suspended since.
        """
        data = ffi.memory_data(self.slot.context, self.base + MEMORY)
        places = self.slot.request[:]
        return [
            ctypes.string_at(data + places[index], places[index + 1]) for index in range(0, 8, 2)
        ]

    def take_response(self) -> None:
        """Copy the response out of the slot."""
        self.response = ctypes.string_at(self.slot.response, self.slot.response_bytes)

    def give_response(self, response: bytes) -> None:
        """Put the answer to its host call where the guest can take it."""
        slot = self.slot
        self.host_response = slot.host_response = response
        slot.host_response_bytes = len(response)
        slot.host_responded = 1

    def log(self, level: str, text: str) -> None:
        """Keep a line for the host, cut to size; past the limit it is only counted."""
        self.lines_left -= 1
        if self.lines_left < 0:
            return
        if len(text) > limits.LOG_LINE_CHARS:
            cut = len(text) - limits.LOG_LINE_CHARS
            text = f"{text[: limits.LOG_LINE_CHARS]} [{cut} more characters]"
        if self.lines is None:
            self.lines = []
        self.lines.append((level, text))

    def _memory(self, caller: Address) -> Address:
        if self.slot.phase == 0:
            # A start section runs inside instantiation, before the exports can be asked for.
            found = ffi.caller_export_get(caller, b"memory", 6, self.base + MEMORY_ITEM)
            if not found:
                raise GuestFault("the module exports no memory")
        return self.base + MEMORY


def _outside(function: str, pointer: int, length: int, size: int) -> GuestFault:
    return GuestFault(
        f"{function}: {length} bytes at {pointer} lie outside the memory of {size} bytes"
    )


MEMORY_ITEM = ffi.offset("memory_kind")
MEMORY = ffi.offset("memory")
_COMPLETED = ffi.offset("completed")


class _Running(threading.local):
    guest: Guest


running = _Running()
"""The guest this thread polls: how a callback finds its call. Set before every poll; a value of
the store would cost one more call into the library in every callback."""


IDLE = Guest(b"", b"", DEFAULT_LIMITS)
"""Stands in ``running`` when nothing runs, so that a thread does not keep a guest's payloads."""


HostFunction = Callable[[Guest, Address, Words], int | None]
"""Takes the guest, the library's caller and the arguments; its result is the guest's."""


def immediate(function: HostFunction) -> Any:
    """Make the callback of a host function that answers at once."""

    def callback(_env: Address, caller: Address, words: Words, _count: int) -> Address | None:
        guest = running.guest
        try:
            result = function(guest, caller, words)
            if result is not None:
                words[0] = result
        except GuestFault as fault:
            guest.fault = str(fault)
            return ffi.trap_new(guest.fault)
        except BaseException as error:
            # Nothing may escape into the library; the execution raises it once the guest is gone.
            guest.failure = error
            return ffi.trap_new("the host function failed")
        return None

    return ffi.UncheckedCallback(callback)


def suspending(function: HostFunction) -> Any:
    """Make the callback of a host function that may leave a request and suspend its guest.

    Without a request the result is the guest's at once.
    """

    def callback(
        _env: Address,
        caller: Address,
        words: Words,
        _count: int,
        results: Address,
        _results_count: int,
        trap: Any,
        continuation: Any,
    ) -> None:
        guest = running.guest
        # First of all: a continuation left empty aborts the process.
        cell = guest.base + _COMPLETED
        ends = continuation[0]
        ends.callback = ffi.STRLEN
        ends.env = cell
        ends.finalizer = None
        completed = 1
        try:
            result = function(guest, caller, words)
            if guest.request is not None:
                guest.slot.results = results
                completed = 0
            else:
                ctypes.memmove(results, bytes(8) + (result or 0).to_bytes(8, "little"), 16)
        except GuestFault as fault:
            guest.fault = str(fault)
            trap[0] = ffi.trap_new(guest.fault)
        except BaseException as error:
            guest.failure = error
            trap[0] = ffi.trap_new("the host function failed")
        ctypes.c_uint64.from_address(cell).value = completed

    return ffi.AsyncCallback(callback)


def resume(guest: Guest, result: int) -> None:
    """Give a suspended guest its result: the next poll runs it on."""
    guest.request = None
    ctypes.memmove(guest.slot.results, ffi.RESULTS[result], 16)
    guest.slot.completed = 1
