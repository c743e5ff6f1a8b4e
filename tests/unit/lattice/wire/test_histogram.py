"""Histograms add up, and tell quantiles to a sixteenth."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors
from lattice.wire import histogram
from lattice.wire.histogram import BUCKETS, VALUE_MAX, Histogram

values = st.one_of(st.integers(0, 5_000), st.integers(0, VALUE_MAX))


def counted(of: list[int]) -> Histogram:
    result = Histogram()
    for value in of:
        result.add(value)
    return result


@given(values)
def test_a_value_lies_in_its_bucket_and_buckets_are_narrow(value: int) -> None:
    low, high = histogram.bounds_of(histogram.bucket_of(value))

    assert low <= value <= high
    assert high - low <= low / 8


def test_buckets_follow_each_other_without_a_gap() -> None:
    edges = [histogram.bounds_of(bucket) for bucket in range(BUCKETS)]

    assert edges[0][0] == 0
    assert edges[-1][1] == VALUE_MAX
    assert all(high + 1 == low for (_, high), (low, _) in itertools.pairwise(edges))


def test_a_value_beyond_the_last_bucket_counts_in_it() -> None:
    assert counted([VALUE_MAX * 10]) == counted([VALUE_MAX])


@given(st.lists(values), st.lists(values))
def test_merged_histograms_are_the_one_that_counted_everything(
    one: list[int], other: list[int]
) -> None:
    merged = counted(one)
    merged.merge(counted(other))

    assert merged == counted(one + other)


@given(st.lists(values), st.lists(values))
def test_what_was_counted_since_is_what_came_after(before: list[int], after: list[int]) -> None:
    assert counted(before + after).since(counted(before)) == counted(after)


def test_a_count_that_began_anew_counts_whole() -> None:
    assert counted([5]).since(counted([5, 5, 7])) == counted([5])
    assert counted([5]).since(counted([9_000])) == counted([5])


@given(st.lists(values, min_size=1), st.floats(0, 1))
def test_a_quantile_is_off_by_a_sixteenth_at_most(of: list[int], share: float) -> None:
    told = counted(of).quantile(share)
    exact = sorted(of)[max(1, round(share * len(of))) - 1]

    assert told is not None
    assert abs(told - exact) <= exact / 16 + 1


def test_nothing_has_no_quantile() -> None:
    assert Histogram().quantile(0.5) is None


@given(st.lists(values))
def test_a_histogram_crosses_the_wire_unchanged(of: list[int]) -> None:
    assert Histogram.from_pairs(counted(of).pairs()) == counted(of)


@pytest.mark.parametrize(
    "pairs",
    [
        [1],
        [BUCKETS, 1],
        [-1, 1],
        [2, 1, 1, 1],
        [1, 1, 1, 1],
        [1, 0],
        [1, -3],
        [1, 2**63],
        ["1", 1],
        [1, True],
        [1, 1.5],
        [2**70, 1],
    ],
    ids=repr,
)
def test_nonsense_is_no_histogram(pairs: list[object]) -> None:
    with pytest.raises(errors.InvalidRequest):
        Histogram.from_pairs(pairs)


@given(st.lists(values, min_size=1))
def test_least_mean_and_greatest_are_told_to_a_bucket(of: list[int]) -> None:
    result = counted(of)
    least, mean, greatest = result.least, result.mean, result.greatest
    assert least is not None
    assert mean is not None
    assert greatest is not None

    assert least <= min(of) <= least * 9 / 8
    assert greatest * 8 / 9 <= max(of) <= greatest
    assert mean == pytest.approx(sum(of) / len(of), rel=1 / 14)


def test_of_nothing_there_is_neither_least_nor_mean_nor_greatest() -> None:
    assert (Histogram().least, Histogram().mean, Histogram().greatest) == (None, None, None)
