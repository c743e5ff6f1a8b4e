"""Who runs where."""

from hypothesis import given
from hypothesis import strategies as st

from lattice.manifest import DesiredScaler, Group
from lattice.reconcile.placement import Seat, place, shares, spread_evenly

ZONES = st.sampled_from(["eu", "us", "asia"])


@st.composite
def seats(draw: st.DrawFn, *, fixed: bool = True) -> list[Seat]:
    count = draw(st.integers(0, 8))
    return [
        Seat(
            host=f"host-{number}",
            labels={"zone": draw(ZONES)},
            current=draw(st.integers(0, 6)),
            fixed=fixed and draw(st.booleans()),
            load=draw(st.integers(0, 3)),
        )
        for number in range(count)
    ]


def scaler(instances: int, *groups: Group, kind: str = "component") -> DesiredScaler:
    return DesiredScaler(
        id="s",
        app="app",
        component="c",
        kind="provider" if kind == "provider" else "component",
        entity="app-c",
        reference="x",
        instances=instances,
        groups=groups or (Group(),),
    )


def settled(seats: list[Seat], counts: dict[str, int]) -> list[Seat]:
    """The same hosts once they have what they shall have."""
    return [
        Seat(
            host=seat.host,
            labels=seat.labels,
            current=counts.get(seat.host, 0),
            fixed=seat.fixed,
            load=seat.load,
        )
        for seat in seats
    ]


def test_the_largest_remainders_get_what_is_left() -> None:
    groups = [Group(weight=50), Group(weight=30), Group(weight=20)]

    assert shares(10, groups) == [5, 3, 2]
    assert shares(7, groups) == [4, 2, 1]
    assert shares(1, groups) == [1, 0, 0]


def test_groups_without_any_weight_are_equals() -> None:
    assert shares(3, [Group(weight=0), Group(weight=0)]) == [2, 1]


@given(total=st.integers(0, 10_000), weights=st.lists(st.integers(0, 1_000), min_size=1))
def test_shares_are_the_total_and_off_by_less_than_one(total: int, weights: list[int]) -> None:
    parts = shares(total, [Group(weight=weight) for weight in weights])

    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        if sum(weights):
            assert abs(part - total * weight / sum(weights)) < 1


@given(total=st.integers(0, 30), hosts=seats(fixed=False))
def test_no_two_hosts_differ_by_more_than_one(total: int, hosts: list[Seat]) -> None:
    counts = spread_evenly(total, hosts)

    if hosts:
        assert sum(counts.values()) == total
        assert max(counts.values()) - min(counts.values()) <= 1


@given(total=st.integers(0, 30), hosts=seats(fixed=False))
def test_as_little_moves_as_can(total: int, hosts: list[Seat]) -> None:
    counts = spread_evenly(total, hosts)
    kept = sum(min(seat.current, counts[seat.host]) for seat in hosts)

    if hosts:
        least, more = divmod(total, len(hosts))
        # Of any even spread: each host keeps up to the floor, and some of them one more.
        most = sum(min(seat.current, least) for seat in hosts)
        most += min(more, sum(seat.current > least for seat in hosts))
        assert kept == most


@given(total=st.integers(0, 30), hosts=seats())
def test_what_is_fixed_stays_and_nothing_sure_is_given_up_for_it(
    total: int, hosts: list[Seat]
) -> None:
    counts = spread_evenly(total, hosts)

    for seat in hosts:
        if seat.fixed:
            assert counts[seat.host] == seat.current
    if any(not seat.fixed for seat in hosts):
        assert sum(counts.values()) >= total


@given(total=st.integers(0, 30), hosts=seats(), zones=st.lists(ZONES, max_size=3))
def test_what_was_decided_is_decided_again(total: int, hosts: list[Seat], zones: list[str]) -> None:
    groups = [Group(name=f"g{at}", requirements={"zone": zone}) for at, zone in enumerate(zones)]
    wanted = scaler(total, *groups)

    counts = {host: spot.count for host, spot in place(wanted, hosts).places.items()}
    for _ in range(len(hosts) * 4 + 4):
        again = place(wanted, settled(hosts, counts))
        before, counts = counts, {host: spot.count for host, spot in again.places.items()}
        if counts == before:
            return
    raise AssertionError("hosts change for ever")


@given(copies=st.integers(0, 10), hosts=seats())
def test_a_provider_is_once_on_a_host_and_stays_where_it_is(copies: int, hosts: list[Seat]) -> None:
    placement = place(scaler(copies, kind="provider"), hosts)

    assert all(spot.count == 1 for spot in placement.places.values())
    running = {seat.host for seat in hosts if seat.current}
    open_hosts = running | {seat.host for seat in hosts if not seat.fixed}
    assert len(placement.places) == min(copies, len(open_hosts))
    if len(running) <= copies:
        assert running <= placement.places.keys()
    else:
        assert placement.places.keys() <= running


def test_the_least_loaded_host_is_taken_first() -> None:
    hosts = [Seat(host="a", load=5), Seat(host="b", load=1), Seat(host="c", load=3)]

    assert place(scaler(1), hosts).places.keys() == {"b"}
    assert place(scaler(2, kind="provider"), hosts).places.keys() == {"b", "c"}


def test_groups_that_overlap_add_up() -> None:
    hosts = [
        Seat(host="a", labels={"zone": "eu", "disk": "ssd"}),
        Seat(host="b", labels={"zone": "eu"}),
    ]
    wanted = scaler(
        4,
        Group(name="eu", requirements={"zone": "eu"}),
        Group(name="fast", requirements={"disk": "ssd"}),
    )

    placement = place(wanted, hosts)

    assert {host: spot.count for host, spot in placement.places.items()} == {"a": 3, "b": 1}
    assert placement.places["a"].group == "fast"
