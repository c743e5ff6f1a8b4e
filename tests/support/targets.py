"""Call targets as small as a test needs them."""

import asyncio
from collections.abc import Awaitable, Callable

from lattice.wire.invocation import Invocation, Reply


class Echo:
    """Answers with the payload it was sent, at once."""

    def __init__(self) -> None:
        self.calls: list[Invocation] = []

    def accept(self, invocation: Invocation) -> Reply:
        self.calls.append(invocation)
        return Reply(invocation.payload)


class Answering:
    """Answers with whatever ``handler`` returns or raises, after a wait."""

    def __init__(self, handler: Callable[[Invocation], Awaitable[Reply]]) -> None:
        self._handler = handler
        self.calls: list[Invocation] = []

    def accept(self, invocation: Invocation) -> Awaitable[Reply]:
        self.calls.append(invocation)
        return self._handler(invocation)


class Refusing:
    """Raises the same error for every call, before anything is executed."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.calls: list[Invocation] = []

    def accept(self, invocation: Invocation) -> Reply:
        self.calls.append(invocation)
        raise self._error


class Held:
    """Answers when it is released; notices when its caller goes away."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.started = asyncio.Event()
        self.abandoned = asyncio.Event()
        self.answered = 0

    async def accept(self, invocation: Invocation) -> Reply:
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.abandoned.set()
            raise
        self.answered += 1
        return Reply(invocation.payload)
