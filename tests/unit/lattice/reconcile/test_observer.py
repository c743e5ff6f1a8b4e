"""When a host is read again."""

from lattice.reconcile.observer import LARGE_HOST, READ_S_PER_ACTOR, earliest_reading


def test_a_host_with_few_actors_is_read_the_moment_that_something_changes() -> None:
    assert earliest_reading(10.0, 0) == 10.0
    assert earliest_reading(10.0, LARGE_HOST - 1) == 10.0


def test_a_host_with_thousands_of_actors_is_read_the_less_often_the_more_it_has() -> None:
    assert earliest_reading(10.0, LARGE_HOST) > 10.0
    assert earliest_reading(10.0, 10_000) == 10.0 + 10_000 * READ_S_PER_ACTOR
