"""Who runs where: weights over groups, evenly over a group's hosts, moving as little as can be.

Nothing here knows what an actor is: only hosts, how many instances each has, and whether that may
change. What is decided once is decided again as long as the hosts stay the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lattice.manifest import DesiredScaler, Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A host that may run instances."""

    host: str
    labels: Mapping[str, str] = field(default_factory=dict)
    current: int = 0
    """Instances that run there or are being started."""
    fixed: bool = False
    """Whether it keeps what it has: nobody knows if it is alive, or it refuses to start more."""
    load: int = 0
    """What else runs there; the least loaded host is taken first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    count: int
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    places: Mapping[str, Place]
    """By host, those with at least one instance."""
    unmet: tuple[str, ...] = ()
    """What could not be placed, in wadm's words."""
    waits: bool = False
    """Whether there is less than there should be only because hosts keep what they have."""


def place(scaler: DesiredScaler, seats: Sequence[Seat]) -> Placement:
    """Where a scaler's instances shall be."""
    if scaler.instances == 0:
        return Placement(places={})
    if scaler.daemon:
        return _place_everywhere(scaler, seats)
    if scaler.kind == "provider":
        return _place_copies(scaler, seats)
    return _place_instances(scaler, seats)


def shares(total: int, groups: Sequence[Group]) -> list[int]:
    """Split a total by weight; the remainders go to the largest fractions, then to the first."""
    weights = [group.weight for group in groups]
    if not any(weights):
        weights = [1] * len(groups)
    whole = sum(weights)
    parts = [total * weight // whole for weight in weights]
    by_fraction = sorted(range(len(groups)), key=lambda at: -(total * weights[at] % whole))
    for at in by_fraction[: total - sum(parts)]:
        parts[at] += 1
    return parts


def spread_evenly(total: int, seats: Sequence[Seat]) -> dict[str, int]:
    """Split a total over hosts so that no two differ by more than one; fixed ones keep theirs.

    What a fixed host has counts as far as it would be its share, so that nothing that is surely
    there is given up for something that may be.
    """
    if not seats:
        return {}
    even = _even(total, seats)
    fixed = [seat for seat in seats if seat.fixed]
    if not fixed:
        return even
    free = [seat for seat in seats if not seat.fixed]
    covered = sum(min(seat.current, even[seat.host]) for seat in fixed)
    held = {seat.host: seat.current for seat in fixed}
    return held | (_even(total - covered, free) if free else {})


def _even(total: int, seats: Sequence[Seat]) -> dict[str, int]:
    least, more = divmod(total, len(seats))

    def preference(seat: Seat) -> tuple[int, bool, int, str]:
        # Hosts that have enough already are all the same: choosing among them by what they have
        # beyond it would choose differently the next time.
        return (-min(seat.current, least + 1), seat.fixed, seat.load, seat.host)

    favoured = {seat.host for seat in sorted(seats, key=preference)[:more]}
    return {seat.host: least + (seat.host in favoured) for seat in seats}


def _place_instances(scaler: DesiredScaler, seats: Sequence[Seat]) -> Placement:
    counts: dict[str, int] = {}
    largest: dict[str, tuple[int, str]] = {}
    unmet = []
    waits = False
    for group, total in zip(scaler.groups, shares(scaler.instances, scaler.groups), strict=True):
        if not total:
            continue
        # Groups may overlap; what an earlier one put on a host is not there for this one.
        eligible = [
            replace(seat, current=max(0, seat.current - counts[seat.host]))
            if seat.host in counts
            else seat
            for seat in seats
            if group.takes(seat.labels)
        ]
        if not eligible:
            unmet.append(_unmet(scaler, group, 0, 1))
        spread = spread_evenly(total, eligible)
        waits |= bool(eligible) and sum(spread.values()) < total
        for host, count in spread.items():
            counts[host] = counts.get(host, 0) + count
            if count > largest.get(host, (0, ""))[0]:
                largest[host] = (count, group.name)
    places = {
        host: Place(count=count, group=largest[host][1]) for host, count in counts.items() if count
    }
    return Placement(places=places, unmet=tuple(unmet), waits=waits)


def _place_copies(scaler: DesiredScaler, seats: Sequence[Seat]) -> Placement:
    """One copy at most on a host, whatever the group."""
    places: dict[str, Place] = {}
    unmet = []
    waits = False
    for group, total in zip(scaler.groups, shares(scaler.instances, scaler.groups), strict=True):
        eligible = [seat for seat in seats if group.takes(seat.labels) and seat.host not in places]
        eligible.sort(key=lambda seat: (not seat.current, seat.fixed, seat.load, seat.host))
        # A fixed host has its copy or gets none.
        chosen = [seat for seat in eligible if seat.current or not seat.fixed][:total]
        places |= {seat.host: Place(count=1, group=group.name) for seat in chosen}
        if len(chosen) < min(total, len(eligible)):
            waits = True
        elif len(chosen) < total:
            unmet.append(_unmet(scaler, group, len(chosen), total))
    return Placement(places=places, unmet=tuple(unmet), waits=waits)


def _place_everywhere(scaler: DesiredScaler, seats: Sequence[Seat]) -> Placement:
    count = 1 if scaler.kind == "provider" else scaler.instances
    places: dict[str, Place] = {}
    unmet = []
    waits = False
    for group in scaler.groups:
        eligible = [seat for seat in seats if group.takes(seat.labels)]
        if not eligible:
            unmet.append(
                f"Could not satisfy daemonscaler {group.name} for {scaler.reference},"
                " 0 eligible hosts found."
            )
        for seat in eligible:
            here = seat.current if seat.fixed else count
            waits |= here < count
            if here and seat.host not in places:
                places[seat.host] = Place(count=here, group=group.name)
    return Placement(places=places, unmet=tuple(unmet), waits=waits)


def _unmet(scaler: DesiredScaler, group: Group, found: int, wanted: int) -> str:
    return (
        f"Could not satisfy spread {group.name} for {scaler.reference},"
        f" {found}/{wanted} eligible hosts found."
    )
