"""Tells providers on wasmCloud 1.x hosts of links that are put and deleted through this host.

Those hosts follow the state bucket, but send their providers no deletions, and to the oldest of
them no links either: in 1.x the host that handles the request tells them all, by provider id.
Copies on our own hosts don't listen there; their supervisors tell them by difference.
"""

import structlog

from lattice import errors, subjects
from lattice.bus import Bus
from lattice.state.store import State, is_secret
from lattice.wire.control import Link
from lattice.wire.provider import ResolvedLink, resolve

log = structlog.get_logger()


class ForeignProviders:
    """Whoever listens on the management subjects of a link's source and target."""

    def __init__(self, bus: Bus, lattice: str, state: State) -> None:
        self._bus = bus
        self._lattice = lattice
        self._state = state

    async def put_link(self, link: Link) -> None:
        """Tell both ends of a link, unless it names secrets: those travel sealed, or not at all."""
        if any(map(is_secret, (*link.source_config, *link.target_config))):
            return
        resolved = resolve(
            link,
            self._state.merged_config(link.source_config),
            self._state.merged_config(link.target_config),
        )
        for end in (link.source_id, link.target):
            await self._tell(subjects.link_put(self._lattice, end), resolved)

    async def delete_link(self, link: Link) -> None:
        """Tell both ends that a link is gone."""
        resolved = resolve(link, {}, {})
        for end in (link.source_id, link.target):
            await self._tell(subjects.link_delete(self._lattice, end), resolved)

    async def _tell(self, subject: str, link: ResolvedLink) -> None:
        try:
            await self._bus.publish(subject, link.model_dump_json().encode())
        except errors.LatticeError as error:
            # The link itself is stored: what our hosts run goes by that.
            log.warning("other hosts' providers could not be told", error=error.text)
