"""From what the library reports of a failed phase to the error the caller gets.

The C API tells nobody that a growth of memory was refused: the guest reads -1, and what it does
then is its own affair. Most allocators abort, which traps as ``unreachable``. So such a trap
counts as ``memory_exceeded`` if one of these holds:

* the memory has grown to within 1/16 of its limit (but at least a page), so that an allocator's
  next step could not fit;
* the backtrace names an allocator's failure handler (``OOM_FRAMES``), which is how a refused
  growth *larger* than the room left shows in Rust and Zig.

A guest that asks for one huge block far below its limit, and has no names, is reported as
``actor_trapped``: that is what is known about it. A guest that carries on after the refusal is
not reported at all.
"""

import re

from host.engine import ffi
from host.engine.guest import Guest
from lattice import errors, limits

KINDS = {
    0: "call stack exhausted",
    1: "out of bounds memory access",
    2: "unaligned atomic access",
    3: "out of bounds table access",
    4: "indirect call to null",
    5: "indirect call with a wrong signature",
    6: "integer overflow",
    7: "integer division by zero",
    8: "invalid conversion to integer",
    9: "unreachable",
    10: "interrupted",
    11: "out of fuel",
    12: "atomic wait on memory that is not shared",
    13: "null reference",
}
"""Words for ``wasmtime_trap_code_t``; codes beyond are of features the engine switches off."""

UNREACHABLE = 9

OOM_FRAMES = re.compile(r"alloc_error|out_?of_?memory|(?<![a-z])oom(?![a-z])", re.IGNORECASE)
"""Parts of the names of functions that run when an allocator fails."""

PAGE_BYTES = 64 * 1024

POOL_FULL = ("maximum concurrent", "Cannot allocate memory", "failed to allocate")
"""How the library says that it has no room for another instance or stack."""


def explain(slot: ffi.Slot, call: Guest) -> errors.LatticeError:
    """Turn the trap or error of a phase into the caller's error, and free it."""
    trap = take(slot)
    if any(sign in trap.message for sign in POOL_FULL):
        return errors.Overloaded("the host has no room for another instance")
    limit = call.limits.memory_bytes
    memory_bytes = call.memory_size()
    if call.oversize:
        return response_too_large(call.oversize, call.limits.response_bytes)
    if _refused_growth(trap, memory_bytes, limit):
        return errors.MemoryExceeded(memory_bytes, limit)
    if call.exit_code is not None:
        kind = f"it exited with status {call.exit_code}"
    elif call.fault:
        kind = call.fault
    else:
        kind = KINDS.get(-1 if trap.code is None else trap.code, "") or trap.message
    backtrace = "\n".join(trap.frames)[: limits.ERROR_TEXT_CHARS]
    return errors.ActorTrapped(kind, backtrace=backtrace, memory_bytes=memory_bytes)


def response_too_large(size: int, allowed: int) -> errors.ActorError:
    """Say that an answer was over its limit.

    Not ``payload_too_large``, which says that nothing was executed.
    """
    return errors.ActorError(
        f"the actor's answer is {size} bytes, over the limit of {allowed}",
        detail={"size": size, "limit": allowed},
    )


def explain_component(slot: ffi.Slot, call: Guest) -> errors.LatticeError:
    """Turn the error of a component's phase into the caller's, and free it.

    The C API gives a component's traps as errors: a chain of causes in words, without the code.
    """
    trap = take(slot)
    if call.oversize:
        return response_too_large(call.oversize, call.limits.response_bytes)
    cause = _CAUSE.search(trap.message)
    if any(sign in trap.message for sign in POOL_FULL):
        return errors.Overloaded("the host has no room for another instance")
    backtrace = "\n".join(trap.frames)[: limits.ERROR_TEXT_CHARS]
    kind = call.fault
    if call.exit_code is not None:
        kind = f"it exited with status {call.exit_code}"
    elif not kind:
        kind = cause[1] if cause else " ".join(trap.message.split())
        kind = _SHORTER.get(kind, kind)[: limits.ERROR_TEXT_CHARS]
        if kind == KINDS[UNREACHABLE] and _failed_to_allocate(trap):
            return errors.MemoryExceeded(call.limits.memory_bytes, call.limits.memory_bytes)
    return errors.ActorTrapped(kind, backtrace=backtrace, memory_bytes=call.memory_size())


def explain_fault(call: Guest, fault: str) -> errors.LatticeError:
    """Turn what a guest did wrong into the caller's error, where it was found out afterwards."""
    if call.oversize:
        return response_too_large(call.oversize, call.limits.response_bytes)
    return errors.ActorTrapped(fault, memory_bytes=call.memory_size())


_CAUSE = re.compile(r"wasm trap: (.+)")
_SHORTER = {"wasm `unreachable` instruction executed": KINDS[UNREACHABLE]}


def take(slot: ffi.Slot) -> ffi.Trap:
    """Read what ended a phase out of its slot, and free it.

    What the guest's own code did is a trap; what a host function or the pool did is an error.
    """
    if slot.error is not None:
        trap = ffi.take_error(slot.error)
        slot.error = None
    else:
        trap = ffi.take_trap(slot.trap)
        slot.trap = None
    return trap


def _refused_growth(trap: ffi.Trap, memory_bytes: int, limit: int) -> bool:
    if trap.code != UNREACHABLE:
        return False
    if memory_bytes + max(limit // 16, PAGE_BYTES) > limit:
        return True
    return _failed_to_allocate(trap)


def _failed_to_allocate(trap: ffi.Trap) -> bool:
    return OOM_FRAMES.search(" ".join(trap.functions)) is not None
