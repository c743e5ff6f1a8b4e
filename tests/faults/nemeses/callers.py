"""What callers and guests do: harm, too much, and in circles."""

import asyncio
from collections import Counter
from typing import ClassVar

from lattice import errors, limits
from lattice.control.figures import FiguresClient
from tests.faults.arena import LATTICE, MAILBOX_CALLS
from tests.faults.nemeses.nemesis import Nemesis
from tests.faults.schedule import Window

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
