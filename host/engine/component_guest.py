"""A component's side of one call: the host's resources it holds, and its host functions.

The rules of ``guest`` hold here too: a host function runs on the guest's stack and possibly in a
worker thread, so it only copies and returns. One that has to wait gives a ``Later``; the execution
waits for it on the event loop's thread once the guest is suspended.
"""

import asyncio
import ctypes
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from host.engine import component_ffi as ffi
from host.engine import wit
from host.engine.descriptors import NOTHING, World
from host.engine.ffi import STRLEN, Address, offset
from host.engine.guest import CallLimits, Guest, GuestFault, HostCalls, running
from host.engine.values import Signature
from lattice import errors, limits
from lattice.aio.tasks import TaskGroup
from lattice.wire.streams import Source

_COMPLETED = offset("completed")

Result = TypeVar("Result")


class RunInThread(Protocol):
    """Does what may block in a thread, while the guest is suspended."""

    def __call__(self, perform: Callable[[], Result], /) -> Awaitable[Result]: ...


@dataclass(frozen=True, slots=True)
class Later:
    """What a guest is suspended for."""

    begin: Callable[[HostCalls], bytes | Awaitable[Any]]
    """Starts it, on the event loop's thread."""
    finish: Callable[[Any], Any]
    """Makes the function's result of what came of it."""
    fail: Callable[[errors.LatticeError], Any] | None = None
    """Makes the function's result of an error; without it the error ends the call."""
    is_host_call: bool = False


def told(error: errors.LatticeError) -> str:
    """What guests read of an error where their interface has words for it."""
    return f"{error.code}: {error.text}"[: limits.ERROR_TEXT_CHARS]


class HostFunction(NamedTuple):
    """What is behind an import: takes the guest and the arguments, gives the result."""

    body: Callable[..., Any]
    suspends: bool
    """Whether it may give a ``Later`` instead."""


Body = Callable[..., Any]


def call_named(
    host: HostCalls,
    link_name: str,
    interface: str,
    operation: str,
    payload: bytes,
    *,
    otherwise: str,
) -> bytes | Awaitable[bytes]:
    """Call along the link that a resource is named after; where there is none, along another.

    Raises:
        LatticeError: as ``HostCalls.call``.
    """
    if link_name:
        with suppress(errors.NoLink):
            return host.call(link_name, interface, operation, payload)
    return host.call(otherwise, interface, operation, payload)


class Table:
    """Host functions, by interface without version, then by name."""

    def __init__(self) -> None:
        self.functions: dict[str, dict[str, HostFunction]] = {}

    def put(self, interface: str, *names: str, suspends: bool = False) -> Callable[[Body], Body]:
        """Put a function behind an import, or several of one interface; a decorator."""

        def put(body: Body) -> Body:
            table = self.functions.setdefault(interface, {})
            for name in names:
                table[name] = HostFunction(body, suspends)
            return body

        return put


class Lasting:
    """A resource that an instance may hold from one call to the next; others end with theirs."""

    __slots__ = ()


class Outflow(Source, Protocol):
    """An answer that flows while the guest goes on."""

    closed: Callable[[], None] | None
    """Called when its reader wants no more of what is not complete."""

    def fail(self, error: errors.LatticeError) -> None:
        """Break it off, unless it is complete: no more comes."""
        ...


class Abandonable:
    """A resource that something waits for beside the guest, and that hears when it is dropped."""

    __slots__ = ()

    def abandon(self) -> None:
        """The guest has dropped it; called on whatever thread that runs on."""

    def leave(self) -> None:
        """The call has ended, and the guest holds it still; called on the event loop's thread."""


_numbers = itertools.count(1)
"""Of resources. One row for all calls: an instance that is kept for another has some already."""


