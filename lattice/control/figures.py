"""Reads the figures of a lattice's hosts, and puts those of one actor together."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog

from lattice import errors, limits, subjects
from lattice.bus import Bus
from lattice.wire import figures
from lattice.wire.figures import ActorFigures, FiguresRequest, HostFigures
from lattice.wire.histogram import Histogram

log = structlog.get_logger()

QUIET_S = 0.3
"""When no further host answered for so long, all have: it is done every second."""


class FiguresClient:
    """Asks the hosts of one lattice. Every method may raise ``Unavailable`` when NATS is away."""

    def __init__(
        self, bus: Bus, lattice: str, *, timeout_s: float = limits.CONTROL_TIMEOUT_S
    ) -> None:
        self._bus = bus
        self._lattice = lattice
        self._timeout_s = timeout_s

    async def hosts(self, *actor_ids: str) -> list[HostFigures]:
        """Every host that answers in time, by name, with the actors named or its busiest ones.

        Nonsense is left out.
        """
        answers = await self._bus.request_many(
            subjects.figures(self._lattice),
            _request(actor_ids),
            timeout_s=self._timeout_s,
            quiet_s=min(QUIET_S, self._timeout_s),
        )
        hosts = []
        for answer in answers:
            try:
                hosts.append(figures.decode_host(answer.data))
            except errors.LatticeError as error:
                log.warning("a host's figures can't be read", error=error.text)
        return sorted(hosts, key=lambda host: (host.name, host.id))

    async def host(self, host_id: str, *actor_ids: str) -> HostFigures:
        """One host, with the actors named or its busiest ones.

        Raises:
            NotFound: no host of that id answers.
            DeadlineExceeded: it did not answer in time.
        """
        try:
            message = await self._bus.request(
                subjects.figures(self._lattice, host_id),
                _request(actor_ids),
                deadline=asyncio.get_running_loop().time() + self._timeout_s,
            )
        except errors.NotRunning:
            raise errors.NotFound(
                f"no host {host_id} answers on lattice {self._lattice!r}; see: lattice get hosts"
            ) from None
        return figures.decode_host(message.data)


def by_actor(hosts: Iterable[HostFigures]) -> dict[str, ActorFigures]:
    """Each actor's figures, those of all hosts together."""
    found: dict[str, list[ActorFigures]] = {}
    for host in hosts:
        for actor in host.actors:
            found.setdefault(actor.id, []).append(actor)
    return {actor_id: figures.together(parts) for actor_id, parts in found.items()}


@dataclass(slots=True)
class Change:
    """What one actor did between two looks at it, on all hosts together."""

    completed: int = 0
    failed: int = 0
    refused: int = 0
    cpu_us: int = 0
    durations: Histogram = field(default_factory=Histogram)
    """Of the calls that ended."""


def changes(
    before: Iterable[HostFigures], now: Iterable[HostFigures]
) -> dict[tuple[str, str], Change]:
    """What each actor did on each host between two looks, by the ids of host and actor.

    An actor that was started anew in between has done all that it says. What was not looked at
    before has done nothing yet: it may have run for days.
    """
    earlier = {host.id: host for host in before}
    found: dict[tuple[str, str], Change] = {}
    for host in now:
        if (known := earlier.get(host.id)) is None:
            continue
        actors = {actor.id: actor for actor in known.actors}
        for actor in host.actors:
            was = actors.get(actor.id)
            if was is not None:
                found[host.id, actor.id] = _change(was, actor)
            elif not known.left_out:
                found[host.id, actor.id] = _change(_fresh(actor), actor)
    return found


def sum_of(parts: Iterable[Change]) -> Change:
    total = Change()
    for part in parts:
        total.completed += part.completed
        total.failed += part.failed
        total.refused += part.refused
        total.cpu_us += part.cpu_us
        total.durations.merge(part.durations)
    return total


def _change(was: ActorFigures, actor: ActorFigures) -> Change:
    if actor.completed < was.completed or actor.cpu_us < was.cpu_us or actor.failed < was.failed:
        was = _fresh(actor)
    return Change(
        completed=actor.completed - was.completed,
        failed=actor.failed - was.failed,
        refused=max(actor.refused - was.refused, 0),
        cpu_us=actor.cpu_us - was.cpu_us,
        durations=actor.durations.since(was.durations),
    )


def _fresh(actor: ActorFigures) -> ActorFigures:
    return ActorFigures(id=actor.id, count=0, running=0, waiting=0)


def _request(actor_ids: tuple[str, ...]) -> bytes:
    return figures.encode_request(FiguresRequest(ids=list(actor_ids) or None))
