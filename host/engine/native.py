"""The steps of ``native.c``, where the distribution was installed with a C compiler at hand.

The library is our own and knows nothing of Python: it is given the addresses of the C API's
functions, and of the Python functions that take over when something is out of the ordinary.
"""

import ctypes
from collections.abc import Mapping
from ctypes import c_char_p, c_int, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import structlog

from host.engine import ffi
from host.engine.steps import Steps

log = structlog.get_logger()

PATH = Path(__file__).with_name("libnative.so")
"""Where ``hatch_build.py`` puts it."""

FUNCTIONS = (
    "wasmtime_store_new",
    "wasmtime_store_context",
    "wasmtime_store_delete",
    "wasmtime_store_limiter",
    "wasmtime_context_set_epoch_deadline",
    "wasmtime_context_epoch_deadline_async_yield_and_update",
    "wasmtime_context_set_fuel",
    "wasmtime_context_get_fuel",
    "wasmtime_instance_pre_instantiate_async",
    "wasmtime_func_call_async",
    "wasmtime_call_future_poll",
    "wasmtime_call_future_delete",
    "wasmtime_instance_export_get",
    "wasmtime_memory_data",
    "wasmtime_memory_data_size",
    "wasmtime_caller_context",
    "wasmtime_context_get_data",
)
"""What it uses of the C API, in the order of its ``library``."""

DELEGATES = ("__guest_request", "__guest_response", "__host_response", "__host_call")
"""Host functions of which it hands over what is out of the ordinary, in the same order."""

ANSWERED = {
    "__guest_request": "lattice_guest_request",
    "__guest_response": "lattice_guest_response",
    "__host_response_len": "lattice_host_response_len",
    "__host_response": "lattice_host_response",
    "__host_call": "lattice_host_call",
}
"""Host functions that it answers, and its names for them."""


class _Library(ctypes.Structure):
    _fields_: ClassVar = [(name, c_void_p) for name in (*FUNCTIONS, *DELEGATES)]


class Native:
    """The library, ready for use."""

    def __init__(
        self,
        library: ctypes.CDLL,
        brief: ctypes.PyDLL,
        delegates: Mapping[str, Any],
        name_bytes_max: int,
    ) -> None:
        addresses = [ffi.symbol(name) for name in FUNCTIONS]
        addresses += [_address(delegates[name]) for name in DELEGATES]
        library.lattice_init(ctypes.byref(_Library(*addresses)), c_uint64(name_bytes_max))
        start, again, run = library.lattice_start, library.lattice_again, library.lattice_run
        rest, end = brief.lattice_rest, brief.lattice_end
        start.argtypes = (
            *(c_void_p, c_void_p, c_uint64, c_uint64, c_uint64),
            *(c_char_p, c_uint64, c_char_p, c_uint64),
        )
        again.argtypes = (
            *(c_void_p, c_void_p, c_uint64),
            *(c_char_p, c_uint64, c_char_p, c_uint64),
        )
        run.argtypes = (c_void_p, c_void_p, c_int)
        rest.argtypes, rest.restype = (c_void_p,), None
        end.argtypes, end.restype = (c_void_p,), None
        self.steps = Steps(start, again, run, rest, end)
        self.callbacks = {
            name: c_void_p(_address(library[symbol])) for name, symbol in ANSWERED.items()
        }
        """Addresses of the host functions, for the linker."""


def load(delegates: Mapping[str, Any], *, name_bytes_max: int) -> Native | None:
    """Give the library, or ``None`` where it was not built.

    ``delegates`` are the Python callbacks by the names of their functions; they must live as long
    as the process. ``name_bytes_max`` bounds the names in a host call.
    """
    if (library := _open()) is None:
        return None
    return Native(library, ctypes.PyDLL(str(PATH)), delegates, name_bytes_max)


@cache
def _open() -> ctypes.CDLL | None:
    if not PATH.exists():
        log.info("calls take their steps through ctypes", reason="there was no C compiler")
        return None
    try:
        library = ctypes.CDLL(str(PATH))
        library.lattice_slot_bytes.restype = c_uint64
        built_for = library.lattice_slot_bytes()
    except (OSError, AttributeError) as error:
        log.warning("the native part of the engine can't be used", reason=str(error))
        return None
    if built_for != ctypes.sizeof(ffi.Slot):
        # A checkout that was updated without being installed again.
        log.warning(
            "the native part of the engine is of another version",
            remedy="install again: pip install --editable .",
        )
        return None
    return library


def _address(function: Any) -> int:
    return ctypes.cast(function, c_void_p).value or 0
