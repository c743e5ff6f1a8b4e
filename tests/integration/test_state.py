"""The lattice's state, seen from several hosts at once."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial

import pytest
from structlog.testing import capture_logs

from lattice import errors, limits, subjects
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus
from lattice.bus.server import NatsServer
from lattice.names import Interface
from lattice.state.links import Difference
from lattice.state.store import State
from lattice.wire.control import DeleteLink, Link
from tests.support.eventually import eventually
from tests.support.nats_server import connected, nats_server


class Notes:
    """A listener that keeps what it heard."""

    def __init__(self) -> None:
        self.put: list[Link] = []
        self.deleted: list[Link] = []
        self.configs: list[frozenset[str]] = []

    def links_changed(self, difference: Difference) -> None:
        self.put += difference.put
        self.deleted += difference.deleted

    def configs_changed(self, config_names: frozenset[str]) -> None:
        self.configs.append(config_names)


class Host:
    """One process's state, over a connection of its own."""

    def __init__(self, bus: Bus, state: State, notes: Notes) -> None:
        self.bus = bus
        self.state = state
        self.notes = notes

    @property
    def targets(self) -> set[str]:
        return {link.target for link in self.state.links}

    def has_links(self, count: int) -> bool:
        return len(list(self.state.links)) == count


@pytest.fixture
async def hosts(nats: NatsServer, lattice_name: str) -> AsyncIterator[list[Host]]:
    """Three of them, on one lattice."""
    async with AsyncExitStack() as stack:
        tasks = TaskGroup("test")
        stack.push_async_callback(tasks.aclose)

        async def start() -> Host:
            bus = await stack.enter_async_context(connected(nats))
            notes = Notes()
            return Host(bus, await State.open(bus, lattice_name, notes, tasks), notes)

        yield [await start() for _ in range(3)]


def link(target: str = "kv", **changes: object) -> Link:
    fields: dict[str, object] = {
        "source_id": "counter",
        "target": target,
        "wit_namespace": "wasi",
        "wit_package": "keyvalue",
        "interfaces": ["store"],
    }
    return Link.model_validate(fields | changes)


def delete(**changes: object) -> DeleteLink:
    fields: dict[str, object] = {
        "source_id": "counter",
        "wit_namespace": "wasi",
        "wit_package": "keyvalue",
    }
    return DeleteLink.model_validate(fields | changes)


def encoded(config: dict[str, str]) -> bytes:
    return json.dumps(config).encode()


STORE = Interface("wasi", "keyvalue", "store")


