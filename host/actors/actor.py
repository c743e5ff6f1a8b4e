"""One actor: how many of its calls run, which wait, and what becomes of each.

A call runs at once while fewer than ``count`` instances do and the host has a place for one more
(``slots.py``). Otherwise it waits in a bounded mailbox, in order; when that is full the caller
hears ``overloaded`` at once and may try elsewhere. So does one whose turn would come too late by
the pace of late: otherwise all that a flooded actor does would be for callers who are giving up. A
place that becomes free is handed to the oldest waiting call of the actor whose turn it is, never
thrown open, so that a newcomer can't overtake. An actor whose guests keep trapping is left alone
for a while (``throttle.py``).
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter_ns

import structlog

from host.actors.slots import Share, Slots
from host.actors.tally import Tally, is_by_force
from host.actors.throttle import Throttle, ThrottlePolicy
from host.engine import (
    NOTHING,
    CallLimits,
    Code,
    Execution,
    HostCalls,
    Instances,
    ReusePolicy,
    World,
    execution_of,
)
from lattice import errors, limits
from lattice.aio.tasks import TaskGroup
from lattice.wire.invocation import Invocation, Reply
from lattice.wire.streams import counted

log = structlog.get_logger()

WAIT_SHARE = 0.8
"""Of the time that a call has left, what it may be expected to wait: the rest is for its execution,
and for what the pace may be wrong by."""

PACE_CALLS = 32
"""Over about so many calls the pace of a mailbox is averaged."""

UNWIND_S = 1.0
"""How long calls that were ended by force may take to unwind: many ticks of the engine."""

Reload = Callable[[str, Code], Awaitable[None]]
"""Loads the code of an actor's module again, given the actor's id; raises a ``LatticeError``."""

Surroundings = Callable[[Invocation], HostCalls]
"""Makes what a guest may reach while it serves an invocation."""

Report = Callable[[Invocation, errors.LatticeError], None]
"""Hears of a call that a trap or a limit ended, and why."""


ThrottleNotice = Callable[[str, Throttle], None]
"""Hears the id of an actor that begins to be throttled, and when that is over."""


@dataclass(frozen=True, slots=True)
class ActorStatistics:
    """A moment's figures."""

    running: int
    waiting: int
    completed: int
    failed: int
    refused: int


