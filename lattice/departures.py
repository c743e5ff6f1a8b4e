"""Calls whose executor is gone, and with it any hope of an answer: failed at once.

A caller does not know which copy of a target NATS has given its call to, and finding out would cost
something on every call. But who supervises a copy knows at once that it has ended, and says so.
Then a caller with calls to that target asks whether any copy is left: NATS itself answers when
nobody listens. Only then nobody can answer its calls either, and they are ``unavailable``.

So nothing is failed that might still be answered, whoever publishes such a notice: a copy that
takes no more calls, but ends those it has, still says that it is there. While another copy lives,
on this host or any other, calls to the one that is gone wait for their deadlines. Of the providers
of a host that is killed the reconciler tells that leads; to an actor nobody can ask the question.
"""

import asyncio

import structlog

from lattice import errors, subjects
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus, Message

log = structlog.get_logger()

LOOK_S = 0.2
"""How long a copy may take to say that it is there."""

LOOKS_MAX = 4
"""Questions until it is left open: NATS takes a moment to see that a process is gone, and gives the
first ones to it."""


class Deserted(errors.Unavailable):
    """The target ended with the call in its hands; NATS itself is well."""

    remedy = "see why it ended with: lattice get inventory, and lattice logs"


class Departures:
    """Fails what waits for an answer that nobody can give any more."""

    def __init__(self, bus: Bus, lattice: str, tasks: TaskGroup) -> None:
        self._bus = bus
        self._lattice = lattice
        self._tasks = tasks
        self._told: set[str] = set()
        """Targets of which a copy is gone, as far as nobody looks into it yet."""
        self._looking: set[str] = set()

    async def tell(self, target_id: str) -> None:
        """Tell all callers that a copy is gone; a courtesy, which may get lost."""
        try:
            await self._bus.publish(subjects.departure(self._lattice, target_id))
        except errors.LatticeError as error:
            log.debug("a departure could not be told", target=target_id, error=error.text)

    async def receive(self, message: Message) -> None:
        """Look into a departure, if any call may be concerned."""
        target_id = subjects.departed(message.subject)
        if not self._waiting(target_id):
            return
        self._told.add(target_id)
        if target_id not in self._looking:
            self._looking.add(target_id)
            self._tasks.spawn(self._look(target_id), name=f"is {target_id} gone")

    async def _look(self, target_id: str) -> None:
        try:
            while target_id in self._told:
                self._told.discard(target_id)
                await self._fail_if_deserted(target_id)
        finally:
            self._looking.discard(target_id)

    async def _fail_if_deserted(self, target_id: str) -> None:
        subject = subjects.provider_health(self._lattice, target_id)
        for _ in range(LOOKS_MAX):
            # These alone: what is sent after the question may reach a new copy.
            waiting = self._waiting(target_id)
            deadline = asyncio.get_running_loop().time() + LOOK_S
            try:
                await self._bus.request(subject, deadline=deadline)
            except errors.NotRunning:
                count = self._bus.fail(
                    waiting,
                    Deserted(
                        f"{target_id} ended while it was called,"
                        " and no copy of it is left to answer"
                    ),
                )
                log.info("calls failed with their target", target=target_id, calls=count)
                return
            except errors.DeadlineExceeded:
                continue
            except errors.LatticeError as error:
                log.debug("a departure could not be looked into", error=error.text)
                return
            else:
                return

    def _waiting(self, target_id: str) -> frozenset[str]:
        return self._bus.waiting_on(subjects.call(self._lattice, target_id, ""))
