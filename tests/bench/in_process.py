"""Actors without a host around them: the path of a call from admission to metering, and no wire."""

import asyncio
from collections.abc import Awaitable, Callable

from host.actors.actor import Actor
from host.actors.slots import Slots
from host.engine import CallLimits, Engine, HostCalls
from lattice.wire.invocation import Invocation, Reply
from tests.support.host_calls import NoExchange

MEMORY_BYTES = 16 * 2**20
DEADLINE_S = 60.0


class Surroundings(NoExchange):
    """What a guest may reach: nothing, or what ``answer`` says."""

    def __init__(self, answer: Callable[[bytes], bytes | Awaitable[bytes]] = bytes) -> None:
        self._answer = answer

    def call(
        self, _binding: str, _namespace: str, _operation: str, payload: bytes
    ) -> bytes | Awaitable[bytes]:
        return self._answer(payload)

    def check_link(self, _binding: str, _namespace: str) -> None: ...

    def log(self, level: str, text: str) -> None: ...


async def start(
    engine: Engine,
    name: str,
    content: bytes,
    *,
    surroundings: HostCalls | None = None,
    cpu_time_s: float = 5.0,
    slots: Slots | None = None,
) -> Actor:
    """Load a module, and have an actor serve it."""
    reachable = surroundings or Surroundings()
    return Actor(
        name,
        await engine.load(content),
        count=engine.instances_max,
        slots=slots or Slots(engine.instances_max),
        surroundings=lambda _invocation: reachable,
        call_limits=CallLimits(memory_bytes=MEMORY_BYTES, cpu_time_s=cpu_time_s),
    )


def invocation(target: str, payload: bytes) -> Invocation:
    return Invocation(
        source="bench",
        target=target,
        interface="bench:echo",
        operation="Echo.Say",
        payload=payload,
        deadline=asyncio.get_running_loop().time() + DEADLINE_S,
    )


async def call(actor: Actor, payload: bytes) -> Reply:
    outcome = actor.accept(invocation(actor.id, payload))
    return outcome if isinstance(outcome, Reply) else await outcome
