"""The bus against a real nats-server: what it promises while all is well, and when it isn't."""

import asyncio
import gc
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from lattice import errors, limits
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus, Message, NatsSettings, liveness
from lattice.bus import client as bus_client
from lattice.bus import connection as bus_connection
from lattice.bus.liveness import Fault
from lattice.bus.server import NatsServer
from lattice.rpc import Rpc
from lattice.wire.invocation import Invocation, Reply
from tests.support.command_line import free_port
from tests.support.configured_nats import Account, configured_nats
from tests.support.eventually import eventually
from tests.support.nats_server import connected, nats_server
from tests.support.proxy import Proxy

PROBE_INTERVAL_S = 0.2

NOWHERE = "nats://127.0.0.1:1"
"""Nothing listens there."""


def by(seconds: float) -> float:
    """A deadline on this loop's clock."""
    return asyncio.get_running_loop().time() + seconds


def echo(bus: Bus) -> Callable[[Message], Awaitable[None]]:
    async def answer(message: Message) -> None:
        await bus.publish(message.reply, message.data)

    return answer


async def silence(message: Message) -> None:
    """Never answers."""


def port_of(server: NatsServer) -> int:
    return int(server.url.rpartition(":")[2])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that notice a silent server in less than a second."""
    monkeypatch.setattr(liveness, "PROBE_INTERVAL_S", PROBE_INTERVAL_S)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that bear a silence for as long as a busy machine may cause one."""
    monkeypatch.setattr(liveness, "PROBE_MISSES_MAX", 50)


@pytest.fixture
async def proxy(nats: NatsServer) -> AsyncIterator[Proxy]:
    async with Proxy(nats.url) as proxy:
        yield proxy


@pytest.fixture
async def proxied(proxy: Proxy, impatient: None) -> AsyncIterator[Bus]:
    """A bus whose connection the proxy can break."""
    bus = await Bus.connect(NatsSettings(servers=(proxy.url,)), name="proxied")
    yield bus
    proxy.thaw()
    await bus.aclose()


