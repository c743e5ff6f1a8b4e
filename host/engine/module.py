"""A module that was compiled, found acceptable, and had its imports resolved.

Its facts stay as long as anybody wants them; its code, a thousand times larger, can be evicted and
loaded again (``Engine.reload``).
"""

import ctypes
import hashlib
import re
import weakref
from typing import TYPE_CHECKING, NamedTuple

from host.engine import ffi, wapc
from lattice import errors, limits
from lattice.identity import sections

if TYPE_CHECKING:
    from host.engine.engine import Engine

MAGIC = b"\0asm"
CORE_VERSION = b"\1\0\0\0"

Signatures = dict[tuple[str, str], str]
"""Import module and name to the signature of the host function behind them."""

TABLE_ELEMENTS_MAX = 100_000
"""Elements of the instance's table: large Go programs have tens of thousands of functions."""

COMMAND = "_start"
"""What a WASI program exports, and runs from."""

_TOO_MUCH_MEMORY = re.compile(r"minimum byte size of (\d+) which exceeds the limit")

DEBUG_BYTES_MAX = 4 * limits.MIB
"""Debug information that is used for backtraces: a trap reads through it on the event loop's
thread, about 2 ms for each MiB, and it stays in memory with the compiled code."""

IMPORTS_NAMED_MAX = 20
"""Unknown imports that an error lists; the rest is counted."""


class Linked(NamedTuple):
    """What comes of compiling and linking."""

    size: int
    """Bytes of the module as it was given."""
    types: ffi.ModuleTypes
    code: "Code"


class Code(NamedTuple):
    """Native code whose imports are resolved."""

    pointer: ffi.Address
    """Whoever has it last deletes it."""
    size: int
    """Bytes in memory."""


class Module:
    """The facts about a module, and its code unless that was evicted.

    The library's objects are freed when the last reference goes; executions hold one.
    """

    __slots__ = (
        "__weakref__",
        "_free",
        "_program",
        "abi",
        "code_bytes",
        "command",
        "digest",
        "engine",
        "entries",
        "exports",
        "imports",
        "last_used",
        "memory_bytes_min",
        "pins",
        "program_address",
        "size",
    )

    def __init__(
        self,
        engine: "Engine",
        *,
        digest: str,
        size: int,
        types: ffi.ModuleTypes,
        command: bool,
    ) -> None:
        self.engine = engine
        self.command = command
        """Whether it is a program that runs once, from its start to its exit."""
        self.digest = digest
        """SHA-256 of the module's bytes, in hex."""
        self.size = size
        """Bytes of the module as it was given, before compilation."""
        self.imports = tuple(f"{each.module}.{each.name}" for each in types.imports)
        self.exports = tuple(types.functions)
        """Names of the exported functions."""
        self.memory_bytes_min = types.memories["memory"][0]
        """Memory an instance starts with."""
        self.abi = next(
            (each.module for each in types.imports if each.module in wapc.MODULES), "wapc"
        )
        """The name under which it imports its host functions: ``wapc`` or ``wasmbus``."""
        starts = [name.encode() for name in wapc.STARTS if name in types.functions]
        self.entries = (COMMAND.encode(),) if command else (*starts, wapc.ENTRY.encode())
        """Functions run on each instance, in order; the last is the call."""
        self.last_used = 0
        """Count of the engine's polls when the last call began: what eviction goes by."""
        self.pins = 0
        """Calls that may begin at any moment: as long as there are any it is not evicted."""
        self.code_bytes = 0
        """Memory of its code; 0 while it is evicted."""
        self.program_address = 0
        """What ``steps`` are given of it; 0 while it is evicted."""
        self._program: ffi.Program | None = None
        self._free: weakref.finalize[..., Module] | None = None

    @property
    def key(self) -> tuple[str, bool]:
        """By which an engine knows it."""
        return self.digest, self.command

    @property
    def is_loaded(self) -> bool:
        """Whether calls can begin."""
        return self.program_address != 0

    def attach(self, code: Code) -> None:
        """Take over its code. ``Engine`` alone does this, and ``detach``."""
        assert not self.is_loaded, "it has its code"
        self._program = ffi.program(
            self.engine.pointer, code.pointer, self.entries, takes_call=not self.command
        )
        self.program_address = ctypes.addressof(self._program)
        self.code_bytes = code.size
        self.engine.count_code(code.size)
        self._free = weakref.finalize(self, self.engine.free_code, code)
        self._free.atexit = False

    def detach(self) -> None:
        """Give up its code; no execution may have begun that has not ended."""
        assert self._free is not None, "it has no code"
        self.program_address = self.code_bytes = 0
        self._program = None
        self._free()
        self._free = None


