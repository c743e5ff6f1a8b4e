"""The requests that the commands send, and what they make of every kind of answer.

A small stand-in answers the control requests on a real nats-server and keeps what it was asked, so
that an answer can be late, missing or a failure at will. Commands run as a user runs them.
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lattice import artefacts, errors, subjects
from lattice.bus import Bus, Message
from lattice.bus.server import NatsServer
from lattice.identity import keys
from lattice.rpc import Rpc
from lattice.wire import control, events
from lattice.wire.control import (
    ComponentDescription,
    Link,
    ProviderCrashes,
    ProviderDescription,
    Throttling,
)
from lattice.wire.invocation import Invocation, Reply, Usage
from tests.support import command_line
from tests.support.command_line import Outcome
from tests.support.eventually import eventually

HTTP_LINK = Link(source_id="http", target="counter", wit_namespace="wasi", wit_package="http")
STORE_LINK = Link(source_id="counter", target="kv", wit_namespace="wasi", wit_package="keyvalue")


class Stub:
    """Two hosts, alpha and beta, that say what they are told to say."""

    def __init__(self, bus: Bus, lattice: str, nats_url: str) -> None:
        self.bus = bus
        self.lattice = lattice
        self.nats_url = nats_url
        self.alpha = keys.host_id(keys.new_host_seed())
        self.beta = keys.host_id(keys.new_host_seed())
        self.asked: list[tuple[str, dict[str, Any]]] = []
        """Requests that change something: ``noun.verb[.id]`` and the JSON body."""
        self.refusal: errors.LatticeError | None = None
        """What every such request is answered with."""
        self.failure: errors.LatticeError | None = None
        """What the event says that follows a start."""
        self.silent = False
        """Whether no event follows."""
        self.components: list[ComponentDescription] = []
        self.providers: list[ProviderDescription] = []
        self.links: list[Link] = []
        self.config: dict[str, str] | None = None

    async def open(self) -> None:
        prefix = subjects.control(self.lattice, "")
        await self.bus.subscribe(f"{prefix}>", self._receive)
        await self.bus.flush()

    async def run(self, *arguments: str, **environment: str) -> Outcome:
        """Run a command against this lattice."""
        return await command_line.run(*arguments, environment=self.environment | environment)

    @property
    def environment(self) -> dict[str, str]:
        return {"LATTICE_NATS_URL": self.nats_url, "LATTICE_LATTICE": self.lattice}

    async def _receive(self, message: Message) -> None:
        subject = message.subject.removeprefix(subjects.control(self.lattice, ""))
        noun, verb, *rest = subject.split(".")
        body = json.loads(message.data) if message.data else {}
        match noun, verb:
            case "host", "ping":
                for name, host_id in (("alpha", self.alpha), ("beta", self.beta)):
                    await self._reply(message, self._host(name, host_id).to_json())
            case "host", "get" if rest[0] in (self.alpha, self.beta):
                await self._reply(message, self._inventory(rest[0]).to_json())
            case (("component" | "provider"), "auction"):
                if not body.get("constraints"):
                    await self._reply(message, body | {"host_id": self.beta})
            case "link", "get":
                await self._reply(message, [link.to_json() for link in self.links])
            case "config", "get":
                await self._reply(message, self.config)
            case _:
                self.asked.append((subject, body))
                if self.refusal is not None:
                    await self.bus.publish(message.reply, control.refused(self.refusal))
                    return
                await self._reply(message, None)
                if not self.silent:
                    await self._tell_outcome(noun, verb, body)

    async def _reply(self, message: Message, response: object) -> None:
        await self.bus.publish(message.reply, control.accepted(response))

    async def _tell_outcome(self, noun: str, verb: str, body: dict[str, Any]) -> None:
        data = {key: body[key] for key in body if key in ("component_id", "provider_id", "host_id")}
        match noun, verb:
            case "component", "scale":
                name = "component_scale_failed" if self.failure else "component_scaled"
            case "provider", "start":
                name = "provider_start_failed" if self.failure else "provider_started"
            case "host", "stop":
                name = "host_stopped"
            case _:
                return
        if self.failure is not None:
            data |= {"error": self.failure.text, "code": self.failure.code}
        await self.bus.publish(
            subjects.event(self.lattice, name), events.encode(name, data, source=body["host_id"])
        )

    def _host(self, name: str, host_id: str) -> control.Host:
        return control.Host(
            id=host_id,
            friendly_name=name,
            labels={"zone": name[0]},
            lattice=self.lattice,
            uptime_seconds=7,
        )

    def _inventory(self, host_id: str) -> control.HostInventory:
        return control.HostInventory(
            host_id=host_id,
            friendly_name="alpha" if host_id == self.alpha else "beta",
            labels={},
            version="0.1.0",
            uptime_human="7s",
            uptime_seconds=7,
            components=self.components,
            providers=self.providers,
        )


@pytest.fixture
async def stub(nats: NatsServer, bus: Bus, lattice_name: str) -> Stub:
    stub = Stub(bus, lattice_name, nats.url)
    await stub.open()
    return stub


async def test_hosts_are_listed_as_a_table(stub: Stub) -> None:
    outcome = await stub.run("get", "hosts")

    assert outcome.status == 0, outcome.errors
    assert [line.split() for line in outcome.output.splitlines()] == [
        ["Host", "ID", "Friendly", "name", "Uptime", "(seconds)"],
        [stub.alpha, "alpha", "7"],
        [stub.beta, "beta", "7"],
    ]


async def test_hosts_are_listed_as_json(stub: Stub) -> None:
    outcome = await stub.run("get", "hosts", "-o", "json", "-t", "300")

    assert outcome.json["success"] is True
    assert [host["friendly_name"] for host in outcome.json["hosts"]] == ["alpha", "beta"]


async def test_options_may_come_before_the_command_and_from_the_environment(stub: Stub) -> None:
    before = await stub.run("-o", "json", "-t", "300", "get", "hosts")
    from_environment = await stub.run("get", "hosts", "-t", "300", LATTICE_OUTPUT="json")
    overridden = await stub.run("-o", "json", "get", "hosts", "-o", "text", "-t", "300")

    assert len(before.json["hosts"]) == len(from_environment.json["hosts"]) == 2
    assert overridden.output.startswith("Host ID")


async def test_an_empty_lattice_is_an_empty_list_and_a_hint(stub: Stub) -> None:
    outcome = await stub.run("get", "hosts", "--lattice", f"{stub.lattice}-other")

    assert outcome.status == 0
    assert outcome.output.strip() == "Host ID  Friendly name  Uptime (seconds)"
    assert "start one with: lattice host" in outcome.errors


async def test_an_inventory_is_shown_for_a_part_of_a_name(stub: Stub) -> None:
    stub.components = [ComponentDescription(id="counter", image_ref="file:///c", max_instances=3)]
    stub.providers = [ProviderDescription(id="kv", image_ref="lattice+builtin://keyvalue")]

    outcome = await stub.run("get", "inventory", "alp", "-t", "500")

    assert outcome.status == 0, outcome.errors
    assert f"Host alpha ({stub.alpha})" in outcome.output
    assert ["counter", "3", "file:///c"] in [line.split() for line in outcome.output.splitlines()]
    assert "lattice+builtin://keyvalue" in outcome.output
    assert "beta" not in outcome.output


async def test_an_inventory_says_which_components_are_throttled_and_why(stub: Stub) -> None:
    throttled = Throttling(traps=12, backoff_ms=840, reason="the actor trapped: unreachable")
    stub.components = [
        ComponentDescription(id="bad", image_ref="file:///b", max_instances=3, throttled=throttled),
        ComponentDescription(id="good", image_ref="file:///g", max_instances=3),
    ]

    outcome = await stub.run("get", "inventory", "alp", "-t", "500")

    told = [line for line in outcome.output.splitlines() if "throttled" in line]
    assert told == [
        "  bad is throttled for 840 ms after 12 traps in a row: the actor trapped: unreachable"
    ]


@pytest.mark.parametrize(
    ("crashes", "words"),
    [
        (
            ProviderCrashes(state="given_up", count=11, reason="status 3"),
            "is given up: it crashed 11 times lately, at last: status 3",
        ),
        (
            ProviderCrashes(state="restarting", count=1, backoff_ms=840, reason="status 3"),
            "is started again in 840 ms: it crashed 1 time lately: status 3",
        ),
        (
            ProviderCrashes(state="running", count=2, reason="status 3"),
            "runs again: it crashed 2 times lately: status 3",
        ),
    ],
    ids=["given up", "restarting", "running"],
)
async def test_an_inventory_says_which_providers_crashed_and_what_became_of_them(
    stub: Stub, crashes: ProviderCrashes, words: str
) -> None:
    stub.providers = [
        ProviderDescription(id="bad", image_ref="file:///b", crashes=crashes),
        ProviderDescription(id="good", image_ref="file:///g"),
    ]

    outcome = await stub.run("get", "inventory", "alp", "-t", "500")

    assert [line for line in outcome.output.splitlines() if "crashed" in line] == [f"  bad {words}"]


async def test_the_inventories_of_all_hosts_are_json(stub: Stub) -> None:
    outcome = await stub.run("get", "inventory", "-o", "json", "-t", "300")

    found = [inventory["host_id"] for inventory in outcome.json["inventories"]]
    assert found == [stub.alpha, stub.beta]


async def test_a_name_that_no_host_has_is_not_found(stub: Stub) -> None:
    outcome = await stub.run("get", "inventory", "gamma", "-t", "300")

    assert outcome.status == 3
    assert outcome.output == ""
    assert outcome.errors.splitlines() == [
        f"error: no host named 'gamma' answers on lattice '{stub.lattice}' [not_found]",
        "remedy: see which hosts there are with: lattice get hosts",
    ]


async def test_a_file_is_uploaded_and_started_by_its_digest(stub: Stub, tmp_path: Path) -> None:
    module = tmp_path / "counter.wasm"
    module.write_bytes(b"\0asm and more")

    outcome = await stub.run(
        "start", "component", str(module), "counter",
        "--host-id", "alpha", "--max-instances", "5", "--config", "one", "--config", "two",
        "-a", "team=blue", "--output", "json",
    )  # fmt: skip

    assert outcome.status == 0, outcome.errors
    reference = outcome.json["component_ref"]
    assert outcome.json == {
        "success": True,
        "result": f"Component [counter] (ref: [{reference}]) started on host [alpha]",
        "component_ref": reference,
        "component_id": "counter",
        "host_id": stub.alpha,
    }
    assert stub.asked == [
        (
            f"component.scale.{stub.alpha}",
            {
                "component_id": "counter",
                "component_ref": reference,
                "count": 5,
                "annotations": {"team": "blue"},
                "host_id": stub.alpha,
                "config": ["one", "two"],
                "allow_update": False,
            },
        )
    ]
    stored = artefacts.parse(reference)
    assert stored.name == "counter"
    assert await artefacts.download(stub.bus, stub.lattice, stored) == b"\0asm and more"


async def test_without_a_host_the_first_bid_decides(stub: Stub) -> None:
    outcome = await stub.run("start", "component", "file:///c.wasm", "counter")

    assert outcome.output.strip() == (
        f"Component [counter] (ref: [file:///c.wasm]) started on host [{stub.beta}]"
    )
    assert stub.asked[0][0] == f"component.scale.{stub.beta}"
    assert stub.asked[0][1]["count"] == 1


async def test_no_bid_names_the_constraints_that_no_host_meets(stub: Stub) -> None:
    outcome = await stub.run(
        "start", "component", "file:///c.wasm", "counter", "-c", "zone=z", "-t", "300"
    )

    assert outcome.status == 3
    assert "none has the labels zone=z" in outcome.errors
    assert "remedy: " in outcome.errors
    assert stub.asked == []


async def test_a_file_that_is_not_there_is_not_taken_for_a_registry_reference(stub: Stub) -> None:
    outcome = await stub.run("start", "component", "./none.wasm", "counter", "-o", "json")

    assert outcome.status == 3
    assert outcome.json["code"] == "not_found"
    assert "./none.wasm" in outcome.json["error"]


async def test_a_start_that_fails_has_the_code_that_the_host_gave(stub: Stub) -> None:
    stub.failure = errors.Denied("the issuer is not trusted")

    outcome = await stub.run(
        "start", "component", "file:///c", "counter", "--host-id", "alpha", "-o", "json"
    )

    assert outcome.status == 6
    assert outcome.json == {
        "success": False,
        "error": "the issuer is not trusted",
        "code": "denied",
        "remedy": "",
        "at": stub.alpha,
    }


async def test_a_lost_event_is_made_up_for_by_the_inventory(stub: Stub) -> None:
    stub.silent = True
    stub.components = [ComponentDescription(id="counter", image_ref="file:///c", max_instances=1)]

    outcome = await stub.run(
        "start", "component", "file:///c", "counter",
        "--host-id", stub.alpha, "--wait-timeout-ms", "300",
    )  # fmt: skip

    assert outcome.status == 0, outcome.errors


async def test_no_news_in_time_is_a_deadline_exceeded(stub: Stub) -> None:
    stub.silent = True

    outcome = await stub.run(
        "start", "component", "file:///c", "counter",
        "--host-id", stub.alpha, "--wait-timeout-ms", "300",
    )  # fmt: skip

    assert outcome.status == 4
    assert "no news of component counter within 300 ms" in outcome.errors


async def test_skip_wait_returns_when_the_host_has_taken_the_request(stub: Stub) -> None:
    stub.silent = True

    outcome = await stub.run(
        "start", "component", "file:///c", "counter", "--host-id", stub.alpha, "--skip-wait"
    )

    assert outcome.status == 0
    assert "starting on host" in outcome.output


async def test_scale_asks_for_as_many_instances_as_the_host_allows(stub: Stub) -> None:
    outcome = await stub.run("scale", "component", "alpha", "file:///c", "counter")

    assert outcome.output.strip() == (
        "Component [counter] (ref: [file:///c]) scaled on host [alpha] to unbounded concurrency"
    )
    assert stub.asked[0][1]["count"] == 2**32 - 1


async def test_scale_to_a_number_allows_an_update_when_asked(stub: Stub) -> None:
    outcome = await stub.run(
        "scale", "component", "alpha", "file:///c", "counter", "-c", "7", "--allow-update"
    )

    assert outcome.output.strip().endswith("to 7 max concurrent instances")
    assert (stub.asked[0][1]["count"], stub.asked[0][1]["allow_update"]) == (7, True)


async def test_a_component_is_stopped_wherever_it_runs(stub: Stub) -> None:
    stub.components = [ComponentDescription(id="counter", image_ref="file:///c", max_instances=3)]

    outcome = await stub.run("stop", "component", "counter", "-t", "500")

    assert outcome.output.strip() == "Component [counter] stopped"
    assert {subject for subject, _ in stub.asked} == {
        f"component.scale.{stub.alpha}",
        f"component.scale.{stub.beta}",
    }
    assert all(body["count"] == 0 for _, body in stub.asked)


@pytest.mark.parametrize("noun", ["component", "provider"])
async def test_to_stop_what_does_not_run_is_an_error(stub: Stub, noun: str) -> None:
    outcome = await stub.run("stop", noun, "ghost", "-t", "300")

    assert outcome.status == 3
    assert f"{noun} ghost does not run on any host" in outcome.errors


async def test_a_provider_is_started_by_a_bare_name(stub: Stub) -> None:
    outcome = await stub.run(
        "start", "provider", "keyvalue", "kv", "--host-id", "beta", "--config", "kv-redis"
    )

    assert outcome.output.strip() == (
        "Provider [kv] (ref: [lattice+builtin://keyvalue]) started on host [beta]"
    )
    assert stub.asked == [
        (
            f"provider.start.{stub.beta}",
            {
                "provider_id": "kv",
                "provider_ref": "lattice+builtin://keyvalue",
                "host_id": stub.beta,
                "config": ["kv-redis"],
                "annotations": {},
            },
        )
    ]


async def test_a_provider_that_runs_already_is_a_conflict(stub: Stub) -> None:
    stub.refusal = errors.AlreadyExists("provider with that ID is already running")

    outcome = await stub.run("start", "provider", "keyvalue", "kv", "--host-id", "beta")

    assert outcome.status == 5
    assert "already running [already_exists]" in outcome.errors


async def test_a_provider_that_can_not_start_fails_the_command(stub: Stub) -> None:
    stub.failure = errors.ProviderError("it ended at once")

    outcome = await stub.run("start", "provider", "keyvalue", "kv", "--host-id", "beta")

    assert outcome.status == 1
    assert "it ended at once [provider_error]" in outcome.errors


async def test_a_provider_is_stopped_on_the_host_that_is_named(stub: Stub) -> None:
    stub.providers = [ProviderDescription(id="kv")]

    outcome = await stub.run("stop", "provider", "kv", "--host-id", "beta", "-o", "json")

    assert outcome.json["host_ids"] == [stub.beta]
    assert stub.asked == [
        (f"provider.stop.{stub.beta}", {"provider_id": "kv", "host_id": stub.beta})
    ]


async def test_a_host_is_stopped_with_its_time_in_milliseconds(stub: Stub) -> None:
    outcome = await stub.run("stop", "host", "beta", "--host-timeout", "500")

    assert outcome.output.strip() == "Host [beta] stopped"
    assert stub.asked == [(f"host.stop.{stub.beta}", {"host_id": stub.beta, "timeout": 500})]


async def test_a_link_is_put_with_its_configs(stub: Stub) -> None:
    outcome = await stub.run(
        "link", "put", "counter", "kv", "wasi", "keyvalue",
        "--interface", "store", "--interface", "atomics", "--link-name", "main",
        "--source-config", "a", "--target-config", "b",
    )  # fmt: skip

    assert outcome.output.strip() == "Published link (counter) -> (kv) successfully"
    assert stub.asked == [
        (
            "link.put",
            {
                "source_id": "counter",
                "target": "kv",
                "name": "main",
                "wit_namespace": "wasi",
                "wit_package": "keyvalue",
                "interfaces": ["store", "atomics"],
                "source_config": ["a"],
                "target_config": ["b"],
            },
        )
    ]


async def test_a_link_is_deleted_by_its_key(stub: Stub) -> None:
    outcome = await stub.run("link", "del", "counter", "wasi", "keyvalue", "--target", "kv")

    assert outcome.output.strip() == (
        "Deleted link for counter on wasi:keyvalue (default) successfully"
    )
    assert stub.asked == [
        (
            "link.del",
            {
                "source_id": "counter",
                "name": "default",
                "wit_namespace": "wasi",
                "wit_package": "keyvalue",
                "target": "kv",
            },
        )
    ]


async def test_all_links_are_deleted_only_by_force_where_nobody_can_be_asked(stub: Stub) -> None:
    stub.links = [STORE_LINK, HTTP_LINK]

    refused = await stub.run("link", "del", "--all")
    assert refused.status == 2
    assert "--force" in refused.errors
    assert stub.asked == []

    forced = await stub.run("link", "del", "http", "--all", "--force", "-o", "json")
    assert [link["source_id"] for link in forced.json["links"]] == ["http"]
    assert [body["target"] for _, body in stub.asked] == ["counter"]


@pytest.mark.parametrize("command", [("get", "links"), ("link", "query")], ids=" ".join)
async def test_links_are_listed_and_filtered(stub: Stub, command: tuple[str, str]) -> None:
    stub.links = [HTTP_LINK, STORE_LINK]

    everything = await stub.run(*command)
    some = await stub.run(*command, "--source", "http", "-o", "json")

    assert [line.split() for line in everything.output.splitlines()] == [
        ["Source", "ID", "Target", "Interface(s)", "Name"],
        ["counter", "kv", "wasi:keyvalue", "default"],
        ["http", "counter", "wasi:http", "default"],
    ]
    assert [link["source_id"] for link in some.json["links"]] == ["http"]


async def test_a_config_is_put_as_a_map_of_strings(stub: Stub) -> None:
    outcome = await stub.run("config", "put", "web", "address=127.0.0.1:8080", "empty=")

    assert outcome.output.strip() == "Configuration 'web' put successfully."
    assert stub.asked == [("config.put.web", {"address": "127.0.0.1:8080", "empty": ""})]


async def test_a_config_is_shown_as_it_was_put(stub: Stub) -> None:
    stub.config = {"b": "2", "a": "1=1"}

    assert (await stub.run("config", "get", "web")).output == "a=1=1\nb=2\n"
    assert (await stub.run("config", "get", "web", "-o", "json")).json == {
        "success": True,
        "name": "web",
        "config": {"a": "1=1", "b": "2"},
    }


async def test_a_config_that_is_not_there_is_not_found(stub: Stub) -> None:
    outcome = await stub.run("config", "get", "web")

    assert outcome.status == 3
    assert "there is no config named 'web' [not_found]" in outcome.errors


async def test_a_config_is_deleted(stub: Stub) -> None:
    assert (await stub.run("config", "del", "web")).status == 0
    assert stub.asked == [("config.del.web", {})]


async def test_bad_arguments_are_refused_before_anything_is_asked(stub: Stub) -> None:
    outcome = await stub.run("config", "put", "web", "address", LATTICE_NATS_URL="nats://nowhere:1")

    assert outcome.status == 2
    assert "value 'address' is not of the form key=value [invalid_request]" in outcome.errors


class Echo:
    """A target that answers with what it got, or fails as it is told to."""

    def __init__(self) -> None:
        self.invocations: list[Invocation] = []

    async def accept(self, invocation: Invocation) -> Reply:
        self.invocations.append(invocation)
        if invocation.operation == "Echo.Trap":
            raise errors.ActorTrapped("unreachable", backtrace="frame a\nframe b", at="NHOST")
        return Reply(invocation.payload, Usage(cpu_us=5, memory_bytes=65536))


@pytest.fixture
async def echo(stub: Stub) -> AsyncIterator[Echo]:
    rpc = Rpc(stub.bus, stub.lattice, at="test")
    echo = Echo()
    service = await rpc.serve("echo", echo)
    await stub.bus.flush()
    yield echo
    await service.aclose()
    await rpc.aclose()


async def test_a_call_prints_the_answer(stub: Stub, echo: Echo) -> None:
    outcome = await stub.run("call", "echo", "Echo.Say", "--payload", "héllo")

    assert (outcome.status, outcome.output) == (0, "héllo\n")
    assert (echo.invocations[0].source, echo.invocations[0].operation) == ("cli", "Echo.Say")


async def test_a_call_as_json_says_what_it_cost(stub: Stub, echo: Echo) -> None:
    outcome = await stub.run(
        "call",
        "echo",
        "Echo.Say",
        "--json",
        '{"a": [1, null]}',
        "--decode",
        "msgpack",
        "-o",
        "json",
    )

    assert outcome.json == {
        "success": True,
        "payload": {"a": [1, None]},
        "encoding": "msgpack",
        "usage": {
            "cpu_us": 5,
            "fuel": None,
            "memory_bytes": 65536,
            "host_calls": 0,
            "queue_us": 0,
        },
    }


async def test_a_load_is_put_on_an_actor_and_what_it_bore_is_told(stub: Stub, echo: Echo) -> None:
    outcome = await stub.run(
        "bench", "echo", "Echo.Say", "--payload", "hi", "-n", "50", "-c", "4", "-o", "json"
    )

    assert (outcome.status, len(echo.invocations)) == (0, 50)
    assert {invocation.payload for invocation in echo.invocations} == {b"hi"}
    told = outcome.json
    assert (told["success"], told["calls"], told["failed"], told["failures"]) == (True, 50, 0, {})
    assert sum(line["calls"] for line in told["histogram"]) == 50
    latency = told["latency_us"]
    assert 0 < latency["min"] <= latency["p50"] <= latency["p99"] <= latency["max"]


async def test_a_load_of_which_calls_fail_has_status_1_and_says_how(stub: Stub, echo: Echo) -> None:
    outcome = await stub.run("bench", "echo", "Echo.Trap", "-n", "3")

    assert outcome.status == 1
    assert "actor_trapped  3" in outcome.output


async def test_a_load_on_nobody_fails_with_the_code_of_that(stub: Stub) -> None:
    outcome = await stub.run("bench", "nobody", "Echo.Say", "-n", "1", "-o", "json")

    assert (outcome.status, outcome.json["failures"]) == (1, {"not_running": 1})


async def test_a_load_on_an_actor_needs_an_operation(stub: Stub) -> None:
    outcome = await stub.run("bench", "echo", "-n", "1")

    assert outcome.status == 2
    assert "which operation of echo?" in outcome.errors


async def test_a_trap_comes_with_its_backtrace_and_its_host(stub: Stub, echo: Echo) -> None:
    outcome = await stub.run("call", "echo", "Echo.Trap")

    assert outcome.status == 1
    assert outcome.errors.splitlines() == [
        "error: the actor trapped: unreachable [actor_trapped]",
        "  on host NHOST",
        "  frame a",
        "  frame b",
    ]


async def test_a_call_to_nobody_says_so_without_subjects(stub: Stub) -> None:
    outcome = await stub.run("call", "ghost", "Echo.Say")

    assert outcome.status == 3
    assert f"nobody runs ghost on lattice '{stub.lattice}' [not_running]" in outcome.errors
    assert "wasmbus" not in outcome.errors


@pytest.mark.parametrize("form", ["text", "json"])
async def test_no_nats_server_is_unavailable_and_no_traceback(form: str) -> None:
    nowhere = f"nats://127.0.0.1:{command_line.free_port()}"

    outcome = await command_line.run("get", "hosts", "--nats", nowhere, "-o", form)

    assert outcome.status == 4
    assert "Traceback" not in outcome.output + outcome.errors
    assert nowhere in (outcome.output if form == "json" else outcome.errors)


async def test_ctrl_c_ends_a_waiting_command_quietly(stub: Stub) -> None:
    stub.silent = True
    process = await asyncio.create_subprocess_exec(
        command_line.LATTICE,
        *("start", "component", "file:///c", "counter", "--host-id", stub.alpha),
        env=stub.environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await eventually(lambda: stub.asked)

    process.send_signal(signal.SIGINT)
    output, complaints = await process.communicate()

    assert (process.returncode, output, complaints) == (130, b"", b"")


async def test_ctrl_c_ends_a_load_and_tells_what_there_was_until_then(
    stub: Stub, echo: Echo
) -> None:
    process = await asyncio.create_subprocess_exec(
        command_line.LATTICE,
        *("bench", "echo", "Echo.Say", "--duration", "600", "-o", "json"),
        env=stub.environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await eventually(lambda: len(echo.invocations) > 100)

    process.send_signal(signal.SIGINT)
    output, complaints = await process.communicate()

    assert (process.returncode, complaints) == (0, b"")
    told = json.loads(output)
    assert told["succeeded"] >= 50
    assert told["failed"] == 0


async def test_a_reader_that_goes_away_is_no_error_worth_a_word(stub: Stub) -> None:
    outcome = await command_line.run_shell(
        "lattice get links -o json | true", environment=stub.environment
    )

    assert (outcome.status, outcome.errors) == (0, "")
