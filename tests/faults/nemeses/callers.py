"""What callers and guests do: harm, too much, and in circles."""

import asyncio
from collections import Counter
from typing import ClassVar

from lattice import errors, limits, subjects
from lattice.bus import Message
from lattice.control.figures import FiguresClient
from lattice.wire import invocation
from lattice.wire.invocation import Invocation, Reply
from tests.faults.arena import COMMAND_TIMEOUT_S, LATTICE, MAILBOX_CALLS, PROBE
from tests.faults.nemeses.nemesis import Nemesis
from tests.faults.schedule import Window

PROBES_MAX = 40
"""Calls to a throttled actor that are let through within some seconds: the pauses double."""

GONE_CALLS = 20
HELD_MS = 20_000
GONE_S_MAX = 2.0
"""Within so long nothing of a call may be left whose caller went away."""

LATE_S = 1.5
SLOW_S = 0.5
UNSTEADY_TIMEOUT_S = 1.0
"""Of calls to a provider that is late by more than that, and slow by less."""

FLOOD_CALLS = 600
"""At once, to an actor with one instance on one host, whose mailbox holds a sixth of them."""


class _Calling(Nemesis):
    """Calls something that does harm, all the time, and counts how that ends."""

    callers: ClassVar[int] = 2
    pause_s: ClassVar[float] = 0.05
    bound_s = 2.0

    async def inject(self, window: Window) -> str:
        self.outcomes: Counter[str] = Counter()
        self._tasks = [
            asyncio.create_task(self._keep_calling(number), name=f"{self.name} {number}")
            for number in range(self.callers)
        ]
        return "every host"

    async def heal(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        unexpected = self.outcomes.keys() - self.expected()
        self.expect(
            not unexpected and self.outcomes.total() > 0,
            f"{self.name} ended in {dict(self.outcomes)}, want only {sorted(self.expected())}",
        )

    def expected(self) -> frozenset[str]:
        """Codes in which it may end."""
        raise NotImplementedError

    async def _keep_calling(self, number: int) -> None:
        while True:
            try:
                await self.attack(number)
            except errors.LatticeError as error:
                self.outcomes[error.code] += 1
            else:
                self.outcomes["ok"] += 1
            await asyncio.sleep(self.pause_s)

    async def attack(self, number: int) -> None:
        raise NotImplementedError

    async def _call(self, target: str, operation: str = "Test.Run", payload: bytes = b"") -> bytes:
        reply = await self.arena.rpc.call(self.arena.call(target, operation, payload))
        return reply.payload


class MaliciousGuests(_Calling):
    """Guests that spin, trap, grow without end and shout; beside them good ones go on working."""

    name = "malicious guests"
    lasts_s = (4.0, 7.0)
    callers = 4

    async def attack(self, number: int) -> None:
        match number:
            case 0:
                await self._call("spin")
            case 1:
                # The length says in which way it traps.
                await self._call("traps", payload=bytes(self.outcomes.total() % 8))
            case 2:
                await self._call("bomb")
            case _:
                await self._call("shout")

    def expected(self) -> frozenset[str]:
        return frozenset(
            {"actor_trapped", "cpu_exceeded", "memory_exceeded", "actor_error", "overloaded"}
            # A busy machine: half a second of CPU may take longer than a call may.
            | {"deadline_exceeded"}
        )


class Cycle(_Calling):
    """An actor that calls itself: ended by the count of hops, never by the clock."""

    name = "call cycle"

    async def attack(self, number: int) -> None:
        try:
            await self._call("circle")
        except errors.ActorError as error:
            if "hops" not in error.text:
                raise
            raise errors.HopLimit(0, 0) from None

    def expected(self) -> frozenset[str]:
        return frozenset({"hop_limit"})


class Flood(Nemesis):
    """Many times more calls than an actor has room for: refused at once, and the rest served."""

    name = "flood"
    lasts_s = (1.0, 2.0)
    bound_s = 2.0

    async def inject(self, window: Window) -> str:
        host = self.arena.victim(window.draw)
        await self.arena.scale("sluggish", "relay", 1, host)
        await self.arena.put_link("sluggish", "ledger")
        await self.arena.until_answers("sluggish")
        self._outcomes: Counter[str] = Counter()
        self._host = host
        self._tries_before = await self._count_tries()
        self._calls = [
            asyncio.create_task(self._call(number, window), name="flood")
            for number in range(FLOOD_CALLS)
        ]
        return f"sluggish on {host.name}"

    async def heal(self) -> None:
        await asyncio.gather(*self._calls)
        taken = self._outcomes.total() - self._outcomes["overloaded"]
        self.expect(
            self._outcomes["overloaded"] > 0
            and self._outcomes.keys() <= {"ok", "overloaded", "deadline_exceeded", "actor_error"},
            f"a flood of {FLOOD_CALLS} ended in {dict(self._outcomes)}",
        )
        self.expect(taken >= MAILBOX_CALLS, f"of a flood only {taken} were taken")
        self.arena.history.observe(
            "flood",
            "figure",
            figure="tries that the calls of a flood came to",
            value=await self._count_tries() - self._tries_before,
            most=FLOOD_CALLS * (limits.RETRIES_MAX + 1),
        )
        await self.arena.scale("sluggish", "relay", 0, self._host)

    async def _count_tries(self) -> int:
        """Calls that arrived at the actor so far, whatever became of them."""
        figures = await FiguresClient(self.arena.bus, LATTICE).host(self._host.id, "sluggish")
        return sum(actor.completed + actor.failed + actor.refused for actor in figures.actors)

    async def _call(self, number: int, window: Window) -> None:
        call_id = f"flood-{window.number}-{number}"
        history = self.arena.history
        operation = history.invoke("flood", "call", call=call_id, way="flood", timeout_s=2.0)
        try:
            await self.arena.rpc.call(
                self.arena.call("sluggish", "Ledger.Hold", f"5 {call_id}".encode(), timeout_s=2.0)
            )
        except errors.LatticeError as error:
            history.complete(operation, "fail", code=error.code, text=error.text)
            self._outcomes[error.code] += 1
        else:
            history.complete(operation, "ok")
            self._outcomes["ok"] += 1


class TrappingActor(_Calling):
    """An actor on one host that does nothing but trap: after some calls it is left alone."""

    name = "actor that always traps"
    lasts_s = (3.0, 5.0)
    callers = 4
    pause_s = 0.01

    async def inject(self, window: Window) -> str:
        self._host = self.arena.victim(window.draw)
        await self.arena.scale("trapping", "traps", self.callers, self._host)
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            while True:
                try:
                    await self.attack(0)
                except errors.ActorTrapped:
                    break
                except errors.NotRunning:
                    await asyncio.sleep(self.pause_s)
        await super().inject(window)
        return f"trapping on {self._host.name}"

    async def attack(self, number: int) -> None:
        await self._call("trapping")

    def expected(self) -> frozenset[str]:
        return frozenset({"actor_trapped", "overloaded"})

    async def heal(self) -> None:
        await super().heal()
        self.expect(self.outcomes["overloaded"] > 0, "an actor that always traps was not throttled")
        figures = await FiguresClient(self.arena.bus, LATTICE).host(self._host.id, "trapping")
        self.arena.history.observe(
            self._host.name,
            "figure",
            figure="times that an actor which always traps was executed",
            value=sum(actor.failed for actor in figures.actors),
            most=limits.THROTTLE_TRAPS + self.callers + PROBES_MAX,
        )
        await self.arena.scale("trapping", "traps", 0, self._host)


class GoneCallers(Nemesis):
    """Callers go away while actors and a provider work for them: all of that ends at once."""

    name = "callers went away"
    lasts_s = (2.0, 3.0)
    bound_s = 2.0

    async def inject(self, window: Window) -> str:
        self._host = self.arena.victim(window.draw)
        await self.arena.scale("deserted", "relay", GONE_CALLS, self._host)
        await self.arena.put_link("deserted", "ledger")
        await self.arena.until_answers("deserted")
        payload = f"{HELD_MS} {PROBE}".encode()
        calls = [
            asyncio.create_task(
                self.arena.rpc.call(
                    self.arena.call("deserted", "Ledger.Hold", payload, timeout_s=HELD_MS / 1000)
                ),
                name="deserted call",
            )
            for _ in range(GONE_CALLS)
        ]
        running = await self._running_becomes(GONE_CALLS, within_s=COMMAND_TIMEOUT_S)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        self.expect(running == GONE_CALLS, f"of {GONE_CALLS} calls {running} ran")
        left = await self._running_becomes(0, within_s=GONE_S_MAX)
        self.expect(not left, f"{left} calls ran on after their callers went away")
        return f"deserted on {self._host.name}"

    async def heal(self) -> None:
        await self.arena.scale("deserted", "relay", 0, self._host)

    async def _running_becomes(self, wanted: int, *, within_s: float) -> int:
        """Wait until so many calls run; returns how many do in the end."""
        end = self.arena.history.elapsed_s() + within_s
        while True:
            figures = await FiguresClient(self.arena.bus, LATTICE).host(self._host.id, "deserted")
            running = sum(actor.running for actor in figures.actors)
            if running == wanted or self.arena.history.elapsed_s() > end:
                return running
            await asyncio.sleep(0.02)


class UnsteadyProvider(_Calling):
    """A provider answers twice, after the deadline, or just before it.

    Every caller hears its own answer or that time ran out, and nothing waits on for the others.
    """

    name = "provider answers twice, late and slowly"
    lasts_s = (3.0, 5.0)
    callers = 6

    async def inject(self, window: Window) -> str:
        self._host = self.arena.victim(window.draw)
        self._answers: set[asyncio.Task[None]] = set()
        self._mixed_up = 0
        self._subscription = await self.arena.bus.subscribe(
            subjects.calls(LATTICE, "unsteady"),
            self._on_call,
            queue=subjects.queue_group(LATTICE, "unsteady"),
        )
        await self.arena.put_link("unsettled", "unsteady")
        await self.arena.scale("unsettled", "relay", self.callers, self._host)
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            while True:
                try:
                    await self.attack(0)
                except errors.LatticeError:
                    # Not started yet, or not linked.
                    await asyncio.sleep(self.pause_s)
                else:
                    break
        await super().inject(window)
        return f"unsettled on {self._host.name}"

    async def attack(self, number: int) -> None:
        how = ("twice", "late", "slowly")[number % 3]
        payload = f"{how} {number} {self.arena.history.elapsed_s()}".encode()
        call = self.arena.call("unsettled", "Test.Run", payload, timeout_s=UNSTEADY_TIMEOUT_S)
        self._mixed_up += (await self.arena.rpc.call(call)).payload != payload

    def expected(self) -> frozenset[str]:
        return frozenset({"ok", "deadline_exceeded", "actor_error"})

    async def heal(self) -> None:
        await super().heal()
        await asyncio.gather(*self._answers)
        await self._subscription.unsubscribe()
        self.expect(not self._mixed_up, f"{self._mixed_up} callers got the answer of another call")
        self.expect(
            self.outcomes["ok"] > 0 and self.outcomes["deadline_exceeded"] > 0,
            f"calls to it ended in {dict(self.outcomes)}",
        )
        figures = await FiguresClient(self.arena.bus, LATTICE).host(self._host.id, "unsettled")
        running = sum(actor.running for actor in figures.actors)
        self.expect(not running, f"{running} calls ran on after their deadline")
        await self.arena.scale("unsettled", "relay", 0, self._host)

    async def _on_call(self, message: Message) -> None:
        call, _ = invocation.decode_request(message.data, source="", target="unsteady", now=0)
        task = asyncio.create_task(self._answer(message.reply, call), name="unsteady answer")
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _answer(self, reply: str, call: Invocation) -> None:
        how, _, _ = call.payload.decode().partition(" ")
        await asyncio.sleep({"late": LATE_S, "slowly": SLOW_S}.get(how, 0))
        answer = invocation.encode_reply(call.id, Reply(call.payload))
        for _ in range(2 if how == "twice" else 1):
            await self.arena.bus.publish(reply, answer)