class Actor:
    """Serves the calls to one actor on this host.

    There may be tens of thousands, most of them idle: what only a busy one needs is made then.
    """

    __slots__ = (
        "_call_limits",
        "_count",
        "_executions",
        "_idle",
        "_instances",
        "_loop",
        "_mailbox",
        "_mailbox_calls",
        "_module",
        "_moved_at",
        "_pace_s",
        "_probe",
        "_reload",
        "_reload_after",
        "_reload_failure",
        "_reloading",
        "_report",
        "_share",
        "_slots",
        "_stopping",
        "_surroundings",
        "_tasks",
        "_throttle_notice",
        "_uniform",
        "id",
        "tally",
        "throttle",
        "world",
    )

    def __init__(
        self,
        actor_id: str,
        module: Code,
        *,
        count: int,
        slots: Slots,
        surroundings: Surroundings,
        call_limits: CallLimits,
        world: World = NOTHING,
        mailbox_calls: int = limits.MAILBOX_CALLS,
        report: Report | None = None,
        throttle: ThrottlePolicy | None = None,
        throttle_notice: ThrottleNotice | None = None,
        instances: Instances | None = None,
        reload: Reload | None = None,
        tasks: TaskGroup | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """``reload`` and ``tasks`` may be absent where no module is ever evicted.

        Without ``instances`` each call gets a fresh one.
        """
        self.id = actor_id
        self._slots = slots
        self._count = count
        self._share = Share(count, self._begin_oldest)
        self._module = module
        self._surroundings = surroundings
        self._call_limits = call_limits
        self.world = world
        """What further calls find through WASI."""
        self._mailbox_calls = mailbox_calls
        # Ordered, as a deque is, and what gives up in its middle is found at once.
        self._mailbox: OrderedDict[_Waiting, None] = OrderedDict()
        self._pace_s = 0.0
        """From one call that leaves the mailbox to the next, on average; 0 while it is unknown."""
        self._moved_at = 0.0
        self._executions: set[Execution] | None = None
        """Those that did not end at once."""
        self._stopping = False
        self._idle: asyncio.Future[None] | None = None
        """While somebody waits for the last call to end."""
        self._report = report
        self.throttle = Throttle(throttle or ThrottlePolicy(traps=0))
        self._throttle_notice = throttle_notice
        self._instances = instances
        self._reload = reload
        self._tasks = tasks
        self._reloading = False
        self._reload_failure: errors.LatticeError | None = None
        """Why the last attempt to load its code again failed; told until the next attempt."""
        self._reload_after = 0.0
        """When there may be another one."""
        self._probe: Invocation | None = None
        """The call whose end decides whether the actor is throttled on."""
        self._uniform = uniform
        self.tally = Tally()
        self._loop = asyncio.get_running_loop()

    @property
    def count(self) -> int:
        """Concurrent instances at the most."""
        return self._count

    def statistics(self) -> ActorStatistics:
        return ActorStatistics(
            running=self._share.running,
            waiting=len(self._mailbox),
            completed=self.tally.completed,
            failed=self.tally.failed,
            refused=self.tally.refused,
        )

    def accept(self, invocation: Invocation) -> Reply | Awaitable[Reply]:
        """Execute a call, or queue it; those that find the code evicted wait until it is back.

        Raises:
            Overloaded: the mailbox is full, or the actor is throttled.
            Draining: the actor is being stopped here.
            DeadlineExceeded: its time is up; not executed.
            NotRunning: its code was evicted, and has just failed to be loaded again.
            LatticeError: whatever the guest's first slice ended with.
        """
        if self._stopping:
            self.tally.refused += 1
            raise errors.Draining(f"{self.id} is being stopped on this host")
        if invocation.deadline <= self._loop.time():
            self.tally.refused += 1
            raise errors.Expired("its time was up when it arrived; not executed")
        if self.throttle.traps and self.throttle.is_on:
            self._admit_probe(invocation)
        if self._module.is_loaded:
            if self._slots.enter(self._share):
                return self._run(invocation)
        elif not self._reloading:
            self._begin_reload(invocation)
        self._check_room(invocation)
        waiting = _Waiting(
            self._loop.create_future(),
            len(invocation.payload),
            invocation.deadline,
            perf_counter_ns(),
        )
        if not self._mailbox:
            self._moved_at = self._loop.time()
        self._mailbox[waiting] = None
        self._slots.wait(self._share, waiting.size)
        return self._run_in_turn(invocation, waiting)

    def resize(self, count: int) -> None:
        """Change how many instances may run; running ones are not touched."""
        self._count = count
        self._pace_s = 0.0
        if not self._reloading:
            self._let_run(count)

    def replace(self, module: Code) -> None:
        """Serve further calls with another module; running ones end with theirs."""
        self._module = module
        self._pace_s = 0.0
        self._renew_instances()
        if self.throttle.traps:
            # What the old one did is not held against the new one.
            self._note_success()

    def restrict(self, call_limits: CallLimits) -> None:
        """Run further calls under other limits; running ones keep theirs."""
        if call_limits != self._call_limits:
            self._call_limits = call_limits
            self._renew_instances()

    def reuse(self, instances: Instances | None) -> None:
        """Keep instances there from now on, or none at all; drop those that are kept."""
        if self._instances is not None:
            self._instances.close()
        self._instances = instances

    @property
    def reuse_policy(self) -> ReusePolicy | None:
        return self._instances.policy if self._instances is not None else None

    def _renew_instances(self) -> None:
        if self._instances is not None:
            self._instances = self._instances.renewed()

    async def stop(self, *, drain_s: float) -> None:
        """Take no more calls, and let those that were accepted end within ``drain_s``.

        Those that did not are ended then and answered at once, or their callers would wait for
        their whole deadline: ``draining`` where they only waited, ``cancelled`` where they ran.
        """
        self._stopping = True
        self.reuse(None)
        if not await self._idle_within(drain_s):
            log.warning(
                "actor stopped with calls still running",
                actor=self.id,
                running=self._share.running,
                waiting=len(self._mailbox),
            )
            self._end_all()
            await self._idle_within(UNWIND_S)

    @property
    def is_idle(self) -> bool:
        """Whether no call runs or waits."""
        return self._share.running == 0 and not self._mailbox

    async def idle(self) -> None:
        """Return when no call runs or waits; calls that come meanwhile are served."""
        while not self.is_idle:
            self._idle = self._idle or self._loop.create_future()
            await asyncio.shield(self._idle)

    async def _idle_within(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self.idle()
        except TimeoutError:
            return False
        return True

    def _end_all(self) -> None:
        self._empty_mailbox(
            lambda: errors.Draining(f"{self.id} was stopped while the call waited for an instance")
        )
        for execution in list(self._executions or ()):
            execution.abandon()

    def _let_run(self, count: int) -> None:
        self._share.count = count
        self._slots.resized(self._share)
        self._slots.share_out()

    def _begin_reload(self, invocation: Invocation) -> None:
        """Have the evicted code loaded; until then no call gets a place, and all wait in order.

        Raises:
            NotRunning: the last attempt failed, and the next one has to wait.
        """
        assert self._reload is not None, "it is evicted, so there is who loads it again"
        assert self._tasks is not None, "as above"
        if self._reload_failure is not None and self._loop.time() < self._reload_after:
            if invocation is self._probe:
                self._lose_probe()
            self.tally.refused += 1
            raise self._not_loaded(self._reload_failure)
        self._reloading = True
        self._let_run(0)
        self._tasks.spawn(self._load_again(self._module), name=f"reload {self.id}")

    async def _load_again(self, module: Code) -> None:
        assert self._reload is not None, "only then it was begun"
        failure: errors.LatticeError | None = errors.InternalError(
            "loading failed by a bug; the host's log says why"
        )
        try:
            await self._reload(self.id, module)
            failure = None
        except errors.LatticeError as error:
            failure = error
            log.warning("evicted code can't be loaded", actor=self.id, error=error.text)
        finally:
            self._reloading = False
            self._moved_at = self._loop.time()
            # Replaced meanwhile, it has another module, and its calls run that.
            if failure is not None and not self._module.is_loaded:
                reason = self._reload_failure = failure
                self._reload_after = self._loop.time() + limits.RELOAD_PAUSE_S
                self._empty_mailbox(lambda: self._not_loaded(reason))
            self._let_run(self._count)

    def _not_loaded(self, reason: errors.LatticeError) -> errors.NotRunning:
        return errors.NotRunning(
            f"{self.id} can't run here: its code was evicted and can't be loaded again:"
            f" {reason.text}",
            detail={"cause": reason.code},
        )

    def _check_room(self, invocation: Invocation) -> None:
        """Refuse a call that there is no room for to wait.

        Raises:
            Overloaded: with what it measured and the limit.
        """
        share, slots, size = self._share, self._slots, len(invocation.payload)
        if share.waiting < self._mailbox_calls:
            if share.waiting_bytes + size > limits.MAILBOX_BYTES:
                full = _Full("bytes wait for it", share.waiting_bytes, limits.MAILBOX_BYTES)
            elif slots.waiting_bytes + size > slots.waiting_bytes_max:
                full = _Full(
                    "bytes wait on this host", slots.waiting_bytes, slots.waiting_bytes_max
                )
            elif (late := self._late(invocation)) is not None:
                full = late
            else:
                return
        else:
            full = _Full("calls wait for it", share.waiting, self._mailbox_calls)
        if invocation is self._probe:
            self._lose_probe()
        self.tally.refused += 1
        raise errors.Overloaded(
            f"{self.id} runs {share.running} of {self._count} instances,"
            f" {slots.taken} of {slots.places} run on its host,"
            f" and {full.measured} of {full.limit} {full.what}",
            detail={
                "running": share.running,
                "waiting": share.waiting,
                "count": self._count,
                "host_running": slots.taken,
                "host_places": slots.places,
                "measured": full.measured,
                "limit": full.limit,
            },
        )

    def _late(self, invocation: Invocation) -> "_Full | None":
        """How long a call would wait, if that is for too long; the next one is never late."""
        wait_s = len(self._mailbox) * self._pace_s
        if not wait_s:
            return None
        left_s = WAIT_SHARE * (invocation.deadline - self._loop.time())
        if wait_s <= left_s:
            return None
        return _Full("ms that it may wait would pass", int(wait_s * 1_000), int(left_s * 1_000))

    def _admit_probe(self, invocation: Invocation) -> None:
        """Let a call to a throttled actor through if one may be tried.

        Raises:
            Overloaded: it may not.
        """
        if not self.throttle.admit(self._loop.time()):
            self.tally.refused += 1
            raise self._throttled()
        self._probe = invocation

    def _throttled(self) -> errors.Overloaded:
        throttle = self.throttle
        left_ms = round(throttle.left_s(self._loop.time()) * 1_000)
        return errors.Overloaded(
            f"{self.id} is throttled for {left_ms} ms: its last {throttle.traps} calls were ended"
            f" by force; the last: {throttle.reason}; see more with: lattice logs {self.id}",
            detail={"traps": throttle.traps, "left_ms": left_ms, "last_trap": throttle.reason},
        )

    def _lose_probe(self) -> None:
        self._probe = None
        self.throttle.lost()

    def _note_success(self) -> None:
        self._probe = None
        if self.throttle.succeeded() and self._throttle_notice is not None:
            self._throttle_notice(self.id, self.throttle)

    def _note_force(self, invocation: Invocation, error: errors.LatticeError) -> None:
        """Take a trap down, and leave the actor alone if it was one too many."""
        probe = invocation is self._probe
        if probe:
            self._probe = None
        now = self._loop.time()
        if self.throttle.failed(now, self._uniform, error.text, probe=probe):
            self._empty_mailbox(self._throttled)
            if self._throttle_notice is not None:
                self._throttle_notice(self.id, self.throttle)
        if self._report is not None:
            self._report(invocation, error)

    def _empty_mailbox(self, reason: Callable[[], errors.LatticeError]) -> None:
        """Refuse every call that waits."""
        while self._mailbox:
            waiting, _ = self._mailbox.popitem(last=False)
            self._slots.withdraw(self._share, waiting.size)
            if not waiting.turn.done():
                waiting.turn.set_exception(reason())

    def _run(self, invocation: Invocation) -> Reply | Awaitable[Reply]:
        """Start a call whose slot has been taken; gives the slot back when it ends."""
        execution = None
        began_ns = perf_counter_ns()
        try:
            execution = execution_of(self._module)(
                self._module,
                self._surroundings(invocation),
                operation=invocation.operation,
                payload=invocation.payload,
                interface=invocation.interface,
                limits=self._call_limits,
                world=self.world,
                deadline=invocation.deadline,
                instances=self._instances,
            )
            if invocation.takes_stream or invocation.stream is not None:
                execution.flow(
                    counted(invocation.stream, self.tally.count_in),
                    takes_stream=invocation.takes_stream,
                )
            if execution.start():
                reply = Reply(execution.result(), execution.usage)
                self._complete(invocation, reply, began_ns)
                return reply
        except BaseException as error:
            self._fail(invocation, error, execution, began_ns)
            raise
        if self._executions is None:
            self._executions = set()
        self._executions.add(execution)
        return self._finish(invocation, execution, began_ns)

    async def _finish(self, invocation: Invocation, execution: Execution, began_ns: int) -> Reply:
        assert self._executions is not None, "it was added"
        try:
            reply = Reply(await execution.finish(), execution.usage)
        except BaseException as error:
            self._executions.discard(execution)
            self._fail(invocation, error, execution, began_ns)
            raise
        if execution.goes_on:
            assert self._tasks is not None, "whoever may be answered early has tasks"
            self._tasks.spawn(self._finish_rest(invocation, execution, began_ns), name="rest")
            self.tally.count_out(len(reply.payload))
            stream = counted(execution.outflow, self.tally.count_out)
            return Reply(reply.payload, stream=stream)
        self._executions.discard(execution)
        self._complete(invocation, reply, began_ns)
        return reply

    async def _finish_rest(
        self, invocation: Invocation, execution: Execution, began_ns: int
    ) -> None:
        """Drive a call that has given its answer to its end; it keeps its place until then."""
        assert self._executions is not None, "it was added"
        try:
            await execution.finish()
        except BaseException as error:
            self._fail(invocation, error, execution, began_ns)
            # Whoever reads the answer heard of it; nobody waits here.
            if not isinstance(error, errors.LatticeError):
                raise
        else:
            # Its answer was counted when it was given.
            self._complete(invocation, Reply(b"", execution.usage), began_ns)
        finally:
            self._executions.discard(execution)

    def _complete(self, invocation: Invocation, reply: Reply, began_ns: int) -> None:
        usage = reply.usage
        assert usage is not None
        self.tally.complete(
            perf_counter_ns() - began_ns, len(invocation.payload), len(reply.payload), usage
        )
        if self.throttle.traps:
            self._note_success()
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
        if isinstance(error, errors.LatticeError) and is_by_force(error):
            self._note_force(invocation, error)
        elif isinstance(error, errors.ActorError):
            # The guest ended by itself, and said so.
            self._note_success()
        elif invocation is self._probe:
            self._lose_probe()

    async def _run_in_turn(self, invocation: Invocation, waiting: "_Waiting") -> Reply:
        try:
            async with asyncio.timeout_at(invocation.deadline):
                await waiting.turn
        except BaseException as reason:
            self._slots.promised_bytes -= waiting.promised_bytes
            waiting.unpin()
            self.tally.cancelled += isinstance(reason, asyncio.CancelledError)
            if waiting.has_slot:
                # Its turn came in the same moment: pass the slot on.
                self._leave()
            else:
                self._withdraw(waiting)
            if isinstance(reason, errors.NotExecuted):
                self.tally.refused += 1
            else:
                self.tally.failed += 1
            if invocation is self._probe:
                self._lose_probe()
            if isinstance(reason, TimeoutError):
                raise self._expired() from None
            raise
        # What it has from here on is counted by the engine. No await before it runs.
        self._slots.promised_bytes -= waiting.promised_bytes
        waiting.unpin()
        queue_us = (perf_counter_ns() - waiting.since_ns) // 1_000
        self.tally.queued.add(queue_us)
        outcome = self._run(invocation)
        reply = outcome if isinstance(outcome, Reply) else await outcome
        if reply.usage is not None:
            reply.usage.queue_us = queue_us
        return reply

    def _leave(self) -> None:
        if self._slots.leave(self._share):
            self._slots.share_out()
        if self._idle is not None:
            self._note_idle()

    def _note_idle(self) -> None:
        if self._idle is not None and self.is_idle:
            self._idle.set_result(None)
            self._idle = None

    def _begin_oldest(self) -> None:
        """Let the oldest waiting call have the place that was just taken for the actor."""
        now = self._loop.time()
        while self._mailbox:
            waiting, _ = self._mailbox.popitem(last=False)
            self._slots.withdraw(self._share, waiting.size)
            if waiting.turn.done():
                continue
            if waiting.deadline > now:
                self._pace_s += (now - self._moved_at - self._pace_s) / PACE_CALLS
                self._moved_at = now
                waiting.pin(self._module)
                waiting.promised_bytes = self.tally.memory_bytes or self._module.memory_bytes_min
                self._slots.promised_bytes += waiting.promised_bytes
                waiting.turn.set_result(None)
                return
            waiting.turn.set_exception(self._expired())
        # All had given up. Whoever shares out goes on with the next actor.
        self._slots.leave(self._share)

    def _expired(self) -> errors.Expired:
        return errors.Expired(
            f"its time was up while it waited for an instance of {self.id}; not executed"
        )

    def _withdraw(self, waiting: "_Waiting") -> None:
        # Not there when it was taken out after its caller had given up, or was refused.
        if waiting in self._mailbox:
            del self._mailbox[waiting]
            self._slots.withdraw(self._share, waiting.size)
        self._note_idle()


@dataclass(frozen=True, slots=True)
class _Full:
    what: str
    measured: int
    limit: int


@dataclass(slots=True, eq=False)
class _Waiting:
    turn: asyncio.Future[None]
    size: int
    deadline: float
    since_ns: int
    promised_bytes: int = 0
    """Memory it is expected to have, from when its turn came until it runs."""
    module: Code | None = None
    """Whose code must stay for so long."""

    def pin(self, module: Code) -> None:
        self.module = module
        module.pins += 1

    def unpin(self) -> None:
        if self.module is not None:
            self.module.pins -= 1
            self.module = None

    @property
    def has_slot(self) -> bool:
        turn = self.turn
        return turn.done() and not turn.cancelled() and turn.exception() is None
