"""What a provider is given that runs on its own: a name, and an actor that the test plays."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from lattice import errors, limits
from lattice.bus import Bus
from lattice.wire import codec
from lattice.wire.invocation import Reply, Usage
from lattice.wire.streams import Source
from providers.sdk import Call

HOST_ID = "N" + "A" * 55


@dataclass(slots=True)
class Received:
    """One call that the actor got."""

    target: str
    interface: str
    operation: str
    payload: bytes
    timeout_s: float
    link_name: str
    key: str | None
    trace: str | None

    @property
    def content(self) -> Any:
        """The payload, decoded."""
        return codec.unpack(self.payload)


Answer = Callable[[Received], Awaitable[bytes]]


async def nobody(received: Received) -> bytes:
    raise NotImplementedError(f"no actor is there to do {received.operation}")


@dataclass
class FakeContext:
    """A provider's, whose actors all answer as the test says; a bus only where a test has one."""

    provider_id: str
    wire: Bus | None = None
    answer: Answer = nobody
    usage: Usage | None = None
    host_id: str = HOST_ID
    lattice: str = "default"
    calls: list[Received] = field(default_factory=list)
    """Those that have begun."""
    running: int = 0
    cancelled: int = 0

    @property
    def bus(self) -> Bus:
        assert self.wire is not None, "this test has no NATS"
        return self.wire

    async def call(self, *arguments: Any, **options: Any) -> bytes:
        return (await self.call_for_reply(*arguments, **options)).payload

    async def pass_on(self, call: Call, host_id: str) -> bytes:
        raise errors.NotRunning(f"there is no copy on {host_id}, for {call.operation}")

    async def call_for_reply(
        self,
        target: str,
        interface: str,
        operation: str,
        payload: bytes,
        *,
        timeout_s: float = limits.CALL_TIMEOUT_S,
        link_name: str = "default",
        key: str | None = None,
        trace: str | None = None,
        stream: Source | None = None,
        takes_stream: bool = False,
    ) -> Reply:
        assert stream is None
        assert not takes_stream, "a module's answer comes whole"
        received = Received(target, interface, operation, payload, timeout_s, link_name, key, trace)
        self.calls.append(received)
        self.running += 1
        try:
            async with asyncio.timeout(timeout_s):
                return Reply(await self.answer(received), self.usage)
        except TimeoutError:
            raise errors.DeadlineExceeded("the actor took too long", at=self.host_id) from None
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
