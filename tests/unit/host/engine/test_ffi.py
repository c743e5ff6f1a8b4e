"""Everything we rely on in wasmtime's C API: an upgrade that changes it fails here first."""

import ctypes
import inspect
from importlib import metadata
from typing import Any

import pytest
from wasmtime import _bindings, _ffi

from host.engine import ffi

SIZES = {
    "wasmtime_instance_t": 16,
    "wasmtime_func_t": 16,
    "wasmtime_memory_t": 24,
    "wasmtime_extern_t": 32,
    "wasmtime_val_t": 32,
    "wasmtime_val_raw_t": 16,
    "wasmtime_async_continuation_t": 24,
    "wasm_byte_vec_t": 16,
    "wasm_frame_vec_t": 16,
}

SLOT = {
    "instance": "wasmtime_instance_t",
    "function_kind": "wasmtime_extern_t",
    "memory_kind": "wasmtime_extern_t",
    "argument_1_kind": "wasmtime_val_t",
    "argument_2_kind": "wasmtime_val_t",
    "result_kind": "wasmtime_val_t",
}

SYMBOLS = {
    "wasmtime_store_new": 3,
    "wasmtime_store_context": 1,
    "wasmtime_store_delete": 1,
    "wasmtime_store_limiter": 6,
    "wasmtime_context_set_epoch_deadline": 2,
    "wasmtime_context_epoch_deadline_async_yield_and_update": 2,
    "wasmtime_context_set_fuel": 2,
    "wasmtime_context_get_fuel": 2,
    "wasmtime_instance_pre_instantiate_async": 5,
    "wasmtime_func_call_async": 8,
    "wasmtime_call_future_poll": 1,
    "wasmtime_call_future_delete": 1,
    "wasmtime_instance_export_get": 5,
    "wasmtime_caller_export_get": 4,
    "wasmtime_memory_data": 2,
    "wasmtime_memory_data_size": 2,
    "wasmtime_engine_increment_epoch": 1,
    "wasm_engine_new_with_config": 1,
    "wasm_engine_delete": 1,
    "wasmtime_module_new": 4,
    "wasmtime_module_serialize": 2,
    "wasmtime_module_deserialize": 4,
    "wasmtime_module_clone": 1,
    "wasmtime_module_image_range": 3,
    "wasmtime_module_delete": 1,
    "wasmtime_linker_new": 1,
    "wasmtime_linker_define_func_unchecked": 9,
    "wasmtime_linker_define_async_func": 9,
    "wasmtime_linker_instantiate_pre": 3,
    "wasmtime_linker_delete": 1,
    "wasmtime_instance_pre_delete": 1,
    "wasmtime_trap_new": 2,
    "wasmtime_trap_code": 2,
    "wasm_trap_message": 2,
    "wasm_trap_trace": 2,
    "wasm_trap_delete": 1,
    "wasm_frame_vec_delete": 1,
    "wasmtime_frame_func_name": 1,
    "wasm_frame_func_index": 1,
    "wasm_frame_module_offset": 1,
    "wasmtime_error_message": 2,
    "wasmtime_error_wasm_trace": 2,
    "wasmtime_error_delete": 1,
    "wasm_byte_vec_delete": 1,
}

FUNCTION: Any = type(ctypes.CDLL(None).strlen).__base__
"""What ``ctypes`` makes of a library's symbol."""

BOUND: dict[str, Any] = {
    function.__name__: function
    for function in vars(ffi).values()
    if isinstance(function, FUNCTION) and getattr(function, "__name__", "").startswith("wasm")
}
"""The functions ``ffi`` bound, by symbol."""


def test_the_library_is_the_version_this_was_written_for() -> None:
    assert metadata.version("wasmtime").split(".")[0] == "50"


@pytest.mark.parametrize(("name", "size"), list(SIZES.items()))
def test_structs_have_the_sizes_the_slot_is_cut_for(name: str, size: int) -> None:
    assert ctypes.sizeof(getattr(_bindings, name)) == size


@pytest.mark.parametrize("name", ["wasmtime_extern_t", "wasmtime_val_t"])
def test_tagged_structs_hold_their_value_after_eight_bytes(name: str) -> None:
    struct: Any = getattr(_bindings, name)
    assert (struct.kind.offset, struct.of.offset) == (0, 8)


@pytest.mark.parametrize(("field", "struct"), list(SLOT.items()))
def test_each_struct_fits_its_place_in_the_slot(field: str, struct: str) -> None:
    starts = sorted(ffi.offset(name) for name, *_ in ffi.Slot._fields_)
    own = ffi.offset(field)
    tagged = field.endswith("_kind")
    # A tagged struct is two fields: its kind and its value.
    end = starts[starts.index(own) + (2 if tagged and field != "result_kind" else 1)]
    if field == "result_kind":
        end = ffi.offset("completed")
    assert end - own == ctypes.sizeof(getattr(_bindings, struct))
    assert own % 8 == 0


@pytest.mark.parametrize(("name", "arguments"), list(SYMBOLS.items()))
def test_functions_take_as_many_arguments_as_we_give(name: str, arguments: int) -> None:
    assert len(inspect.signature(getattr(_bindings, name)).parameters) == arguments
    assert len(BOUND[name].argtypes) == arguments


def test_every_function_we_bind_is_in_the_list_above() -> None:
    helpers = {
        "wasm_config_new",
        "wasmtime_pooling_allocation_config_new",
        "wasmtime_pooling_allocation_config_delete",
        "wasmtime_pooling_allocation_strategy_set",
    }
    assert set(BOUND) == set(SYMBOLS) | helpers


def test_callbacks_have_the_shape_the_library_calls() -> None:
    unchecked = _bindings.wasmtime_func_unchecked_callback_t
    asynchronous = _bindings.wasmtime_func_async_callback_t
    assert len(ffi.UncheckedCallback._argtypes_) == len(unchecked._argtypes_)
    assert len(ffi.AsyncCallback._argtypes_) == len(asynchronous._argtypes_)
    assert asynchronous._restype_ is None


def test_trap_codes_are_the_ones_we_have_words_for() -> None:
    codes = {code.value: code.name for code in _ffi.wasmtime_trap_code_enum}
    assert codes[0].endswith("STACK_OVERFLOW")
    assert codes[1].endswith("MEMORY_OUT_OF_BOUNDS")
    assert codes[7].endswith("INTEGER_DIVISION_BY_ZERO")
    assert codes[9].endswith("UNREACHABLE_CODE_REACHED")
    assert codes[11].endswith("OUT_OF_FUEL")


def test_strlen_of_a_cell_answers_whether_a_host_call_is_over() -> None:
    strlen = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_char_p)(ffi.STRLEN)
    assert (strlen(b""), strlen(b"\1")) == (False, True)


def test_address_space_that_is_not_there_is_known_before_the_library_aborts() -> None:
    assert ffi.can_reserve(1 << 30)
    assert not ffi.can_reserve(1 << 48)
