"""A host for guests under test: it answers as the test says and remembers what it was asked."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

from host.engine import NOTHING, CallLimits, Code, Execution, Instances, World, execution_of
from lattice import errors
from lattice.wire.invocation import Reply
from lattice.wire.streams import Source

Request = tuple[str, str, str, bytes]
Answer = Callable[[Request], bytes | Awaitable[bytes]]

PATIENCE_S = 30.0
"""Deadline of calls whose deadline is not what is tested; also of ``until``."""


def now_s() -> float:
    return asyncio.get_running_loop().time()


class NoExchange:
    """The part of ``HostCalls`` that nobody here asks for."""

    async def exchange(
        self, binding: str, namespace: str, operation: str, payload: bytes, stream: Source | None
    ) -> Reply:
        raise NotImplementedError


class Host:
    """Implements ``HostCalls``; without an answer it echoes the payload at once."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.requests: list[Request] = []
        self.lines: list[tuple[str, str]] = []
        self.streams: list[Source | None] = []
        """What of the payloads of exchanges was still to come."""
        self.answer_stream: Source | None = None
        """What of their answers is."""
        self._answer = answer
        self.links: set[tuple[str, str]] = set()
        """Names and interfaces of those that there are."""

    def call(
        self, binding: str, namespace: str, operation: str, payload: bytes
    ) -> bytes | Awaitable[bytes]:
        request = (binding, namespace, operation, payload)
        self.requests.append(request)
        return payload if self._answer is None else self._answer(request)

    async def exchange(
        self, binding: str, namespace: str, operation: str, payload: bytes, stream: Source | None
    ) -> Reply:
        """Answers as ``call``; the stream, and what the answer has of one, are as the test says."""
        self.streams.append(stream)
        answer = self.call(binding, namespace, operation, payload)
        return Reply(
            await answer if inspect.isawaitable(answer) else answer, stream=self.answer_stream
        )

    def check_link(self, binding: str, namespace: str) -> None:
        if (binding, namespace) not in self.links:
            raise errors.NoLink("guest", binding, namespace)

    def log(self, level: str, text: str) -> None:
        self.lines.append((level, text))


def execution(
    module: Code,
    payload: bytes = b"",
    *,
    operation: str = "Test.Run",
    interface: str = "",
    host: Host | None = None,
    limits: CallLimits | None = None,
    timeout_s: float = PATIENCE_S,
    world: World = NOTHING,
    instances: Instances | None = None,
) -> Execution:
    """Prepare a call; only what matters to the test need be said."""
    return execution_of(module)(
        module,
        host or Host(),
        operation=operation,
        interface=interface,
        payload=payload,
        limits=limits or CallLimits(),
        world=world,
        deadline=now_s() + timeout_s,
        instances=instances,
    )


async def run(call: Execution) -> bytes:
    """Run a call to its end."""
    return call.result() if call.start() else await call.finish()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something has happened."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0.001)
