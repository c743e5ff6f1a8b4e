"""The control client against hosts played by the test, and what they may get wrong."""

import asyncio
import json

import pytest

from lattice import errors, subjects
from lattice.bus import Bus, Message
from lattice.control import client as control_client
from lattice.control.client import ControlClient
from lattice.wire import control, events
from lattice.wire.control import (
    DeleteLink,
    Link,
    RegistryCredential,
    ScaleComponent,
    UpdateComponent,
)

HOST = {"id": "N1", "friendly_name": "b", "labels": {}, "lattice": "x", "uptime_seconds": 1}
LINK = Link(source_id="a", target="b", wit_namespace="wasi", wit_package="keyvalue")


class Host:
    """Answers one control subject with fixed bytes, and keeps what it was asked."""

    def __init__(self, bus: Bus, *answers: bytes) -> None:
        self._bus = bus
        self._answers = answers
        self.asked: list[bytes] = []

    async def answer(self, message: Message) -> None:
        self.asked.append(message.data)
        for answer in self._answers:
            await self._bus.publish(message.reply, answer)


@pytest.fixture
def client(bus: Bus, lattice_name: str) -> ControlClient:
    return ControlClient(bus, lattice_name, timeout_s=0.3)


async def play(bus: Bus, lattice: str, subject: str, *answers: bytes) -> Host:
    host = Host(bus, *answers)
    await bus.subscribe(subjects.control(lattice, *subject.split(" ")), host.answer)
    return host


async def test_hosts_are_listed_by_name_without_those_that_answer_nonsense(
    client: ControlClient, bus: Bus, lattice_name: str
) -> None:
    await play(
        bus,
        lattice_name,
        "host ping",
        control.accepted(HOST),
        b"nonsense",
        control.accepted({"id": 5}),
        control.refused(errors.Draining("going")),
        control.accepted(HOST | {"id": "N2", "friendly_name": "a"}),
    )

    hosts = await client.hosts()

    assert [host.friendly_name for host in hosts] == ["a", "b"]


async def test_a_lattice_without_hosts_has_none(client: ControlClient) -> None:
    assert await client.hosts() == []


async def test_no_host_to_ask_is_told_with_a_remedy(client: ControlClient) -> None:
    with pytest.raises(errors.Unavailable, match="lattice host"):
        await client.links()


async def test_a_host_that_is_not_there_is_not_found(client: ControlClient) -> None:
    with pytest.raises(errors.NotFound, match="NABSENT"):
        await client.inventory("NABSENT")


async def test_a_host_that_stays_silent_is_a_deadline(
    client: ControlClient, bus: Bus, lattice_name: str
) -> None:
    await play(bus, lattice_name, "host get N1")

    with pytest.raises(errors.DeadlineExceeded):
        await client.inventory("N1")


@pytest.mark.parametrize(
    "answer", [b"nonsense", b"[]", control.accepted(5), control.accepted([{"source_id": 1}])]
)
async def test_an_answer_that_is_none_is_told(
    client: ControlClient, bus: Bus, lattice_name: str, answer: bytes
) -> None:
    await play(bus, lattice_name, "link get", answer)

    with pytest.raises(errors.InvalidRequest):
        await client.links()


async def test_a_refusal_is_raised_as_what_it_is(
    client: ControlClient, bus: Bus, lattice_name: str
) -> None:
    await play(bus, lattice_name, "link put", control.refused(errors.Conflict("taken")))

    with pytest.raises(errors.Conflict, match=r"^taken$"):
        await client.put_link(LINK)


async def test_requests_are_in_wasmclouds_words(
    client: ControlClient, bus: Bus, lattice_name: str
) -> None:
    done = control.accepted()
    put = await play(bus, lattice_name, "link put", done)
    delete = await play(bus, lattice_name, "link del", done)
    config = await play(bus, lattice_name, "config put name", done)
    scale = await play(bus, lattice_name, "component scale N1", control.accepted(message="remark"))

    await client.put_link(LINK)
    await client.delete_link(DeleteLink(source_id="a", wit_namespace="b", wit_package="c"))
    await client.put_config("name", {"k": "ü"})
    remark = await client.scale_component(
        ScaleComponent(component_id="x", component_ref="y", host_id="N1", count=3)
    )

    assert json.loads(put.asked[0]) == LINK.to_json()
    assert json.loads(delete.asked[0]) == {
        "source_id": "a",
        "name": "default",
        "wit_namespace": "b",
        "wit_package": "c",
    }
    assert json.loads(config.asked[0]) == {"k": "ü"}
    assert json.loads(scale.asked[0]) == {
        "component_id": "x",
        "component_ref": "y",
        "count": 3,
        "annotations": {},
        "host_id": "N1",
        "config": [],
        "allow_update": False,
    }
    assert remark == "remark"


