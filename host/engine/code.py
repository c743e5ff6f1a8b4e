"""What an actor is made of: a module or a component.

Its facts stay as long as anybody wants them; its native code, a thousand times larger, can be
evicted and loaded again (``Engine.reload``).
"""

import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from host.engine.engine import Engine


class NativeCode(Protocol):
    """Compiled code whose imports are resolved; whoever has it last deletes it."""

    @property
    def size(self) -> int:
        """Bytes in memory."""

    def delete(self) -> None:
        """Give it back to the library."""


class Code:
    """The facts about a module or a component, and its native code unless that was evicted.

    The library's objects are freed when the last reference goes; executions hold one.
    """

    __slots__ = (
        "__weakref__",
        "_free",
        "abi",
        "code_bytes",
        "command",
        "digest",
        "engine",
        "exports",
        "imports",
        "is_loaded",
        "last_used",
        "memory_bytes_min",
        "pins",
        "size",
    )

    def __init__(
        self,
        engine: "Engine",
        *,
        digest: str,
        size: int,
        imports: tuple[str, ...],
        exports: tuple[str, ...],
        abi: str,
        memory_bytes_min: int,
        command: bool = False,
    ) -> None:
        self.engine = engine
        self.digest = digest
        """SHA-256 of the bytes it was made from, in hex."""
        self.size = size
        """How many they are, before compilation."""
        self.imports = imports
        """What it imports: functions of a module, interfaces of a component."""
        self.exports = exports
        self.abi = abi
        """``wapc`` or ``wasmbus``, by which its host functions are imported, or ``component``."""
        self.memory_bytes_min = memory_bytes_min
        """Memory an instance starts with."""
        self.command = command
        """Whether it is a program that runs once, from its start to its exit."""
        self.last_used = 0
        """Count of the engine's polls when the last call began: what eviction goes by."""
        self.pins = 0
        """Calls that may begin at any moment: as long as there are any it is not evicted."""
        self.is_loaded = False
        """Whether it has its native code, so that calls can begin."""
        self.code_bytes = 0
        """Memory of that; 0 while it is evicted."""
        self._free: weakref.finalize[..., Code] | None = None

    @property
    def key(self) -> tuple[str, bool]:
        """By which an engine knows it."""
        return self.digest, self.command

    def attach(self, native: NativeCode) -> None:
        """Take over its native code. ``Engine`` alone does this, and ``detach``."""
        assert not self.is_loaded, "it has its code"
        self.is_loaded = True
        self.code_bytes = native.size
        self.engine.count_code(native.size)
        self._free = weakref.finalize(self, self.engine.free_code, native)
        self._free.atexit = False

    def detach(self) -> None:
        """Give up its native code; no execution may have begun that has not ended."""
        assert self._free is not None, "it has no code"
        self.is_loaded = False
        self.code_bytes = 0
        self._free()
        self._free = None
