"""One call: a fresh store and instance on its own fiber, driven to its end.

What is here is the same for all code; the steps are those of a core module, and
``component_execution`` has a component's.

Theory of operation. A call is a row of *phases* on one store: instantiation, the start functions
the module exports, the call itself. Each phase is one *future* of the library; polling it runs
guest code on the fiber until the phase is over or the guest has to wait. It waits for two reasons:

* it made a host call (or sleeps): the callback left a request with the guest, and the execution
  serves it on its own stack, then polls again;
* the epoch advanced under it. On the loop's thread it may go on while its turn there has lasted
  less than half a tick; after that its slices run in worker threads, until its next host call
  brings it back.

The state is touched by one thread at a time: the loop's, except while a worker polls. Between a
worker's start and end the loop's thread only sets ``_stop``, and waits; so the future is never
deleted under a thread that polls it, and the wait is bounded by the epoch's tick.

Whatever ends the call, in this order: the future is deleted (which unwinds a suspended guest),
figures are read, the store is deleted, the slot goes back.
"""

import asyncio
import concurrent.futures
import inspect
import time
from collections.abc import Awaitable
from typing import Any, Final, cast

import structlog

from host.engine import guest, steps, traps, wapc, wasi
from host.engine.code import Code
from host.engine.descriptors import NOTHING, World
from host.engine.guest import DEFAULT_LIMITS, CallLimits, Done, Guest, HostCalls, Work
from host.engine.module import TABLE_ELEMENTS_MAX, Module
from host.engine.preview1 import SUCCESS
from host.engine.reuse import Instance, Instances
from lattice import errors, limits
from lattice.wire.invocation import Usage
from lattice.wire.streams import Source

log = structlog.get_logger()

EXIT_PHASE: Final = b"_start"
"""The phase that a WASI program may leave through ``proc_exit(0)``."""

CLOCK_MONOTONIC: Final = time.CLOCK_MONOTONIC
CLOCK_THREAD: Final = time.CLOCK_THREAD_CPUTIME_ID

FUEL_MAX = 2**62
"""Fuel a metered call starts with: never runs out, the CPU budget is what ends it."""


