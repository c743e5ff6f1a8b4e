"""How an engine is built, as far as the machine grants it."""

import contextlib
import os
import resource
from dataclasses import dataclass
from pathlib import Path

import structlog

from host.engine import ffi
from host.engine.module import TABLE_ELEMENTS_MAX
from lattice import errors, limits

log = structlog.get_logger()

MAPS_PER_INSTANCE = 5
"""Memory mappings of an instance in the pool, counted with ten thousand of them: the image of its
memory, the rest of it, the guard behind it, the stack, and the guard below that."""

MAPS_RESERVED = 8_192
"""Mappings left to everything else in the process: libraries, threads, compiled modules."""

RESERVATION_BYTES = 4 * 1024 * limits.MIB
"""Address space per memory at which compiled code needs no bounds checks: all an i32 can reach."""

GUARD_BYTES = 32 * limits.MIB
"""wasmtime's guard behind each memory, which covers the offsets that instructions add."""

TABLE_ELEMENT_BYTES = 8

HOST_STACK_BYTES_MIN = 64 * limits.KIB
"""Stack left to host functions below the guest's: an overflow there aborts the process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How the engine is built; nothing of it can change later."""

    instances_max: int = limits.INSTANCES_MAX
    """Instances that may run or be suspended at a time, over all modules; lowered to what the
    address space and ``vm.max_map_count`` allow."""
    memory_bytes_max: int = limits.MEMORY_BYTES
    """Largest memory any call may be given: the size of a place in the pool."""
    stack_bytes: int = 256 * limits.KIB
    """A fiber's stack; address space until it is touched."""
    guest_stack_bytes: int = 128 * limits.KIB
    """What the guest may use of it; the rest is for host functions, which only copy."""
    epoch_tick_s: float = 0.005
    """How long a guest runs before it is looked at again; the loop is held for at most two.

    Each tick takes the interpreter's lock from a busy loop: at 2 ms a host that serves HTTP
    answered a tenth fewer requests."""
    cache_dir: Path | None = None
    """Where compiled modules are kept between starts; ``None`` keeps none."""
    cache_bytes_max: int = 1024 * limits.MIB
    """Size of that directory: some hundred modules."""
    code_bytes_max: int = limits.CODE_BYTES
    """Memory of all modules' code together; beyond it the least recently used are evicted."""
    module_bytes_max: int = limits.MODULE_BYTES_MAX
    """Largest module accepted."""
    compile_timeout_s: float = limits.COMPILE_TIMEOUT_S
    """How long ``load`` waits for the compiler."""
    reuse_bytes_max: int = limits.REUSE_IDLE_BYTES
    """Memory of all idle instances that are kept for another call."""
    worker_threads: int = os.cpu_count() or 1
    """Threads for guests that keep the CPU: one per core, so that two of them run in parallel."""
    native: bool = True
    """Whether calls take their steps in C, where that was built, instead of through ``ctypes``."""
    fuel: bool = False
    """Whether to count the instructions of every call; tight loops run 1.8 times slower."""

    def __post_init__(self) -> None:
        """Refuse what the library would abort the process for, or what cannot work.

        Raises:
            InvalidRequest: names the setting and the bound it breaks.
        """
        stack_max = self.stack_bytes - HOST_STACK_BYTES_MIN
        for name, value, least, most in (
            ("instances_max", self.instances_max, 1, None),
            ("memory_bytes_max", self.memory_bytes_max, 64 * limits.KIB, RESERVATION_BYTES),
            ("guest_stack_bytes", self.guest_stack_bytes, 16 * limits.KIB, stack_max),
            ("epoch_tick_s", self.epoch_tick_s, 0.0005, 1.0),
            ("worker_threads", self.worker_threads, 1, 1_024),
        ):
            if value < least or (most is not None and value > most):
                upper = "" if most is None else f" and at most {most}"
                raise errors.InvalidRequest(f"{name} is {value}, must be at least {least}{upper}")


def engine_config(settings: EngineSettings, instances_max: int) -> ffi.EngineConfig:
    return ffi.EngineConfig(
        instances_max=instances_max,
        memory_bytes_max=settings.memory_bytes_max,
        table_elements_max=TABLE_ELEMENTS_MAX,
        stack_bytes=settings.stack_bytes,
        guest_stack_bytes=settings.guest_stack_bytes,
        fuel=settings.fuel,
        warm_slots=100,
        # What a small C guest touches, its stack and a page of data, is cleared by hand instead of
        # given back to the kernel: with cold caches a call takes 40 us instead of 50, 64 KiB gain
        # no more. Every place used in a burst keeps as much, 200 MB for ten thousand.
        memory_keep_resident_bytes=20 * limits.KIB,
        table_keep_resident_bytes=4 * limits.KIB,
        stack_keep_resident_bytes=0,
        # A batch would save another microsecond, and keep the memory of guests that have ended.
        decommit_batch=1,
    )


def instances_that_fit(settings: EngineSettings) -> int:
    """Lower ``instances_max`` to what the kernel will grant, and say so.

    It must be known before: an engine that cannot reserve its pool aborts the process.
    """
    asked = settings.instances_max
    ceiling = instances_ceiling()
    fit = min(asked, ceiling)
    per_instance = (
        RESERVATION_BYTES
        + GUARD_BYTES
        + settings.stack_bytes
        + ffi.TABLES * TABLE_ELEMENTS_MAX * TABLE_ELEMENT_BYTES
    )
    while fit > 1 and not ffi.can_reserve(fit * per_instance):
        fit //= 2
    if fit < asked:
        log.warning(
            "fewer instances than asked for",
            asked=asked,
            instances_max=fit,
            map_count_ceiling=ceiling,
            remedy="raise vm.max_map_count, and the limit on address space",
        )
    else:
        log.info("pool of instances", instances_max=fit, map_count_ceiling=ceiling)
    return fit


def modules_that_fit() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(limits.MODULES_LOADED, files // 2))


def instances_ceiling() -> int:
    """Instances for which ``vm.max_map_count`` has room."""
    return max(1, (_map_count_max() - MAPS_RESERVED) // MAPS_PER_INSTANCE)


def _map_count_max() -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/proc/sys/vm/max_map_count").read_text())
    # Linux's own default; other systems have no such limit, and fewer instances than this.
    return 65_530
