"""Answers who asks what this host does and what its actors' calls came to."""

import asyncio
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import structlog

from host.actors.actor import Actor
from host.actors.registry import Actors
from host.hostcalls.outward import Outward
from lattice import errors, subjects
from lattice.bus import Bus, Message
from lattice.wire import figures
from lattice.wire.figures import ActorFigures, FiguresRequest, HostFigures, LinkFigures

log = structlog.get_logger()

_STATM = Path("/proc/self/statm")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class FiguresServer:
    """One host's ear on the subjects that ask for figures."""

    def __init__(
        self,
        bus: Bus,
        lattice: str,
        host_id: str,
        *,
        host: Callable[[], HostFigures],
        actors: Actors,
    ) -> None:
        """``host`` gives the host's own figures of now, without its actors'."""
        self._bus = bus
        self._lattice = lattice
        self._host_id = host_id
        self._host = host
        self._actors = actors

    async def open(self) -> None:
        """Start to answer.

        Raises:
            Unavailable: NATS is away.
        """
        for host_id in (None, self._host_id):
            subject = subjects.figures(self._lattice, host_id)
            await self._bus.subscribe(subject, self._on_request)

    def answer(self, request: FiguresRequest) -> bytes:
        """The host and those actors that were asked for, the busiest first."""
        wanted = None if request.ids is None else frozenset(request.ids)
        found = [
            counted
            for counted in self._actors.counted()
            if wanted is None or counted[0].id in wanted
        ]
        found.sort(key=_business, reverse=True)
        return figures.encode_host(
            self._host(), (_figures(*counted) for counted in found), total=len(found)
        )

    async def _on_request(self, message: Message) -> None:
        try:
            answer = self.answer(figures.decode_request(message.data))
        except errors.LatticeError as error:
            log.debug("a request for figures can't be read", error=error.text)
            return
        with suppress(errors.LatticeError):
            await self._bus.publish(message.reply, answer)


def resident_bytes() -> int:
    """Memory of this process; 0 where the system does not tell."""
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0


def _business(counted: tuple[Actor, Outward]) -> tuple[int, int]:
    actor, _ = counted
    now = actor.statistics()
    return now.running + now.waiting, now.completed + now.failed + now.refused


def _figures(actor: Actor, outward: Outward) -> ActorFigures:
    now, tally = actor.statistics(), actor.tally
    return ActorFigures(
        id=actor.id,
        count=actor.count,
        running=now.running,
        waiting=now.waiting,
        completed=tally.completed,
        failed=tally.failed,
        trapped=tally.trapped,
        cancelled=tally.cancelled,
        refused=tally.refused,
        throttled_ms=_throttled_ms(actor),
        bytes_in=tally.bytes_in,
        bytes_out=tally.bytes_out,
        cpu_us=tally.cpu_us,
        fuel=tally.fuel,
        host_calls=tally.host_calls,
        memory_bytes=tally.memory_bytes,
        durations=tally.durations,
        queued=tally.queued,
        links=list(_links(outward)),
    )


def _throttled_ms(actor: Actor) -> int:
    if not actor.throttle.is_on:
        return 0
    # Not 0 when a probe is due: it is throttled until that has succeeded.
    left_s = actor.throttle.left_s(asyncio.get_running_loop().time())
    return max(1, round(left_s * 1_000))


def _links(outward: Outward) -> Iterable[LinkFigures]:
    for (name, interface, target), tally in outward.tallies.items():
        yield LinkFigures(
            name=name,
            interface=interface,
            target=target,
            calls=tally.calls,
            failures=tally.failures,
            bytes_in=tally.bytes_in,
            bytes_out=tally.bytes_out,
            cpu_us=tally.cpu_us,
            durations=tally.durations,
        )