class ComponentGuest(Guest):
    """State of one call as its guest, a component, sees it."""

    __slots__ = (
        "afterwards",
        "answer",
        "at_wait",
        "flowing",
        "link_names",
        "memory_bytes",
        "outflow",
        "resources",
        "signature",
        "source",
        "takes_stream",
        "tasks",
        "under_way",
        "work",
    )

    def __init__(
        self,
        operation: bytes,
        payload: bytes,
        limits: CallLimits,
        world: World = NOTHING,
        *,
        tasks: TaskGroup,
        work: RunInThread,
    ) -> None:
        """``tasks`` is where what it begins beside itself runs."""
        super().__init__(operation, payload, limits, world)
        self.memory_bytes = 0
        """What the instance started with, once it is there; what it has, once its call is over."""
        self.resources: dict[int, Any] = {}
        """What the guest holds of the host's, by number."""
        self.signature: Signature | None = None
        """Of the host function that it is suspended in."""
        self.answer: Any = None
        """What an HTTP handler has set for its response."""
        self.link_names: dict[str, str] = {}
        """Names of links that the guest has chosen, by interface without version."""
        self.source: Source | None = None
        """What of its payload is still to come."""
        self.takes_stream = False
        """Whether its caller takes an answer in pieces."""
        self.outflow: Outflow | None = None
        """What of its answer is still to come, once the answer was given."""
        self.afterwards: list[Callable[[], Coroutine[Any, Any, None]]] = []
        """What it left to be done: before it goes on with the same, or once its call has ended."""
        self.tasks = tasks
        self.work = work
        self.under_way: set[asyncio.Task[None]] = set()
        """What goes on beside it for its sake, and ends with its call."""
        self.at_wait: list[Callable[[], object]] = []
        """Called, once, when the guest waits for something; on the event loop's thread."""
        self.flowing: set[Source] = set()
        """What comes in from elsewhere for its sake, and is closed with its call."""

    def memory_size(self) -> int:
        """Bytes that the instance has at least; ``gauge`` says when they are what it has."""
        return self.memory_bytes

    def link_name(self, *interfaces: str) -> str:
        """The link that it has chosen for the first of some interfaces for which it has chosen
        one; empty for the default one.
        """
        return next(filter(None, map(self.link_names.get, interfaces)), "")

    def own(self, kind: str, resource: Any) -> wit.Own:
        """Hand a resource to the guest.

        Raises:
            GuestFault: it holds too many.
        """
        if len(self.resources) >= limits.RESOURCES_PER_CALL_MAX:
            raise GuestFault(f"it holds {len(self.resources)} resources of the host, the limit")
        number = next(_numbers) % 2**32
        self.resources[number] = resource
        return wit.Own(number, RESOURCES[kind])

    def begin(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Begin something that goes on beside the guest, until its call ends."""
        task = self.tasks.spawn(work, name=name)
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)
        return task

    def lasting(self) -> dict[int, Any]:
        """What of its resources stays with an instance that is kept."""
        return {
            number: resource
            for number, resource in self.resources.items()
            if isinstance(resource, Lasting)
        }

    def take(self, number: int) -> Any:
        """Take back a resource that the guest passed on as its owner."""
        try:
            return self.resources.pop(number)
        except KeyError:
            raise GuestFault("it passed a resource that is gone") from None


RESOURCES = {
    name: number
    for number, name in enumerate(
        (
            *("error", "pollable", "input-stream", "output-stream"),
            *("terminal-input", "terminal-output", "descriptor", "directory-entry-stream"),
            *("network", "tcp-socket", "udp-socket", "incoming-datagram-stream"),
            *("outgoing-datagram-stream", "resolve-address-stream"),
            *("fields", "incoming-request", "outgoing-request", "request-options"),
            *("response-outparam", "incoming-response", "incoming-body", "future-trailers"),
            *("outgoing-response", "outgoing-body", "future-incoming-response"),
            *("bucket", "cas", "call-target-interface"),
            *("store", "client", "message", "secret"),
            *("container", "stream-object-names", "incoming-value", "outgoing-value"),
        ),
        start=1,
    )
}
"""The host's types of resources, and the numbers that the library knows them by."""


def callback(name: str, function: HostFunction, signature: Signature) -> Any:
    """Make the callback of a host function; ``name`` is what errors call it."""
    if function.suspends:
        return _suspending(name, function.body, signature)
    return _immediate(name, function.body, signature)


def _immediate(name: str, body: Callable[..., Any], signature: Signature) -> Any:
    lift, give = signature.lift_arguments, signature.give_result

    def call_back(
        _env: Address,
        context: Address,
        _type: Address,
        arguments: Address,
        _count: int,
        results: Address,
        _results_count: int,
    ) -> Address | None:
        guest = running.guest
        try:
            assert isinstance(guest, ComponentGuest)
            values = lift(context, wit.Budget(), arguments)
            give(context, wit.Budget(), results, body(guest, *values))
        except BaseException as error:
            return _failed(guest, name, error)
        return None

    return ffi.Callback(call_back)


def _suspending(name: str, body: Callable[..., Any], signature: Signature) -> Any:
    lift, give = signature.lift_arguments, signature.give_result

    def call_back(
        _env: Address,
        context: Address,
        _type: Address,
        arguments: Address,
        _count: int,
        results: Address,
        _results_count: int,
        error_out: Any,
        continuation: Any,
    ) -> None:
        guest = running.guest
        # First of all: a continuation left empty aborts the process.
        cell = guest.base + _COMPLETED
        ends = continuation[0]
        ends.callback = STRLEN
        ends.env = cell
        ends.finalizer = None
        completed = 1
        try:
            assert isinstance(guest, ComponentGuest)
            values = lift(context, wit.Budget(), arguments)
            result = body(guest, *values)
            if isinstance(result, Later):
                guest.request = result
                guest.signature = signature
                guest.slot.results = results
                completed = 0
            else:
                give(context, wit.Budget(), results, result)
        except BaseException as error:
            error_out[0] = _failed(guest, name, error)
        ctypes.c_uint64.from_address(cell).value = completed

    return ffi.AsyncCallback(call_back)


def _failed(guest: Guest, name: str, error: BaseException) -> Address:
    """Note why a host function did not return, and make the library's error of it."""
    if isinstance(error, GuestFault):
        guest.fault = f"{name}: {error}"
    elif isinstance(error, errors.LatticeError):
        guest.fault = f"{name}: {error.text}"
    else:
        # Nothing may escape into the library; the execution raises it once the guest is gone.
        guest.failure = error
    return ffi.error_new(b"the host function failed")


def absent(what: str) -> Any:
    """Make the callback of a function that is not there: calling it traps; ``what`` says why."""

    def call_back(*_arguments: Any) -> Address:
        running.guest.fault = f"it called {what}"
        return ffi.error_new(b"there is no such function")

    return ffi.Callback(call_back)


def _drop(_env: Address, _context: Address, number: int) -> None:
    guest = running.guest
    if isinstance(guest, ComponentGuest):
        resource = guest.resources.pop(number, None)
        if isinstance(resource, Abandonable):
            resource.abandon()


DROP = ffi.Destructor(_drop)
"""Called when a guest drops a resource that it owns."""
