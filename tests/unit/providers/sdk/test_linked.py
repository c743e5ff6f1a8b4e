"""Providers with something open for each link: opened, replaced, refused, closed, and each once."""

import asyncio
from collections.abc import Mapping

import pytest

from lattice import errors
from providers.sdk import Call, Link, LinkedProvider
from tests.support.provider_context import FakeContext


def link(source: str = "tester", **config: str) -> Link:
    return Link(
        source_id=source,
        target="tap",
        wit_namespace="test",
        wit_package="target",
        target_config=config,
    )


def call(over: Link) -> Call:
    return Call(
        source=over.source_id,
        link=over,
        interface="test:target",
        operation="Tap.Draw",
        payload=b"",
        deadline=asyncio.get_running_loop().time() + 5,
    )


class Tap(LinkedProvider[list[str]]):
    """Opens a cask of what a link wants."""

    provider_keys = frozenset({"drink"})

    def __init__(self) -> None:
        super().__init__()
        self.closed: list[str] = []

    def read_config(self, config: Mapping[str, str]) -> None:
        if config.get("drink") == "petrol":
            raise errors.InvalidRequest("drink is 'petrol'")

    async def open_link(self, link: Link, before: list[str] | None) -> list[str]:
        self.check_serves(link, ("test", "target"))
        drink = link.target_config.get("drink", self.config.get("drink", "water"))
        if drink == "petrol":
            raise errors.Denied("nobody drinks that")
        return before if before == [drink] else [drink]

    async def close_link(self, opened: list[str]) -> None:
        self.closed += opened


@pytest.fixture
async def tap() -> Tap:
    tap = Tap()
    await tap.start(FakeContext("tap"), {})
    return tap


async def test_what_a_link_opens_is_there_for_its_calls_until_it_is_gone(tap: Tap) -> None:
    await tap.put_link(link(drink="ale"))
    assert tap.opened_for(call(link())) == ["ale"]
    await tap.delete_link(link())
    assert tap.closed == ["ale"]
    with pytest.raises(errors.NoLink, match="lattice link put tester tap test target"):
        tap.opened_for(call(link()))
    await tap.delete_link(link())
    assert tap.closed == ["ale"]


async def test_a_changed_link_opens_anew_and_then_closes_what_was_open(tap: Tap) -> None:
    await tap.put_link(link(drink="ale"))
    await tap.put_link(link(drink="mead"))
    assert (tap.opened_for(call(link())), tap.closed) == (["mead"], ["ale"])


async def test_what_will_do_for_a_changed_link_stays_open(tap: Tap) -> None:
    await tap.put_link(link(drink="ale"))
    before = tap.opened_for(call(link()))
    await tap.put_link(link(drink="ale", unknown="key"))
    assert tap.opened_for(call(link())) is before
    assert tap.closed == []


async def test_a_link_that_is_refused_leads_nowhere_any_more(tap: Tap) -> None:
    await tap.put_link(link(drink="ale"))
    with pytest.raises(errors.Denied):
        await tap.put_link(link(drink="petrol"))
    assert tap.closed == ["ale"]
    with pytest.raises(errors.NoLink):
        tap.opened_for(call(link()))


async def test_links_put_again_go_by_a_changed_configuration_and_not_by_a_wrong_one(
    tap: Tap,
) -> None:
    await tap.update_config({"drink": "ale"})
    with pytest.raises(errors.InvalidRequest):
        await tap.update_config({"drink": "petrol"})
    await tap.put_link(link())
    assert tap.opened_for(call(link())) == ["ale"]


async def test_a_link_of_another_package_or_the_wrong_way_round_is_told_what_would_do(
    tap: Tap,
) -> None:
    with pytest.raises(
        errors.InvalidRequest, match="serves test:target, not test:sql; put the link with: test t"
    ):
        await tap.put_link(link().model_copy(update={"wit_package": "sql"}))
    with pytest.raises(errors.InvalidRequest, match="lattice link put tester tap test target"):
        await tap.put_link(link().model_copy(update={"source_id": "tap", "target": "tester"}))
