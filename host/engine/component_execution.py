"""One call of a component: the execution of ``execution``, with a component's steps.

What differs: there are two phases, instantiation and the call; host functions are awaited for a
value of theirs instead of bytes; and a failure that comes after a host function has suspended its
guest can only end the call (``component_ffi`` says why).
"""

import ctypes
import time
from collections.abc import Awaitable
from typing import Any

import structlog

from host.engine import component_ffi, ffi, steps, traps, wit
from host.engine.code import Code
from host.engine.component import Component, Entry
from host.engine.component_ffi import VALUE_BYTES
from host.engine.component_guest import Abandonable, ComponentGuest, Later
from host.engine.descriptors import World
from host.engine.execution import FUEL_MAX, Execution
from host.engine.footprint import INSTANCES_MAX
from host.engine.gauge import INSTANCES_PER_MEMORY
from host.engine.guest import CallLimits, GuestFault, HostCalls
from host.engine.reuse import Instance
from lattice import errors
from lattice.wire import codec
from lattice.wire.streams import Source

log = structlog.get_logger()

_INSTANTIATES, _CALLS, _IS_GAUGED = range(3)
"""The phases."""

_INSTANCE = ffi.offset("instance")
_ERROR = ffi.offset("error")
_FUNCTION = ffi.offset("function_kind")
_FUEL = ffi.offset("fuel")


def execution_of(code: Code) -> type[Execution]:
    """What runs calls of some code: the class to make an ``Execution`` of."""
    return ComponentExecution if isinstance(code, Component) else Execution


