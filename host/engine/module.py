"""A core module that was compiled, found acceptable, and had its imports resolved."""

import ctypes
import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

from host.engine import ffi, wapc
from host.engine.code import Code, NativeCode
from lattice import errors, limits
from lattice.identity import sections

if TYPE_CHECKING:
    from host.engine.engine import Engine

MAGIC = b"\0asm"
CORE_VERSION = b"\1\0\0\0"
COMPONENT_VERSION = b"\x0d\0\1\0"

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


class NativeModule(NamedTuple):
    """A ``NativeCode`` that instances are made of in one step."""

    pointer: ffi.Address
    size: int

    def delete(self) -> None:
        """Give it back to the library."""
        ffi.instance_pre_delete(self.pointer)


class Module(Code):
    """A core module that speaks waPC (wasmbus), or a program."""

    __slots__ = ("_program", "entries", "program_address")

    def __init__(
        self,
        engine: "Engine",
        *,
        digest: str,
        size: int,
        types: ffi.ModuleTypes,
        command: bool,
    ) -> None:
        super().__init__(
            engine,
            digest=digest,
            size=size,
            imports=tuple(f"{each.module}.{each.name}" for each in types.imports),
            exports=tuple(types.functions),
            abi=next(
                (each.module for each in types.imports if each.module in wapc.MODULES), "wapc"
            ),
            memory_bytes_min=types.memories["memory"][0],
            command=command,
        )
        starts = [name.encode() for name in wapc.STARTS if name in types.functions]
        self.entries = (COMMAND.encode(),) if command else (*starts, wapc.ENTRY.encode())
        """Functions run on each instance, in order; the last is the call."""
        self.program_address = 0
        """What ``steps`` are given of it; 0 while it is evicted."""
        self._program: ffi.Program | None = None

    def attach(self, native: NativeCode) -> None:
        """Take over its native code."""
        assert isinstance(native, NativeModule), "a module's is a module's"
        self._program = ffi.program(
            self.engine.pointer, native.pointer, self.entries, takes_call=not self.command
        )
        self.program_address = ctypes.addressof(self._program)
        super().attach(native)

    def detach(self) -> None:
        """Give up its native code; no execution may have begun that has not ended."""
        self.program_address = 0
        self._program = None
        super().detach()


def digest_of(wasm: bytes) -> str:
    """The digest under which a module is known."""
    return hashlib.sha256(wasm).hexdigest()


def check_header(wasm: bytes) -> None:
    """Refuse what is neither a core module nor a component, before anything is spent on it.

    Raises:
        InvalidRequest: says what it is instead.
    """
    if not wasm.startswith(MAGIC):
        raise errors.InvalidRequest(
            "this is not WebAssembly: it does not begin with the bytes \\0asm; "
            "text must be assembled first"
        )
    version = wasm[4:8]
    if version not in (CORE_VERSION, COMPONENT_VERSION):
        raise errors.InvalidRequest(f"unknown version of WebAssembly: {version.hex()}")


def is_component(wasm: bytes) -> bool:
    """Whether what has a proper header is a component."""
    return wasm[4:8] == COMPONENT_VERSION


def without_much_debug(wasm: bytes) -> bytes:
    """The binary as it is compiled: without its debug information if that is too much."""
    try:
        debug = [each for each in sections.custom_of_all(wasm) if each[0].startswith(".debug_")]
        if sum(size for _, size in debug) <= DEBUG_BYTES_MAX:
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