class TestLinks:
    async def test_a_link_is_in_force_here_at_once_and_elsewhere_soon(
        self, hosts: list[Host]
    ) -> None:
        one, other, _ = hosts

        await one.state.put_link(link())

        assert one.state.links.find("counter", "default", STORE) == link()
        await eventually(lambda: other.state.links.find("counter", "default", STORE) == link())
        assert other.notes.put == [link()]

    async def test_what_is_stored_is_wasmclouds_json(self, hosts: list[Host]) -> None:
        await hosts[0].state.put_link(link())

        bucket = await hosts[0].bus.bucket(hosts[0].state._data.name)
        entry = await bucket.get("COMPONENT_counter")
        assert entry is not None
        assert json.loads(entry.value) == {
            "url": "",
            "links": [
                {
                    "source_id": "counter",
                    "target": "kv",
                    "name": "default",
                    "wit_namespace": "wasi",
                    "wit_package": "keyvalue",
                    "interfaces": ["store"],
                    "source_config": [],
                    "target_config": [],
                }
            ],
        }

    async def test_hundreds_of_concurrent_writes_to_one_source_all_survive(
        self, hosts: list[Host]
    ) -> None:
        links = [link(f"target-{n}", name=f"link-{n}") for n in range(200)]

        await asyncio.gather(*(hosts[n % 3].state.put_link(one) for n, one in enumerate(links)))

        for host in hosts:
            await eventually(partial(host.has_links, 200))

    async def test_a_name_that_is_taken_is_a_conflict_in_wasmclouds_words(
        self, hosts: list[Host]
    ) -> None:
        await hosts[0].state.put_link(link("kv"))

        with pytest.raises(errors.Conflict, match="link already exists with different target"):
            await hosts[1].state.put_link(link("other"))

        await hosts[1].state.put_link(link("other", interfaces=["atomics"]))

    async def test_of_two_that_want_one_name_exactly_one_gets_it(self, hosts: list[Host]) -> None:
        outcomes = await asyncio.gather(
            *(hosts[n % 3].state.put_link(link(f"target-{n}")) for n in range(12)),
            return_exceptions=True,
        )

        assert sum(outcome is None for outcome in outcomes) == 1
        assert sum(isinstance(outcome, errors.Conflict) for outcome in outcomes) == 11

    async def test_putting_a_link_again_changes_nothing(self, hosts: list[Host]) -> None:
        one = hosts[0]
        await one.state.put_link(link())
        await one.state.put_link(link())

        assert one.notes.put == [link()]

    async def test_a_changed_link_is_told(self, hosts: list[Host]) -> None:
        one = hosts[0]
        await one.state.put_link(link())
        await one.state.put_link(link(interfaces=["store", "atomics"]))

        assert one.notes.put == [link(), link(interfaces=["store", "atomics"])]
        assert one.notes.deleted == []

    async def test_a_deleted_link_is_returned_and_told(self, hosts: list[Host]) -> None:
        one, other, _ = hosts
        await one.state.put_link(link())
        await one.state.put_link(link("pubsub", wit_package="messaging"))

        assert await other.state.delete_link(delete()) == link()
        assert await other.state.delete_link(delete()) is None

        await eventually(lambda: one.notes.deleted == [link()])
        assert one.targets == {"pubsub"}

    async def test_deleting_one_of_several_needs_its_target(self, hosts: list[Host]) -> None:
        state = hosts[0].state
        await state.put_link(link("one", interfaces=["store"]))
        await state.put_link(link("two", interfaces=["atomics"]))

        with pytest.raises(errors.Conflict, match="one, two"):
            await state.delete_link(delete())
        deleted = await state.delete_link(delete(target="two"))

        assert deleted is not None
        assert deleted.target == "two"
        assert hosts[0].targets == {"one"}

    async def test_deleting_needs_an_exact_match(self, hosts: list[Host]) -> None:
        state = hosts[0].state
        await state.put_link(link())

        for request in (
            delete(name="other"),
            delete(wit_namespace="other"),
            delete(wit_package="other"),
            delete(target="other"),
            delete(interfaces=["atomics"]),
            delete(source_id="other"),
        ):
            assert await state.delete_link(request) is None

        assert hosts[0].targets == {"kv"}

    async def test_a_source_has_only_so_many_links(
        self, hosts: list[Host], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "LINKS_PER_SOURCE_MAX", 2)
        state = hosts[0].state
        for name in ("a", "b"):
            await state.put_link(link(name=name))

        with pytest.raises(errors.InvalidRequest):
            await state.put_link(link(name="c"))
        await state.put_link(link(name="b", interfaces=["atomics"]))

    @pytest.mark.parametrize(
        "changes",
        [
            {"source_id": "a.b"},
            {"target": ""},
            {"name": "two words"},
            {"wit_namespace": ""},
            {"wit_package": "x/y"},
            {"interfaces": ["*"]},
        ],
        ids=str,
    )
    async def test_names_that_are_none_are_refused(
        self, hosts: list[Host], changes: dict[str, object]
    ) -> None:
        with pytest.raises(errors.InvalidRequest):
            await hosts[0].state.put_link(link().model_copy(update=changes))


class TestConfigs:
    async def test_a_config_is_in_force_here_at_once_and_elsewhere_soon(
        self, hosts: list[Host]
    ) -> None:
        one, other, _ = hosts

        await one.state.put_config("name", encoded({"key": "wert ü"}))

        assert one.state.config("name") == {"key": "wert ü"}
        await eventually(lambda: other.state.config("name") == {"key": "wert ü"})
        assert other.notes.configs == [frozenset({"name"})]

    async def test_a_deleted_config_is_none(self, hosts: list[Host]) -> None:
        await hosts[0].state.put_config("name", b"{}")
        await hosts[0].state.delete_config("name")
        await hosts[0].state.delete_config("name")

        await eventually(lambda: hosts[0].state.config("name") is None)

    async def test_later_configs_win(self, hosts: list[Host]) -> None:
        state = hosts[0].state
        await state.put_config("one", encoded({"a": "1", "b": "1"}))
        await state.put_config("two", encoded({"b": "2"}))

        assert state.merged_config(["one", "missing", "two"]) == {"a": "1", "b": "2"}

    async def test_a_link_to_a_missing_config_is_not_found_in_wasmclouds_words(
        self, hosts: list[Host]
    ) -> None:
        with pytest.raises(errors.NotFound) as caught:
            await hosts[0].state.put_link(
                link(source_config=["absent"], target_config=["SECRET_pw", "not a name"])
            )

        assert caught.value.text == (
            "Failed to validate configuration and secrets. "
            "Configuration absent not found in config store. "
            "Secret reference SECRET_pw not found in config store. "
            "Configuration not a name not found in config store. "
        )

    async def test_a_config_put_through_one_host_is_known_to_the_next_request_on_another(
        self, hosts: list[Host]
    ) -> None:
        for n in range(30):
            await hosts[0].state.put_config(f"config-{n}", b"{}")

            await hosts[1].state.put_link(link(name=f"link-{n}", target_config=[f"config-{n}"]))

    @pytest.mark.parametrize("name", ["", "a.b", "two words", "x" * 129])
    async def test_a_name_that_is_none_is_refused(self, hosts: list[Host], name: str) -> None:
        with pytest.raises(errors.InvalidRequest):
            await hosts[0].state.put_config(name, b"{}")
        with pytest.raises(errors.InvalidRequest):
            await hosts[0].state.delete_config(name)