class Execution:
    """A call that is about to run, runs or has run. Use it on one event loop's thread."""

    __slots__ = (
        "_awaiting",
        "_cancelled_driver",
        "_code",
        "_cpu_ns",
        "_deadline",
        "_driver",
        "_early",
        "_ended",
        "_engine",
        "_error",
        "_fuel",
        "_guest",
        "_held_bytes",
        "_host",
        "_host_calls",
        "_instance",
        "_instances",
        "_interface",
        "_interrupted",
        "_memory_bytes",
        "_module",
        "_started",
        "_stop",
    )

    def __init__(
        self,
        code: Code,
        host: HostCalls,
        *,
        operation: str,
        payload: bytes,
        interface: str = "",
        limits: CallLimits = DEFAULT_LIMITS,
        world: World = NOTHING,
        deadline: float,
        instances: Instances | None = None,
    ) -> None:
        """``interface`` is that of the link which the call came over, if it did.

        ``instances``: where one may be taken from and kept afterwards, all of one actor.
        """
        self._code = code
        # Only what ``component_execution`` does in its own way looks at it as a module.
        self._module = cast("Module", code)
        self._engine = code.engine
        self._host = host
        self._interface = interface
        self._guest = self._make_guest(operation.encode(), payload, limits, world)
        self._deadline = deadline
        self._instances = instances
        self._instance: Instance | None = None
        """The one it runs on, if that may be kept."""
        self._started = False
        self._awaiting: Awaitable[Any] | None = None
        self._driver: asyncio.Task[object] | None = None
        self._cancelled_driver = False
        self._stop = False
        self._ended = False
        self._error: errors.LatticeError | None = None
        self._interrupted: errors.LatticeError | None = None
        self._early: bytes | None = None
        """A response that comes before the end, until it was given."""
        self._host_calls = 0
        self._cpu_ns = 0
        self._memory_bytes = 0
        self._held_bytes = 0
        self._fuel: int | None = None

    @property
    def usage(self) -> Usage:
        """What the call has cost so far; complete after its end, however it ended.

        CPU time is the sum of its slices. Those on the loop's thread are too short for the kernel
        to preempt them often, and are measured by the wall clock, ten times cheaper to read.
        """
        return Usage(
            cpu_us=self._cpu_ns // 1_000,
            fuel=self._fuel,
            memory_bytes=self._memory_bytes,
            host_calls=self._host_calls,
        )

    @property
    def code(self) -> Code:
        return self._code

    @property
    def exit_code(self) -> int:
        """The status that a program left with."""
        return self._guest.exit_code or 0

    def output(self, descriptor: int) -> bytes:
        """What the guest wrote to a standard descriptor, if its world collects that."""
        return bytes((self._guest.console or {}).get(descriptor, b""))

    def start(self) -> bool:
        """Instantiate and run the first slice here and now; true when the call has ended already.

        Raises nothing about the call: ``result`` does. When false, ``finish`` or ``abandon`` must
        follow: until then the instance keeps its place in the pool.
        """
        assert not self._started, "an execution runs once"
        self._started = True
        engine = self._engine
        if (refusal := self._refusal()) is not None:
            self._ended = True
            self._error = refusal
            return True
        call = self._guest
        self._code.last_used = engine.polls
        found = None
        if self._instances is not None and (found := self._instances.take(self._code)):
            slot, base = found.slot, found.base
            engine.retake_slot()
        else:
            slot, base = engine.take_slot()
            slot.store = None
            if self._instances is not None:
                expires_s = time.monotonic() + self._instances.policy.age_s
                self._instance = Instance(slot, base, self._code, expires_s)
        call.slot, call.base = slot, base
        slot.response_bytes_max = call.limits.response_bytes
        slot.request_bytes_max = call.limits.request_bytes
        # Where it is the pool's own, a place in the pool is the limit, and saying it again takes
        # a microsecond.
        is_pools = call.limits.memory_bytes == engine.memory_bytes_max
        try:
            self._enter()
            if found is not None:
                self._instance = found
                state = self._begin_again(found)
            else:
                state = self._begin(0 if is_pools else call.limits.memory_bytes)
            engine.polling = False
            self._advance(state)
        except BaseException:
            # Not the guest's doing: an interrupt from the keyboard, or a bug of ours.
            engine.polling = False
            if not self._ended:
                self._end(errors.Cancelled("the thread was interrupted"))
            raise
        if not self._ended:
            engine.suspended.add(self)
            self._hold()
            if engine.closed:
                self.abandon()
        return self._ended

    async def finish(self) -> bytes:
        """Drive the call to its end and give its response.

        One whose caller takes a stream may have given its response before its end; then it
        ``goes_on``, and this must be called again for the rest, which gives nothing.

        Cancelling it unwinds the guest, at once when it is suspended and within an epoch's tick
        when a worker runs it.

        Raises:
            LatticeError: the call failed; the class says how.
        """
        if self._ended:
            return self.result()
        assert self._driver is None, "one task finishes an execution"
        self._driver = task = asyncio.current_task()
        assert task is not None
        cancellations = task.cancelling()
        timer = asyncio.get_running_loop().call_at(self._deadline, self._expire)
        # One coroutine and one timer: ten thousand suspended calls each hold what stands here.
        try:
            while not (self._ended or self._has_answered()):
                back_on_loop = True
                if self._awaiting is None:
                    back_on_loop = await self._run_in_worker()
                else:
                    try:
                        response = await self._awaiting
                    except errors.LatticeError as error:
                        self._answer_error(error)
                    except Exception as error:
                        self._answer_bug(error)
                    else:
                        self._answer(response)
                self._go_on(back_on_loop)
                if not self._ended:
                    self._hold()
        except asyncio.CancelledError:
            if not self._ended:
                self._end(self._interrupted or errors.Cancelled("the caller stopped waiting"))
            # An interruption cancelled this task only to reach it here. Unless someone else did
            # so too, the task goes on, with the error.
            if task.cancelling() > cancellations + self._cancelled_driver:
                raise
        finally:
            timer.cancel()
            self._driver = None
            if self._cancelled_driver:
                task.uncancel()
            if not self._ended and self._early is None:
                self._end(errors.Cancelled("the task that drove the call was destroyed"))
        if self._early is not None:
            early, self._early = self._early, None
            return early
        return self.result()

    def flow(self, source: Source | None, *, takes_stream: bool) -> None:  # noqa: ARG002
        """Take the rest of a payload in pieces, and give an answer in pieces, where it can.

        Raises:
            InvalidRequest: it can't take any.
        """
        if source is not None:
            raise errors.InvalidRequest("the actor takes no payload in pieces: it is a core module")

    @property
    def goes_on(self) -> bool:
        """Whether it has given its response and not ended."""
        return not self._ended

    @property
    def outflow(self) -> Source | None:
        """What of its response is still to come."""
        return None

    def _has_answered(self) -> bool:
        """Whether there is a response, here and now, before the end."""
        return False

    def result(self) -> bytes:
        """Give the response of a call that has ended.

        Raises:
            LatticeError: the call failed; the class says how.
        """
        assert self._ended, "the call has not ended"
        if self._error is not None:
            raise self._error
        response = self._guest.response
        assert response is not None
        return response

    def abandon(self) -> None:
        """End the call now, whatever the guest is doing. Safe at any time, and twice.

        While a worker runs the guest, the ``finish`` that waits for it does it, within a tick.
        """
        if not self._ended:
            self._interrupt(errors.Cancelled("the call was abandoned"))

    def _expire(self) -> None:
        self._interrupt(errors.DeadlineExceeded("the deadline passed while the actor was running"))

    def _interrupt(self, error: errors.LatticeError) -> None:
        """End the call with this error, through the task that drives it if there is one."""
        if self._driver is None:
            self._end(error)
            return
        if self._interrupted is not None:
            return
        self._interrupted = error
        self._stop = True
        # A host call of this very call may be what interrupts it; then no await has to be broken.
        if self._driver is not asyncio.current_task():
            self._cancelled_driver = True
            self._driver.cancel()

    def _refusal(self) -> errors.LatticeError | None:
        engine = self._engine
        if engine.closed:
            return errors.Draining("the engine is closed")
        if engine.running >= engine.instances_max:
            return errors.Overloaded(f"all {engine.instances_max} instances of the host are busy")
        if time.monotonic() >= self._deadline:
            return errors.Expired("the deadline passed before the call was executed")
        if not self._code.is_loaded:
            return errors.Overloaded("the actor's code was evicted and is not loaded again yet")
        needed, allowed = self._code.memory_bytes_min, self._guest.limits.memory_bytes
        if allowed > engine.memory_bytes_max:
            return errors.InvalidRequest(
                f"the call may use {allowed} bytes of memory, but the host's pool has places "
                f"of {engine.memory_bytes_max}"
            )
        if needed > allowed:
            return errors.MemoryExceeded(needed, allowed)
        return None

    def _enter(self) -> None:
        """Say whose guest this thread is about to run."""
        engine = self._engine
        # Before every step: serving a host call may have run other guests in between.
        guest.running.guest = self._guest
        engine.polls += 1
        engine.polling = True
        if engine.parked:
            engine.unpark()

    def _advance(self, state: int, spent_ns: int = 0) -> None:
        """Go on from a step's outcome, on this thread, until the guest ends, waits, or has had its
        share of the thread: its turn began when it had spent so much CPU time.
        """
        engine, call = self._engine, self._guest
        turn_ends_ns = 0
        while True:
            if call.lines is not None:
                self._deliver_lines()
            if state == steps.WAITS:
                now_ns = time.perf_counter_ns()
                # The first step counts: one that began just after a tick has lasted a whole one.
                turn_ends_ns = turn_ends_ns or now_ns + engine.turn_ns + spent_ns - call.slot.cpu_ns
                if call.slot.calling:
                    self._read_request()
                if call.request is not None and not self._serve(call.request):
                    return
                if self._ended or self._over_budget():
                    return
                if self._interrupted is not None:
                    self._end(self._interrupted)
                    return
                if now_ns > turn_ends_ns:
                    return
            elif not self._settle(state):
                return
            state = self._run()

    def _run(self) -> int:
        """Take the next step on this thread."""
        self._enter()
        state = self._step(CLOCK_MONOTONIC)
        self._engine.polling = False
        return state

    # The steps, which are a core module's here.

    def _make_guest(
        self, operation: bytes, payload: bytes, call_limits: CallLimits, world: World
    ) -> Guest:
        return Guest(operation, payload, call_limits, world)

    def _begin(self, memory_bytes_max: int) -> int:
        """Make the instance and take the first step; a limit of 0 is the pool's own."""
        call, engine = self._guest, self._engine
        return engine.steps.start(
            call.base,
            self._module.program_address,
            memory_bytes_max,
            TABLE_ELEMENTS_MAX,
            FUEL_MAX if engine.fuel else 0,
            call.operation,
            len(call.operation),
            call.payload,
            len(call.payload),
        )

    def _begin_again(self, _instance: Instance) -> int:
        """Take the first step of a call on an instance that was kept, and is in the slot."""
        call, engine = self._guest, self._engine
        return engine.steps.again(
            call.base,
            self._module.program_address,
            FUEL_MAX if engine.fuel else 0,
            call.operation,
            len(call.operation),
            call.payload,
            len(call.payload),
        )

    def _step(self, clock: int) -> int:
        """Poll, on whichever thread it is, until one of the outcomes of ``steps``."""
        return self._engine.steps.run(self._guest.base, self._module.program_address, clock)

    def _rest(self, instance: Instance) -> None:
        """Note the figures of the call that returned; its instance stays."""
        self._engine.steps.rest(instance.base)

    def _free(self) -> None:
        """Unwind the guest if need be, and free its store."""
        self._engine.steps.end(self._guest.base)

    def _settle(self, state: int) -> bool:
        """End the call, which is over; true if only a program left through ``proc_exit(0)``."""
        call = self._guest
        if state == steps.DONE:
            if self._code.command:
                self._end_program()
            else:
                self._conclude(call.slot.result)
            return False
        begun = call.slot.phase
        left = begun > 0 and self._module.entries[begun - 1] == EXIT_PHASE
        is_program = self._code.command and call.exit_code is not None
        if not (left and (call.exit_code == 0 or is_program)):
            self._end(traps.explain(call.slot, call))
            return False
        traps.take(call.slot)
        call.fault = ""
        if is_program:
            self._end_program()
            return False
        call.exit_code = None
        return True

    def _end_program(self) -> None:
        self._guest.response = b""
        self._end(None)

    def _read_request(self) -> None:
        """Take the host call that was noted where the guest made it."""
        call = self._guest
        call.slot.calling = 0
        call.host_error = None
        wapc.read_request(call, call.pieces())
        if call.request is None:
            guest.resume(call, 0)

    def _conclude(self, result: int) -> None:
        call = self._guest
        if result == 0:
            said = call.error
            self._end(errors.ActorError(said or "it failed and gave no error text"))
            return
        if call.slot.responded:
            call.take_response()
        if call.response is None:
            self._end(errors.ActorError("it reported success and gave no response"))
        else:
            self._end(None)

    def _ask(self, request: Any) -> bytes | Awaitable[Any]:
        """Begin what the guest is suspended for."""
        if isinstance(request, float):
            return asyncio.sleep(request, Done(SUCCESS))
        if isinstance(request, Work):
            return self._engine.work(request.perform)
        self._host_calls += 1
        return self._host.call(*request)

    def _serve(self, request: Any) -> bool:
        """Begin what the guest is suspended for; true when it is over already."""
        try:
            answer = self._ask(request)
        except errors.LatticeError as error:
            self._answer_error(error)
        except Exception as error:
            self._answer_bug(error)
        else:
            if isinstance(answer, bytes):
                self._answer(answer)
            elif self._ended:
                _discard(answer)
            else:
                self._awaiting = answer
        return self._awaiting is None

    def _answer(self, response: Any) -> None:
        # The host call may have abandoned its own call: then there is no guest to answer.
        if self._ended:
            return
        self._awaiting = None
        if isinstance(response, Done):
            if response.pieces:
                self._guest.deliver(response.pieces)
            guest.resume(self._guest, response.result)
        else:
            self._guest.give_response(response)
            guest.resume(self._guest, 1)

    def _answer_error(self, error: errors.LatticeError) -> None:
        if self._ended:
            return
        self._awaiting = None
        text = f"{error.code}: {error.text}"
        self._guest.host_error = text[: limits.ERROR_TEXT_CHARS].encode()
        guest.resume(self._guest, 0)

    def _answer_bug(self, error: Exception) -> None:
        log.error("host call failed", digest=self._code.digest, exc_info=error)
        self._answer_error(errors.InternalError("the host call failed; the host's log says why"))

    def _go_on(self, back_on_loop: bool) -> None:
        """Run the guest on after a wait, unless the call is over by now or it belongs elsewhere."""
        if self._ended:
            return
        if self._interrupted is not None:
            # A host call may have turned its cancellation into an error.
            self._end(self._interrupted)
        elif not self._over_budget() and back_on_loop and self._awaiting is None:
            spent_ns = self._guest.slot.cpu_ns
            self._advance(self._run(), spent_ns)

    async def _run_in_worker(self) -> bool:
        """Run slices in a worker thread; true when the guest did something that ends its exile.

        Otherwise it only made room for another guest, or a line of its log has to be written.
        """
        engine = self._engine
        worker = engine.offload(self._slices)
        try:
            done = asyncio.wrap_future(worker)
            interruption: asyncio.CancelledError | None = None
            while not done.done():
                try:
                    # Unlike a bare await, this does not cancel what it waits for.
                    await asyncio.wait([done])
                except asyncio.CancelledError as error:
                    interruption = error
                    self._stop = True
                    if worker.cancel():
                        break
            if interruption is not None:
                raise interruption
        finally:
            self._stop = True
            if worker.cancel():
                # It never started, so it did not take its token.
                engine.waiting.pop()
            else:
                # Only a coroutine destroyed in mid-wait finds it running still: it must be out of
                # the guest before anything is deleted, which takes a tick at most.
                concurrent.futures.wait([worker])
            engine.onload()
            self._stop = False
        if self._guest.lines is not None:
            self._deliver_lines()
        state = done.result()
        if state != steps.WAITS:
            self._settle(state)
            return True
        if self._guest.slot.calling:
            self._read_request()
        if self._guest.request is not None:
            self._serve(self._guest.request)
            return True
        return False

    def _slices(self) -> int:
        """Run in a worker thread; gives the outcome of the last slice."""
        engine, call, slot = self._engine, self._guest, self._guest.slot
        engine.waiting.pop()
        guest.running.guest = call
        budget_ns = call.limits.cpu_time_s * 1e9
        while True:
            state = self._step(CLOCK_THREAD)
            if (
                state != steps.WAITS
                or self._stop
                or slot.calling
                or call.request is not None
                or call.lines is not None
                or engine.waiting
                or slot.cpu_ns > budget_ns
                or time.monotonic() >= self._deadline
            ):
                guest.running.guest = guest.IDLE
                return state

    def _over_budget(self) -> bool:
        """End the call if it used up its CPU time."""
        budget_s, cpu_ns = self._guest.limits.cpu_time_s, self._guest.slot.cpu_ns
        if cpu_ns <= budget_s * 1e9:
            return False
        self._end(errors.CpuExceeded(cpu_ns // 1_000, round(budget_s * 1e6)))
        return True

    def _hold(self) -> None:
        """Have the engine count the memory that the guest has now."""
        held = self._guest.memory_size()
        self._engine.suspended_bytes += held - self._held_bytes
        self._held_bytes = held

    def _deliver_lines(self) -> None:
        lines, self._guest.lines = self._guest.lines, None
        for level, text in lines or ():
            self._log(level, text)

    def _log(self, level: str, text: str) -> None:
        try:
            self._host.log(level, text)
        except Exception as error:
            log.error("log line of a guest was lost", digest=self._code.digest, exc_info=error)

    def _end(self, error: errors.LatticeError | None) -> None:
        """Settle the outcome and let go of the instance."""
        self._ended = True
        call = self._guest
        failure = call.failure
        if failure is not None:
            call.failure = None
            if not isinstance(failure, Exception):
                self._release()
                raise failure
            log.error("host function failed", digest=self._code.digest, exc_info=failure)
            error = errors.InternalError("a host function failed; the host's log says why")
        self._error = error
        self._release(returned=error is None)

    def _release(self, *, returned: bool = False) -> None:
        call, engine = self._guest, self._engine
        guest.running.guest = guest.IDLE
        if self._awaiting is not None:
            _discard(self._awaiting)
            self._awaiting = None
        if call.base:
            slot, base = call.slot, call.base
            kept = returned and self._instance is not None and self._keep(self._instance)
            if not kept:
                self._free()
            self._cpu_ns = slot.cpu_ns
            self._memory_bytes = slot.memory_bytes
            if engine.fuel:
                self._fuel = slot.fuel
            call.slot, call.base = guest.NOWHERE, 0
            if not kept:
                engine.give_slot(slot, base)
            engine.suspended.discard(self)
            engine.suspended_bytes -= self._held_bytes
        if call.descriptors is not None:
            engine.close_descriptors(call.descriptors)
        if call.console is not None:
            wasi.flush_console(call)
        if call.lines is not None:
            self._deliver_lines()
        if call.lines_left < 0:
            self._log("warning", f"{-call.lines_left} log lines were dropped")

    def _keep(self, instance: Instance) -> bool:
        """Keep the instance for another call of its actor, if that may be."""
        engine = self._engine
        if engine.closed or self._instances is None:
            return False
        if not self._instances.keep(instance, self._guest.memory_size()):
            return False
        self._rest(instance)
        # Or it would live as long as the instance.
        instance.slot.host_response = None
        engine.keep_slot()
        return True


def _discard(awaiting: Awaitable[Any]) -> None:
    """Stop something nobody will await any more."""
    if inspect.iscoroutine(awaiting):
        awaiting.close()
    elif isinstance(awaiting, asyncio.Future):
        awaiting.cancel()
