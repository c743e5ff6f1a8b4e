"""The engine: keeps compiled modules and the pool their instances live in, and shares out the CPU.

Theory of operation. One wasmtime engine reserves address space for ``instances_max`` instances and
fibers when it is made. Guests run on the event loop's thread; a guest that keeps the CPU is moved
to worker threads (``execution.py`` decides when). What interrupts it is the *epoch*, a counter
that compiled code compares at every loop and function entry. A ticker thread advances it while a
guest is being polled, and parks when none was for a while: an idle host has no timers.

An engine belongs to one event loop. Only its ticker, its workers and the compiler run elsewhere,
and what they share with the loop's thread is written by one side only.
"""

import asyncio
import collections
import concurrent.futures
import ctypes
import faulthandler
import functools
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import structlog

from host.engine import ffi, module, native, steps, wapc
from host.engine.code import Code, NativeCode
from host.engine.compiling import Linked, Preparation
from host.engine.component import Component
from host.engine.descriptors import Descriptors
from host.engine.reuse import IdleInstances, Instance, Instances, ReusePolicy
from host.engine.settings import (
    EngineSettings,
    engine_config,
    instances_that_fit,
    modules_that_fit,
)
from lattice import errors
from lattice.aio.tasks import TaskGroup

if TYPE_CHECKING:
    from host.engine.execution import Execution

log = structlog.get_logger()

Result = TypeVar("Result")

FILE_THREADS = 4
"""Threads for work on files: disks do a few things at a time, and a share that hangs holds one."""

_Key = tuple[str, bool]
"""A module's digest, and whether it is a program instead of an actor."""

EVICTED_SHARE = 1 / 16
"""So much of the bound is freed when code has to be evicted."""

