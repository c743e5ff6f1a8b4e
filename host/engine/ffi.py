"""wasmtime's C API, as far as the engine uses it: no other file knows its symbols and structs.

What is about components has a file of its own (``component_ffi``).

``wasmtime`` (the Python package) wraps the synchronous half of the C API. Fibers, the unchecked
host functions and the pooling allocator are reached here through ``ctypes``; the functions are
typed thinly and take plain addresses, because building ctypes pointers costs more than the calls.

Two handles of the same library are used. A call through ``ctypes.CDLL`` releases the interpreter
lock: right for anything that runs guest code or compiles, since the epoch ticker and the event
loop need the lock meanwhile. A call through ``ctypes.PyDLL`` keeps it: right for everything
short, where the hand-off would cost more than the work and would invite a thread switch.

Ownership rules of the C API that callers must keep:

* one live future per store; the future is deleted before its store;
* a future is never polled again after a poll returned true;
* what an ``*_async`` function was given stays alive until its future is deleted;
* a host function never raises (an asynchronous one that did would abort the process), and its
  arguments die when it returns. The results pointer of an asynchronous one lives until its
  continuation has completed.
"""

import ctypes
import mmap
import os
import re
from collections.abc import Callable, Sequence
from ctypes import (
    c_bool,
    c_char,
    c_char_p,
    c_int32,
    c_size_t,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)
from dataclasses import dataclass
from importlib import metadata
from typing import Any, ClassVar, NamedTuple

import wasmtime
from wasmtime import _ffi

VERSION = metadata.version("wasmtime")
"""Version of the library, part of the key under which compiled code is kept."""

I32, I64 = "i32", "i64"

_LIBRARY: str = _ffi.dll._name  # noqa: SLF001 - ctypes has no other name for it
_brief = ctypes.PyDLL(_LIBRARY)
_lengthy = ctypes.CDLL(_LIBRARY)

Address = int
"""Where something of the library's lives; 0 is nowhere."""


class Continuation(ctypes.Structure):
    """``wasmtime_async_continuation_t``: how the library asks whether a host call is over."""

    _fields_: ClassVar = [("callback", c_void_p), ("env", c_void_p), ("finalizer", c_void_p)]


# Private, anonymous and not counted against the memory: how the library reserves its pool.
_MAP_FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)

RESPONSE_BYTES = 4096
"""Room of a slot for a response: a page. A larger one is copied on its own."""


class Pages:
    """Memory by the page, which takes none until it is written to."""

    def __init__(self, count: int) -> None:
        self._map = mmap.mmap(-1, count * RESPONSE_BYTES, _MAP_FLAGS)
        self._start = ctypes.addressof(c_char.from_buffer(self._map))

    def address(self, number: int) -> Address:
        """Where the page of that number is; valid as long as this object is."""
        return self._start + number * RESPONSE_BYTES


