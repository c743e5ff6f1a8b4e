"""The configurations of ``deploy/nats``, run as they stand: what each of them promises."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from lattice import errors, subjects
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus, NatsSettings, connection, leftover, liveness
from lattice.bus.client import StrictClient
from lattice.bus.leftover import Leftover
from lattice.rpc import Rpc
from lattice.wire import control
from lattice.wire.invocation import Invocation, Reply
from tests.support.cluster import Cluster, Gate
from tests.support.deployed_nats import (
    Deployed,
    deployed,
    deployed_cluster,
    free_port,
    settings_of,
)
from tests.support.eventually import eventually
from tests.support.origin import certificate_for
from tests.support.proxy import Proxy

RECOVERY_S = 30.0
"""A cluster that lost a leader writes again within about seven seconds."""

WRITERS = 8

WAY_S = 0.05
"""From one server to another, where a test makes it long."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "PROBE_INTERVAL_S", 1.0)


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[list[Deployed]]:
    async with deployed_cluster(tmp_path / "nats") as servers:
        yield servers


@asynccontextmanager
async def lattice_on(servers: list[Deployed], caches: Path) -> AsyncIterator[Cluster]:
    """A lattice whose test is connected to these servers; hosts say where theirs are."""
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(connected_to(settings_of(servers, replicas=1)))
        cluster = Cluster(servers[0], bus, stack, store_dir=caches, data_dir=caches)  # type: ignore[arg-type]
        await cluster.open()
        yield cluster


@asynccontextmanager
async def connected_to(settings: NatsSettings) -> AsyncIterator[Bus]:
    bus = await Bus.connect(settings, name="test")
    try:
        yield bus
    finally:
        await bus.aclose()


@pytest.fixture
async def bus(servers: list[Deployed]) -> AsyncIterator[Bus]:
    async with connected_to(settings_of(servers)) as bus:
        yield bus


