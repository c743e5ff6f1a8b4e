"""What an operator may write for messages, and what is refused."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors
from providers.messaging import settings
from providers.messaging.settings import HandlerSettings, SendingSettings
from providers.sdk import configuration


def handler(provider: dict[str, str] | None = None, **link: str) -> HandlerSettings:
    return settings.parse_handler(provider or {}, link, default_queue="mine")


def sending(provider: dict[str, str] | None = None, **link: str) -> SendingSettings:
    return settings.parse_sending(provider or {}, link)


def test_subscriptions_are_wasmclouds_with_queue_groups() -> None:
    found = handler(subscriptions="orders.>|workers, events.*").subscriptions

    assert [(each.subject, each.queue) for each in found] == [
        ("orders.>", "workers"),
        ("events.*", "mine"),
    ]


def test_with_a_consumer_subscriptions_say_what_of_the_stream_is_read() -> None:
    found = handler(subscriptions="a.>,b", stream="S", consumer="c", in_flight_max="7")

    assert found.subscriptions == ()
    (consumer,) = found.consumers
    assert (consumer.stream, consumer.name, consumer.filters) == ("S", "c", ("a.>", "b"))
    assert consumer.is_made
    assert consumer.in_flight_max == 7


def test_consumers_are_taken_as_wasmcloud_writes_them() -> None:
    first = '{"stream":"S","consumer":"c","max_messages":3,"max_bytes":9}'
    text = f'[{first},{{"stream":"T","consumer":"d"}}]'
    found = handler(consumers=text, subscriptions="a", in_flight_max="50")

    assert [each.subject for each in found.subscriptions] == ["a"]
    assert [(each.name, each.in_flight_max, each.is_made) for each in found.consumers] == [
        ("c", 3, False),
        ("d", 50, False),
    ]


def test_a_key_counts_in_either_case_and_the_links_own_goes_first() -> None:
    found = handler({"timeout_ms": "1", "IN_FLIGHT_MAX": "2"}, SUBSCRIPTIONS="a", TIMEOUT_MS="2000")

    assert (found.timeout_s, found.in_flight_max) == (2.0, 2)


def test_credentials_of_the_providers_nats_are_not_sent_to_the_links_own() -> None:
    provider = {"cluster_uris": "nats://a", "client_jwt": "jwt", "client_seed": "seed"}

    inherited = sending(provider).connection
    own = sending(provider, uri="nats://b,nats://c").connection

    assert inherited is not None
    assert (inherited.servers, inherited.user_jwt) == (("nats://a",), "jwt")
    assert own is not None
    assert (own.servers, own.user_jwt, own.user_seed) == (("nats://b", "nats://c"), None, None)


def test_what_a_link_may_send_is_everything_or_what_it_names() -> None:
    assert sending().allowed is None
    assert sending(publish="").allowed == ()
    assert sending(publish="a.>, b").allowed == ("a.>", "b")


def test_a_secret_never_shows() -> None:
    connection = sending(uri="nats://u:hunter2@a", client_jwt="JJ", client_seed="SS").connection

    assert not any(secret in repr(connection) for secret in ("hunter2", "JJ", "SS"))


@pytest.mark.parametrize(
    ("link", "named"),
    [
        ({}, "subscriptions"),
        ({"subscriptions": " , "}, "subscriptions"),
        ({"subscriptions": "a..b"}, "pattern"),
        ({"subscriptions": "a|b c"}, "subject"),
        ({"subscriptions": "a|"}, "subject"),
        ({"subscriptions": ",".join("a" * 101)}, "subscriptions"),
        ({"stream": "S"}, "consumer"),
        ({"consumer": "c"}, "stream"),
        ({"stream": "S.T", "consumer": "c"}, "stream"),
        ({"stream": "S", "consumer": "c>"}, "consumer"),
        ({"stream": "S", "consumer": "c", "subscriptions": "a|q"}, "queue group"),
        ({"consumers": "{}"}, "consumers"),
        ({"consumers": "[" * 100_000}, "consumers"),
        ({"consumers": '[{"stream":"S"}]'}, "consumers"),
        ({"consumers": '[{"stream":"S","consumer":"c","max_messages":true}]'}, "consumers"),
        ({"subscriptions": "a", "timeout_ms": "0"}, "timeout_ms"),
        ({"subscriptions": "a", "timeout_ms": "600001"}, "timeout_ms"),
        ({"subscriptions": "a", "in_flight_max": "0"}, "in_flight_max"),
        ({"subscriptions": "a", "waiting_max": "-1"}, "waiting_max"),
        ({"subscriptions": "a", "ack_wait_ms": "1"}, "ack_wait_ms"),
        ({"subscriptions": "a", "max_deliveries": "0"}, "max_deliveries"),
        ({"subscriptions": "a", "retry_ms": "10", "retry_max_ms": "9"}, "retry_max_ms"),
        ({"subscriptions": "a", "dead_letter": "a.*"}, "wildcards"),
        ({"subscriptions": "a", "only_new": "yes"}, "only_new"),
        ({"subscriptions": "a", "client_seed": "s"}, "client_jwt"),
        ({"subscriptions": "a", "credentials_file": "f"}, "credentials_file"),
        ({"subscriptions": "a", "Subscriptions": "b"}, "ubscriptions"),
    ],
)
def test_what_can_not_be_meant_is_refused_by_its_name(link: dict[str, Any], named: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=named):
        handler(**link)


@pytest.mark.parametrize(
    ("link", "named"),
    [
        ({"delivery": "maybe"}, "delivery"),
        ({"replies": "1"}, "replies"),
        ({"publish": "a b"}, "a b"),
    ],
)
def test_what_can_not_be_meant_for_sending_is_refused(link: dict[str, str], named: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=named):
        sending(**dict[str, Any](link))


def test_keys_that_mean_nothing_are_told() -> None:
    assert configuration.ignored({"subscription": "a", "URI": "b"}, settings.HANDLER_KEYS) == [
        "subscription"
    ]


CONFIGS = st.dictionaries(
    st.sampled_from(sorted(settings.PROVIDER_KEYS)),
    st.text(max_size=20) | st.sampled_from(["a.>", "1", "true", "S", "[]", "[{}]", "\ud800"]),
)


@given(CONFIGS, CONFIGS)
def test_whatever_is_written_is_taken_or_refused(
    provider: dict[str, str], link: dict[str, str]
) -> None:
    with contextlib.suppress(errors.InvalidRequest):
        settings.parse_territory(provider)
    with contextlib.suppress(errors.InvalidRequest):
        settings.parse_handler(provider, link, default_queue="mine")
    with contextlib.suppress(errors.InvalidRequest):
        settings.parse_sending(provider, link)
