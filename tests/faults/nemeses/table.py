"""Every fault there is."""

from collections.abc import Iterable

from tests.faults.nemeses import callers, network, processes, state, strangers
from tests.faults.nemeses.nemesis import Nemesis

NEMESES: tuple[type[Nemesis], ...] = (
    processes.KillHost,
    processes.DrainHost,
    processes.FreezeHost,
    processes.ClockJump,
    processes.BlockedLoop,
    processes.KillProvider,
    processes.FreezeProvider,
    processes.KillOnlyServer,
    processes.FreezeOnlyServer,
    processes.KillLeader,
    processes.KillFollower,
    processes.LameDuck,
    network.Partition,
    network.BriefPartition,
    network.Deaf,
    network.Mute,
    network.HalfOpen,
    network.Reset,
    network.Flapping,
    network.Latency,
    network.Throttle,
    callers.MaliciousGuests,
    callers.Cycle,
    callers.Flood,
    callers.TrappingActor,
    callers.GoneCallers,
    callers.UnsteadyProvider,
    strangers.Rubbish,
    state.PurgedBucket,
    state.DeletedBucket,
    state.DiskFull,
)
"""Every fault; another one joins the suite by a line here."""


def by_name(names: Iterable[str] = (), *, servers: int) -> dict[str, type[Nemesis]]:
    """The faults that make sense with so many nats-servers, or those named of them."""
    wanted = set(names)
    found = {
        nemesis.name: nemesis
        for nemesis in NEMESES
        if servers in nemesis.servers and (not wanted or nemesis.name in wanted)
    }
    assert not wanted - found.keys(), f"no such faults here: {sorted(wanted - found.keys())}"
    return found
