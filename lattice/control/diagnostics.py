"""Asks the hosts of a lattice how they are themselves."""

import asyncio

import structlog

from lattice import errors, limits, subjects
from lattice.bus import Bus
from lattice.control.figures import QUIET_S
from lattice.wire import diagnostics
from lattice.wire.diagnostics import HostDiagnostics

log = structlog.get_logger()


async def of_hosts(
    bus: Bus, lattice: str, *, timeout_s: float = limits.CONTROL_TIMEOUT_S
) -> list[HostDiagnostics]:
    """Every host that answers in time, by name; nonsense is left out.

    Raises:
        Unavailable: NATS is away.
    """
    answers = await bus.request_many(
        subjects.diagnostics(lattice), timeout_s=timeout_s, quiet_s=min(QUIET_S, timeout_s)
    )
    hosts = []
    for answer in answers:
        try:
            hosts.append(diagnostics.decode(answer.data))
        except errors.LatticeError as error:
            log.warning("a host's diagnostics can't be read", error=error.text)
    return sorted(hosts, key=lambda host: (host.name, host.id))


async def of_host(
    bus: Bus, lattice: str, host_id: str, *, timeout_s: float = limits.CONTROL_TIMEOUT_S
) -> HostDiagnostics:
    """One host.

    Raises:
        NotFound: no host of that id answers.
        DeadlineExceeded: it did not answer in time.
        Unavailable: NATS is away.
    """
    try:
        message = await bus.request(
            subjects.diagnostics(lattice, host_id),
            deadline=asyncio.get_running_loop().time() + timeout_s,
        )
    except errors.NotRunning:
        raise errors.NotFound(
            f"no host {host_id} answers on lattice {lattice!r}; see: lattice get hosts"
        ) from None
    return diagnostics.decode(message.data)