class ComponentExecution(Execution):
    """A call of a component."""

    __slots__ = (
        "_answers_early",
        "_arguments",
        "_entry",
        "_gauged",
        "_has_returned",
        "_results",
        "_values",
    )

    _code: Component
    _guest: ComponentGuest

    def __init__(self, code: Code, host: HostCalls, **call: Any) -> None:
        super().__init__(code, host, **call)
        self._arguments: ctypes.Array[ctypes.c_char] | None = None
        self._results: ctypes.Array[ctypes.c_char] | None = None
        self._gauged: ctypes.Array[ctypes.c_uint64] | None = None
        """Where the size of its memories is told."""
        self._entry: Entry | None = None
        self._values: list[Any] = []
        self._answers_early = False
        """Whether its response was given before its end."""
        self._has_returned = False
        """Whether its function has, and only its response is waited for."""

    def _make_guest(
        self, operation: bytes, payload: bytes, call_limits: CallLimits, world: World
    ) -> ComponentGuest:
        engine = self._engine
        return ComponentGuest(
            operation, payload, call_limits, world, tasks=engine.tasks, work=engine.work
        )

    def _refusal(self) -> errors.LatticeError | None:
        if (refusal := super()._refusal()) is not None:
            return refusal
        call = self._guest
        needed, allowed = self._code.facts.footprint.memory_bytes_needed, call.limits.memory_bytes
        if needed > allowed:
            return errors.MemoryExceeded(needed, allowed)
        try:
            self._entry = entry = self._code.entry(call.operation.decode(), self._interface)
            self._values = entry.arguments(call, call.payload)
            entry.signature.check_arguments(self._values, wit.Budget())
        except errors.LatticeError as error:
            return error
        return None

    def _begin(self, memory_bytes_max: int) -> int:
        call, engine, code = self._guest, self._engine, self._code
        slot, native = call.slot, code.native
        _clear(slot)
        slot.store = store = ffi.store_new(engine.pointer, None, None)
        slot.context = context = ffi.store_context(store)
        # The limits are the sums'; a component of one memory, nearly all are, has it for that one.
        needs = code.facts.footprint
        memories, tables = max(1, needs.memories), max(1, needs.tables)
        memory_bytes = (memory_bytes_max or engine.memory_bytes_max) // memories
        instances = INSTANCES_MAX + INSTANCES_PER_MEMORY * memories
        ffi.store_limiter(
            store, memory_bytes, needs.table_elements_max, instances, tables, memories
        )
        ffi.yield_on_epoch(context, 1)
        self._allow()
        slot.future = component_ffi.instantiate_async(
            native.linker, context, native.pointer, call.base + _INSTANCE, call.base + _ERROR
        )
        return self._step(time.CLOCK_MONOTONIC)

    def _begin_again(self, instance: Instance) -> int:
        _clear(self._guest.slot)
        held, instance.holds = instance.holds, None
        assert isinstance(held, dict), "it served a call before"
        self._guest.resources |= held
        self._allow()
        self._call()
        self._guest.memory_bytes = instance.memory_bytes
        return self._step(time.CLOCK_MONOTONIC)

    def _allow(self) -> None:
        slot = self._guest.slot
        ffi.set_epoch_deadline(slot.context, 1)
        if self._engine.fuel:
            slot.fuel = FUEL_MAX
            ffi.set_fuel(slot.context, FUEL_MAX)

    def _step(self, clock: int) -> int:
        slot = self._guest.slot
        while True:
            began_ns = time.clock_gettime_ns(clock)
            over = ffi.poll(slot.future)
            slot.cpu_ns += time.clock_gettime_ns(clock) - began_ns
            if not over:
                return steps.WAITS
            ffi.future_delete(slot.future)
            slot.future = None
            if slot.error:
                return steps.FAULT
            if slot.phase == _INSTANTIATES:
                self._call()
            elif slot.phase == _CALLS and self._code.native.gauge is not None:
                self._ask_gauge(self._code.native.gauge)
            else:
                if self._gauged is not None:
                    self._guest.memory_bytes = self._gauged[1]
                return steps.DONE

    def _call(self) -> None:
        """Call the exported function on the instance, which is there now."""
        entry, base, slot = self._entry, self._guest.base, self._guest.slot
        assert entry is not None
        signature, context = entry.signature, slot.context
        place = self._code.native.indexes[entry.name]
        found = component_ffi.get_function(base + _INSTANCE, context, place, base + _FUNCTION)
        assert found, "the place is in this very component"
        slot.phase = _CALLS
        self._guest.memory_bytes = self._code.memory_bytes_min
        count = len(self._values)
        self._arguments = (ctypes.c_char * (VALUE_BYTES * max(1, count)))()
        self._results = (ctypes.c_char * VALUE_BYTES)()
        address = ctypes.addressof(self._arguments)
        for index, (lower, value) in enumerate(zip(signature.lowers, self._values, strict=True)):
            lower(context, address + VALUE_BYTES * index, value)
        slot.future = component_ffi.call_async(
            base + _FUNCTION,
            context,
            address,
            count,
            ctypes.addressof(self._results),
            0 if signature.lift_result is None else 1,
            base + _ERROR,
        )

    def _ask_gauge(self, place: ffi.Address) -> None:
        """Call the function that tells how large the instance's memories are, after its call."""
        base, slot = self._guest.base, self._guest.slot
        found = component_ffi.get_function(base + _INSTANCE, slot.context, place, base + _FUNCTION)
        assert found, "the place is in this very component"
        slot.phase = _IS_GAUGED
        self._gauged = (ctypes.c_uint64 * (VALUE_BYTES // 8))()
        slot.future = component_ffi.call_async(
            base + _FUNCTION,
            slot.context,
            0,
            0,
            ctypes.addressof(self._gauged),
            1,
            base + _ERROR,
        )

    def flow(self, source: Source | None, *, takes_stream: bool) -> None:
        self._guest.source = source
        self._guest.takes_stream = takes_stream

    @property
    def outflow(self) -> Source | None:
        return self._guest.outflow

    def _has_answered(self) -> bool:
        call, entry = self._guest, self._entry
        if not call.takes_stream or call.answer is None or self._answers_early:
            return False
        if self._interrupted is not None or entry is None:
            return False
        self._early = entry.early_response(call)
        self._answers_early = self._early is not None
        if call.outflow is not None:
            call.outflow.closed = self.abandon
        return self._answers_early

    def _end(self, error: errors.LatticeError | None) -> None:
        call = self._guest
        for task in list(call.under_way):
            task.cancel()
        for source in (*call.flowing, *((call.source,) if call.source is not None else ())):
            source.close()
        for resource in call.resources.values():
            if isinstance(resource, Abandonable):
                resource.leave()
        for work in call.afterwards:
            call.tasks.spawn(work(), name="what a guest left to be done")
        super()._end(error)
        if call.outflow is not None:
            call.outflow.fail(self._error or errors.ActorError("it left its answer unfinished"))

    def _rest(self, instance: Instance) -> None:
        self._free_values()
        self._note_figures()
        # What frees it one day is what frees a module's, and there is no memory to be measured.
        self._guest.slot.phase = 0
        instance.holds = self._guest.lasting()

    def _free(self) -> None:
        slot = self._guest.slot
        if slot.future:
            ffi.future_delete(slot.future)
            slot.future = None
        self._free_values()
        if slot.store:
            self._note_figures()
            ffi.store_delete(slot.store)
            slot.store = slot.context = None

    def _free_values(self) -> None:
        # A value of zeros is a bool, which owns nothing: what was not written can be deleted too.
        if self._arguments is not None:
            address = ctypes.addressof(self._arguments)
            for index in range(len(self._values)):
                component_ffi.value_delete(address + VALUE_BYTES * index)
            self._arguments = None
        if self._results is not None:
            component_ffi.value_delete(ctypes.addressof(self._results))
            self._results = None
        self._values = []

    def _note_figures(self) -> None:
        slot = self._guest.slot
        slot.memory_bytes = self._guest.memory_size()
        if slot.fuel:
            ffi.get_fuel(slot.context, self._guest.base + _FUEL)
            slot.fuel = FUEL_MAX - slot.fuel

    def _settle(self, state: int) -> bool:
        call = self._guest
        if state == steps.DONE:
            self._finish_call()
        elif call.exit_code == 0 and self._entry is not None and self._entry.is_command:
            call.response = codec.pack({"ok": None})
            self._end(None)
        else:
            self._fail(traps.explain_component(call.slot, call))
        return False

    def _fail(self, error: errors.LatticeError) -> None:
        """End the call with what the guest failed with, unless it had answered in full before.

        Its caller would have that answer from any host that sends it while the guest goes on.
        """
        call, entry = self._guest, self._entry
        answer = None if entry is None else entry.full_response(call)
        if answer is None:
            self._end(error)
            return
        self._log("warning", f"it had answered, and then failed: {error.code}: {error.text}")
        # A guest that failed serves no other call.
        self._instance = None
        self._give_response(answer)

    def _finish_call(self) -> None:
        """Read the result, and end the call with it."""
        call, entry = self._guest, self._entry
        assert entry is not None
        assert self._results is not None
        result = None
        try:
            if entry.signature.lift_result is not None:
                result = entry.signature.lift_result(
                    call.slot.context, wit.Budget(), self._results.raw, 0
                )
        except errors.LatticeError as error:
            self._end(errors.ActorError(f"the actor's answer: {error.text}"))
            return
        self._has_returned = True
        self._give_result(result)

    def _give_result(self, result: Any) -> None:
        """End the call with what its function gave, or wait for what that stands for."""
        call, entry = self._guest, self._entry
        assert entry is not None
        try:
            response = entry.response(call, result)
        except errors.ActorError as error:
            self._end(error)
            return
        except errors.LatticeError as error:
            self._end(errors.ActorError(f"the actor's answer: {error.text}"))
            return
        if isinstance(response, Later):
            self._wait(response)
            return
        self._give_response(response)

    def _give_response(self, response: bytes) -> None:
        """End the call with its response."""
        call = self._guest
        size, allowed = len(response), call.limits.response_bytes
        if size > allowed:
            self._end(traps.response_too_large(size, allowed))
            return
        call.response = response
        self._end(None)

    def _wait(self, request: Later) -> None:
        """Wait for something more before the guest goes on, or its call ends."""
        self._guest.request = request
        self._serve(request)

    def _ask(self, request: Any) -> bytes | Awaitable[Any]:
        assert isinstance(request, Later)
        if called := self._guest.at_wait:
            self._guest.at_wait = []
            for each in called:
                each()
        self._host_calls += request.is_host_call
        return request.begin(self._host)

    def _answer(self, response: Any) -> None:
        if self._ended:
            return
        self._awaiting = None
        request = self._guest.request
        assert isinstance(request, Later)
        try:
            result = request.finish(response)
            if isinstance(result, Later):
                self._wait(result)
            elif self._has_returned:
                self._give_result(None)
            else:
                self._resume(result)
        except errors.LatticeError as error:
            self._end(errors.ActorError(f"the answer to a call of the actor: {error.text}"))
        except GuestFault as fault:
            self._end(traps.explain_fault(self._guest, str(fault)))
        except Exception as error:
            # Whoever answered did not speak the interface, or it is a bug of ours.
            log.error("answer not understood", digest=self._code.digest, exc_info=error)
            self._end(errors.InternalError("an answer was not understood; the host's log says why"))

    def _answer_error(self, error: errors.LatticeError) -> None:
        if self._ended:
            return
        self._awaiting = None
        request = self._guest.request
        assert isinstance(request, Later)
        if request.fail is None:
            self._end(
                errors.ActorError(
                    f"a call of the actor failed, and its function can't say so:"
                    f" {error.code}: {error.text}"
                )
            )
        else:
            self._resume(request.fail(error))

    def _answer_bug(self, error: Exception) -> None:
        if isinstance(error, GuestFault) and not self._ended:
            self._awaiting = None
            self._end(traps.explain_fault(self._guest, str(error)))
        else:
            super()._answer_bug(error)

    def _resume(self, value: Any) -> None:
        """Give a suspended guest its result: the next poll runs it on."""
        call = self._guest
        assert call.signature is not None
        call.signature.give_result(call.slot.context, wit.Budget(), call.slot.results, value)
        call.request = call.signature = None
        call.slot.completed = 1


def _clear(slot: ffi.Slot) -> None:
    slot.trap = slot.error = None
    slot.phase = slot.cpu_ns = slot.memory_bytes = slot.calling = slot.fuel = 0
    slot.requested = slot.responded = slot.host_responded = 0