@pytest.fixture
async def stack(servers: list[Deployed]) -> AsyncIterator[AsyncExitStack]:
    """Closed before the servers are."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "hosts"


def link(number: int) -> control.Link:
    return control.Link(
        source_id=f"source-{number}", target="echo", wit_namespace="test", wit_package="target"
    )


async def leader_of(bus: Bus, bucket: str) -> str:
    info = await bus._jetstream.stream_info(f"KV_{bucket}")
    assert info.cluster is not None
    return info.cluster.leader or ""


async def test_an_acknowledged_link_survives_the_kill_of_a_single_server(
    tmp_path: Path, caches: Path
) -> None:
    async with (
        deployed(tmp_path / "nats", "single.conf") as server,
        lattice_on([server], caches) as cluster,
    ):
        await cluster.start_hosts(1, nats_url=server.url)
        await cluster.control.put_link(link(1))

        await server.kill()
        await server.start()

        await eventually(lambda: cluster.bus.is_connected)
        state = await cluster.bus.bucket(subjects.state_bucket(cluster.lattice))
        assert await state.get(subjects.component_key("source-1"))


async def test_every_acknowledged_link_survives_the_kill_of_the_leader(
    servers: list[Deployed], caches: Path
) -> None:
    async with lattice_on(servers, caches) as cluster:
        urls = ",".join(server.url for server in servers)
        await cluster.start_hosts(1, nats_url=urls, replicas=3)
        bucket = subjects.state_bucket(cluster.lattice)
        info = await cluster.bus._jetstream.stream_info(f"KV_{bucket}")
        assert info.config.num_replicas == 3
        # Who uploads does not say how many; it goes by the links.
        await cluster.upload("echo")
        store = f"OBJ_{subjects.artefact_bucket(cluster.lattice)}"
        assert (await cluster.bus._jetstream.stream_info(store)).config.num_replicas == 3
        leader = await leader_of(cluster.bus, bucket)
        acknowledged: set[int] = set()
        refused = 0
        enough = asyncio.Event()

        async def write(first: int) -> None:
            nonlocal refused
            for number in range(first, 1_000_000, WRITERS):
                try:
                    await cluster.control.put_link(link(number))
                except errors.LatticeError:
                    # Its outcome is unknown, or it was not done.
                    refused += 1
                    await asyncio.sleep(0.05)
                else:
                    acknowledged.add(number)
                if enough.is_set():
                    return

        async with asyncio.TaskGroup() as group:
            for writer in range(WRITERS):
                group.create_task(write(writer))
            await eventually(lambda: len(acknowledged) > 50, timeout_s=RECOVERY_S)
            await next(server for server in servers if server.name == leader).kill()
            before = len(acknowledged)
            await eventually(lambda: len(acknowledged) > before + 50, timeout_s=2 * RECOVERY_S)
            enough.set()

        found = {link.source_id for link in await cluster.control.links()}
        missing = {f"source-{number}" for number in acknowledged} - found
        assert not missing
        assert await leader_of(cluster.bus, bucket) != leader


async def test_a_mirror_ends_at_the_last_write_after_the_leader_was_killed(
    servers: list[Deployed], tasks: TaskGroup, bus: Bus
) -> None:
    bucket = await bus.bucket("followed")
    for n in range(20):
        await bucket.put(f"key-{n}", b"1")
    mirror = bucket.mirror(lambda _: None)
    bus.on_reconnect(mirror.resync)
    tasks.guard(mirror.run, name="follow")
    await mirror.synced.wait()

    leader = await leader_of(bus, "followed")
    await next(server for server in servers if server.name == leader).kill()
    async with asyncio.timeout(2 * RECOVERY_S):
        while True:
            try:
                last = await bucket.put("last", b"1")
            except errors.Unavailable:
                assert len(mirror.values) == 20
                await asyncio.sleep(0.05)
            else:
                break

    assert await mirror.wait_for(last, timeout_s=RECOVERY_S)
    assert mirror.values == {**{f"key-{n}": b"1" for n in range(20)}, "last": b"1"}


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "over TLS"])
async def test_no_call_is_lost_when_a_server_is_told_to_go(tmp_path: Path, over_tls: bool) -> None:
    certificate = certificate_for(tmp_path, "IP:127.0.0.1") if over_tls else None
    gate = Gate()
    outcomes: Counter[str] = Counter()
    enough = asyncio.Event()

    async with (
        deployed_cluster(tmp_path / "nats", certificate=certificate) as servers,
        AsyncExitStack() as stack,
    ):
        _, target, rpcs = await at_two_servers(servers, stack)
        assert is_encrypted(target) == over_tls
        logs = stack.enter_context(capture_logs())
        await rpcs[1].serve("echo", Echo())
        await rpcs[1].serve("gate", gate)

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(keep_calling(rpcs[0], outcomes, enough))
            long = group.create_task(rpcs[0].call(to("gate", source="test", payload=b"long")))
            await eventually(lambda: outcomes["answered"] > 100 and gate.waiting)
            left = target.server.name
            named(servers, left).signal(signal.SIGUSR2)
            await eventually(lambda: target.server.name != left, timeout_s=RECOVERY_S)
            gate.open()
            before = outcomes["answered"]
            await eventually(lambda: outcomes["answered"] > before + 100)
            enough.set()

        assert (await long).payload == b"long"
        await eventually(lambda: target._leaving is None)
        assert not [line for line in logs if line["log_level"] in {"warning", "error"}]
        assert is_encrypted(target) == over_tls
        assert target.is_connected
        assert target.statistics().reconnects == 1
        assert target.statistics().replaced == 0

    # While the target is between two servers nobody has it, and the caller hears so.
    assert outcomes.keys() <= {"answered", "not_running"}


def is_encrypted(bus: Bus) -> bool:
    transport: Any = bus._client._transport
    return transport._io_writer.get_extra_info("ssl_object") is not None


async def test_calls_on_their_way_between_servers_survive_that_one_of_them_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways: list[Proxy] = []
    outcomes: Counter[str] = Counter()
    enough = asyncio.Event()
    connect = StrictClient._connect_to_server

    async def connect_slowly(client: StrictClient, server: Any) -> None:
        # Longer than a call is on its way: meanwhile no other server has a member of the group.
        await asyncio.sleep(6 * WAY_S)
        await connect(client, server)

    async with deployed_cluster(tmp_path, between=ways) as servers, AsyncExitStack() as stack:
        _, target, rpcs = await at_two_servers(servers, stack)
        # It goes to the one that is neither its own nor the caller's.
        target._client.options["dont_randomize"] = True
        logs = stack.enter_context(capture_logs())
        await rpcs[1].serve("echo", Echo())

        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(keep_calling(rpcs[0], outcomes, enough))
            await eventually(lambda: outcomes["answered"])
            for way in ways:
                way.delay_s = WAY_S
            monkeypatch.setattr(StrictClient, "_connect_to_server", connect_slowly)
            left = target.server.name
            named(servers, left).signal(signal.SIGUSR2)
            await eventually(lambda: target.server.name != left, timeout_s=RECOVERY_S)
            before = outcomes["answered"]
            await eventually(lambda: outcomes["answered"] > before + 100)
            enough.set()

        await eventually(lambda: target._leaving is None)
        assert not [line for line in logs if line["log_level"] in {"warning", "error"}]
        assert target.statistics().reconnects == 1

    # A server that knows of neither place yet says that nobody is there; that is no loss.
    assert outcomes.keys() <= {"answered", "not_running"}


@dataclass
class Leaving:
    """A connection with a member of a queue group that was told to leave its server."""

    bus: Bus
    left: Deployed
    leftover: Leftover
    arrive: asyncio.Event
    """It finds the other server no sooner."""

    async def wait_left(self) -> None:
        await eventually(lambda: self.bus._leaving is None, timeout_s=RECOVERY_S)

    async def check_nothing_is_left(self) -> None:
        assert self.bus._client.leftover is None
        assert self.leftover.ended.is_set()
        assert self.leftover._transport._io_writer.is_closing()
        await eventually(
            lambda: not [t for t in asyncio.all_tasks() if t.get_name().startswith("left over")]
        )


@asynccontextmanager
async def leaving(servers: list[Deployed], bus: Bus) -> AsyncIterator[Leaving]:
    """A connection whose server is told to go, from when it has left until its test is done."""
    arrive = asyncio.Event()
    connect = StrictClient._connect_to_server

    async def connect_later(client: StrictClient, server: Any) -> None:
        await arrive.wait()
        await connect(client, server)

    await eventually(lambda: bus._client.has_alternative)
    await bus.subscribe("wasmbus.rpc.default.orders.call.*", ignore, queue="orders")
    await bus.flush()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StrictClient, "_connect_to_server", connect_later)
        left = named(servers, bus.server.name)
        left.signal(signal.SIGUSR2)
        await eventually(lambda: bus._client.leftover is not None)
        assert bus._client.leftover is not None
        yield Leaving(bus, left, bus._client.leftover, arrive)


async def ignore(_: object) -> None:
    pass


async def test_a_server_that_dies_while_it_is_left_does_not_keep_whoever_leaves_it(
    servers: list[Deployed], bus: Bus
) -> None:
    with capture_logs() as logs:
        async with leaving(servers, bus) as it:
            await it.left.kill()
            await eventually(it.leftover._pong.done)
            it.arrive.set()
            await it.wait_left()

            assert it.bus.is_connected
            assert it.bus.server.name != it.left.name
            await it.check_nothing_is_left()
    assert not [line for line in logs if line["log_level"] in {"warning", "error"}]


async def test_a_server_is_left_for_good_though_no_other_is_reached_in_time(
    servers: list[Deployed], bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LEAVE_S_MAX", 0.5)
    with capture_logs() as logs:
        async with leaving(servers, bus) as it:
            await it.wait_left()
            await it.check_nothing_is_left()
            assert not it.bus.is_connected
            with pytest.raises(errors.Unavailable):
                await it.bus.publish("any", b"")

            it.arrive.set()
            await eventually(lambda: it.bus.is_connected, timeout_s=RECOVERY_S)
            await it.bus.flush()
    assert any("not left in time" in line["event"] for line in logs)


async def test_what_is_lost_when_a_server_is_not_left_in_time_is_counted(
    servers: list[Deployed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LEAVE_S_MAX", 2.0)
    monkeypatch.setattr(connection, "LEAVE_ANSWERS_S", 0.1)
    async with AsyncExitStack() as stack:
        logs = stack.enter_context(capture_logs())
        group = await stack.enter_async_context(asyncio.TaskGroup())
        bus = await stack.enter_async_context(connected_to(settings_of(servers)))
        await bus.subscribe("silent", ignore)
        deadline = asyncio.get_running_loop().time() + RECOVERY_S
        asked = [
            group.create_task(outcome_of(bus.request("silent", deadline=deadline)))
            for _ in range(3)
        ]
        await eventually(lambda: bus.statistics().pending == 3)
        it = await stack.enter_async_context(leaving(servers, bus))
        sent = [group.create_task(outcome_of(bus.publish("any"))) for _ in range(2)]
        await it.wait_left()

        assert [await each for each in (*asked, *sent)] == ["unavailable"] * 5
        (told,) = [line for line in logs if "not left in time" in line["event"]]
        assert (told["unanswered"], told["unsent"]) == (3, 2)
        assert told["error"] == "TimeoutError"
        it.arrive.set()


async def outcome_of(attempt: Awaitable[object]) -> str:
    try:
        await attempt
    except errors.LatticeError as error:
        return error.code
    return "done"


async def test_a_connection_can_be_closed_while_it_leaves_a_server(
    servers: list[Deployed], bus: Bus
) -> None:
    async with leaving(servers, bus) as it:
        await it.bus.aclose()

        await it.check_nothing_is_left()


async def test_a_server_that_is_told_to_go_while_another_is_left_is_left_as_well(
    servers: list[Deployed], bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = asyncio.Event()
    leave_groups = Leftover.leave_groups

    async def leave_groups_later(leftover: Leftover) -> None:
        await told.wait()
        await leave_groups(leftover)

    monkeypatch.setattr(Leftover, "leave_groups", leave_groups_later)
    with capture_logs() as logs:
        async with leaving(servers, bus) as it:
            it.arrive.set()
            await eventually(lambda: it.bus.is_connected and it.bus.server.name != it.left.name)
            second = it.bus.server.name
            named(servers, second).signal(signal.SIGUSR2)
            await eventually(lambda: it.bus._must_leave_again)
            told.set()
            await eventually(
                lambda: it.bus.server.name not in {it.left.name, second}, timeout_s=RECOVERY_S
            )
            await it.wait_left()
            assert it.bus.is_connected
    assert not [line for line in logs if line["log_level"] in {"warning", "error"}]


async def test_who_may_not_ask_a_server_that_is_left_asks_once_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftover, "PROBE", "forbidden")
    async with deployed_cluster(tmp_path, accounts=True) as servers:
        with capture_logs() as logs:
            async with (
                connected_to(as_user(servers[0], "orders")) as bus,
                leaving(servers, bus) as it,
            ):
                it.arrive.set()
                await it.wait_left()

                assert it.bus.is_connected
                await it.check_nothing_is_left()
    assert [line["log_level"] for line in logs if "complains" in line["event"]] == ["debug"]
    assert not [line for line in logs if "not left in time" in line["event"]]


async def test_who_waits_for_an_answer_gets_it_before_its_server_is_left(
    servers: list[Deployed], stack: AsyncExitStack
) -> None:
    _, caller, rpcs = await at_two_servers(servers, stack)
    gate = Gate()
    await rpcs[0].serve("gate", gate)
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(rpcs[1].call(to("gate", source="test", payload=b"before")))
        await eventually(lambda: gate.waiting == 1)
        left = caller.server.name
        named(servers, left).signal(signal.SIGUSR2)
        await eventually(lambda: caller._questions_held)
        later = group.create_task(rpcs[1].call(to("gate", source="test", payload=b"later")))
        gate.open()

    assert (await asked).payload == b"before"
    assert (await later).payload == b"later"
    assert caller.server.name != left


async def keep_calling(rpc: Rpc, outcomes: Counter[str], enough: asyncio.Event) -> None:
    """Call ``echo`` over and over, and count what comes of it."""
    while not enough.is_set():
        try:
            await rpc.call(to("echo", source="test"))
            outcomes["answered"] += 1
        except errors.LatticeError as error:
            outcomes[error.code] += 1


async def at_two_servers(
    servers: list[Deployed], stack: AsyncExitStack
) -> tuple[Bus, Bus, list[Rpc]]:
    """Two processes, each with another server of a cluster, and all they need to call."""
    buses = [
        await stack.enter_async_context(
            connected_to(settings_of([*servers[first:], *servers[:first]]))
        )
        for first in (0, 1)
    ]
    rpcs = [Rpc(bus, "default", at="test") for bus in buses]
    for rpc in rpcs:
        stack.push_async_callback(rpc.aclose)
    first, second = buses
    assert first.server.name != second.server.name
    return first, second, rpcs


def named(servers: list[Deployed], name: str) -> Deployed:
    return next(server for server in servers if server.name == name)


async def test_hosts_at_the_hub_and_at_a_leaf_call_each_other(tmp_path: Path, caches: Path) -> None:
    leaf_port = free_port()
    async with (
        deployed(
            tmp_path / "hub",
            "hub.conf",
            name="hub",
            replaced={"port: 7422": f"port: {leaf_port}"},
        ) as hub,
        deployed(
            tmp_path / "leaf",
            "leaf.conf",
            name="leaf",
            replaced={"hub:7422": f"127.0.0.1:{leaf_port}"},
        ) as leaf,
        lattice_on([hub], caches) as cluster,
    ):
        await eventually(lambda: "JetStream using domains" in leaf.log or "Leafnode" in leaf.log)
        (central,) = await cluster.start_hosts(1, nats_url=hub.url)
        (remote,) = await cluster.start_hosts(1, nats_url=leaf.url)
        await cluster.start_actor("relay", on=central)
        await cluster.start_actor("to-hub", module="relay", on=remote)
        await cluster.start_actor("echo", on=remote)
        await cluster.start_actor("at-hub", module="echo", on=central)
        await cluster.link("relay", "echo")
        await cluster.link("to-hub", "at-hub")

        assert await cluster.call("relay", payload=b"to the leaf") == b"to the leaf"
        assert await cluster.call("to-hub", payload=b"to the hub") == b"to the hub"


async def test_a_provider_can_not_pose_as_another(tmp_path: Path) -> None:
    async with (
        deployed(tmp_path, "single.conf", accounts=True) as server,
        AsyncExitStack() as stack,
    ):
        host, provider = [
            await stack.enter_async_context(connected_to(as_user(server, user)))
            for user in ("host", "orders")
        ]
        at_host, at_provider = (
            Rpc(bus, "default", at=name) for bus, name in ((host, "host"), (provider, "orders"))
        )
        for rpc in (at_host, at_provider):
            stack.push_async_callback(rpc.aclose)
        await at_host.serve("echo", Echo())
        await at_provider.serve("orders", Echo())
        await host.flush()
        await provider.flush()

        assert (await at_provider.call(to("echo", source="orders"))).payload == b"hi"
        assert (await at_host.call(to("orders", source="echo"))).payload == b"hi"
        large = bytes(2 * 1024 * 1024)
        assert (await at_host.call(to("orders", source="echo", payload=large))).payload == large
        assert (await at_provider.call(to("echo", source="orders", payload=large))).payload == large
        with capture_logs() as logs, pytest.raises(errors.Denied, match=r"call\.payments"):
            await at_provider.call(to("echo", source="payments"))

        assert any("not permit" in line["event"] for line in logs)
        # Its own probe is permitted: it would notice if it went deaf.
        await eventually(lambda: provider._liveness.proven)
        assert provider.statistics().reconnects == 0


async def test_a_user_that_named_one_server_is_let_in_by_the_others(tmp_path: Path) -> None:
    async with deployed_cluster(tmp_path, accounts=True) as servers:
        first = servers[0]
        async with connected_to(as_user(first, "orders")) as bus:
            await eventually(lambda: len(bus._client._server_pool) >= 3)

            await first.kill()

            await eventually(lambda: bus.is_connected and bus.server.name != first.name)
            await bus.flush()


class Echo:
    async def accept(self, invocation: Invocation) -> Reply:
        return Reply(invocation.payload)


def to(target: str, *, source: str, payload: bytes = b"hi", timeout_s: float = 20) -> Invocation:
    return Invocation(
        source=source,
        target=target,
        interface="test:target",
        operation="Test.Run",
        payload=payload,
        deadline=asyncio.get_running_loop().time() + timeout_s,
    )


def as_user(server: Deployed, user: str) -> NatsSettings:
    return NatsSettings(servers=(server.url.replace("//", f"//{user}:change-me-{user}@"),))


@pytest.fixture
async def tasks() -> AsyncIterator[TaskGroup]:
    tasks = TaskGroup("test")
    yield tasks
    await tasks.aclose()
