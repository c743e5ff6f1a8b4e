"""A command's way to the lattice: one connection, closed when the command is done."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from lattice.bus import Bus
from lattice.cli.options import Options
from lattice.control.client import ControlClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A lattice, as a command reaches it."""

    bus: Bus
    control: ControlClient
    lattice: str
    timeout_s: float
    """How long to wait for a control reply."""

    def patient(self, extra_s: float) -> ControlClient:
        """A client for a request that the host answers only when it is done."""
        return ControlClient(self.bus, self.lattice, timeout_s=self.timeout_s + extra_s)


@asynccontextmanager
async def connect(options: Options) -> AsyncIterator[Connection]:
    """Connect to the lattice that the options name.

    Raises:
        InvalidRequest: not a name for a lattice.
        NotFound: there is no such credentials file.
        Unavailable: no NATS server answers.
        Denied: it refused the credentials.
    """
    lattice = options.lattice_name
    bus = await Bus.connect(options.settings, name="lattice command")
    try:
        yield Connection(
            bus=bus,
            control=ControlClient(bus, lattice, timeout_s=options.timeout_s),
            lattice=lattice,
            timeout_s=options.timeout_s,
        )
    finally:
        await bus.aclose()
