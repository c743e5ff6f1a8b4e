"""What a link says that an actor wants to be told of."""

import pytest

from lattice import errors
from providers.keyvalue import settings
from providers.keyvalue.stores.watches import Change, Pattern, Wanted


def wanted(watch: str) -> Wanted:
    return settings.parse_watch({}, {"watch": watch}, lattice="default").wanted


def test_watch_is_read_as_wasmcloud_writes_it() -> None:
    assert wanted(" set@key1, DEL@key2,SET@key2,, ") == Wanted(
        sets=(Pattern("key1"), Pattern("key2")), deletions=(Pattern("key2"),)
    )


def test_only_a_star_at_the_end_stands_for_anything() -> None:
    assert wanted("SET@a*b*,DEL@*").patterns == (
        Pattern("a*b", is_prefix=True),
        Pattern("", is_prefix=True),
    )


def test_a_key_may_have_what_separates_it_from_the_operation() -> None:
    assert wanted("SET@user@example:1").sets == (Pattern("user@example:1"),)


@pytest.mark.parametrize("entry", ["GET@a", "SET", "SET@", "@a", "a", "SET@a,DEL"])
def test_an_entry_that_can_not_be_read_is_refused(entry: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="want SET@KEY or DEL@KEY"):
        wanted(entry)


def test_a_link_that_watches_nothing_is_refused() -> None:
    with pytest.raises(errors.InvalidRequest, match="watches nothing"):
        wanted(" , ")


def test_the_links_configuration_goes_before_the_providers_own_key_by_key() -> None:
    found = settings.parse_watch(
        {"WATCH": "SET@a", "in_flight_max": "3", "bucket": "b"},
        {"watch": "DEL@b", "watch_existing": "true"},
        lattice="default",
    )
    assert found.wanted == Wanted(sets=(), deletions=(Pattern("b"),))
    assert (found.in_flight_max, found.tells_existing) == (3, True)
    assert found.where == settings.NatsSettings(bucket="b", replicas=1)


def test_a_change_is_wanted_for_what_happened_to_its_key() -> None:
    both = wanted("SET@a,DEL@b*")
    assert both.wants(Change("a", is_deletion=False))
    assert not both.wants(Change("a", is_deletion=True))
    assert both.wants(Change("bc", is_deletion=True))
    assert not both.wants(Change("bc", is_deletion=False))
