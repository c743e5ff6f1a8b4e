"""One actor: how many of its calls run, which wait, and what becomes of each.

A call runs at once while fewer than ``count`` instances do. Otherwise it waits in a bounded
mailbox, in order; when that is full the caller hears ``overloaded`` at once and may try elsewhere.
A slot that becomes free is handed to the oldest waiting call, never thrown open, so that a
newcomer can't overtake.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter_ns

import structlog

from host.actors.tally import Tally, is_by_force
from host.engine import CallLimits, Execution, HostCalls, Module
from lattice import errors, limits
from lattice.wire.invocation import Invocation, Reply

log = structlog.get_logger()

UNWIND_S = 1.0
"""How long calls that were ended by force may take to unwind: many ticks of the engine."""

Surroundings = Callable[[Invocation], HostCalls]
"""Makes what a guest may reach while it serves an invocation."""

Report = Callable[[Invocation, errors.LatticeError], None]
"""Hears of a call that a trap or a limit ended, and why."""


@dataclass(frozen=True, slots=True)
class ActorStatistics:
    """A moment's figures."""

    running: int
    waiting: int
    completed: int
    failed: int
    refused: int


class Actor:
    """Serves the calls to one actor on this host."""

    def __init__(
        self,
        actor_id: str,
        module: Module,
        *,
        count: int,
        surroundings: Surroundings,
        call_limits: CallLimits,
        mailbox_calls: int = limits.MAILBOX_CALLS,
        report: Report | None = None,
    ) -> None:
        self.id = actor_id
        self.count = count
        """Concurrent instances at the most; may change while calls run."""
        self._module = module
        self._surroundings = surroundings
        self._call_limits = call_limits
        self._mailbox_calls = mailbox_calls
        self._mailbox: deque[_Waiting] = deque()
        self._mailbox_bytes = 0
        self._running = 0
        self._executions: set[Execution] = set()
        """Those that did not end at once."""
        self._stopping = False
        self._idle = asyncio.Event()
        """Set when the last call ends of an actor that is being stopped."""
        self._report = report
        self.tally = Tally()
        self._loop = asyncio.get_running_loop()

    def statistics(self) -> ActorStatistics:
        return ActorStatistics(
            running=self._running,
            waiting=len(self._mailbox),
            completed=self.tally.completed,
            failed=self.tally.failed,
            refused=self.tally.refused,
        )

    def accept(self, invocation: Invocation) -> Reply | Awaitable[Reply]:
        """Execute a call, or queue it.

        Raises:
            Overloaded: the mailbox is full.
            Draining: the actor is being stopped here.
            DeadlineExceeded: its time is up; not executed.
            LatticeError: whatever the guest's first slice ended with.
        """
        if self._stopping:
            self.tally.refused += 1
            raise errors.Draining(f"{self.id} is being stopped on this host")
        if invocation.deadline <= self._loop.time():
            self.tally.refused += 1
            raise errors.DeadlineExceeded("its time was up when it arrived; not executed")
        if self._running < self.count and not self._mailbox:
            self._enter()
            return self._run(invocation)
        self._check_room(invocation)
        waiting = _Waiting(self._loop.create_future(), len(invocation.payload), perf_counter_ns())
        self._mailbox.append(waiting)
        self._mailbox_bytes += waiting.size
        return self._run_in_turn(invocation, waiting)

    def resize(self, count: int) -> None:
        """Change how many instances may run; running ones are not touched."""
        self.count = count
        while self._running < self.count and self._hand_over():
            self._enter()

    def replace(self, module: Module) -> None:
        """Serve further calls with another module; running ones end with theirs."""
        self._module = module

    def restrict(self, call_limits: CallLimits) -> None:
        """Run further calls under other limits; running ones keep theirs."""
        self._call_limits = call_limits

    async def stop(self, *, drain_s: float) -> None:
        """Take no more calls, and let those that were accepted end within ``drain_s``.

        Those that did not are ended then and answered at once, or their callers would wait for
        their whole deadline: ``draining`` where they only waited, ``cancelled`` where they ran.
        """
        self._stopping = True
        self._note_idle()
        if not await self._wait_idle(drain_s):
            log.warning(
                "actor stopped with calls still running",
                actor=self.id,
                running=self._running,
                waiting=len(self._mailbox),
            )
            self._end_all()
            await self._wait_idle(UNWIND_S)

    async def _wait_idle(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def _end_all(self) -> None:
        for waiting in self._mailbox:
            if not waiting.turn.done():
                waiting.turn.set_exception(
                    errors.Draining(f"{self.id} was stopped while the call waited for an instance")
                )
        for execution in list(self._executions):
            execution.abandon()

    def _check_room(self, invocation: Invocation) -> None:
        size = self._mailbox_bytes + len(invocation.payload)
        if len(self._mailbox) >= self._mailbox_calls or size > limits.MAILBOX_BYTES:
            self.tally.refused += 1
            raise errors.Overloaded(
                f"{self.id} has {self._running} of {self.count} instances running"
                f" and {len(self._mailbox)} calls waiting here",
                detail={"running": self._running, "waiting": len(self._mailbox)},
            )

    def _run(self, invocation: Invocation) -> Reply | Awaitable[Reply]:
        """Start a call whose slot has been taken; gives the slot back when it ends."""
        execution = None
        began_ns = perf_counter_ns()
        try:
            execution = Execution(
                self._module,
                self._surroundings(invocation),
                operation=invocation.operation,
                payload=invocation.payload,
                limits=self._call_limits,
                deadline=invocation.deadline,
            )
            if execution.start():
                reply = Reply(execution.result(), execution.usage)
                self._complete(invocation, reply, began_ns)
                return reply
        except BaseException as error:
            self._fail(invocation, error, execution, began_ns)
            raise
        self._executions.add(execution)
        return self._finish(invocation, execution, began_ns)

    async def _finish(self, invocation: Invocation, execution: Execution, began_ns: int) -> Reply:
        try:
            reply = Reply(await execution.finish(), execution.usage)
        except BaseException as error:
            self._fail(invocation, error, execution, began_ns)
            raise
        finally:
            self._executions.discard(execution)
        self._complete(invocation, reply, began_ns)
        return reply

    def _complete(self, invocation: Invocation, reply: Reply, began_ns: int) -> None:
        usage = reply.usage
        assert usage is not None
        self.tally.complete(
            perf_counter_ns() - began_ns, len(invocation.payload), len(reply.payload), usage
        )
        self._leave()

    def _fail(
        self,
        invocation: Invocation,
        error: BaseException,
        execution: Execution | None,
        began_ns: int,
    ) -> None:
        # First the slot: whatever else goes wrong here, it must not be lost.
        self._leave()
        usage = execution.usage if execution is not None else None
        self.tally.fail(error, perf_counter_ns() - began_ns, len(invocation.payload), usage)
        if (
            self._report is not None
            and isinstance(error, errors.LatticeError)
            and is_by_force(error)
        ):
            self._report(invocation, error)

    async def _run_in_turn(self, invocation: Invocation, waiting: "_Waiting") -> Reply:
        try:
            async with asyncio.timeout_at(invocation.deadline):
                await waiting.turn
        except BaseException as reason:
            if waiting.has_slot:
                # Its turn came in the same moment: pass the slot on.
                self.tally.failed += 1
                self._leave()
            else:
                self._withdraw(waiting)
            if isinstance(reason, TimeoutError):
                raise errors.DeadlineExceeded(
                    f"its time was up while it waited for an instance of {self.id}; not executed"
                ) from None
            raise
        self.tally.queued.add((perf_counter_ns() - waiting.since_ns) // 1_000)
        outcome = self._run(invocation)
        return outcome if isinstance(outcome, Reply) else await outcome

    def _enter(self) -> None:
        self._running += 1

    def _leave(self) -> None:
        if self._running <= self.count and self._hand_over():
            # The slot stays taken: the waiting call has it now.
            return
        self._running -= 1
        if self._stopping:
            self._note_idle()

    def _note_idle(self) -> None:
        if self._running == 0 and not self._mailbox:
            self._idle.set()

    def _hand_over(self) -> bool:
        """Let the oldest waiting call have a slot; False when none waits."""
        while self._mailbox:
            waiting = self._mailbox.popleft()
            self._mailbox_bytes -= waiting.size
            if not waiting.turn.done():
                waiting.turn.set_result(None)
                return True
        return False

    def _withdraw(self, waiting: "_Waiting") -> None:
        # Not there when it was popped after its caller had cancelled it.
        if waiting in self._mailbox:
            self._mailbox.remove(waiting)
            self._mailbox_bytes -= waiting.size
        self.tally.failed += 1
        self._note_idle()


@dataclass(slots=True, eq=False)
class _Waiting:
    turn: asyncio.Future[None]
    size: int
    since_ns: int

    @property
    def has_slot(self) -> bool:
        turn = self.turn
        return turn.done() and not turn.cancelled() and turn.exception() is None
