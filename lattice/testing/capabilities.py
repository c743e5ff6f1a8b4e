"""What stands where an actor's link leads: it records every call, and answers or passes it on.

What answers is a function of the test, or a real provider behind it; what a test wants to go wrong
goes wrong before either hears of it.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from lattice import errors
from lattice.wire import codec
from lattice.wire.invocation import Invocation, Reply

Function = Callable[..., Any]
"""Answers one operation; may be a coroutine function."""

Forward = Callable[[Invocation], Awaitable[Reply]]
"""Has whatever stands behind a capability answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One call of an actor over one of its links."""

    source: str
    interface: str
    """As the actor called it, down to the package at least."""
    operation: str
    payload: bytes
    link_name: str

    @property
    def value(self) -> Any:
        """The payload, decoded from msgpack: the arguments of a component's call are a list.

        Raises:
            InvalidRequest: it is no msgpack.
        """
        return codec.unpack_payload(self.payload)


@dataclass(slots=True, kw_only=True, eq=False)
class Disturbance:
    """What goes wrong with calls, from when it is made until it is lifted or used up.

    As a context manager it is lifted at the end of its block.
    """

    error: errors.LatticeError | None
    """None where calls are only late."""
    operation: str | None
    """The one operation that is meant; None for all."""
    delay_s: float
    left: int | None
    """How many more calls; None for all."""
    hits: int = 0
    """Calls that it has met so far."""

    def lift(self) -> None:
        """Let calls through again."""
        self.left = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.lift()

    def meets(self, operation: str) -> bool:
        """Whether a call of an operation is met, which counts as one of them."""
        if self.left == 0 or self.operation not in (None, operation):
            return False
        if self.left is not None:
            self.left -= 1
        self.hits += 1
        return True


@dataclass(slots=True, kw_only=True, eq=False)
class Capability:
    """One end of links: whoever answers for an interface."""

    id: str
    """Who it is to those that call it."""
    interface: str
    """Namespace and package."""
    link_name: str
    forward: Forward | None = None
    """None where nothing stands behind it."""
    calls: list[Recorded] = field(default_factory=list)
    """Every call so far, those that a disturbance met among them."""
    _functions: dict[str, tuple[Function, bool]] = field(default_factory=dict)
    _disturbances: list[Disturbance] = field(default_factory=list)

    def operations(self) -> list[str]:
        """What was called so far, in order."""
        return [call.operation for call in self.calls]

    def answer(self, functions: Mapping[str, Function], *, raw: bool = False) -> None:
        """Have functions answer operations; ``raw`` ones get and give payloads as they are.

        An operation is named in full, or by what stands behind its last dot.
        """
        self._functions |= {name: (function, raw) for name, function in functions.items()}

    def disturb(self, disturbance: Disturbance) -> Disturbance:
        self._disturbances.append(disturbance)
        return disturbance

    def accept(self, invocation: Invocation) -> Awaitable[Reply]:
        """Record a call, and have it answered; called by the runtime."""
        self.calls.append(
            Recorded(
                source=invocation.source,
                interface=invocation.interface,
                operation=invocation.operation,
                payload=invocation.payload,
                link_name=invocation.link_name,
            )
        )
        return self._answer(invocation)

    async def _answer(self, invocation: Invocation) -> Reply:
        for disturbance in self._disturbances:
            if disturbance.meets(invocation.operation):
                await self._wait(disturbance.delay_s, invocation)
                if (error := disturbance.error) is not None:
                    raise error.copy()
        operation = invocation.operation
        found = self._functions.get(operation) or self._functions.get(operation.rpartition(".")[2])
        if found is not None:
            return Reply(await _called(*found, operation, invocation.payload))
        if self.forward is None:
            known = ", ".join(sorted(self._functions)) or "nothing"
            raise errors.InvalidRequest(
                f"the test answers {known} of {self.interface}, not {operation}: add it with"
                f' lattice.fake("{self.interface}", {{"{operation}": …}})'
            )
        return await self.forward(invocation)

    async def _wait(self, delay_s: float, invocation: Invocation) -> None:
        try:
            async with asyncio.timeout_at(invocation.deadline):
                await asyncio.sleep(delay_s)
        except TimeoutError:
            raise errors.DeadlineExceeded(
                f"{self.interface} did not answer {invocation.operation} in time, as the test"
                " wanted it"
            ) from None


def failure(error: errors.LatticeError | type[errors.LatticeError] | str) -> errors.LatticeError:
    """The error that a test names: itself, its class, or its code.

    Raises:
        InvalidRequest: there is no such code.
    """
    if isinstance(error, errors.LatticeError):
        return error
    if isinstance(error, str):
        if error not in errors.BY_CODE:
            raise errors.InvalidRequest(
                f"there is no error code {error!r}; there are: {', '.join(sorted(errors.BY_CODE))}"
            )
        error = errors.BY_CODE[error]
    return error.from_parts("the test wanted it so")


async def _called(function: Function, raw: bool, operation: str, payload: bytes) -> bytes:
    arguments = (payload,) if raw else _arguments(payload)
    try:
        # A test's function may wait for the lattice, which must go on meanwhile.
        outcome = (
            function(*arguments)
            if inspect.iscoroutinefunction(function)
            else await asyncio.to_thread(function, *arguments)
        )
        if inspect.isawaitable(outcome):
            outcome = await outcome
    except errors.LatticeError:
        raise
    except Exception as error:
        raise errors.ProviderError(
            f"the test's function for {operation} raised {type(error).__name__}: {error}"
        ) from error
    if not raw:
        return codec.pack(outcome)
    if not isinstance(outcome, bytes):
        raise errors.ProviderError(
            f"the test's function for {operation} gave {type(outcome).__name__}, and raw ones give"
            " bytes"
        )
    return outcome


def _arguments(payload: bytes) -> tuple[Any, ...]:
    """The arguments in a payload: several in a list, one as it is, none in an empty one."""
    if not payload:
        return ()
    value = codec.unpack_payload(payload)
    return tuple(value) if isinstance(value, list) else (value,)
