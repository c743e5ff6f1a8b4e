"""What becomes of a stream's message that was not handled."""

import pytest

from lattice import errors
from lattice.errors import LatticeError
from providers.messaging import delivery, settings
from providers.messaging.delivery import Bury, TryAgain
from providers.messaging.settings import HandlerSettings

FAILED = errors.ActorError("out of stock")


def rules(**link: str) -> HandlerSettings:
    return settings.parse_handler({}, {"subscriptions": "a"} | link, default_queue="q")


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (errors.NotRunning("x"), True),
        (errors.Overloaded("x"), True),
        (errors.Draining("x"), True),
        (errors.Denied("x"), False),
        (errors.InvalidRequest("x"), False),
        (errors.DeadlineExceeded("x"), False),
        (errors.Unavailable("x"), False),
        (errors.ActorError("x"), False),
        (errors.ActorTrapped("x"), False),
    ],
)
def test_only_what_the_actor_has_not_seen_and_may_see_later_waits(
    error: LatticeError, waits: bool
) -> None:
    assert delivery.may_wait(error) == waits


def test_the_pause_before_another_delivery_grows_to_its_bound() -> None:
    link = rules(retry_ms="100", retry_max_ms="1000", max_deliveries="100000")

    pauses = [
        delivery.after_failure(FAILED, count, link, link.deliveries_max)
        for count in (1, 2, 3, 4, 5, 99_999)
    ]

    assert pauses == [TryAgain(pause_s) for pause_s in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0)]


def test_the_last_delivery_that_fails_is_the_last() -> None:
    link = rules(max_deliveries="3")

    assert isinstance(delivery.after_failure(FAILED, 2, link, 3), TryAgain)
    assert delivery.after_failure(FAILED, 3, link, 3) == Bury(FAILED)


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("out\r\nNats-Rollup: all\r\n\r\n", "out Nats-Rollup: all"),
        ("größe\0\u2028x", "gr e x"),
        ("  ", ""),
        ("x" * 5000, "x" * delivery.REASON_CHARS_MAX),
    ],
)
def test_no_text_of_an_actor_becomes_a_header_of_its_own(text: str, header: str) -> None:
    assert delivery.header_text(text) == header