async def test_requests_to_one_host_are_in_wasmclouds_words(
    client: ControlClient, bus: Bus, lattice_name: str
) -> None:
    done = control.accepted(message="remark")
    update = await play(bus, lattice_name, "component update N1", done)
    put = await play(bus, lattice_name, "label put N1", done)
    delete = await play(bus, lattice_name, "label del N1", done)

    remark = await client.update_component(
        UpdateComponent(component_id="x", host_id="N1", new_component_ref="y")
    )
    await client.put_label("N1", "zone", "a")
    await client.delete_label("N1", "zone")

    assert remark == "remark"
    assert json.loads(update.asked[0]) == {
        "component_id": "x",
        "annotations": {},
        "host_id": "N1",
        "new_component_ref": "y",
    }
    assert json.loads(put.asked[0]) == {"key": "zone", "value": "a"}
    assert json.loads(delete.asked[0]) == {"key": "zone"}


async def test_every_host_is_given_credentials_and_one_that_refuses_is_heard(
    client: ControlClient, bus: Bus, lattice_name: str
) -> None:
    registries = {"ghcr.io": RegistryCredential(username="u", password="p")}
    assert await client.put_registries(registries) == 0
    host = await play(bus, lattice_name, "registry put", control.accepted())
    assert await client.put_registries(registries) == 1
    assert json.loads(host.asked[0]) == {
        "ghcr.io": {"password": "p", "username": "u", "registryType": "oci"}
    }
    await play(bus, lattice_name, "registry put", control.refused(errors.InvalidRequest("no")))

    with pytest.raises(errors.InvalidRequest, match=r"^no$"):
        await client.put_registries(registries)


async def test_claims_are_maps_of_strings(
    client: ControlClient, bus: Bus, lattice_name: str
) -> None:
    await play(bus, lattice_name, "claims get", control.accepted([{"name": "x"}]))

    assert await client.claims() == [{"name": "x"}]


async def test_a_host_that_sends_all_links_at_once_is_asked_once(
    client: ControlClient, bus: Bus, lattice_name: str
) -> None:
    host = await play(bus, lattice_name, "link get", control.accepted([LINK.to_json()] * 3))

    assert await client.links() == [LINK] * 3
    assert len(host.asked) == 1


async def test_a_host_whose_links_never_end_is_left_after_a_while(
    client: ControlClient, bus: Bus, lattice_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_client, "PAGES_MAX", 5)
    page = {"success": True, "message": "", "response": [LINK.to_json()], "next": LINK.order}
    host = await play(bus, lattice_name, "link get", json.dumps(page).encode())

    assert await client.links() == [LINK] * 5
    assert json.loads(host.asked[1]) == {"after": list(LINK.order)}


async def test_a_config_that_does_not_exist_is_none(
    client: ControlClient, bus: Bus, lattice_name: str
) -> None:
    answer = control.accepted(message="Configuration not found")
    await play(bus, lattice_name, "config get name", answer)

    assert await client.config("name") is None


async def test_the_first_bid_wins_an_auction(
    client: ControlClient, bus: Bus, lattice_name: str
) -> None:
    bid = {"component_ref": "x", "component_id": "y", "constraints": {}, "host_id": "N1"}
    await play(
        bus,
        lattice_name,
        "component auction",
        control.accepted(bid),
        control.accepted(bid | {"host_id": "N2"}),
    )

    won = await client.auction_component("x", "y", {})

    assert won is not None
    assert won.host_id == "N1"


async def test_an_auction_that_nobody_hears_has_no_winner(client: ControlClient) -> None:
    assert await client.auction_provider("x", "y", {}) is None


class TestEvents:
    async def publish(self, bus: Bus, lattice: str, name: str, data: dict[str, object]) -> None:
        message = events.encode(name, data, source="N1")
        await bus.publish(subjects.event(lattice, name), message)

    async def test_events_come_by_name_and_in_order(
        self, client: ControlClient, bus: Bus, lattice_name: str
    ) -> None:
        async with client.events("config_set") as stream:
            await self.publish(bus, lattice_name, "other", {})
            await bus.publish(subjects.event(lattice_name, "config_set"), b"nonsense")
            for number in range(3):
                await self.publish(bus, lattice_name, "config_set", {"n": number})

            async with asyncio.timeout(5):
                seen = [(await anext(stream)).data["n"] for _ in range(3)]

        assert seen == [0, 1, 2]

    async def test_without_names_all_events_come(
        self, client: ControlClient, bus: Bus, lattice_name: str
    ) -> None:
        async with client.events() as stream:
            await self.publish(bus, lattice_name, "one", {})
            await self.publish(bus, lattice_name, "two", {})

            found = await stream.wait_for(lambda event: event.name == "two", timeout_s=5)

        assert found is not None
        assert found.source == "N1"

    async def test_an_event_that_does_not_come_is_none(self, client: ControlClient) -> None:
        async with client.events("never") as stream:
            assert await stream.wait_for(lambda _: True, timeout_s=0.02) is None
