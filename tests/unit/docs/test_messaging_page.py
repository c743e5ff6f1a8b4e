"""The page of the messaging provider names every key, and the defaults that there are."""

import re
from pathlib import Path

import pytest

from providers.messaging import grants, settings

PAGE = (Path(__file__).parents[3] / "docs" / "providers" / "messaging.md").read_text()


@pytest.mark.parametrize("key", sorted(settings.PROVIDER_KEYS))
def test_a_key_has_a_place_in_a_table(key: str) -> None:
    assert re.search(rf"^\|[^|]*`{key}`[^|]*\|", PAGE, re.MULTILINE)


@pytest.mark.parametrize(
    ("key", "default"),
    [
        ("in_flight_max", settings.IN_FLIGHT),
        ("waiting_max", settings.WAITING),
        ("ack_wait_ms", settings.ACK_WAIT_MS),
        ("max_deliveries", settings.DELIVERIES),
        ("retry_ms", settings.RETRY_MS),
        ("retry_max_ms", settings.RETRY_MAX_MS),
    ],
)
def test_a_default_is_the_one_in_force(key: str, default: int) -> None:
    assert re.search(rf"^\| `{key}` \| {default} \|", PAGE, re.MULTILINE)


def test_what_is_reserved_is_named() -> None:
    for word in (*grants.TOKENS_RESERVED, *grants.PREFIXES_RESERVED):
        assert f"`{word}`" in PAGE
    assert f"{grants.SUBJECT_BYTES_MAX} bytes" in PAGE