async def raw_publish(server: NatsServer, protocol: bytes) -> None:
    """Send bytes as a client that checks nothing, and wait until the server has read them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n' + protocol + b"PING\r\n")
    while (await reader.readline()).strip() != b"PONG":
        pass
    writer.close()
    await writer.wait_closed()


# nats-py passes aiohttp a time-out in the old way.
@pytest.mark.filterwarnings("ignore:parameter 'timeout':DeprecationWarning")
async def test_a_server_is_reached_over_web_sockets(tmp_path: Path) -> None:
    port = free_port()
    listener = f"websocket {{ host: 127.0.0.1, port: {port}, no_tls: true }}"
    async with configured_nats(tmp_path, listener):
        bus = await Bus.connect(NatsSettings(servers=(f"ws://127.0.0.1:{port}",)), name="test")
        try:
            await bus.subscribe("echo", echo(bus))

            assert (await bus.request("echo", b"hello", deadline=by(5))).data == b"hello"
        finally:
            await bus.aclose()


class TestRequests:
    async def test_a_request_is_answered(self, bus: Bus, lattice_name: str) -> None:
        await bus.subscribe(f"{lattice_name}.echo", echo(bus))

        answer = await bus.request(f"{lattice_name}.echo", b"hi", deadline=by(5))

        assert answer.data == b"hi"

    async def test_headers_arrive(self, bus: Bus, lattice_name: str) -> None:
        seen: list[dict[str, str] | None] = []

        async def note(message: Message) -> None:
            seen.append(message.headers)

        await bus.subscribe(lattice_name, note)
        await bus.publish(lattice_name, b"x", headers={"Lattice-Timeout-Ms": "5"})
        await bus.flush()

        await eventually(lambda: seen == [{"Lattice-Timeout-Ms": "5"}])

    async def test_nobody_listening_is_told_at_once(self, bus: Bus, lattice_name: str) -> None:
        with pytest.raises(errors.NotRunning):
            await bus.request(f"{lattice_name}.nobody", deadline=by(3600))

    async def test_an_empty_answer_is_an_answer(self, bus: Bus, lattice_name: str) -> None:
        await bus.subscribe(lattice_name, echo(bus))

        assert (await bus.request(lattice_name, b"", deadline=by(5))).data == b""

    async def test_no_answer_by_the_deadline(self, bus: Bus, lattice_name: str) -> None:
        await bus.subscribe(lattice_name, silence)

        with pytest.raises(errors.DeadlineExceeded):
            await bus.request(lattice_name, deadline=by(0.02))
        assert not bus._pending

    async def test_a_deadline_that_has_passed_sends_nothing(
        self, bus: Bus, lattice_name: str
    ) -> None:
        seen: list[Message] = []

        async def note(message: Message) -> None:
            seen.append(message)

        await bus.subscribe(lattice_name, note)

        with pytest.raises(errors.DeadlineExceeded):
            await bus.request(lattice_name, deadline=by(-1))
        await bus.flush()
        assert not seen

    async def test_cancelling_leaves_nothing_pending(self, bus: Bus, lattice_name: str) -> None:
        await bus.subscribe(lattice_name, silence)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await bus.request(lattice_name, deadline=by(3600))

        assert not bus._pending

    async def test_late_and_duplicate_answers_are_ignored(
        self, bus: Bus, lattice_name: str
    ) -> None:
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)
            if message.data == b"twice":
                await bus.publish(message.reply, b"first")
                await bus.publish(message.reply, b"second")

        await bus.subscribe(lattice_name, hold)
        with pytest.raises(errors.DeadlineExceeded):
            await bus.request(lattice_name, b"late", deadline=by(0.02))
        await eventually(lambda: held)
        await bus.publish(held[0].reply, b"too late")

        answer = await bus.request(lattice_name, b"twice", deadline=by(5))
        again = await bus.request(lattice_name, b"twice", deadline=by(5))

        assert (answer.data, again.data) == (b"first", b"first")

    async def test_a_payload_over_the_servers_limit_names_both_numbers(
        self, bus: Bus, lattice_name: str
    ) -> None:
        with pytest.raises(errors.PayloadTooLarge) as caught:
            await bus.publish(lattice_name, bytes(bus.max_payload + 1))

        assert caught.value.detail == {"size": bus.max_payload + 1, "limit": bus.max_payload}

    async def test_pending_requests_are_bounded(
        self, bus: Bus, lattice_name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "CALLS_PENDING_MAX", 0)

        with pytest.raises(errors.Overloaded):
            await bus.request(lattice_name, deadline=by(5))

    async def test_request_many_gathers_what_comes_in_time(
        self, bus: Bus, lattice_name: str
    ) -> None:
        for _ in range(3):
            await bus.subscribe(lattice_name, echo(bus))

        answers = await bus.request_many(lattice_name, b"hi", timeout_s=0.2)

        assert [answer.data for answer in answers] == [b"hi"] * 3

    async def test_request_many_stops_at_the_number_wanted(
        self, bus: Bus, lattice_name: str
    ) -> None:
        for _ in range(3):
            await bus.subscribe(lattice_name, echo(bus))

        assert await bus.request_many(lattice_name, b"hi", timeout_s=3600, stop_after=1)

    async def test_request_many_ends_at_once_when_nobody_listens(
        self, bus: Bus, lattice_name: str
    ) -> None:
        assert await bus.request_many(lattice_name, timeout_s=3600) == []


class TestSubscriptions:
    async def test_a_queue_group_shares_messages(self, nats: NatsServer, lattice_name: str) -> None:
        async with connected(nats) as one, connected(nats) as other:
            counts = {one: 0, other: 0}

            async def listen(bus: Bus) -> None:
                async def count(message: Message) -> None:
                    counts[bus] += 1

                await bus.subscribe(lattice_name, count, queue="group")
                await bus.flush()

            await listen(one)
            await listen(other)
            for _ in range(200):
                await one.publish(lattice_name, b"x")

            await eventually(lambda: sum(counts.values()) == 200)
            assert min(counts.values()) > 0

    async def test_draining_hands_over_what_had_arrived(
        self, bus: Bus, nats: NatsServer, lattice_name: str
    ) -> None:
        seen = 0

        async def slow(message: Message) -> None:
            nonlocal seen
            await asyncio.sleep(0)
            seen += 1

        subscription = await bus.subscribe(lattice_name, slow)
        await bus.flush()
        async with connected(nats) as sender:
            for _ in range(500):
                await sender.publish(lattice_name, b"x")
            await sender.flush()

        await subscription.drain()

        assert seen == 500

    async def test_ending_twice_is_harmless(self, bus: Bus, lattice_name: str) -> None:
        subscription = await bus.subscribe(lattice_name, silence)

        await subscription.drain()
        await subscription.drain()
        await subscription.unsubscribe()

    async def test_a_failing_callback_does_not_end_the_subscription(
        self, bus: Bus, lattice_name: str
    ) -> None:
        async def fail_first(message: Message) -> None:
            if message.data == b"fail":
                raise ValueError("no")
            await bus.publish(message.reply, b"fine")

        await bus.subscribe(lattice_name, fail_first)
        await bus.publish(lattice_name, b"fail")

        assert (await bus.request(lattice_name, b"x", deadline=by(5))).data == b"fine"

    @pytest.mark.parametrize("shared", [False, True])
    async def test_who_asked_gets_the_response_and_who_did_not_gets_none(
        self, bus: Bus, lattice_name: str, shared: bool
    ) -> None:
        async def echo(message: Message) -> None:
            await bus.respond(message, message.data)

        await bus.subscribe(lattice_name, echo, shared=shared)
        await bus.publish(lattice_name, b"nobody asks")
        for payload in (b"", b"x", bytes(100_000)):
            answer = await bus.request(lattice_name, payload, deadline=by(5))
            assert answer.data == payload

    async def test_a_response_too_large_is_refused_as_any_message(
        self, bus: Bus, lattice_name: str
    ) -> None:
        asked: list[Message] = []

        async def note(message: Message) -> None:
            asked.append(message)

        await bus.subscribe(lattice_name, note, shared=True)
        await bus.publish(lattice_name, b"x", reply=bus.new_inbox())
        await eventually(lambda: bool(asked))
        with pytest.raises(errors.PayloadTooLarge):
            await bus.respond(asked[0], bytes(bus.max_payload + 1))

    async def test_a_response_fails_at_once_while_disconnected(
        self, proxied: Bus, proxy: Proxy, lattice_name: str
    ) -> None:
        asked: list[Message] = []

        async def note(message: Message) -> None:
            asked.append(message)

        await proxied.subscribe(lattice_name, note, shared=True)
        await proxied.publish(lattice_name, b"x", reply=proxied.new_inbox())
        await eventually(lambda: bool(asked))
        proxy.refusing = True
        proxy.drop()
        await eventually(lambda: not proxied.is_connected)
        with pytest.raises(errors.Unavailable):
            await proxied.respond(asked[0], b"late")

    async def test_shared_subscriptions_keep_the_order_of_each(
        self, bus: Bus, lattice_name: str
    ) -> None:
        seen: dict[str, list[bytes]] = {"a": [], "b": []}

        async def note(message: Message) -> None:
            seen[message.subject.rpartition(".")[2]].append(message.data)

        for name in seen:
            await bus.subscribe(f"{lattice_name}.{name}", note, shared=True)
        sent = [b"%d" % n for n in range(100)]
        for payload in sent:
            for name in seen:
                await bus.publish(f"{lattice_name}.{name}", payload)
        await eventually(lambda: seen == {"a": sent, "b": sent})

    async def test_draining_a_shared_subscription_hands_over_what_had_arrived(
        self, bus: Bus, lattice_name: str
    ) -> None:
        seen: list[bytes] = []

        async def note(message: Message) -> None:
            seen.append(message.data)

        subscription = await bus.subscribe(lattice_name, note, shared=True)
        for n in range(100):
            await bus.publish(lattice_name, b"%d" % n)
        await subscription.drain()
        assert len(seen) == 100
        await bus.publish(lattice_name, b"too late")
        await bus.flush()
        assert len(seen) == 100
        await subscription.drain()

    async def test_a_shared_subscription_that_was_ended_hears_nothing_more(
        self, bus: Bus, lattice_name: str
    ) -> None:
        seen: list[bytes] = []

        async def note(message: Message) -> None:
            seen.append(message.data)

        subscription = await bus.subscribe(lattice_name, note, shared=True)
        before = bus.statistics().subscriptions
        await bus.publish(lattice_name, b"x")
        await subscription.unsubscribe()
        await subscription.unsubscribe()
        await bus.flush()
        assert seen == []
        assert bus.statistics().subscriptions == before - 1

    async def test_a_callback_that_fails_or_is_cancelled_does_not_end_shared_subscriptions(
        self, bus: Bus, lattice_name: str
    ) -> None:
        async def fail_first(message: Message) -> None:
            if message.data == b"fail":
                raise ValueError("no")
            if message.data == b"cancel":
                raise asyncio.CancelledError
            await bus.publish(message.reply, b"fine")

        await bus.subscribe(lattice_name, fail_first, shared=True)
        await bus.publish(lattice_name, b"fail")
        await bus.publish(lattice_name, b"cancel")
        assert (await bus.request(lattice_name, b"x", deadline=by(5))).data == b"fine"

    async def test_a_shared_subscription_holds_a_bounded_number_of_messages(
        self, bus: Bus, lattice_name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bus_client, "SUBSCRIPTION_MESSAGES_MAX", 3)
        gate = asyncio.Event()
        seen: list[bytes] = []

        async def note(message: Message) -> None:
            await gate.wait()
            seen.append(message.data)

        await bus.subscribe(lattice_name, note, shared=True)
        for n in range(10):
            await bus.publish(lattice_name, b"%d" % n)
        await bus.flush()
        gate.set()
        await eventually(lambda: len(seen) + bus.statistics().dropped == 10)
        assert bus.statistics().dropped_by_subject[lattice_name] >= 6

    async def test_what_there_is_no_room_for_is_answered_before_it_is_handed_over(
        self, bus: Bus, lattice_name: str
    ) -> None:
        handed_over: list[bytes] = []

        async def take(message: Message) -> None:
            handed_over.append(message.data)
            await bus.publish(message.reply or "nobody", b"served")

        def refuse(size: int) -> bytes | None:
            return b"too large" if size > 3 else None

        await bus.subscribe(lattice_name, take, shared=True, refuse=refuse)
        answers = await asyncio.gather(
            *(
                bus.request(lattice_name, payload, deadline=by(5))
                for payload in (b"four", b"one", b"fives")
            )
        )
        # Who wants no answer can't be refused.
        await bus.publish(lattice_name, b"unasked")
        await eventually(lambda: b"unasked" in handed_over)

        assert [answer.data for answer in answers] == [b"too large", b"served", b"too large"]
        assert handed_over == [b"one", b"unasked"]

    async def test_a_reconnection_restores_shared_subscriptions(
        self, proxied: Bus, proxy: Proxy, bus: Bus, lattice_name: str
    ) -> None:
        await proxied.subscribe(lattice_name, echo(proxied), shared=True)
        await proxied.flush()
        proxy.drop()
        await eventually(lambda: proxied.statistics().reconnects > 0 and proxied.is_connected)
        await proxied.flush()
        assert (await bus.request(lattice_name, b"x", deadline=by(5))).data == b"x"

    async def test_a_subscription_ended_while_disconnected_stays_ended(
        self, proxied: Bus, proxy: Proxy, bus: Bus, lattice_name: str
    ) -> None:
        seen: list[bytes] = []

        async def note(message: Message) -> None:
            seen.append(message.data)

        drained = await proxied.subscribe(lattice_name, note)
        unsubscribed = await proxied.subscribe(lattice_name, note)
        await proxied.flush()
        proxy.refusing = True
        proxy.drop()
        await eventually(lambda: not proxied.is_connected)
        await drained.drain()
        await unsubscribed.unsubscribe()
        proxy.refusing = False
        await eventually(lambda: proxied.is_connected)
        await proxied.flush()

        await bus.publish(lattice_name, b"x")
        await bus.flush()
        await proxied.flush()

        assert not seen


class TestStrangers:
    @pytest.mark.parametrize(
        "protocol",
        [
            pytest.param(b"PUB SUBJECT.\xff\xfe 1\r\nx\r\n", id="subject is not UTF-8"),
            pytest.param(b"PUB SUBJECT.x \xff 1\r\nx\r\n", id="reply is not UTF-8"),
            pytest.param(
                b"HPUB SUBJECT.x 21 22\r\nNATS/1.0 \xff\xff\xff 1234\r\n\r\nx\r\n",
                id="status is not UTF-8",
            ),
            pytest.param(b"HPUB SUBJECT.x 14 15\r\nNATS/1.0\xff\xff\r\n\r\nx\r\n", id="bad header"),
        ],
    )
    async def test_a_message_that_cannot_be_read_does_not_deafen_the_connection(
        self, bus: Bus, nats: NatsServer, lattice_name: str, protocol: bytes
    ) -> None:
        await bus.subscribe(f"{lattice_name}.>", echo(bus))
        await bus.flush()

        await raw_publish(nats, protocol.replace(b"SUBJECT", lattice_name.encode()))

        answer = await bus.request(f"{lattice_name}.fine", b"hi", deadline=by(5))
        assert answer.data == b"hi"


class TestLosses:
    async def test_a_request_in_flight_fails_as_soon_as_the_server_is_gone(
        self, lattice_name: str
    ) -> None:
        async with nats_server() as server, connected(server) as bus:
            await bus.subscribe(lattice_name, silence)
            async with asyncio.TaskGroup() as group:
                requests = [
                    group.create_task(failure(bus.request(lattice_name, deadline=by(3600))))
                    for _ in range(10)
                ]
                await eventually(lambda: len(bus._pending) == 10)
                os.kill(server.pid, signal.SIGKILL)

            assert {type(request.result()) for request in requests} == {errors.NatsAway}
            assert not bus._pending

            with pytest.raises(errors.Unavailable):
                await bus.publish(lattice_name, b"x")
            with pytest.raises(errors.Unavailable):
                await bus.request(lattice_name, deadline=by(3600))
            with pytest.raises(errors.Unavailable):
                await bus.flush()

    async def test_what_was_sent_while_disconnected_is_never_delivered(
        self, proxied: Bus, proxy: Proxy, bus: Bus, lattice_name: str
    ) -> None:
        seen: list[bytes] = []

        async def note(message: Message) -> None:
            seen.append(message.data)

        await bus.subscribe(lattice_name, note)
        await bus.flush()
        proxy.freeze()
        for _ in range(40):
            # More than the socket's own buffers take: some of it stays with the client.
            error = await failure(proxied.request(lattice_name, bytes(900_000), deadline=by(0.05)))
            assert isinstance(error, errors.DeadlineExceeded | errors.Unavailable)
            if not proxied.is_connected:
                break
        await eventually(lambda: not proxied.is_connected)
        proxy.drop()
        proxy.thaw()
        await eventually(lambda: proxied.is_connected)
        await proxied.publish(lattice_name, b"now")

        await eventually(lambda: seen[-1:] == [b"now"])
        assert b"" not in seen
        assert len(seen) < 40

    async def test_what_jetstream_could_not_be_asked_is_no_complaint_later(
        self, proxied: Bus, proxy: Proxy, lattice_name: str
    ) -> None:
        """Its answer was still waited for, by nobody, and failed with the next connection."""
        complaints: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: complaints.append(context)
        )
        bucket = await proxied.bucket(lattice_name)
        proxy.refusing = True
        proxy.drop()
        await eventually(lambda: not proxied.is_connected)
        with pytest.raises(errors.Unavailable):
            await bucket.get("key")
        proxy.refusing = False
        await eventually(lambda: proxied.is_connected)
        proxy.drop()
        await eventually(lambda: not proxied.is_connected)
        await eventually(lambda: proxied.is_connected)

        gc.collect()
        assert complaints == []

    @pytest.mark.parametrize("size", [10, 900_000], ids=["idle", "with full buffers"])
    async def test_a_frozen_connection_is_noticed_and_given_up(
        self, proxied: Bus, proxy: Proxy, lattice_name: str, size: int
    ) -> None:
        await proxied.subscribe(lattice_name, echo(proxied))
        await proxied.flush()
        proxy.freeze()

        outcomes = await asyncio.gather(
            *(
                failure(proxied.request(lattice_name, bytes(size), deadline=by(3600)))
                for _ in range(30)
            )
        )

        assert {type(outcome) for outcome in outcomes} == {errors.NatsAway}
        assert not proxied._pending

    async def test_a_publisher_waiting_for_the_socket_keeps_its_deadline(
        self, proxy: Proxy, lattice_name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Bus.flush, "__defaults__", (0.1,))
        bus = await Bus.connect(NatsSettings(servers=(proxy.url,)), name="frozen")
        proxy.freeze()

        outcomes = await asyncio.gather(
            *(
                failure(bus.request(lattice_name, bytes(900_000), deadline=by(0.2)))
                for _ in range(30)
            )
        )

        assert {type(outcome) for outcome in outcomes} == {errors.DeadlineExceeded}
        await bus.aclose()

    async def test_closing_does_not_wait_for_a_frozen_peer(
        self, proxy: Proxy, lattice_name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bus = await Bus.connect(NatsSettings(servers=(proxy.url,)), name="frozen")
        monkeypatch.setattr(Bus.flush, "__defaults__", (0.1,))
        proxy.freeze()
        async with asyncio.TaskGroup() as group:
            waiting = [
                group.create_task(
                    failure(bus.request(lattice_name, bytes(900_000), deadline=by(3600)))
                )
                for _ in range(30)
            ]
            await eventually(lambda: len(bus._pending) == 30)

            async with asyncio.timeout(5):
                await bus.aclose()

        assert {type(request.result()) for request in waiting} == {errors.NatsAway}
        await bus.aclose()

    async def test_a_reconnection_restores_subscriptions_and_tells(
        self, proxied: Bus, proxy: Proxy, lattice_name: str
    ) -> None:
        told = 0

        def notice() -> None:
            nonlocal told
            told += 1

        proxied.on_reconnect(notice)
        await proxied.subscribe(lattice_name, echo(proxied))
        for _ in range(3):
            before = told
            proxy.drop()
            await eventually(lambda: told == before + 1)  # noqa: B023 - awaited here

            answer = await proxied.request(lattice_name, b"hi", deadline=by(5))
            assert answer.data == b"hi"

    async def test_a_slow_network_is_not_a_lost_one(
        self, proxied: Bus, proxy: Proxy, lattice_name: str
    ) -> None:
        await proxied.subscribe(lattice_name, echo(proxied))
        proxy.delay_s = PROBE_INTERVAL_S / 4

        for _ in range(8):
            await proxied.request(lattice_name, b"hi", deadline=by(5))

        assert proxied.is_connected

    async def test_a_server_that_came_back_is_found(
        self, tmp_path: Path, lattice_name: str
    ) -> None:
        async with nats_server(store_dir=tmp_path) as server:
            port = port_of(server)
            bus = await Bus.connect(NatsSettings(servers=(server.url,)), name="survivor")
            await bus.subscribe(lattice_name, echo(bus))
        await eventually(lambda: not bus.is_connected)

        async with nats_server(store_dir=tmp_path, port=port):
            await eventually(lambda: bus.is_connected)
            assert (await bus.request(lattice_name, b"hi", deadline=by(5))).data == b"hi"
            await bus.aclose()

    async def test_credentials_that_fail_for_a_while_do_not_end_the_connection(
        self, tmp_path: Path
    ) -> None:
        async with configured_nats(tmp_path, only_user("good")) as url:
            bus = await Bus.connect(NatsSettings(servers=(as_user(url, "good"),)), name="test")
        port = int(url.rpartition(":")[2])

        async with configured_nats(tmp_path, only_user("other"), port=port):
            attempts = bus._client._server_pool[0]
            await eventually(lambda: attempts.reconnects >= 2)
        async with configured_nats(tmp_path, only_user("good"), port=port):
            await eventually(lambda: bus.is_connected)
            await bus.flush()
            await bus.aclose()

    async def test_a_complaint_of_the_server_does_not_end_the_connection(
        self, tmp_path: Path, lattice_name: str
    ) -> None:
        async with configured_nats(tmp_path, "max_control_line: 512") as url:
            bus = await Bus.connect(NatsSettings(servers=(url,)), name="test")
            await bus.subscribe(lattice_name, echo(bus))
            await bus.publish("x" * 1000, b"longer than the server takes")

            await eventually(lambda: bus._client.stats["reconnects"] == 1)
            assert (await bus.request(lattice_name, b"hi", deadline=by(5))).data == b"hi"
            await bus.aclose()


async def stop_reading(bus: Bus, proxy: Proxy) -> None:
    """As an error that nobody foresaw would: the client logs it, and reads no more."""
    assert bus._client._reading_task is not None
    bus._client._reading_task.cancel()


async def stop_writing(bus: Bus, proxy: Proxy) -> None:
    assert bus._client._flusher_task is not None
    bus._client._flusher_task.cancel()


async def swallow(bus: Bus, proxy: Proxy) -> None:
    """What the server says is lost from now on, while the connection stays open."""
    proxy.swallow()


async def lose_interest(bus: Bus, proxy: Proxy) -> None:
    """The server does not know of the subscription any more, and the client does."""
    await bus._client._send_unsubscribe(bus._answers.inner._id)


class TestDeafness:
    @pytest.mark.parametrize(
        ("deafen", "fault"),
        [
            pytest.param(stop_reading, Fault.STOPPED, id="it stopped to read"),
            pytest.param(stop_writing, Fault.STOPPED, id="it stopped to write"),
            pytest.param(swallow, Fault.SILENT, id="nothing arrives"),
            pytest.param(lose_interest, Fault.UNROUTED, id="the server forgot a subscription"),
        ],
    )
    async def test_a_deaf_connection_is_found_and_replaced(
        self,
        proxied: Bus,
        proxy: Proxy,
        bus: Bus,
        lattice_name: str,
        deafen: Callable[[Bus, Proxy], Awaitable[None]],
        fault: Fault,
    ) -> None:
        await proxied.subscribe(lattice_name, echo(proxied))
        mirror = (await proxied.bucket(lattice_name)).mirror(lambda _: None)
        proxied.on_reconnect(mirror.resync)
        tasks = TaskGroup("test")
        tasks.guard(mirror.run, name="follow")
        await mirror.synced.wait()
        await eventually(lambda: proxied._liveness.proven)

        await deafen(proxied, proxy)
        assert proxied.is_connected
        waiting = await failure(proxied.request(lattice_name, b"hi", deadline=by(3600)))

        # What the deaf connection was asked fails with it, or was answered before it went.
        assert waiting is None or isinstance(waiting, errors.Unavailable)
        await eventually(lambda: proxied.statistics().replaced)
        await eventually(lambda: proxied.is_connected)
        assert (await proxied.request(lattice_name, b"hi", deadline=by(5))).data == b"hi"
        assert (await bus.request(lattice_name, b"hi", deadline=by(5))).data == b"hi"
        last = await (await bus.bucket(lattice_name)).put("key", b"value")
        assert await mirror.wait_for(last, timeout_s=10)
        assert proxied.statistics().replaced_for == fault.value
        await tasks.aclose()

    def test_a_deaf_connection_is_found_within_ten_seconds(self) -> None:
        # One interval until the next probe is sent, and as many as may find nothing.
        assert liveness.PROBE_INTERVAL_S * (liveness.PROBE_MISSES_MAX + 1) < 10

    async def test_a_flush_of_a_deaf_connection_proves_nothing(
        self, proxied: Bus, proxy: Proxy
    ) -> None:
        await stop_reading(proxied, proxy)
        await asyncio.sleep(0)

        with pytest.raises(errors.Unavailable):
            await proxied.flush()

    async def test_a_subscription_whose_task_ended_is_started_again(
        self, proxied: Bus, lattice_name: str, patient: None
    ) -> None:
        async def cancelled_once(message: Message) -> None:
            if message.data == b"cancel":
                raise asyncio.CancelledError
            await proxied.publish(message.reply, b"fine")

        await proxied.subscribe(lattice_name, cancelled_once)
        await proxied.publish(lattice_name, b"cancel")

        assert (await proxied.request(lattice_name, b"x", deadline=by(10))).data == b"fine"
        assert proxied.statistics().revived == 1
        assert proxied.statistics().reconnects == 0

    async def test_attempts_to_reconnect_that_ended_are_started_again(
        self, proxied: Bus, proxy: Proxy, lattice_name: str
    ) -> None:
        told = 0

        def fail_once() -> None:
            nonlocal told
            told += 1
            if told == 1:
                # Not one of the errors that nats-py expects while it reconnects.
                proxied._client._status = proxied._client.RECONNECTING
                raise ValueError("no")

        await proxied.subscribe(lattice_name, echo(proxied))
        proxied.on_reconnect(fail_once)
        proxy.drop()

        await eventually(lambda: told == 2)
        assert (await proxied.request(lattice_name, b"hi", deadline=by(5))).data == b"hi"

    async def test_an_answer_to_a_flush_that_was_given_up_does_not_deafen_the_connection(
        self, proxied: Bus, proxy: Proxy, lattice_name: str, patient: None
    ) -> None:
        await proxied.subscribe(lattice_name, echo(proxied))
        await proxied.flush()
        proxy.freeze()
        with pytest.raises(errors.Unavailable):
            await proxied.flush(timeout_s=0.01)
        proxy.thaw()

        assert (await proxied.request(lattice_name, b"hi", deadline=by(5))).data == b"hi"
        assert proxied._client.is_working
        assert proxied.statistics().replaced == 0

    async def test_a_connection_that_is_flooded_is_not_taken_for_a_deaf_one(
        self, proxied: Bus, bus: Bus, lattice_name: str
    ) -> None:
        """Its answers come seconds late, in terms of the probe's interval."""
        seen = 0

        async def dawdle(message: Message) -> None:
            nonlocal seen
            seen += 1
            # A callback that computes holds up the whole loop.
            if seen % 500 == 0:
                time.sleep(PROBE_INTERVAL_S / 2)  # noqa: ASYNC251 - as a busy one would

        await proxied.subscribe(f"{lattice_name}.flood", dawdle)
        await proxied.subscribe(lattice_name, echo(proxied))
        await proxied.flush()
        for _ in range(20_000):
            await bus.publish(f"{lattice_name}.flood", bytes(1000))

        await eventually(lambda: seen == 20_000, timeout_s=60)
        assert (await proxied.request(lattice_name, b"hi", deadline=by(5))).data == b"hi"
        assert proxied.statistics().reconnects == 0

    async def test_a_user_that_may_not_send_itself_messages_keeps_its_connection(
        self, tmp_path: Path, impatient: None
    ) -> None:
        users = """
            authorization { users: [{
                user: u, password: p, permissions: { publish: { allow: ["allowed.>"] } }
            }] }"""
        async with configured_nats(tmp_path, users) as url:
            with capture_logs() as logs:
                bus = await Bus.connect(NatsSettings(servers=(as_user(url, "p"),)), name="test")
                await eventually(lambda: bus._client._pongs_received > 3)

            # Pings alone go on; the log does not fill.
            assert bus.statistics().reconnects == 0
            assert bus.statistics().round_trip_s is None
            told = [line["subject"] for line in logs if "not permit" in line["event"]]
            assert told == [bus._probe_subject.lower()]
            await bus.aclose()

    async def test_the_round_trip_of_a_probe_is_measured(self, proxied: Bus, proxy: Proxy) -> None:
        proxy.delay_s = 0.01

        await eventually(lambda: (proxied.statistics().round_trip_s or 0) >= 0.02)