class Slot(ctypes.Structure):
    """Everything that is read or written in C during one call: one piece of memory.

    It belongs to one live call at a time and is reused by the next: allocating these objects for
    every call cost more than instantiating the module. ``struct slot`` of ``native.c`` is the same.
    """

    _fields_: ClassVar = [
        ("instance", c_uint64 * 2),  # wasmtime_instance_t
        ("trap", c_void_p),
        ("error", c_void_p),
        ("function_kind", c_uint64),  # wasmtime_extern_t: a kind, then a union of 24 bytes
        ("function", c_uint64 * 3),
        ("memory_kind", c_uint64),  # wasmtime_extern_t
        ("memory", c_uint64 * 3),
        ("argument_1_kind", c_uint64),  # wasmtime_val_t: a kind (0 is i32), then 24 bytes
        ("argument_1", c_uint64 * 3),
        ("argument_2_kind", c_uint64),  # wasmtime_val_t
        ("argument_2", c_uint64 * 3),
        ("result_kind", c_uint64),  # wasmtime_val_t
        ("result", c_int32),
        ("result_rest", c_uint8 * 20),
        ("completed", c_uint64),  # the cell behind a continuation: a C string, empty or "\1"
        ("fuel", c_uint64),  # what the call may use; what it used, once it is over
        ("store", c_void_p),
        ("context", c_void_p),
        ("future", c_void_p),
        ("phase", c_uint64),  # functions begun so far; 0 while the instance is being made
        ("cpu_ns", c_uint64),
        ("operation", c_void_p),
        ("payload", c_void_p),
        ("operation_bytes", c_uint64),
        ("payload_bytes", c_uint64),
        ("requested", c_uint64),  # whether the guest took operation and payload
        ("responded", c_uint64),  # whether its response is in this slot
        ("response_bytes", c_uint64),
        ("response_bytes_max", c_uint64),
        ("calling", c_uint64),  # whether ``request`` names the host call that the guest waits for
        ("request_bytes_max", c_uint64),
        ("request", c_uint32 * 8),  # pointers and lengths of its four parts
        ("results", c_void_p),  # where the result of that host call goes
        ("host_response", c_char_p),
        ("host_response_bytes", c_uint64),
        ("host_responded", c_uint64),  # whether there is one that the guest has not taken
        ("memory_bytes", c_uint64),  # size of the memory at the call's end
        ("response", c_void_p),  # a page outside: a call without response does not touch it
    ]


class Entry(ctypes.Structure):
    """The name of an exported function."""

    _fields_: ClassVar = [("name", c_char_p), ("name_bytes", c_uint64)]


class Program(ctypes.Structure):
    """A module that was linked, and the functions to run on an instance of it, in order."""

    _fields_: ClassVar = [
        ("engine", c_void_p),
        ("module", c_void_p),  # wasmtime_instance_pre_t
        ("entries", ctypes.POINTER(Entry)),
        ("entries_count", c_uint64),
        ("takes_call", c_uint64),  # whether the last one takes the call's sizes and gives a result
    ]


def program(
    engine: Address, module: Address, entries: Sequence[bytes], *, takes_call: bool
) -> Program:
    """Put a program together; it keeps the names, and neither engine nor module."""
    names = (Entry * len(entries))(*(Entry(name, len(name)) for name in entries))
    return Program(engine, module, names, len(entries), takes_call)


def symbol(name: str) -> Address:
    """Address of one of the library's functions."""
    return ctypes.cast(_brief[name], c_void_p).value or 0


def offset(field: str) -> int:
    """Offset of a field in a slot, for the addresses handed to the library."""
    where: int = getattr(Slot, field).offset
    return where


UncheckedCallback = ctypes.CFUNCTYPE(
    c_void_p, c_void_p, c_void_p, ctypes.POINTER(c_uint32), c_size_t
)
"""``wasmtime_func_unchecked_callback_t``: arguments and results are 16-byte raw values in one
array, read here as 32-bit words: argument ``n`` stands at index ``4 * n``. Returns a trap or 0."""

AsyncCallback = ctypes.CFUNCTYPE(
    None,
    c_void_p,
    c_void_p,
    ctypes.POINTER(c_uint32),
    c_size_t,
    c_void_p,
    c_size_t,
    ctypes.POINTER(c_void_p),
    ctypes.POINTER(Continuation),
)
"""``wasmtime_func_async_callback_t``: arguments are ``wasmtime_val_t`` of 32 bytes, so argument
``n`` stands at index ``8 * n + 2`` of the 32-bit words."""

STRLEN: Address = ctypes.cast(ctypes.CDLL(None).strlen, c_void_p).value or 0
"""The continuation callback: libc's ``strlen`` of a cell is 0 while it is empty, 1 when it holds
``"\\1"``. So that no Python runs inside a poll just to ask whether a host call is over."""

RESULTS = tuple(bytes(8) + number.to_bytes(8, "little") for number in range(77))
"""The first 16 bytes of a ``wasmtime_val_t`` that holds an i32: 0 and 1, and WASI's errors."""


