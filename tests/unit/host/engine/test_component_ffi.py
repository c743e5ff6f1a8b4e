"""What components rely on in wasmtime's C API: an upgrade that changes it fails here first."""

import ctypes
import inspect
from typing import Any

import pytest
from wasmtime import _bindings, _ffi

from host.engine import component_ffi, ffi

KINDS = [
    "BOOL",
    "S8",
    "U8",
    "S16",
    "U16",
    "S32",
    "U32",
    "S64",
    "U64",
    "F32",
    "F64",
    "CHAR",
    "STRING",
    "LIST",
    "RECORD",
    "TUPLE",
    "VARIANT",
    "ENUM",
    "OPTION",
    "RESULT",
    "FLAGS",
    "RESOURCE",
]

FUNCTION: Any = type(ctypes.CDLL(None).strlen).__base__

BOUND: dict[str, Any] = {
    function.__name__: function
    for function in vars(component_ffi).values()
    if isinstance(function, FUNCTION)
    and getattr(function, "__name__", "").startswith("wasm")
    # The header of this one is not part of the bindings' signatures with lengths.
    and function.__name__ != "wasmtime_error_new"
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_values_have_the_numbers_we_write(kind: str) -> None:
    assert getattr(component_ffi, kind) == getattr(_ffi, f"WASMTIME_COMPONENT_{kind}").value


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("wasmtime_component_val_t", component_ffi.VALUE_BYTES),
        ("wasmtime_component_valrecord_entry_t", component_ffi.FIELD_BYTES),
        ("wasm_name_t", component_ffi.NAME_BYTES),
        # These have their places in the slot: the instance, and a kind with its function.
        ("wasmtime_component_instance_t", 16),
        ("wasmtime_component_func_t", 32),
    ],
)
def test_structs_have_the_sizes_we_count_with(name: str, size: int) -> None:
    assert ctypes.sizeof(getattr(_bindings, name)) == size


def test_values_stand_where_we_read_them() -> None:
    value: Any = _bindings.wasmtime_component_val
    variant: Any = _bindings.wasmtime_component_valvariant_t
    result: Any = _bindings.wasmtime_component_valresult_t
    entry: Any = _bindings.wasmtime_component_valrecord_entry
    assert (value.kind.offset, value.of.offset) == (0, 8)
    assert (variant.discriminant.offset, variant.val.offset) == (0, 16)
    assert (result.is_ok.offset, result.val.offset) == (0, 8)
    assert (entry.name.offset, entry.val.offset) == (0, 16)


@pytest.mark.parametrize("name", sorted(BOUND))
def test_functions_take_as_many_arguments_as_we_give(name: str) -> None:
    there = len(inspect.signature(getattr(_bindings, name)).parameters)
    assert len(BOUND[name].argtypes) == there


def test_callbacks_have_the_shape_the_library_calls() -> None:
    for ours, theirs in (
        (component_ffi.Callback, "wasmtime_component_func_callback_t"),
        (component_ffi.AsyncCallback, "wasmtime_component_func_async_callback_t"),
        (component_ffi.Destructor, "wasmtime_component_resource_destructor_t"),
    ):
        kind: Any = getattr(_bindings, theirs)
        assert len(ours._argtypes_) == len(kind._argtypes_), theirs


def test_the_function_of_a_component_fits_its_place_in_the_slot() -> None:
    assert ffi.offset("memory_kind") - ffi.offset("function_kind") == 32
