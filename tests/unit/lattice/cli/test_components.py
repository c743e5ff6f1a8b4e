"""Requests and words about components and providers."""

import pytest

from lattice.cli import components, providers
from lattice.wire.control import ComponentDescription, HostInventory, ProviderDescription


def inventory(host_id: str, *, component: str = "", provider: str = "") -> HostInventory:
    return HostInventory(
        host_id=host_id,
        friendly_name=host_id,
        labels={},
        version="0.1.0",
        uptime_human="1s",
        uptime_seconds=1,
        components=[ComponentDescription(id=component, image_ref="file:///x", max_instances=1)],
        providers=[ProviderDescription(id=provider)],
    )


def test_a_component_is_stopped_on_every_host_that_runs_it() -> None:
    found = [inventory("N1", component="a"), inventory("N2", component="b")]
    found.append(inventory("N3", component="a"))

    requests = components.stop_requests(found, "a")

    assert [(r.host_id, r.component_ref, r.count) for r in requests] == [
        ("N1", "file:///x", 0),
        ("N3", "file:///x", 0),
    ]


def test_a_provider_is_stopped_on_every_host_that_runs_it() -> None:
    found = [inventory("N1", provider="a"), inventory("N2", provider="b")]

    assert providers.running_on(found, "a") == ["N1"]


@pytest.mark.parametrize(
    ("count", "words"),
    [(5, "5 max concurrent instances"), (2**32 - 1, "unbounded concurrency")],
)
def test_a_count_is_put_in_the_words_of_wash(count: int, words: str) -> None:
    assert components.concurrency(count) == words
