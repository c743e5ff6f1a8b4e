"""The soak's verdict: a line through the second half of the samples."""

import pytest

from tests.faults.soak import slopes


def samples(values: list[float]) -> dict[str, list[tuple[float, float]]]:
    return {"alpha: threads": [(60.0 * n, value) for n, value in enumerate(values)]}


def test_a_pool_that_fills_and_stays_is_fine() -> None:
    (slope,) = slopes(samples([2, 4, 6, 8, 8, 8, 8, 8]))

    assert (slope.per_hour, slope.ok) == (0.0, True)


def test_what_grows_by_one_a_minute_is_not() -> None:
    (slope,) = slopes(samples([1, 2, 3, 4, 5, 6, 7, 8]))

    assert slope.per_hour == pytest.approx(60.0)
    assert not slope.ok


def test_what_shrinks_is_fine() -> None:
    (slope,) = slopes(samples([8, 8, 8, 8, 4, 3, 2, 1]))

    assert slope.ok


def test_too_few_samples_say_nothing() -> None:
    assert slopes(samples([1])) == []
