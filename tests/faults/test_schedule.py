"""The fault suite's schedules: a function of the seed, with time to get well."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults import schedule
from tests.faults.nemeses import table
from tests.faults.run import Settings, windows
from tests.faults.schedule import Kind

KINDS = [Kind(name=name, shortest_s=1, longest_s=8, rest_s=2) for name in ("a", "b", "c")]

seeds = st.integers(min_value=0, max_value=2**32)


@given(seeds)
def test_a_seed_has_one_schedule(seed: int) -> None:
    first = schedule.plan(seed, KINDS, duration_s=120)

    assert schedule.plan(seed, KINDS[::-1], duration_s=120) == first


def test_two_seeds_have_two() -> None:
    assert schedule.plan(1, KINDS, duration_s=120) != schedule.plan(2, KINDS, duration_s=120)


@given(seeds)
def test_faults_do_not_overlap_and_end_in_time(seed: int) -> None:
    planned = schedule.plan(seed, KINDS, duration_s=120)
    moments = [0.0]
    for window in planned:
        moments += [window.begins_s, window.ends_s, window.quiet_s]

    assert moments == sorted(moments)
    assert moments[-1] <= 120


@given(seeds)
def test_a_quarter_of_the_time_is_quiet(seed: int) -> None:
    planned = schedule.plan(seed, KINDS, duration_s=120)
    disturbed_s = sum(window.ends_s - window.begins_s for window in planned)

    assert disturbed_s <= planned[-1].quiet_s * (1 - schedule.QUIET_SHARE) + 0.01


@given(seeds)
def test_no_fault_strikes_while_the_one_before_may_still_be_felt(seed: int) -> None:
    kind = Kind(name="slow to be noticed", shortest_s=1, longest_s=2, felt_s=10)

    for window in schedule.plan(seed, [kind], duration_s=120):
        assert window.quiet_s - window.begins_s >= 10


@given(seeds)
def test_every_fault_has_its_turn_before_any_has_another(seed: int) -> None:
    planned = schedule.plan(seed, KINDS, duration_s=300)

    for start in range(0, len(planned) - 2, 3):
        assert {window.fault for window in planned[start : start + 3]} == {"a", "b", "c"}


@pytest.mark.parametrize("servers", [1, 3])
def test_every_fault_that_makes_sense_is_reached_in_ten_minutes(servers: int) -> None:
    planned = windows(Settings(seed=7, duration_s=600, servers=servers))

    assert {window.fault for window in planned} == table.by_name(servers=servers).keys()


def test_names_of_faults_differ() -> None:
    names = [nemesis.name for nemesis in table.NEMESES]

    assert len(names) == len(set(names))


def test_a_fault_that_does_not_exist_is_refused() -> None:
    with pytest.raises(AssertionError, match="flod"):
        table.by_name(["flod"], servers=1)