def digest_of(wasm: bytes) -> str:
    """The digest under which a module is known."""
    return hashlib.sha256(wasm).hexdigest()


def check_header(wasm: bytes) -> None:
    """Refuse what is no core module, before anything is spent on it.

    Raises:
        InvalidRequest: says what it is instead.
    """
    if not wasm.startswith(MAGIC):
        raise errors.InvalidRequest(
            "this is not WebAssembly: it does not begin with the bytes \\0asm; "
            "text must be assembled first"
        )
    version = wasm[4:8]
    if version[2:] == b"\1\0":
        raise errors.InvalidRequest(
            "this is a WebAssembly component: components are not supported yet, "
            "only core modules that speak waPC (wasmbus)"
        )
    if version != CORE_VERSION:
        raise errors.InvalidRequest(f"unknown version of WebAssembly: {version.hex()}")


def without_much_debug(wasm: bytes) -> bytes:
    """The module as it is compiled: without its debug information if that is too much."""
    try:
        debug = [each for each in sections.custom(wasm) if each[0].startswith(".debug_")]
        if sum(len(content) for _, content in debug) <= DEBUG_BYTES_MAX:
            return wasm
        return sections.strip(wasm, frozenset(name for name, _ in debug))
    except errors.InvalidRequest:
        # The compiler says better what is wrong.
        return wasm


def refused_by_compiler(text: str, memory_bytes_max: int) -> errors.InvalidRequest:
    """Put into our words what the compiler said of a module."""
    if found := _TOO_MUCH_MEMORY.search(text):
        return _too_much_memory(int(found[1]), memory_bytes_max)
    # It writes a chain of causes, a line each.
    said = " ".join(text.split())[: limits.ERROR_TEXT_CHARS]
    return errors.InvalidRequest(f"the module does not compile: {said}")


def check_types(
    types: ffi.ModuleTypes, known: Signatures, memory_bytes_max: int, *, command: bool = False
) -> None:
    """Refuse a module that could not be run, naming everything that is wrong with its imports.

    Raises:
        InvalidRequest: it does not fit the ABI or the memory it may have.
    """
    _check_imports(types, known)
    if command:
        if COMMAND not in types.functions:
            raise errors.InvalidRequest(f"the module exports no {COMMAND}: it is no WASI program")
    elif wapc.ENTRY not in types.functions:
        raise errors.InvalidRequest(
            f"the module exports no {wapc.ENTRY}: it is no waPC (wasmbus) actor"
        )
    else:
        _check_signature(types, wapc.ENTRY, wapc.ENTRY_SIGNATURE)
    for name in wapc.STARTS:
        if name in types.functions:
            _check_signature(types, name, wapc.START_SIGNATURE)
    if "memory" not in types.memories:
        raise errors.InvalidRequest('the module exports no memory named "memory"')
    needed = types.memories["memory"][0]
    if needed > memory_bytes_max:
        raise _too_much_memory(needed, memory_bytes_max)


def _too_much_memory(needed: int, limit: int) -> errors.InvalidRequest:
    return errors.InvalidRequest(
        f"the module needs {needed} bytes of memory, over the limit of {limit}"
    )


def _check_imports(types: ffi.ModuleTypes, known: Signatures) -> None:
    wrong = []
    for each in types.imports:
        name = f"{each.module}.{each.name}"
        expected = known.get((each.module, each.name))
        if expected is None:
            wrong.append(f'unknown import "{name}"')
        elif expected != each.signature:
            wrong.append(f'import "{name}" as {each.signature}, but it is {expected}')
    if not wrong:
        return
    listed = "; ".join(wrong[:IMPORTS_NAMED_MAX])
    if len(wrong) > IMPORTS_NAMED_MAX:
        listed += f"; and {len(wrong) - IMPORTS_NAMED_MAX} more"
    raise errors.InvalidRequest(f"the module cannot be linked: {listed}")


def _check_signature(types: ffi.ModuleTypes, name: str, expected: str) -> None:
    found = types.functions[name]
    if found != expected:
        raise errors.InvalidRequest(f"{name} is exported as {found}, but must be {expected}")