def _bind(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    function = library[name]
    function.restype = result
    function.argtypes = arguments
    return function


# Stores and contexts.
store_new: Callable[[Address, None, None], Address] = _bind(
    _brief, "wasmtime_store_new", c_void_p, c_void_p, c_void_p, c_void_p
)
store_context: Callable[[Address], Address] = _bind(
    _brief, "wasmtime_store_context", c_void_p, c_void_p
)
store_delete: Callable[[Address], None] = _bind(_brief, "wasmtime_store_delete", None, c_void_p)
store_limiter: Callable[[Address, int, int, int, int, int], None] = _bind(
    _brief, "wasmtime_store_limiter", None, c_void_p, *[ctypes.c_int64] * 5
)
set_epoch_deadline: Callable[[Address, int], None] = _bind(
    _brief, "wasmtime_context_set_epoch_deadline", None, c_void_p, c_uint64
)
# Declared in the header as returning an error; the implementation returns nothing.
yield_on_epoch: Callable[[Address, int], None] = _bind(
    _brief,
    "wasmtime_context_epoch_deadline_async_yield_and_update",
    None,
    c_void_p,
    c_uint64,
)
set_fuel: Callable[[Address, int], Address | None] = _bind(
    _brief, "wasmtime_context_set_fuel", c_void_p, c_void_p, c_uint64
)
get_fuel: Callable[[Address, Address], Address | None] = _bind(
    _brief, "wasmtime_context_get_fuel", c_void_p, c_void_p, c_void_p
)

# Futures.
instantiate_async: Callable[[Address, Address, Address, Address, Address], Address] = _bind(
    _brief, "wasmtime_instance_pre_instantiate_async", c_void_p, *[c_void_p] * 5
)
call_async: Callable[
    [Address, Address, Address | None, int, Address | None, int, Address, Address], Address
] = _bind(
    _brief,
    "wasmtime_func_call_async",
    c_void_p,
    c_void_p,
    c_void_p,
    c_void_p,
    c_size_t,
    c_void_p,
    c_size_t,
    c_void_p,
    c_void_p,
)
poll: Callable[[Address], bool] = _bind(_lengthy, "wasmtime_call_future_poll", c_bool, c_void_p)
future_delete: Callable[[Address], None] = _bind(
    _brief, "wasmtime_call_future_delete", None, c_void_p
)

# Exports and memories.
export_get: Callable[[Address, Address, bytes, int, Address], bool] = _bind(
    _brief,
    "wasmtime_instance_export_get",
    c_bool,
    c_void_p,
    c_void_p,
    c_char_p,
    c_size_t,
    c_void_p,
)
caller_export_get: Callable[[Address, bytes, int, Address], bool] = _bind(
    _brief, "wasmtime_caller_export_get", c_bool, c_void_p, c_char_p, c_size_t, c_void_p
)
memory_data: Callable[[Address, Address], Address] = _bind(
    _brief, "wasmtime_memory_data", c_void_p, c_void_p, c_void_p
)
memory_size: Callable[[Address, Address], int] = _bind(
    _brief, "wasmtime_memory_data_size", c_size_t, c_void_p, c_void_p
)

# Engines and the epoch.
increment_epoch: Callable[[Address], None] = _bind(
    _brief, "wasmtime_engine_increment_epoch", None, c_void_p
)
engine_delete: Callable[[Address], None] = _bind(_brief, "wasm_engine_delete", None, c_void_p)

_engine_new = _bind(_lengthy, "wasm_engine_new_with_config", c_void_p, c_void_p)
_config_new = _bind(_brief, "wasm_config_new", c_void_p)
_pooling_new = _bind(_brief, "wasmtime_pooling_allocation_config_new", c_void_p)
_pooling_delete = _bind(_brief, "wasmtime_pooling_allocation_config_delete", None, c_void_p)
_pooling_strategy = _bind(
    _brief, "wasmtime_pooling_allocation_strategy_set", None, c_void_p, c_void_p
)

# Modules and linkers.
_module_new = _bind(
    _lengthy, "wasmtime_module_new", c_void_p, c_void_p, c_char_p, c_size_t, c_void_p
)
_module_serialize = _bind(_lengthy, "wasmtime_module_serialize", c_void_p, c_void_p, c_void_p)
_module_deserialize = _bind(
    _lengthy, "wasmtime_module_deserialize", c_void_p, c_void_p, c_char_p, c_size_t, c_void_p
)
_module_image_range = _bind(
    _brief, "wasmtime_module_image_range", None, c_void_p, c_void_p, c_void_p
)
_module_clone = _bind(_brief, "wasmtime_module_clone", c_void_p, c_void_p)
module_delete: Callable[[Address], None] = _bind(_brief, "wasmtime_module_delete", None, c_void_p)
linker_new: Callable[[Address], Address] = _bind(_brief, "wasmtime_linker_new", c_void_p, c_void_p)
linker_delete: Callable[[Address], None] = _bind(_brief, "wasmtime_linker_delete", None, c_void_p)
_define = [c_void_p, c_char_p, c_size_t, c_char_p, c_size_t, c_void_p, c_void_p, c_void_p, c_void_p]
_linker_define_unchecked = _bind(
    _brief, "wasmtime_linker_define_func_unchecked", c_void_p, *_define
)
_linker_define_async = _bind(_brief, "wasmtime_linker_define_async_func", c_void_p, *_define)
_instantiate_pre = _bind(
    _lengthy, "wasmtime_linker_instantiate_pre", c_void_p, c_void_p, c_void_p, c_void_p
)
instance_pre_delete: Callable[[Address], None] = _bind(
    _brief, "wasmtime_instance_pre_delete", None, c_void_p
)

# Traps and errors.
_trap_new = _bind(_brief, "wasmtime_trap_new", c_void_p, c_char_p, c_size_t)
_trap_code = _bind(_brief, "wasmtime_trap_code", c_bool, c_void_p, c_void_p)
_trap_message = _bind(_brief, "wasm_trap_message", None, c_void_p, c_void_p)
_trap_trace = _bind(_brief, "wasm_trap_trace", None, c_void_p, c_void_p)
_trap_delete = _bind(_brief, "wasm_trap_delete", None, c_void_p)
_frames_delete = _bind(_brief, "wasm_frame_vec_delete", None, c_void_p)
_frame_name = _bind(_brief, "wasmtime_frame_func_name", c_void_p, c_void_p)
_frame_index = _bind(_brief, "wasm_frame_func_index", c_uint32, c_void_p)
_frame_offset = _bind(_brief, "wasm_frame_module_offset", c_size_t, c_void_p)
_error_message = _bind(_brief, "wasmtime_error_message", None, c_void_p, c_void_p)
_error_trace = _bind(_brief, "wasmtime_error_wasm_trace", None, c_void_p, c_void_p)
_error_delete = _bind(_brief, "wasmtime_error_delete", None, c_void_p)
_bytes_delete = _bind(_brief, "wasm_byte_vec_delete", None, c_void_p)


_libc = ctypes.CDLL(None)
_mmap = _bind(
    _libc,
    "mmap",
    c_void_p,
    c_void_p,
    c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_munmap = _bind(_libc, "munmap", ctypes.c_int, c_void_p, c_size_t)


class Vector(ctypes.Structure):
    """``wasm_byte_vec_t``, ``wasm_frame_vec_t``: a length and an address."""

    _fields_: ClassVar = [("size", c_size_t), ("data", c_void_p)]


class LibraryError(Exception):
    """The library refused; the text is its own."""


@dataclass(frozen=True, slots=True)
class Trap:
    """What the library knows of a trap."""

    code: int | None
    """``wasmtime_trap_code_t``; ``None`` when a host function made the trap."""
    message: str
    frames: tuple[str, ...]
    """Innermost first: the function's name, or its index, the file and line as far as the module
    says, and the offset in the module."""
    functions: tuple[str, ...]
    """The names alone."""


@dataclass(frozen=True, slots=True)
class Import:
    """One thing a module asks for."""

    module: str
    name: str
    signature: str
    """``func (i32, i32) -> (i32)``, or the kind alone of what is not a function."""


@dataclass(frozen=True, slots=True)
class ModuleTypes:
    """What a module asks for and what it offers."""

    imports: tuple[Import, ...]
    functions: dict[str, str]
    """Exported functions and their signatures."""
    memories: dict[str, tuple[int, int | None]]
    """Exported memories: least and greatest size in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What the engine's configuration is built from; see ``EngineSettings`` for the reasons."""

    instances_max: int
    memory_bytes_max: int
    table_elements_max: int
    stack_bytes: int
    guest_stack_bytes: int
    fuel: bool
    warm_slots: int
    memory_keep_resident_bytes: int
    table_keep_resident_bytes: int
    stack_keep_resident_bytes: int
    decommit_batch: int


CORE_INSTANCES, TABLES = 5, 2
"""Of core modules, for each instance there may be: as many as a component made of one has, and one
that tells its memory."""

_OFF = (
    # Threads would let a guest block the operating system's thread; the rest is memory that the
    # store's limiter does not count (collected heaps), or a second ABI we do not speak (64-bit).
    # Several memories are not off: what wasmtime puts between two components within a component
    # reads both of theirs, and without them compiling it ends the process. The pool gives a module
    # one memory all the same.
    "wasm_threads",
    "shared_memory",
    "wasm_gc",
    "wasm_function_references",
    "wasm_exceptions",
    "wasm_memory64",
    "wasm_stack_switching",
    # Passing a stream, future or error-context to a host function aborts the process.
    "wasm_component_model_async",
    "concurrency_support",
)
_ON = (
    "epoch_interruption",
    "memory_init_cow",
    # Determinism costs nothing on the code guests really have.
    "wasm_relaxed_simd_deterministic",
)


def engine_new(config: EngineConfig) -> Address:
    """Make an engine whose instances live in a pool reserved here and now.

    Raises:
        LibraryError: the address space for the pool could not be reserved.
    """
    # Backtraces with files and lines: a setting without a function in the C API, read from the
    # environment when a configuration is made.
    os.putenv("WASMTIME_BACKTRACE_DETAILS", "1")
    handle = _config_new()
    for name in (*_OFF, *_ON):
        _configure(handle, name, name in _ON)
    _configure(handle, "consume_fuel", config.fuel)
    _configure(handle, "async_stack_size", config.stack_bytes, c_uint64)
    _configure(handle, "max_wasm_stack", config.guest_stack_bytes, c_size_t)
    # Winch is never enabled: it is not hardened as Cranelift (1) is.
    _configure(handle, "strategy", 1, c_uint8)
    _use_pool(handle, config)
    pointer: Address | None = _engine_new(handle)
    if not pointer:
        raise LibraryError("the address space for the pool of instances could not be reserved")
    return pointer


def can_reserve(size: int) -> bool:
    """Try to reserve address space, and give it back.

    A pool that cannot be reserved aborts the process inside the library; this asks first.
    """
    reserved = _mmap(None, size + size // 16, 0, _MAP_FLAGS, -1, 0)
    if reserved in (None, c_void_p(-1).value):
        return False
    _munmap(reserved, size + size // 16)
    return True


def _configure(handle: Address, name: str, value: int, kind: Any = c_bool) -> None:
    _bind(_brief, f"wasmtime_config_{name}_set", None, c_void_p, kind)(handle, value)


def _use_pool(handle: Address, config: EngineConfig) -> None:
    pool = _pooling_new()
    sizes = {
        "total_component_instances": (config.instances_max, c_uint32),
        "total_core_instances": (CORE_INSTANCES * config.instances_max, c_uint32),
        "total_memories": (config.instances_max, c_uint32),
        "total_tables": (TABLES * config.instances_max, c_uint32),
        "total_stacks": (config.instances_max, c_uint32),
        "max_memory_size": (config.memory_bytes_max, c_size_t),
        "table_elements": (config.table_elements_max, c_size_t),
        "max_unused_warm_slots": (config.warm_slots, c_uint32),
        "linear_memory_keep_resident": (config.memory_keep_resident_bytes, c_size_t),
        "table_keep_resident": (config.table_keep_resident_bytes, c_size_t),
        "async_stack_keep_resident": (config.stack_keep_resident_bytes, c_size_t),
        "decommit_batch_size": (config.decommit_batch, c_size_t),
    }
    for name, (value, kind) in sizes.items():
        symbol = f"wasmtime_pooling_allocation_config_{name}_set"
        _bind(_brief, symbol, None, c_void_p, kind)(pool, value)
    _pooling_strategy(handle, pool)
    _pooling_delete(pool)


class Compiler(NamedTuple):
    """The library's functions that turn bytes into native code: of modules, or of components."""

    new: Any
    serialized: Any
    deserialized: Any
    delete: Callable[[Address], None]

    def compile(self, engine: Address, wasm: bytes) -> Address:
        """Takes seconds for large ones, without the interpreter lock.

        Raises:
            LibraryError: it does not compile.
        """
        pointer = c_void_p()
        _check(self.new(engine, wasm, len(wasm), ctypes.byref(pointer)))
        return pointer.value or 0

    def serialize(self, code: Address) -> bytes:
        """Give native code as ``deserialize`` takes it."""
        vector = Vector()
        _check(self.serialized(code, ctypes.byref(vector)))
        return _take_bytes(vector)

    def deserialize(self, engine: Address, artefact: bytes) -> Address:
        """Load native code. It is run as it is: the caller must know where it comes from.

        Raises:
            LibraryError: it is none, or another version's.
        """
        pointer = c_void_p()
        _check(self.deserialized(engine, artefact, len(artefact), ctypes.byref(pointer)))
        return pointer.value or 0


MODULES = Compiler(_module_new, _module_serialize, _module_deserialize, module_delete)


def code_bytes(module: Address) -> int:
    """Memory that the native code of a module takes."""
    begin, end = c_void_p(), c_void_p()
    _module_image_range(module, ctypes.byref(begin), ctypes.byref(end))
    return (end.value or 0) - (begin.value or 0)


def module_types(module: Address) -> ModuleTypes:
    """List what a module imports and exports."""
    clone = ctypes.cast(_module_clone(module), ctypes.POINTER(_ffi.wasmtime_module_t))
    # The one public type that lists imports and exports takes nothing but this.
    wrapped = wasmtime.Module._from_ptr(clone)  # noqa: SLF001
    imports = tuple(
        Import(each.module, each.name or "", _signature(each.type)) for each in wrapped.imports
    )
    functions: dict[str, str] = {}
    memories: dict[str, tuple[int, int | None]] = {}
    for each in wrapped.exports:
        if isinstance(each.type, wasmtime.FuncType):
            functions[each.name] = _signature(each.type)
        elif isinstance(each.type, wasmtime.MemoryType):
            pages = each.type.limits
            page = 64 * 1024
            most = None if pages.max is None else pages.max * page
            memories[each.name] = (pages.min * page, most)
    return ModuleTypes(imports, functions, memories)


def signature(parameters: Sequence[str], results: Sequence[str]) -> str:
    """Write a function's type the way ``module_types`` does."""
    return f"func ({', '.join(parameters)}) -> ({', '.join(results)})"


def _signature(kind: Any) -> str:
    if isinstance(kind, wasmtime.FuncType):
        return signature([str(each) for each in kind.params], [str(each) for each in kind.results])
    return type(kind).__name__.removesuffix("Type").lower()


def linker_define(
    linker: Address,
    module: str,
    name: str,
    parameters: Sequence[str],
    results: Sequence[str],
    callback: Any,
    *,
    suspends: bool,
) -> None:
    """Put a host function behind an import; ``callback`` must outlive the linker's instances.

    It is the callback or its address; one that ``suspends`` is shaped as an ``AsyncCallback``.
    """
    define = _linker_define_async if suspends else _linker_define_unchecked
    values = {I32: wasmtime.ValType.i32, I64: wasmtime.ValType.i64}
    kind = wasmtime.FuncType(
        [values[each]() for each in parameters], [values[each]() for each in results]
    )
    module_bytes, name_bytes = module.encode(), name.encode()
    _check(
        define(
            linker,
            module_bytes,
            len(module_bytes),
            name_bytes,
            len(name_bytes),
            ctypes.cast(kind.ptr(), c_void_p),
            ctypes.cast(callback, c_void_p),
            None,
            None,
        )
    )


def instantiate_pre(linker: Address, module: Address) -> Address:
    """Resolve a module's imports once, for any number of instances."""
    pointer = c_void_p()
    _check(_instantiate_pre(linker, module, ctypes.byref(pointer)))
    return pointer.value or 0


def trap_new(text: str) -> Address:
    """Make a trap; returning it from a host function hands it over to the library."""
    message = text.encode()
    pointer: Address = _trap_new(message, len(message))
    return pointer


FRAMES_MAX = 64
"""Frames kept of a backtrace: a stack overflow has tens of thousands, all alike."""


def take_trap(pointer: Address) -> Trap:
    """Read a trap and delete it."""
    code = c_uint8()
    has_code = _trap_code(pointer, ctypes.byref(code))
    message, trace = Vector(), Vector()
    _trap_message(pointer, ctypes.byref(message))
    _trap_trace(pointer, ctypes.byref(trace))
    text = _take_bytes(message).rstrip(b"\0").decode(errors="replace")
    frames, functions = _take_frames(trace, text)
    _trap_delete(pointer)
    return Trap(code.value if has_code else None, text, frames, functions)


def take_error(pointer: Address) -> Trap:
    """Read an error and delete it: a trap that a host function made arrives as one."""
    message, trace = Vector(), Vector()
    _error_message(pointer, ctypes.byref(message))
    _error_trace(pointer, ctypes.byref(trace))
    text = _take_bytes(message).decode(errors="replace")
    frames, functions = _take_frames(trace, text)
    _error_delete(pointer)
    return Trap(None, text, frames, functions)


_FRAME = re.compile(r"^ *(\d+): +0x[0-9a-f]+ - ")
_SYMBOL = re.compile(r"^ +- (.+)")
_PLACE = re.compile(r"^ +at (.+)")


def _take_frames(trace: Vector, message: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Frames and names of a backtrace."""
    pointers = _addresses(trace)
    symbols = _symbols(message)
    frames, functions = [], []
    for index, pointer in enumerate(pointers):
        found = symbols.get(index) or [(_function_name(pointer), "")]
        functions += [name for name, _ in found]
        text = ", inlined into ".join(name + place for name, place in found)
        frames.append(f"{text} @ 0x{_frame_offset(pointer):x}")
    _frames_delete(ctypes.byref(trace))
    return tuple(frames), tuple(functions)


def _symbols(message: str) -> dict[int, list[tuple[str, str]]]:
    """Which functions of the source a frame is, and where in it.

    The C API says so nowhere but in a message's text: a line with the frame's number and its
    function, one with the file, and the same again for what that was inlined into. Names there are
    demangled.
    """
    symbols: dict[int, list[tuple[str, str]]] = {}
    index, name = -1, ""
    for line in message.splitlines():
        if found := _FRAME.match(line):
            index, name = int(found[1]), line[found.end() :]
        elif found := _SYMBOL.match(line):
            name = found[1]
        elif found := _PLACE.match(line):
            symbols.setdefault(index, []).append((name, f" at {found[1]}"))
    return symbols


def _function_name(frame: Address) -> str:
    name = _frame_name(frame)
    if not name:
        return f"function {_frame_index(frame)}"
    vector = Vector.from_address(name)
    return ctypes.string_at(vector.data or 0, vector.size).decode(errors="replace")


def _addresses(vector: Vector) -> list[Address]:
    if not vector.size:
        return []
    count = min(vector.size, FRAMES_MAX)
    return list((c_uint64 * count).from_address(vector.data))


def _take_bytes(vector: Vector) -> bytes:
    content = ctypes.string_at(vector.data, vector.size) if vector.size else b""
    _bytes_delete(ctypes.byref(vector))
    return content


def _check(error: Address | None) -> None:
    if error:
        raise LibraryError(take_error(error).message)
