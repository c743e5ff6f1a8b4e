"""What only one copy of a provider may do at a time: the one that holds the lease on it.

A lease is a key of a bucket whose values die of age, written by compare-and-set alone. Its holder
writes it anew every second or two, and counts it as its own for less than its life, from before
each write: a copy that was frozen has lost it before another one gets it, and stops. A holder that
ends gives it back, and the next begins within a second; after one that was killed it takes the
lease's life.

Beside the holder stands how far it has come, in a number that only the work knows the meaning of.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from lattice import errors, subjects
from lattice.aio.tasks import TaskGroup, end
from lattice.bus import Bucket, Bus

log = structlog.get_logger()

LEASE_S = 6.0
"""Life of a lease, and so the longest that nobody works after a copy was killed."""

RENEW_S = 1.5
"""Between renewals, each of which notes how far the work has come: whoever follows one that was
killed does again what was done since."""

MARGIN_S = 1.5
"""The holder stops so long before its lease dies: clocks drift, and the bucket is cleaned late."""

LOOK_S = 1.0
"""Between looks of those who wait."""


@dataclass(slots=True)
class Turn:
    """A time of doing the work."""

    place: int | None = None
    """How far whoever did it before had come; None if nobody did, or not lately."""
    progress: Callable[[], int | None] = lambda: None
    """How far the work has come; asked at each renewal, and at its end."""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """To be set when there is a progress: until it is written down, nobody could go on from it."""
    is_forgotten: bool = False
    """Whether nobody is to go on from there."""


@dataclass(slots=True)
class _Lease:
    bucket: Bucket
    key: str
    revision: int
    valid_until: float
    is_over: bool = False


@dataclass(slots=True)
class Duty:
    """Takes part, for one copy, in the choice of who does some work."""

    bus: Bus
    lattice: str
    holder: str
    """The host that the copy runs on: a copy that follows another one there need not wait."""
    _tasks: TaskGroup = field(default_factory=lambda: TaskGroup("duty"))

    async def run(
        self,
        key: str,
        work: Callable[[Turn], Awaitable[None]],
        *,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        """Wait for the turn, and do the work; return when it has ended, or the lease is lost.

        The work is cancelled when the lease is lost. ``waiting`` hears that another copy has it.

        Raises:
            Unavailable: JetStream is away.
            LatticeError: what the work raises.
        """
        bucket = await self.bus.bucket(subjects.duty_bucket(self.lattice), ttl_s=LEASE_S)
        lease, turn = await self._take(bucket, key, waiting)
        try:
            async with asyncio.timeout_at(lease.valid_until) as limit:
                renewing = self._tasks.spawn(self._renew(lease, turn, limit), name=f"renew {key}")
                try:
                    await work(turn)
                finally:
                    lease.is_over = True
                    await end(renewing)
        except TimeoutError:
            if not limit.expired():
                raise
            log.warning("another copy may do this now: its lease was lost", duty=key)
        finally:
            await self._give_back(lease, turn)

    async def _take(
        self, bucket: Bucket, key: str, waiting: Callable[[], None]
    ) -> tuple[_Lease, Turn]:
        # Of a holder that was killed the last word is known to those who waited: it is gone when
        # they may take the lease.
        holder, place = "", None
        while True:
            began = asyncio.get_running_loop().time()
            entry = await bucket.get(key)
            if entry is not None:
                holder, place = _parse(entry.value)
            else:
                holder = ""
            if holder in ("", self.holder):
                expected = entry.revision if entry is not None else 0
                with suppress(errors.Conflict):
                    value = _value(self.holder, place)
                    revision = await bucket.put(key, value, expected=expected)
                    return _Lease(bucket, key, revision, _valid_until(began)), Turn(place)
            waiting()
            await asyncio.sleep(LOOK_S)

    async def _renew(self, lease: _Lease, turn: Turn, limit: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with asyncio.timeout(RENEW_S):
                await turn.begun.wait()
        while True:
            began = loop.time()
            try:
                value = _value(self.holder, turn.progress())
                lease.revision = await lease.bucket.put(lease.key, value, expected=lease.revision)
            except errors.Conflict:
                if not limit.expired():
                    limit.reschedule(loop.time())
                return
            except errors.LatticeError as error:
                log.info("a lease could not be renewed", duty=lease.key, error=error.text)
            else:
                lease.valid_until = _valid_until(began)
                if limit.expired():
                    return
                limit.reschedule(lease.valid_until)
            if lease.is_over:
                # The client's waits may lose a cancellation that comes with their result.
                return
            await asyncio.sleep(RENEW_S)

    async def _give_back(self, lease: _Lease, turn: Turn) -> None:
        if asyncio.get_running_loop().time() >= lease.valid_until:
            return
        try:
            if turn.is_forgotten:
                await lease.bucket.delete(lease.key, expected=lease.revision)
            else:
                value = _value("", turn.progress())
                await lease.bucket.put(lease.key, value, expected=lease.revision)
        except errors.LatticeError as error:
            log.info("a lease could not be given back; it dies of age", error=error.text)


def _valid_until(began: float) -> float:
    return began + LEASE_S - MARGIN_S


def _value(holder: str, place: int | None) -> bytes:
    return json.dumps({"holder": holder, "place": place}).encode()


def _parse(value: bytes) -> tuple[str, int | None]:
    """Who holds a lease, and how far it has come. Of one that can't be read somebody is the holder:
    it dies of age, as all do.
    """
    try:
        fields = json.loads(value)
        return str(fields["holder"]), None if fields["place"] is None else int(fields["place"])
    except (ValueError, KeyError, TypeError):
        return "?", None