IDLE_TICKS = 50
"""Ticks without a guest after which the ticker parks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatistics:
    """Figures of the engine at one moment; counts are since it was made."""

    instances: int
    """Instances that run or are suspended now."""
    instances_max: int
    """How many there may be."""
    modules: int
    """Modules known now."""
    modules_loaded: int
    """Those of them whose code is in memory."""
    modules_loaded_max: int
    code_bytes: int
    """How much memory that is."""
    code_bytes_max: int
    evicted: int
    """Times that the code of a module was dropped to make room."""
    reloaded: int
    """Times that it was loaded again for the next call."""
    idle: int
    """Instances that are kept for another call."""
    reused: int
    """Calls that got one of those."""
    calls: int
    """Calls that got an instance."""
    compiled: int
    """Modules compiled."""
    cache_hits: int
    """Modules taken from the cache instead."""
    offloaded: int
    """Turns of guests in worker threads."""
    workers_busy: int
    """Guests in worker threads, or waiting for one, now."""


class Engine:
    """Compiled modules, and everything an instance needs to run."""

    def __init__(self, settings: EngineSettings) -> None:
        # wasmtime turns a guest's fault into a trap in a signal handler. ``faulthandler``, enabled
        # after it, would take that signal for a crash; enabled before, and enabling it again does
        # nothing, so the order is fixed here for good. Doing without signals would cost bounds
        # checks on every memory access of every guest.
        if not faulthandler.is_enabled():
            faulthandler.enable(file=2)
        self.settings = settings
        self.instances_max = instances_that_fit(settings)
        self.memory_bytes_max = settings.memory_bytes_max
        self.modules_loaded_max = modules_that_fit()
        self.fuel = settings.fuel
        self.turn_ns = int(settings.epoch_tick_s * 1e9 / 2)
        """How long a guest may go on on the loop's thread once it was interrupted there."""
        self.running = 0
        self.suspended_bytes = 0
        """Memory of the calls that were not over after their first slice, as of their last one."""
        self.closed = False
        self.polls = 0
        self.polling = False
        """Whether the loop's thread is inside a guest: what the ticker looks at."""
        self.parked = False
        self.tasks = TaskGroup("beside guests")
        """What guests began beside themselves; each task ends with its call."""
        self.suspended: set[Execution] = set()
        """Calls that were not over after their first slice."""
        self.waiting: collections.deque[None] = collections.deque()
        """One token per guest that waits for a worker; a worker that sees one makes room."""
        self.pointer = ffi.engine_new(engine_config(settings, self.instances_max))
        found = native.load(_DELEGATES, name_bytes_max=wapc.NAME_BYTES_MAX)
        answered = found if settings.native else None
        self.steps = answered.steps if answered is not None else steps.PYTHON
        """How a call starts, goes on and ends."""
        self._preparation = Preparation(
            settings, self.pointer, answered.callbacks if answered is not None else {}
        )
        self.idle = IdleInstances(bytes_max=settings.reuse_bytes_max, drop=self._drop_instance)
        self.reused = 0
        self._slots_made = 0
        self._responses = ffi.Pages(self.instances_max)
        self._slots: list[tuple[ffi.Slot, int]] = []
        self._modules: weakref.WeakValueDictionary[_Key, Code] = weakref.WeakValueDictionary()
        self._loading: dict[_Key, asyncio.Future[Code]] = {}
        self._reloading: dict[_Key, asyncio.Future[bool]] = {}
        self._code_bytes = self._modules_loaded = self._evicted = self._reloaded = 0
        self._calls = self._offloaded = self._busy = 0
        self._workers = concurrent.futures.ThreadPoolExecutor(
            settings.worker_threads, thread_name_prefix="guest"
        )
        self._compiler = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="compiler")
        # Not the compiler's thread: a call that waits for evicted code must not wait for seconds.
        self._reader = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="code reader")
        self._files = concurrent.futures.ThreadPoolExecutor(
            FILE_THREADS, thread_name_prefix="files"
        )
        self._wake = threading.Event()
        self._ticking = True
        self._ticker = threading.Thread(target=self._tick, name="epoch ticker", daemon=True)
        self._ticker.start()

    @property
    def held_bytes(self) -> int:
        """Memory of the calls that are suspended, and of instances that are kept for another."""
        return self.suspended_bytes + self.idle.bytes

    def instances(self, policy: ReusePolicy) -> Instances:
        """Somewhere to keep the instances of one actor."""
        return Instances(self.idle, policy)

    async def load(self, wasm: bytes, *, command: bool = False) -> Code:
        """Compile a module or a component, once, or find it compiled.

        It is an actor, or with ``command`` a WASI program to be run once (``command.py``).

        Cancelling it leaves the compiler at work: it cannot be stopped, and what it makes is kept.

        Raises:
            InvalidRequest: it is neither, or can't run here; says everything that is wrong.
            PayloadTooLarge: it has more than ``module_bytes_max`` bytes.
            DeadlineExceeded: it did not compile within ``compile_timeout_s``.
        """
        if self.closed:
            raise errors.Draining("the engine is closed")
        if len(wasm) > self.settings.module_bytes_max:
            raise errors.PayloadTooLarge("the module", len(wasm), self.settings.module_bytes_max)
        module.check_header(wasm)
        key = module.digest_of(wasm), command
        known = self._modules.get(key)
        if known is not None and (known.is_loaded or await self._reload_cached(known)):
            return known
        if self.closed:
            raise errors.Draining("the engine is closed")
        loading = self._loading.get(key)
        if loading is None:
            loading = self._loading[key] = asyncio.get_running_loop().create_future()
            work = asyncio.wrap_future(self._compiler.submit(self._preparation.prepare, *key, wasm))
            work.add_done_callback(functools.partial(self._linked, key, loading))
            loading.add_done_callback(lambda _: work.cancel())
        timeout_s = self.settings.compile_timeout_s
        try:
            return await asyncio.wait_for(asyncio.shield(loading), timeout_s)
        except TimeoutError:
            raise errors.DeadlineExceeded(
                f"the module did not compile within {timeout_s:g} s"
            ) from None
        except asyncio.CancelledError:
            if loading.cancelled() and self.closed:
                raise errors.Draining("the engine is closed") from None
            raise

    async def reload(self, evicted: Code, fetch: Callable[[], Awaitable[bytes]]) -> None:
        """Load native code again: from the cache, or else by compiling it anew.

        ``fetch`` gives the bytes it was made from, and is asked only in the latter case. Many may
        ask at the same time, and it is done once. Cancelling as for ``load``.

        Raises:
            Conflict: what ``fetch`` gives is something else.
            LatticeError: whatever ``fetch`` raises, and ``load``.
        """
        if evicted.is_loaded or await self._reload_cached(evicted):
            return
        wasm = await fetch()
        if (found := module.digest_of(wasm)) != evicted.digest:
            raise errors.Conflict(
                f"the module that was started has digest {evicted.digest}, and what its reference"
                f" names now has {found}; update the actor to run that"
            )
        await self.load(wasm)
        self._reloaded += 1

    def evict(self, idle: Code) -> bool:
        """Drop native code; false while a call of it runs or is about to."""
        if not idle.is_loaded or idle.pins or idle in self._modules_in_use():
            return False
        self._drop_code(idle)
        return True

    def count_code(self, size: int) -> None:
        """Count native code that was taken over."""
        self._modules_loaded += 1
        self._code_bytes += size

    def free_code(self, native: NativeCode) -> None:
        """Delete native code that was given up."""
        native.delete()
        self._modules_loaded -= 1
        self._code_bytes -= native.size

    def statistics(self) -> EngineStatistics:
        """Count what runs now and what was done so far."""
        return EngineStatistics(
            instances=self.running,
            instances_max=self.instances_max,
            modules=len(self._modules),
            modules_loaded=self._modules_loaded,
            modules_loaded_max=self.modules_loaded_max,
            code_bytes=self._code_bytes,
            code_bytes_max=self.settings.code_bytes_max,
            evicted=self._evicted,
            reloaded=self._reloaded,
            idle=len(self.idle),
            reused=self.reused,
            calls=self._calls,
            compiled=self._preparation.compiled,
            cache_hits=self._preparation.cache_hits,
            offloaded=self._offloaded,
            workers_busy=self._busy,
        )

    def close(self) -> None:
        """End every call and stop every thread; calls that are being awaited fail as cancelled.

        Blocks for a tick or two while workers leave their guests. Safe to call twice.
        """
        if self.closed:
            return
        self.closed = True
        for execution in list(self.suspended):
            execution.abandon()
        self.idle.clear()
        # Workers first: the ticker is what gets them out of their guests.
        self._workers.shutdown(wait=True, cancel_futures=True)
        # What was abandoned just now still closes its files.
        self._files.shutdown(wait=True)
        self._ticking = False
        self._wake.set()
        self._ticker.join()
        for loading in list(self._loading.values()):
            loading.cancel()
        for reloading in list(self._reloading.values()):
            reloading.cancel()
        # It takes milliseconds, and needs the engine.
        self._reader.shutdown(wait=True, cancel_futures=True)
        # A module being compiled still needs the engine, and may take its time.
        self._compiler.submit(self._delete)
        self._compiler.shutdown(wait=False)

    def take_slot(self) -> tuple[ffi.Slot, int]:
        """Give memory for one call, with its address, and count the call."""
        idle = self.idle.owners
        if idle and self.running + len(idle) >= self.instances_max:
            self.idle.drop_oldest()
        self.running += 1
        self._calls += 1
        if self._slots:
            return self._slots.pop()
        slot = ffi.Slot()
        slot.response = self._responses.address(self._slots_made)
        self._slots_made += 1
        return slot, ctypes.addressof(slot)

    def give_slot(self, slot: ffi.Slot, base: int) -> None:
        """Take back what ``take_slot`` gave; nothing may refer to it any more."""
        self.running -= 1
        self._slots.append((slot, base))

    def retake_slot(self) -> None:
        """Count a call that got its slot with an instance that was kept."""
        self.running += 1
        self._calls += 1
        self.reused += 1

    def keep_slot(self) -> None:
        """Count a call out whose slot stays with its instance."""
        self.running -= 1

    def _drop_instance(self, instance: Instance) -> None:
        self.steps.end(instance.base)
        self._slots.append((instance.slot, instance.base))

    def offload(self, slices: Callable[[], int]) -> concurrent.futures.Future[int]:
        """Run a guest's next slices in a worker thread; ``onload`` must follow."""
        self._busy += 1
        self._offloaded += 1
        self.waiting.append(None)
        if self.parked:
            self.unpark()
        return self._workers.submit(slices)

    def work(self, perform: Callable[[], Result]) -> asyncio.Future[Result]:
        """Do what may block in a thread; cancelled in time, it is not begun."""
        return asyncio.wrap_future(self._files.submit(perform))

    def close_descriptors(self, descriptors: Descriptors) -> None:
        """Close the files of a call that is over, in their turn."""
        if not descriptors.may_block:
            return
        try:
            self._files.submit(descriptors.close)
        except RuntimeError:
            # The threads are gone, and with them whatever could still be under way.
            descriptors.close()

    def onload(self) -> None:
        """Count a guest out of the workers."""
        self._busy -= 1

    def unpark(self) -> None:
        """Start the ticker again. Call it with ``polling`` set, or it may park at once."""
        self._wake.set()

    def _delete(self) -> None:
        # The library counts references: modules and stores that are still there stay usable.
        self._preparation.delete()
        ffi.engine_delete(self.pointer)

    def _tick(self) -> None:
        tick_s, idle, seen = self.settings.epoch_tick_s, 0, 0
        while self._ticking:
            time.sleep(tick_s)
            if self.polling or self._busy:
                ffi.increment_epoch(self.pointer)
                idle = 0
            elif self.polls != seen:
                seen, idle = self.polls, 0
            else:
                idle += 1
            if idle > IDLE_TICKS:
                self._park()
                idle = 0

    def _park(self) -> None:
        self._wake.clear()
        self.parked = True
        # Looked at again only now: a guest that starts after this line sees ``parked``.
        if self._ticking and not self.polling and not self._busy:
            self._wake.wait()
        self.parked = False

    async def _reload_cached(self, evicted: Code) -> bool:
        """Load code from the cache; false if it is not there. At once and once for all who ask.

        Raises:
            Draining: the engine is closed.
        """
        if self.closed:
            raise errors.Draining("the engine is closed")
        reloading = self._reloading.get(evicted.key)
        if reloading is None:
            reloading = asyncio.get_running_loop().create_future()
            self._reloading[evicted.key] = reloading
            facts = evicted.facts if isinstance(evicted, Component) else None
            work = asyncio.wrap_future(
                self._reader.submit(self._preparation.read, evicted.digest, facts)
            )
            work.add_done_callback(functools.partial(self._read_code, evicted, reloading))
            reloading.add_done_callback(lambda _: work.cancel())
        try:
            return await asyncio.shield(reloading)
        except asyncio.CancelledError:
            if reloading.cancelled() and self.closed:
                raise errors.Draining("the engine is closed") from None
            raise

    def _read_code(
        self,
        evicted: Code,
        reloading: asyncio.Future[bool],
        work: asyncio.Future[NativeCode | None],
    ) -> None:
        del self._reloading[evicted.key]
        native = None
        if not work.cancelled():
            if (error := work.exception()) is not None:
                log.error("code could not be read", digest=evicted.digest, exc_info=error)
            else:
                native = work.result()
        if native is not None:
            if self.closed or evicted.is_loaded:
                native.delete()
            else:
                self._attach(evicted, native)
                self._reloaded += 1
        if not reloading.done():
            reloading.set_result(evicted.is_loaded)

    def _attach(self, owner: Code, native: NativeCode) -> None:
        """Hand native code over, and evict that of others if it is too much together."""
        owner.attach(native)
        owner.last_used = self.polls
        if self._has_room_for_code(1):
            return
        spared = self._modules_in_use() | {owner}
        others = [
            each
            for each in self._modules.values()
            if each.is_loaded and not each.pins and each not in spared
        ]
        # Below the bound by a share, or the next one would have to sort them all again.
        for each in sorted(others, key=lambda other: other.last_used):
            if self._has_room_for_code(1 - EVICTED_SHARE):
                return
            self._drop_code(each)

    def _has_room_for_code(self, share: float) -> bool:
        """Whether the native code that is loaded is within a share of its bounds."""
        return (
            self._code_bytes <= self.settings.code_bytes_max * share
            and self._modules_loaded <= self.modules_loaded_max * share
        )

    def _modules_in_use(self) -> set[Code]:
        # Those calls that end in their first slice do so before anything else can happen.
        return {execution.code for execution in self.suspended}

    def _drop_code(self, idle: Code) -> None:
        self.idle.drop_of(idle)
        idle.detach()
        self._evicted += 1

    def _linked(
        self, key: _Key, loading: asyncio.Future[Code], work: asyncio.Future[Linked]
    ) -> None:
        del self._loading[key]
        if work.cancelled():
            loading.cancel()
        elif (error := work.exception()) is not None:
            if not loading.done():
                loading.set_exception(error)
                # Everybody who asked may have given up.
                loading.exception()
        else:
            native, make = work.result()
            owner = self._modules.get(key)
            if owner is None:
                owner = self._modules[key] = make(self)
            if owner.is_loaded:
                native.delete()
            else:
                self._attach(owner, native)
            if not loading.done():
                loading.set_result(owner)


_DELEGATES = {name: callback for name, (_, _, callback) in wapc.FUNCTIONS.items()}
