"""A host for guests under test: it answers as the test says and remembers what it was asked."""

import asyncio
from collections.abc import Awaitable, Callable

from host.engine import NOTHING, CallLimits, Code, Execution, Instances, World, execution_of

Request = tuple[str, str, str, bytes]
Answer = Callable[[Request], bytes | Awaitable[bytes]]

PATIENCE_S = 30.0
"""Deadline of calls whose deadline is not what is tested; also of ``until``."""


def now_s() -> float:
    return asyncio.get_running_loop().time()


class Host:
    """Implements ``HostCalls``; without an answer it echoes the payload at once."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.requests: list[Request] = []
        self.lines: list[tuple[str, str]] = []
        self._answer = answer

    def call(
        self, binding: str, namespace: str, operation: str, payload: bytes
    ) -> bytes | Awaitable[bytes]:
        request = (binding, namespace, operation, payload)
        self.requests.append(request)
        return payload if self._answer is None else self._answer(request)

    def log(self, level: str, text: str) -> None:
        self.lines.append((level, text))


def execution(
    module: Code,
    payload: bytes = b"",
    *,
    operation: str = "Test.Run",
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