class TestWhatOthersStored:
    @pytest.mark.parametrize(
        "value",
        [b"", b"no json", b"[]", b'{"links":5}', b'{"links":[{"target":"x"}]}', b"[" * 10_000],
        ids=["empty", "text", "list", "links", "link", "deep"],
    )
    async def test_links_that_cannot_be_read_are_ignored_with_a_warning(
        self, hosts: list[Host], value: bytes
    ) -> None:
        host = hosts[0]
        await host.state.put_link(link())
        with capture_logs() as logs:
            await host.state._data.put("COMPONENT_other", value)
            last = await host.state._data.put("COMPONENT_broken", value)
            assert await host.state._data_mirror.wait_for(last, timeout_s=5)

        assert host.targets == {"kv"}
        assert {line["source"] for line in logs if "links can't be read" in line["event"]} == {
            "other",
            "broken",
        }
        with pytest.raises(errors.InvalidRequest, match="not touched"):
            await host.state.put_link(link(source_id="broken"))

    async def test_a_link_stored_under_another_source_is_ignored(self, hosts: list[Host]) -> None:
        host = hosts[0]
        await host.state.put_link(link())
        forged = link("thief").model_dump_json()

        last = await host.state._data.put("COMPONENT_other", b'{"links":[%b]}' % forged.encode())
        await host.state._data_mirror.wait_for(last, timeout_s=5)

        found = host.state.links.find("counter", "default", STORE)
        assert found is not None
        assert found.target == "kv"

    async def test_legacy_and_unknown_keys_are_ignored(self, hosts: list[Host]) -> None:
        host = hosts[0]
        for key in ("LINKDEF_x", "REFMAP_x", "CLAIMS_MX", "COMPONENT_", "anything"):
            last = await host.state._data.put(key, b"not json")
        await host.state._data_mirror.wait_for(last, timeout_s=5)

        assert host.targets == set()

    @pytest.mark.parametrize("value", [b"", b"[]", b'{"a":1}', b'{"a":"\\ud800"}', b"[" * 10_000])
    async def test_a_config_that_is_no_map_of_strings_counts_as_none(
        self, hosts: list[Host], value: bytes
    ) -> None:
        state = hosts[0].state
        last = await state._configs.put("broken", value)
        await state._config_mirror.wait_for(last, timeout_s=5)

        assert state.config("broken") is None
        assert state.merged_config(["broken"]) == {}

    async def test_1x_specs_with_an_image_and_unknown_fields_are_read(
        self, hosts: list[Host]
    ) -> None:
        state = hosts[0].state
        spec = {
            "url": "ghcr.io/x/y:1",
            "links": [{**link().to_json(), "future": 1}],
            "future": {"x": 1},
        }
        last = await state._data.put("COMPONENT_counter", json.dumps(spec).encode())
        await state._data_mirror.wait_for(last, timeout_s=5)
        assert list(state.links) == [link()]

        await state.put_link(link("other", name="second"))

        entry = await state._data.get("COMPONENT_counter")
        assert entry is not None
        stored = json.loads(entry.value)
        assert stored["url"] == "ghcr.io/x/y:1"
        assert len(stored["links"]) == 2


async def test_what_was_known_stays_in_force_without_nats(lattice_name: str) -> None:
    tasks = TaskGroup("test")
    async with nats_server() as server, connected(server) as bus:
        state = await State.open(bus, lattice_name, Notes(), tasks)
        await state.put_link(link())
        await state.put_config("name", encoded({"a": "b"}))
        await server.aclose()
        await eventually(lambda: not bus.is_connected)

        assert state.links.find("counter", "default", STORE) == link()
        assert state.config("name") == {"a": "b"}
        with pytest.raises(errors.Unavailable):
            await state.put_link(link("other", name="other"))
        await tasks.aclose()


async def test_opening_state_makes_both_buckets_with_wasmclouds_names(
    hosts: list[Host], bus: Bus, lattice_name: str
) -> None:
    for name in (f"LATTICEDATA_{lattice_name}", f"CONFIGDATA_{lattice_name}"):
        info = await bus._jetstream.stream_info(f"KV_{name}")
        assert info.config.max_msgs_per_subject == 1
    assert subjects.state_bucket(lattice_name) == f"LATTICEDATA_{lattice_name}"
