"""The steps of a call that decide nothing: start an instance, run it on, let it go.

Two forms with one contract: in C, where it was built (``native``), and here through ``ctypes``,
which needs no compiler and takes three times as long. ``Engine`` picks one.
"""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from host.engine import ffi
from host.engine.ffi import Address

DONE: Final = 0
"""The call returned; its result is in the slot."""
WAITS: Final = 1
"""The guest was interrupted by the epoch, or waits for a host call."""
FAULT: Final = 2
"""A function trapped; ``run`` may go on with the next one once the slot is cleared of that."""

Start = Callable[[Address, Address, int, int, int, bytes, int, bytes, int], int]
Again = Callable[[Address, Address, int, bytes, int, bytes, int], int]
Run = Callable[[Address, Address, int], int]
Rest = Callable[[Address], None]
End = Callable[[Address], None]


class Steps(NamedTuple):
    """What one form of the steps offers. Slots and programs are passed by their addresses."""

    start: Start
    """Slot, program, limits of memory (bytes) and table (elements), fuel, operation and its
    length, payload and its length. Limits of 0 are not set; operation and payload must live until
    ``end``."""
    again: Again
    """Slot, program, fuel, operation and its length, payload and its length: the next call on the
    instance in the slot, whose last one returned."""
    run: Run
    """Slot, program, clock to measure CPU time by: polls, and begins what follows, until it comes
    to one of the outcomes above."""
    rest: Rest
    """Slot: notes the figures of a call that returned; its instance stays."""
    end: End
    """Slot: unwinds the guest if need be and frees the store. Figures stay in the slot."""


def _start(
    base: Address,
    program: Address,
    memory_bytes_max: int,
    table_elements_max: int,
    fuel: int,
    _operation: bytes,
    operation_bytes: int,
    _payload: bytes,
    payload_bytes: int,
) -> int:
    slot, what = ffi.Slot.from_address(base), ffi.Program.from_address(program)
    _prepare(slot, operation_bytes, payload_bytes)
    slot.store = store = ffi.store_new(what.engine, None, None)
    slot.context = context = ffi.store_context(store)
    if memory_bytes_max:
        ffi.store_limiter(store, memory_bytes_max, table_elements_max, 1, 1, 1)
    ffi.yield_on_epoch(context, 1)
    _allow(slot, fuel)
    slot.future = ffi.instantiate_async(
        what.module, context, base + _INSTANCE, base + _TRAP, base + _ERROR
    )
    return _run(base, program, time.CLOCK_MONOTONIC)


def _again(
    base: Address,
    program: Address,
    fuel: int,
    _operation: bytes,
    operation_bytes: int,
    _payload: bytes,
    payload_bytes: int,
) -> int:
    slot = ffi.Slot.from_address(base)
    _prepare(slot, operation_bytes, payload_bytes)
    slot.phase = ffi.Program.from_address(program).entries_count - 1
    _allow(slot, fuel)
    return _run(base, program, time.CLOCK_MONOTONIC)


def _prepare(slot: ffi.Slot, operation_bytes: int, payload_bytes: int) -> None:
    slot.trap = slot.error = None
    slot.phase = slot.cpu_ns = slot.memory_bytes = 0
    slot.requested = slot.responded = slot.calling = slot.host_responded = 0
    slot.operation_bytes, slot.payload_bytes = operation_bytes, payload_bytes


def _allow(slot: ffi.Slot, fuel: int) -> None:
    ffi.set_epoch_deadline(slot.context, 1)
    slot.fuel = fuel
    if fuel:
        ffi.set_fuel(slot.context, fuel)


def _run(base: Address, program: Address, clock: int) -> int:
    slot, what = ffi.Slot.from_address(base), ffi.Program.from_address(program)
    while True:
        if slot.future:
            began_ns = time.clock_gettime_ns(clock)
            over = ffi.poll(slot.future)
            slot.cpu_ns += time.clock_gettime_ns(clock) - began_ns
            if not over:
                return WAITS
            ffi.future_delete(slot.future)
            slot.future = None
            if slot.trap or slot.error:
                return FAULT
            if slot.phase == what.entries_count:
                return DONE
        context = slot.context
        if slot.phase == 0:
            ffi.export_get(context, base + _INSTANCE, b"memory", 6, base + _MEMORY_ITEM)
        entry = what.entries[slot.phase]
        slot.phase += 1
        is_last = slot.phase == what.entries_count and what.takes_call
        ffi.export_get(
            context, base + _INSTANCE, entry.name, entry.name_bytes, base + _FUNCTION_ITEM
        )
        slot.argument_1_kind = slot.argument_2_kind = slot.result_kind = 0
        slot.argument_1[0], slot.argument_2[0] = slot.operation_bytes, slot.payload_bytes
        slot.future = ffi.call_async(
            context,
            base + _FUNCTION,
            base + _ARGUMENTS,
            2 if is_last else 0,
            base + _RESULT,
            1 if is_last else 0,
            base + _TRAP,
            base + _ERROR,
        )


def _rest(base: Address) -> None:
    slot = ffi.Slot.from_address(base)
    if slot.phase:
        slot.memory_bytes = ffi.memory_size(slot.context, base + _MEMORY)
    if slot.fuel:
        given = slot.fuel
        ffi.get_fuel(slot.context, base + _FUEL)
        slot.fuel = given - slot.fuel


def _end(base: Address) -> None:
    slot = ffi.Slot.from_address(base)
    if slot.future:
        ffi.future_delete(slot.future)
        slot.future = None
    if not slot.store:
        return
    _rest(base)
    ffi.store_delete(slot.store)
    slot.store = slot.context = None


_INSTANCE = ffi.offset("instance")
_TRAP = ffi.offset("trap")
_ERROR = ffi.offset("error")
_FUNCTION_ITEM = ffi.offset("function_kind")
_FUNCTION = ffi.offset("function")
_MEMORY_ITEM = ffi.offset("memory_kind")
_MEMORY = ffi.offset("memory")
_ARGUMENTS = ffi.offset("argument_1_kind")
_RESULT = ffi.offset("result_kind")
_FUEL = ffi.offset("fuel")

PYTHON = Steps(_start, _again, _run, _rest, _end)
"""The form that needs nothing but the C API."""
