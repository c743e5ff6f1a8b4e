"""A test's own look into the key-value store that an actor uses."""

from collections.abc import Awaitable, Callable
from typing import Any

from lattice.testing.background import Background, Pending
from lattice.wire import codec

Call = Callable[[str, bytes], Awaitable[bytes]]
"""Calls an operation of ``wasmcloud:keyvalue``."""


class KeyValue:
    """The same store, by the same operations; nothing of it is recorded."""

    def __init__(self, background: Background, call: Call) -> None:
        self._background = background
        self._call = call

    def get(self, key: str) -> Pending[str | None]:
        """A text; None where there is none."""

        async def get() -> str | None:
            found = await self._ask("KeyValue.Get", key)
            return str(found["value"]) if found["exists"] else None

        return self._background.run(get())

    def set(self, key: str, value: str, *, expires_s: int = 0) -> Pending[None]:
        """Put a text, for ever unless it expires."""

        async def put() -> None:
            await self._ask("KeyValue.Set", {"key": key, "value": value, "expires": expires_s})

        return self._background.run(put())

    def delete(self, key: str) -> Pending[bool]:
        """Delete whatever is there; whether there was something."""
        return self._background.run(self._ask("KeyValue.Del", key))

    def contains(self, key: str) -> Pending[bool]:
        return self._background.run(self._ask("KeyValue.Contains", key))

    def items(self, key: str) -> Pending[list[str]]:
        """A list's items, in order."""
        whole = {"listName": key, "start": 0, "stop": -1}
        return self._background.run(self._ask("KeyValue.ListRange", whole))

    def members(self, key: str) -> Pending[list[str]]:
        """A set's members, sorted."""
        return self._background.run(self._ask("KeyValue.SetQuery", key))

    async def _ask(self, operation: str, request: object) -> Any:
        answer = await self._call(operation, codec.pack(request))
        return codec.unpack(answer) if answer else None