class TestBounds:
    async def test_every_publisher_waits_for_a_socket_that_takes_nothing(
        self,
        proxied: Bus,
        proxy: Proxy,
        lattice_name: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Messages, requests, events, and what JetStream is told."""
        # Found deaf only when the test has seen enough.
        monkeypatch.setattr(liveness, "PROBE_MISSES_MAX", 20)
        bucket = await proxied.bucket(lattice_name)
        objects = await proxied.objects(lattice_name)
        proxy.freeze()
        async with asyncio.TaskGroup() as group:
            sending = [
                group.create_task(failure(attempt))
                for n in range(60)
                for attempt in (
                    proxied.publish(lattice_name, bytes(500_000)),
                    proxied.request(lattice_name, bytes(500_000), deadline=by(3600)),
                    bucket.put(f"key-{n}", bytes(500_000)),
                    objects.put(f"object-{n}", bytes(500_000)),
                )
            ]
            most = 0
            while proxied.is_connected:
                most = max(most, proxied.statistics().outgoing_bytes)
                await asyncio.sleep(0.001)

        # What is kept, what the socket was last given, and one message over each.
        assert bus_client.OUTGOING_BYTES_MAX < most < 3 * bus_client.OUTGOING_BYTES_MAX
        assert {type(task.result()) for task in sending} <= {errors.NatsAway, type(None)}

    async def test_messages_that_had_no_room_are_counted_by_subject(
        self, proxied: Bus, bus: Bus, lattice_name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bus_connection, "SUBSCRIPTION_MESSAGES_MAX", 10)
        opened = asyncio.Event()

        async def wait(message: Message) -> None:
            await opened.wait()

        await proxied.subscribe(f"{lattice_name}.*", wait)
        await proxied.flush()
        with capture_logs() as logs:
            for _ in range(1_000):
                await bus.publish(f"{lattice_name}.x", b"x")
            # One is with the callback, ten wait.
            await eventually(lambda: proxied.statistics().dropped >= 989)
            await eventually(lambda: any("dropped" in line["event"] for line in logs))
        opened.set()

        statistics = proxied.statistics()
        assert statistics.dropped_by_subject == {f"{lattice_name}.*": statistics.dropped}
        assert len([line for line in logs if "dropped" in line["event"]]) < 10

    async def test_a_reconnection_brings_the_new_servers_max_payload(
        self, tmp_path: Path, lattice_name: str
    ) -> None:
        async with configured_nats(tmp_path, "max_payload: 512KB") as url:
            bus = await Bus.connect(NatsSettings(servers=(url,)), name="test")
            await bus.publish(lattice_name, bytes(300_000))
        await eventually(lambda: not bus.is_connected)
        port = int(url.rpartition(":")[2])
        async with configured_nats(tmp_path, "max_payload: 100KB", port=port):
            await eventually(lambda: bus.is_connected)

            with pytest.raises(errors.PayloadTooLarge) as caught:
                await bus.publish(lattice_name, bytes(300_000))

            assert caught.value.detail == {"size": 300_000, "limit": 100 * 1024}
            assert bus.server.max_payload == 100 * 1024
            await bus.aclose()


class Nothing:
    async def accept(self, invocation: Invocation) -> Reply:
        return Reply(invocation.payload)


class TestWhatTheServerWouldEndTheConnectionFor:
    @pytest.mark.parametrize(
        "subject",
        ["", "a b", "a\r\nPUB b 0\r\n", "a\udcff", "a" * 70_000, "é" * 2_000],
        ids=["empty", "blank", "another line", "no text", "long", "long in bytes"],
    )
    async def test_what_is_no_subject_is_refused_here(self, bus: Bus, subject: str) -> None:
        for attempt in (
            bus.publish(subject),
            bus.publish("any", reply=subject or " "),
            bus.request(subject, deadline=by(3600)),
            bus.subscribe(subject, silence),
            bus.subscribe(subject, silence, shared=True),
        ):
            with pytest.raises(errors.InvalidRequest, match="can't be a subject"):
                await attempt
        await bus.flush()
        assert bus.statistics().reconnects == 0

    async def test_the_longest_subject_is_carried(self, bus: Bus) -> None:
        subject = "a" * bus_client.SUBJECT_BYTES_MAX
        await bus.subscribe(subject, echo(bus))
        answer = await bus.request(subject, bytes(500_000), deadline=by(30))
        assert len(answer.data) == 500_000

    async def test_headers_count_for_the_size_of_a_message(self, bus: Bus) -> None:
        headers = {"Name": "v" * 1_000, "Other": "ü" * 500}
        subscribed = asyncio.get_running_loop().create_future()

        async def receive(message: Message) -> None:
            subscribed.set_result(len(message.data))

        await bus.subscribe("with.headers", receive)
        added = bus_client.headers_bytes(headers)
        room = bus.max_payload - added

        with pytest.raises(errors.PayloadTooLarge) as caught:
            await bus.publish("with.headers", bytes(room + 1), headers=headers)
        assert caught.value.detail == {"size": bus.max_payload + 1, "limit": bus.max_payload}
        await bus.publish("with.headers", bytes(room), headers=headers)

        assert await subscribed == room
        await bus.flush()
        assert bus.statistics().reconnects == 0

    @pytest.mark.parametrize("name", ["a b", "a\r\nb", "a:b"])
    async def test_what_is_no_header_is_refused_here(self, bus: Bus, name: str) -> None:
        with pytest.raises(errors.InvalidRequest, match="header"):
            await bus.publish("with.headers", headers={name: "value"})
        await bus.flush()
        assert bus.statistics().reconnects == 0

    async def test_a_key_that_is_too_long_is_refused_here(self, bus: Bus) -> None:
        bucket = await bus.bucket("long-keys")
        with pytest.raises(errors.InvalidRequest, match="too long"):
            await bucket.put("k" * 10_000, b"")
        await bus.flush()
        assert bus.statistics().reconnects == 0


class TestAccess:
    async def test_the_right_password_is_let_in(self, tmp_path: Path) -> None:
        async with configured_nats(tmp_path, only_user("good")) as url:
            bus = await Bus.connect(NatsSettings(servers=(as_user(url, "good"),)), name="test")
            assert bus.settings.public_url == url
            await bus.aclose()

    async def test_wrong_credentials_are_denied_and_not_repeated(self, tmp_path: Path) -> None:
        async with configured_nats(tmp_path, only_user("good")) as url:
            settings = NatsSettings(servers=(as_user(url, "geheim"),))

            with pytest.raises(errors.Denied) as caught:
                await Bus.connect(settings, name="test")

        assert "geheim" not in str(caught.value)

    async def test_a_forbidden_subject_leaves_the_connection_working(
        self, tmp_path: Path, lattice_name: str
    ) -> None:
        users = """
            authorization { users: [{
                user: u, password: p,
                permissions: { publish: { allow: ["allowed.>", "_INBOX.>"] } }
            }] }"""
        async with configured_nats(tmp_path, users) as url:
            bus = await Bus.connect(NatsSettings(servers=(as_user(url, "p"),)), name="test")
            await bus.subscribe("allowed.echo", echo(bus))

            with pytest.raises(errors.Denied, match=f"publish on Forbidden.{lattice_name}"):
                await bus.request(f"Forbidden.{lattice_name}", deadline=by(3600))

            assert (await bus.request("allowed.echo", b"hi", deadline=by(5))).data == b"hi"
            await bus.aclose()

    async def test_what_jetstream_may_not_be_asked_is_denied_at_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        users = f"""
            jetstream {{ store_dir: "{tmp_path}/store" }}
            authorization {{ users: [{{
                user: u, password: p,
                permissions: {{ publish: {{ deny: ["$JS.API.STREAM.CREATE.>", "$KV.seen.>"] }} }}
            }}, {{ user: owner, password: p }}] }}"""
        # Beyond the test's own patience: what is denied must not wait for it.
        monkeypatch.setattr(limits, "STATE_TIMEOUT_S", 3600)
        async with configured_nats(tmp_path, users) as url:
            owner, bus = [
                await Bus.connect(
                    NatsSettings(servers=(url.replace("//", f"//{user}:p@"),)), name="test"
                )
                for user in ("owner", "u")
            ]
            await owner.bucket("seen")
            seen = await bus.bucket("seen")

            with pytest.raises(
                errors.Denied, match=r"publish on \$JS\.API\.STREAM\.CREATE\.KV_new"
            ):
                await bus.bucket("new")
            with pytest.raises(
                errors.Denied, match=r"publish on \$JS\.API\.STREAM\.CREATE\.OBJ_new"
            ):
                await bus.objects("new")
            with pytest.raises(errors.Denied, match=r"publish on \$KV\.seen\.key"):
                await seen.put("key", b"")

            assert await seen.get("key") is None
            for each in (bus, owner):
                await each.aclose()

    async def test_a_subscription_that_is_not_permitted_says_so(self, tmp_path: Path) -> None:
        users = """
            authorization { users: [{
                user: u, password: p, permissions: { subscribe: { deny: ["Secret.>"] } }
            }] }"""
        async with configured_nats(tmp_path, users) as url:
            bus = await Bus.connect(NatsSettings(servers=(as_user(url, "p"),)), name="test")
            heard, plain, grouped, shared = [
                await bus.subscribe("open", silence),
                await bus.subscribe("Secret.plain", silence),
                await bus.subscribe("Secret.grouped", silence, queue="group"),
                await bus.subscribe("Secret.shared", silence, shared=True),
            ]
            await bus.flush()

            heard.check()
            for each in (plain, grouped, shared):
                with pytest.raises(errors.Denied, match=f"subscribe to {each.inner.subject}"):
                    each.check()
            await bus.aclose()

    async def test_who_may_not_serve_a_target_hears_so(self, tmp_path: Path) -> None:
        users = """
            authorization { users: [{
                user: u, password: p, permissions: { subscribe: { allow: ["_INBOX.>"] } }
            }] }"""
        async with configured_nats(tmp_path, users) as url:
            bus = await Bus.connect(NatsSettings(servers=(as_user(url, "p"),)), name="test")
            rpc = Rpc(bus, "default", at="test")

            with pytest.raises(errors.Denied, match=r"subscribe to wasmbus\.rpc\.default\.orders"):
                await rpc.serve("orders", Nothing())
            assert bus.statistics().subscriptions == 1
            await rpc.aclose()
            await bus.aclose()

    async def test_a_user_of_an_operators_account_is_let_in(self, tmp_path: Path) -> None:
        account = Account()
        async with configured_nats(tmp_path, account.configuration) as url:
            settings = NatsSettings(
                servers=(url,), user_jwt=account.user_jwt, user_seed=account.user_seed
            )
            bus = await Bus.connect(settings, name="test")
            await bus.flush()
            await bus.aclose()

        assert account.user_seed not in repr(settings)

    async def test_a_credentials_file_is_read_again_when_reconnecting(self, tmp_path: Path) -> None:
        account = Account()
        file = tmp_path / "user.creds"
        file.write_text(account.credentials)
        async with configured_nats(tmp_path, account.configuration) as url:
            settings = NatsSettings(servers=(url,), credentials_file=str(file))
            bus = await Bus.connect(settings, name="test")
            file.write_text("half-written")
        async with configured_nats(
            tmp_path, account.configuration, port=int(url.rpartition(":")[2])
        ):
            attempts = bus._client._server_pool[0]
            await eventually(lambda: attempts.reconnects >= 2)
            file.write_text(account.credentials)
            await eventually(lambda: bus.is_connected)
            await bus.flush()
            await bus.aclose()

    async def test_a_key_that_the_server_does_not_know_is_denied(self, tmp_path: Path) -> None:
        async with configured_nats(tmp_path, Account().configuration) as url:
            stranger = Account()
            settings = NatsSettings(
                servers=(url,), user_jwt=stranger.user_jwt, user_seed=stranger.user_seed
            )
            with pytest.raises(errors.Denied):
                await Bus.connect(settings, name="test")

    @pytest.mark.parametrize(
        "settings",
        [
            NatsSettings(user_jwt="a.b.c", user_seed="SUNOTASEED"),
            NatsSettings(credentials_file="/nonexistent/user.creds"),
            NatsSettings(tls_ca_file="/nonexistent/ca.pem"),
            NatsSettings(tls_ca_file=__file__),
        ],
        ids=["seed", "credentials file", "missing CA", "CA that is none"],
    )
    async def test_unreadable_credentials_are_the_users_to_mend(
        self, settings: NatsSettings
    ) -> None:
        with pytest.raises(errors.InvalidRequest) as caught:
            await Bus.connect(settings, name="test")

        assert "SUNOTASEED" not in str(caught.value)

    @pytest.mark.parametrize(
        "server",
        [
            NOWHERE,
            "nats://geheim:geheim@127.0.0.1:1",
            "127.0.0.1:1",
            "nats://[::1",
            "nats://host:port",
            "nats://nowhere.invalid:4222",
            "",
        ],
    )
    async def test_a_wrong_address_is_told_without_its_password(self, server: str) -> None:
        with pytest.raises(errors.Unavailable) as caught:
            await Bus.connect(NatsSettings(servers=(server,)), name="test")

        assert "lattice up" in str(caught.value)
        assert "geheim" not in str(caught.value)

    async def test_something_else_than_nats_is_not_taken_for_it(self) -> None:
        async def speak_http(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(speak_http, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            with pytest.raises(errors.Unavailable):
                await Bus.connect(NatsSettings(servers=(f"nats://127.0.0.1:{port}",)), name="test")

    async def test_a_server_that_accepts_and_stays_silent_is_given_up(
        self, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bus_connection, "CONNECT_TIMEOUT_S", 0.2)
        proxy.freeze()

        with pytest.raises(errors.Unavailable):
            await Bus.connect(NatsSettings(servers=(proxy.url,)), name="test")

    async def test_the_first_server_that_answers_is_used(self, nats: NatsServer) -> None:
        bus = await Bus.connect(NatsSettings(servers=(NOWHERE, nats.url)), name="test")

        await bus.flush()
        await bus.aclose()

    async def test_a_malformed_second_server_is_told(self, nats: NatsServer) -> None:
        with pytest.raises(errors.Unavailable):
            await Bus.connect(NatsSettings(servers=(nats.url, "nats://[::1")), name="test")

    async def test_a_full_jetstream_is_not_taken_for_none(self, tmp_path: Path) -> None:
        full = f'jetstream {{ store_dir: "{tmp_path}/store", max_file_store: 1MB }}'
        async with configured_nats(tmp_path, full) as url:
            bus = await Bus.connect(NatsSettings(servers=(url,)), name="test")
            bucket, store = await bus.bucket("full"), await bus.objects("full")

            async def fill() -> None:
                for number in range(20):
                    await bucket.put(f"key-{number}", bytes(100_000))

            with pytest.raises(errors.Unavailable, match="insufficient") as put:
                await fill()
            with pytest.raises(errors.Unavailable, match="insufficient") as stored:
                await store.put("object", bytes(2_000_000))
            with pytest.raises(errors.Unavailable, match="insufficient") as made:
                await bus.bucket("large", bytes_max=10_000_000)

            for caught in (put, stored, made):
                assert "--jetstream" not in caught.value.text
                assert "lattice doctor" in caught.value.remedy
            await bus.aclose()

    async def test_without_jetstream_the_remedy_is_named(
        self, tmp_path: Path, lattice_name: str
    ) -> None:
        async with configured_nats(tmp_path) as url:
            bus = await Bus.connect(NatsSettings(servers=(url,)), name="test")
            with pytest.raises(errors.Unavailable, match="--jetstream"):
                await bus.bucket(lattice_name)
            with pytest.raises(errors.Unavailable, match="--jetstream"):
                await bus.objects(lattice_name)
            await bus.aclose()


def only_user(password: str) -> str:
    return f"authorization {{ user: u, password: {password} }}"


def as_user(url: str, password: str) -> str:
    return url.replace("nats://", f"nats://u:{password}@")


async def failure(outcome: Awaitable[object]) -> BaseException | None:
    """The error of the lattice that it ends with, or None."""
    try:
        await outcome
    except errors.LatticeError as error:
        return error
    return None
