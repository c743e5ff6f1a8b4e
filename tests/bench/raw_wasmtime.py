"""The least that a fresh instance costs from Python: wasmtime's C API through ``ctypes``, bare.

A store, an instance from the pool, one call, and away with it. Nothing can interrupt or suspend the
guest, nothing is counted, and it can do no harm only because it is known to do none.
"""

import ctypes
from ctypes import c_bool, c_char_p, c_size_t, c_void_p
from typing import Any

import wasmtime
from wasmtime import _ffi

from tests.support.wat import actor

INSTANCES = 100
MEMORY_BYTES_MAX = 16 * 2**20

_HostFunction = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p, c_size_t)
_Arguments = ctypes.POINTER(ctypes.c_int32)
_VALUE_WORDS = 4
"""A raw value is as wide as a v128."""


class RawEcho:
    """The bench's echo guest."""

    def __init__(self) -> None:
        config = wasmtime.Config()
        pool = _ffi.wasmtime_pooling_allocation_config_new()
        for what in ("core_instances", "memories", "tables"):
            getattr(_ffi, f"wasmtime_pooling_allocation_config_total_{what}_set")(pool, INSTANCES)
        _ffi.wasmtime_pooling_allocation_config_max_memory_size_set(pool, MEMORY_BYTES_MAX)
        _ffi.wasmtime_pooling_allocation_strategy_set(config.ptr(), pool)
        engine = wasmtime.Engine(config)
        module = wasmtime.Module(engine, actor("echo"))
        linker = wasmtime.Linker(engine)
        self._bind()
        i32 = wasmtime.ValType.i32()
        kind = wasmtime.FuncType([i32, i32], [])
        self._host_functions = {
            b"__guest_request": _HostFunction(self._guest_request),
            b"__guest_response": _HostFunction(self._guest_response),
        }
        for name, function in self._host_functions.items():
            self._define(
                _pointer(linker),
                b"wapc",
                4,
                name,
                len(name),
                _pointer(kind),
                ctypes.cast(function, c_void_p),
                None,
                None,
            )
        pre = linker.instantiate_pre(module)
        self._kept = (engine, module, linker, pre, kind)
        self._engine, self._pre = _pointer(engine), _pointer(pre)
        self._instance = _ffi.wasmtime_instance_t()
        self._export = _ffi.wasmtime_extern_t()
        self._memory = _ffi.wasmtime_extern_t()
        self._arguments = (_ffi.wasmtime_val_t * 2)()
        self._result = (_ffi.wasmtime_val_t * 1)()
        self._trap = c_void_p()
        offset = _ffi.wasmtime_extern_t.of.offset
        self._instance_at = ctypes.addressof(self._instance)
        self._export_at = ctypes.addressof(self._export)
        self._function_at = self._export_at + offset
        self._memory_export_at = ctypes.addressof(self._memory)
        self._memory_at = self._memory_export_at + offset
        self._arguments_at = ctypes.addressof(self._arguments)
        self._result_at = ctypes.addressof(self._result)
        self._trap_at = ctypes.addressof(self._trap)
        self._operation = self._payload = self._response = b""

    def call(self, operation: bytes, payload: bytes) -> bytes:
        """Answer one call on a fresh instance."""
        self._operation, self._payload = operation, payload
        store = self._store_new(self._engine, None, None)
        context = self._store_context(store)
        assert not self._instantiate(self._pre, context, self._instance_at, self._trap_at)
        self._export_get(context, self._instance_at, b"__guest_call", 12, self._export_at)
        self._arguments[0].of.i32 = len(operation)
        self._arguments[1].of.i32 = len(payload)
        assert not self._call(
            context, self._function_at, self._arguments_at, 2, self._result_at, 1, self._trap_at
        )
        self._store_delete(store)
        return self._response

    def _bind(self) -> None:
        library = ctypes.CDLL(_ffi.dll._name)

        def function(name: str, result: object, *arguments: object) -> Any:
            found: Any = library[name]
            found.restype, found.argtypes = result, arguments
            return found

        address = c_void_p
        self._store_new = function("wasmtime_store_new", address, address, address, address)
        self._store_context = function("wasmtime_store_context", address, address)
        self._store_delete = function("wasmtime_store_delete", None, address)
        self._instantiate = function("wasmtime_instance_pre_instantiate", *[address] * 5)
        self._export_get = function(
            "wasmtime_instance_export_get", c_bool, address, address, c_char_p, c_size_t, address
        )
        self._call = function(
            "wasmtime_func_call",
            *(address, address, address, address, c_size_t, address, c_size_t, address),
        )
        self._caller_export_get = function(
            "wasmtime_caller_export_get", c_bool, address, c_char_p, c_size_t, address
        )
        self._caller_context = function("wasmtime_caller_context", address, address)
        self._memory_data = function("wasmtime_memory_data", address, address, address)
        self._define = function(
            "wasmtime_linker_define_func_unchecked",
            *(address, address, c_char_p, c_size_t, c_char_p, c_size_t),
            *(address, address, address, address),
        )

    def _guest_request(self, _env: int, caller: int, arguments: int, _count: int) -> None:
        values = ctypes.cast(arguments, _Arguments)
        base = self._base(caller)
        ctypes.memmove(base + values[0], self._operation, len(self._operation))
        ctypes.memmove(base + values[_VALUE_WORDS], self._payload, len(self._payload))

    def _guest_response(self, _env: int, caller: int, arguments: int, _count: int) -> None:
        values = ctypes.cast(arguments, _Arguments)
        self._response = ctypes.string_at(self._base(caller) + values[0], values[_VALUE_WORDS])

    def _base(self, caller: int) -> int:
        self._caller_export_get(caller, b"memory", 6, self._memory_export_at)
        return int(self._memory_data(self._caller_context(caller), self._memory_at))


def _pointer(owner: object) -> int:
    address = ctypes.cast(owner.ptr(), c_void_p).value  # type: ignore[attr-defined]
    assert address is not None
    return address
