"""Where to run something: on the host that is named, or on the one that bids first."""

from collections.abc import Awaitable, Callable, Iterable, Mapping

from lattice import errors
from lattice.cli import hosts
from lattice.cli.connection import Connection
from lattice.cli.hosts import Found
from lattice.control.client import NoHosts
from lattice.wire.control import ComponentBid, Host, ProviderBid

Auction = Callable[[str, str, dict[str, str]], Awaitable[ComponentBid | ProviderBid | None]]


class NoBid(errors.NotFound):
    """No host offered to run it."""

    remedy = "compare with the hosts' labels: lattice get inventory; or name one with --host-id"


async def place(
    connection: Connection,
    auction: Auction,
    *,
    reference: str,
    entity_id: str,
    host: str | None,
    constraints: dict[str, str],
) -> Found:
    """The host to run something on.

    Raises:
        NotFound: no such host; or no host bid, and why.
        Unavailable: no host answers at all.
    """
    if host is not None:
        return await hosts.find(connection, host)
    if (bid := await auction(reference, entity_id, constraints)) is not None:
        return Found(bid.host_id, bid.host_id)
    everyone = await connection.control.hosts()
    raise no_bid(everyone, entity_id, constraints, connection.lattice)


def no_bid(
    everyone: Iterable[Host], entity_id: str, constraints: Mapping[str, str], lattice: str
) -> errors.LatticeError:
    """Why nobody bid, as far as it can be known from here."""
    everyone = list(everyone)
    if not everyone:
        return NoHosts(hosts.nobody(lattice))
    fitting = [host for host in everyone if constraints.items() <= host.labels.items()]
    if not fitting:
        wanted = ", ".join(f"{key}={value}" for key, value in constraints.items())
        return NoBid(f"no host would run {entity_id}: none has the labels {wanted}")
    listed = ", ".join(host.friendly_name for host in fitting)
    return NoBid(
        f"no host would run {entity_id}: those that could ({listed}) run it already, or take no"
        " more"
    )
