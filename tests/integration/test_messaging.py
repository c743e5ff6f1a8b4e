"""The messaging provider on a real nats-server; the actor is the test's."""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nats
import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from lattice import errors
from lattice.bus import Bus, Message, StoredMessage
from lattice.bus.server import NatsServer
from lattice.wire import codec
from providers.messaging import provider as messaging_provider
from providers.messaging.provider import Messaging
from providers.messaging.sources import CoreSource, StreamSource
from providers.sdk import Call, Link
from tests.support import messaging
from tests.support.configured_nats import configured_nats
from tests.support.eventually import eventually
from tests.support.messaging import HANDLED, Actor, Received, publish, send, settled
from tests.support.nats_server import connected, nats_server

LONG_MS = "600000"
"""Longer than any test: what comes sooner was not waited for."""


@dataclass
class Scene:
    server: NatsServer
    bus: Bus
    actor: Actor
    provider: Messaging

    def stream_link(self, **config: str) -> Link:
        return messaging.handler_link(
            **{"stream": "ORDERS", "consumer": "workers", "retry_ms": "1", "ack_wait_ms": LONG_MS}
            | config
        )

    async def store(self, *bodies: bytes, subject: str = "orders.new") -> None:
        """Put messages into the stream, and know that they are there."""
        for body in bodies:
            await self.bus.publish_stored(
                subject,
                body,
                message_id=f"{subject} {body[:50]!r}",
                deadline=asyncio.get_running_loop().time() + 10,
            )

    async def unsettled(self) -> tuple[int, int]:
        return await messaging.unsettled(self.server.url, "ORDERS", "workers")

    async def dead_letters(self) -> list[Any]:
        return await messaging.stored(self.server.url, "DEAD")


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with nats_server() as server, connected(server) as bus:
        await messaging.make_stream(server.url, "ORDERS", "orders.>")
        await messaging.make_stream(server.url, "DEAD", "dead.>")
        actor = Actor()
        async with connected(server) as own, messaging.provider(own, actor) as provider:
            yield Scene(server, bus, actor, provider)


def failing(times: int, error: errors.LatticeError) -> Any:
    """An answer that fails so often, whatever the message."""
    left = times

    async def answer(_received: Received) -> bytes:
        nonlocal left
        left -= 1
        if left >= 0:
            raise type(error).from_parts(error.text)
        return HANDLED

    return answer


class TestStreams:
    async def test_a_message_that_failed_is_delivered_again(self, scene: Scene) -> None:
        scene.actor.answer = failing(2, errors.ActorError("out of stock"))
        await scene.provider.put_link(scene.stream_link())

        await scene.store(b"one")
        await settled(scene.server.url)

        assert scene.actor.bodies == [b"one"] * 3

    async def test_a_handler_that_says_err_has_not_handled_the_message(self, scene: Scene) -> None:
        async def refuse(_received: Received) -> bytes:
            return codec.pack({"err": "out of stock"})

        scene.actor.answer = refuse
        await scene.provider.put_link(scene.stream_link(max_deliveries="2", dead_letter="dead.x"))

        await scene.store(b"one")
        await settled(scene.server.url)

        assert scene.actor.bodies == [b"one"] * 2
        (dead,) = await scene.dead_letters()
        assert dead.headers["Lattice-Error"] == "out of stock"

    async def test_a_message_that_always_fails_ends_in_the_dead_letters_which_say_why(
        self, scene: Scene
    ) -> None:
        scene.actor.answer = failing(1000, errors.ActorTrapped.from_parts("a\r\nNats-Rollup: all"))
        await scene.provider.put_link(
            scene.stream_link(max_deliveries="3", dead_letter="dead.orders")
        )

        await scene.store(b"poison", subject="orders.new.7")
        await settled(scene.server.url)

        assert len(scene.actor.calls) == 3
        (dead,) = await scene.dead_letters()
        assert (dead.subject, dead.data) == ("dead.orders", b"poison")
        dead.headers.pop("Nats-Msg-Id")
        assert dead.headers == {
            "Lattice-Error-Code": "actor_trapped",
            "Lattice-Error": "a Nats-Rollup: all",
            "Lattice-Actor": messaging.ACTOR,
            "Lattice-Subject": "orders.new.7",
            "Lattice-Stream": "ORDERS",
            "Lattice-Consumer": "workers",
            "Lattice-Sequence": "1",
            "Lattice-Deliveries": "3",
        }

    async def test_without_dead_letters_a_message_is_given_up(self, scene: Scene) -> None:
        async def refuse_poison(received: Received) -> bytes:
            if received.body == b"poison":
                raise errors.ActorError("no")
            return HANDLED

        scene.actor.answer = refuse_poison
        await scene.provider.put_link(scene.stream_link(max_deliveries="2"))

        await scene.store(b"poison", b"good")
        await settled(scene.server.url)

        assert sorted(scene.actor.bodies) == [b"good", b"poison", b"poison"]
        assert await scene.dead_letters() == []

    async def test_a_message_that_ends_its_handlers_is_buried_unseen(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Deliveries that nobody lived to settle, as far as the next provider can tell.
        monkeypatch.setattr("providers.messaging.delivery.UNSETTLED_MAX", 0)
        await scene.store(b"deadly")
        client = await nats.connect(scene.server.url)
        pulled = await client.jetstream().pull_subscribe("", "workers", stream="ORDERS")
        for _ in range(2):
            (message,) = await pulled.fetch(1)
            await message.nak()
        await client.close()

        await scene.provider.put_link(scene.stream_link(max_deliveries="2", dead_letter="dead.x"))
        await settled(scene.server.url)

        assert scene.actor.calls == []
        (dead,) = await scene.dead_letters()
        assert dead.data == b"deadly"
        assert dead.headers["Lattice-Error-Code"] == "unavailable"

    @pytest.mark.parametrize(
        "error", [errors.NotRunning("x"), errors.Overloaded("x"), errors.Draining("x")]
    )
    async def test_an_actor_that_can_not_take_a_message_yet_costs_it_no_delivery(
        self, scene: Scene, error: errors.LatticeError
    ) -> None:
        scene.actor.answer = failing(5, error)
        await scene.provider.put_link(scene.stream_link(max_deliveries="1", dead_letter="dead.x"))

        await scene.store(b"one")
        await settled(scene.server.url)

        assert [call.body for call in scene.actor.ended] == [b"one"]
        assert await scene.dead_letters() == []

    async def test_no_more_is_pulled_than_the_actor_takes(self, scene: Scene) -> None:
        scene.actor.answer = failing(1_000_000, errors.Overloaded("full"))
        await scene.provider.put_link(scene.stream_link(in_flight_max="2"))

        await scene.store(*(str(number).encode() for number in range(10)))
        await eventually(lambda: len(scene.actor.calls) > 6)

        assert await scene.unsettled() == (8, 2)
        scene.actor.answer = messaging.handled
        await settled(scene.server.url)
        assert len(scene.actor.ended) == 10

    async def test_a_message_that_is_worked_on_is_not_delivered_again(self, scene: Scene) -> None:
        gate = asyncio.Event()

        async def wait(_received: Received) -> bytes:
            await gate.wait()
            return HANDLED

        scene.actor.answer = wait
        extensions = 0

        async def count(message: Message) -> None:
            nonlocal extensions
            extensions += message.data == b"+WPI"

        await scene.bus.subscribe("$JS.ACK.ORDERS.workers.>", count)
        await scene.bus.flush()
        await scene.provider.put_link(scene.stream_link(ack_wait_ms="300"))
        await scene.store(b"slow")

        # Three of them are the time after which the server would deliver it again.
        await eventually(lambda: extensions >= 9)
        gate.set()
        await settled(scene.server.url)

        assert scene.actor.bodies == [b"slow"]

    async def test_what_waits_for_its_actor_goes_back_when_the_provider_ends(
        self, scene: Scene
    ) -> None:
        scene.actor.answer = failing(1_000_000, errors.NotRunning("away"))
        await scene.provider.put_link(scene.stream_link())
        await scene.store(b"one", b"two")
        await eventually(lambda: scene.actor.calls)

        await scene.provider.drain()

        # Not after the consumer's time for an answer, which is longer than this test.
        other = Actor()
        async with connected(scene.server) as bus, messaging.provider(bus, other) as second:
            await second.put_link(scene.stream_link())
            await eventually(lambda: len(other.ended) == 2)

    async def test_what_a_provider_did_not_finish_in_its_time_goes_to_the_next(
        self, scene: Scene
    ) -> None:
        async def never(_received: Received) -> bytes:
            await asyncio.Event().wait()
            return HANDLED

        scene.actor.answer = never
        await scene.provider.put_link(scene.stream_link())
        await scene.store(b"one")
        await eventually(lambda: scene.actor.running)

        await scene.provider.stop()

        assert scene.actor.running == 0
        other = Actor()
        async with connected(scene.server) as bus, messaging.provider(bus, other) as second:
            await second.put_link(scene.stream_link())
            await eventually(lambda: other.ended)

    async def test_a_message_that_can_not_be_buried_stays_in_the_stream(self, scene: Scene) -> None:
        scene.actor.answer = failing(1_000_000, errors.ActorError("no"))
        link = scene.stream_link(max_deliveries="1", dead_letter="dead.x", retry_max_ms="20")
        await scene.provider.put_link(link)
        client = await nats.connect(scene.server.url)
        await client.jetstream().delete_stream("DEAD")

        await scene.store(b"poison")
        await eventually(lambda: scene.provider._sources[0].problem)
        assert "dead.x" in ((await scene.provider.health()).message or "")
        assert sum(await scene.unsettled()) == 1
        await client.close()
        await messaging.make_stream(scene.server.url, "DEAD", "dead.>")
        await settled(scene.server.url)

        (dead,) = await scene.dead_letters()
        assert dead.data == b"poison"
        assert (await scene.provider.health()).healthy

    async def test_messages_of_a_provider_that_vanished_are_delivered_to_others(
        self, scene: Scene
    ) -> None:
        gate = asyncio.Event()

        async def wait(_received: Received) -> bytes:
            await gate.wait()
            return HANDLED

        lost = Actor(wait)
        link = scene.stream_link(ack_wait_ms="300")
        async with connected(scene.server) as bus:
            vanishing = Messaging()
            await vanishing.start(messaging.context(bus, lost), {})
            await vanishing.put_link(link)
            await scene.store(b"one", b"two")
            await eventually(lambda: lost.running == 2)
        # Its connection is gone; nothing of what it says now is heard.
        await scene.provider.put_link(link)
        await settled(scene.server.url)

        assert sorted(scene.actor.bodies) == [b"one", b"two"]
        await vanishing.stop()

    async def test_a_consumer_that_was_deleted_is_made_again(self, scene: Scene) -> None:
        await scene.provider.put_link(scene.stream_link())
        await scene.store(b"one")
        await settled(scene.server.url)

        client = await nats.connect(scene.server.url)
        await client.jetstream().delete_consumer("ORDERS", "workers")
        await client.close()
        await scene.store(b"two")

        await eventually(lambda: b"two" in scene.actor.bodies)

    async def test_only_new_messages_are_read_where_the_link_says_so(self, scene: Scene) -> None:
        await scene.store(b"old")
        await scene.provider.put_link(scene.stream_link(only_new="true"))

        await scene.store(b"new")
        await settled(scene.server.url)

        assert scene.actor.bodies == [b"new"]

    async def test_a_link_reads_what_it_names_of_a_stream(self, scene: Scene) -> None:
        await scene.provider.put_link(scene.stream_link(subscriptions="orders.a,orders.b.>"))

        for subject in ("orders.a", "orders.b.1", "orders.c"):
            await scene.store(b"x", subject=subject)
        await settled(scene.server.url)

        subjects = sorted(call.message["subject"] for call in scene.actor.calls)
        assert subjects == ["orders.a", "orders.b.1"]

    async def test_a_consumer_that_is_there_is_used_as_it_is(self, scene: Scene) -> None:
        client = await nats.connect(scene.server.url)
        await client.jetstream().add_consumer(
            "ORDERS",
            ConsumerConfig(
                durable_name="workers",
                ack_policy=AckPolicy.EXPLICIT,
                filter_subject="orders.a",
                max_deliver=2,
            ),
        )
        await client.close()
        scene.actor.answer = failing(1000, errors.ActorError("no"))
        consumers = '[{"stream":"ORDERS","consumer":"workers"}]'
        await scene.provider.put_link(
            messaging.handler_link(consumers=consumers, retry_ms="1", dead_letter="dead.x")
        )

        await scene.store(b"x", subject="orders.a")
        await settled(scene.server.url)

        # Its own bound is below ours, and after it the server would say nothing more.
        assert len(scene.actor.calls) == 2
        assert len(await scene.dead_letters()) == 1

    async def test_health_says_why_no_messages_come(self, scene: Scene) -> None:
        await scene.provider.put_link(scene.stream_link())
        assert (await scene.provider.health()).healthy

        client = await nats.connect(scene.server.url)
        await client.jetstream().delete_stream("ORDERS")
        await client.close()

        async with asyncio.timeout(20):
            while (await scene.provider.health()).healthy:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.01)
        assert "ORDERS" in ((await scene.provider.health()).message or "")

    @pytest.mark.parametrize(
        ("config", "error", "text"),
        [
            ({"stream": "NOTHING"}, errors.NotFound, "nats stream add"),
            ({"stream": "KV_STATE"}, errors.Denied, r"\$KV"),
            ({"stream": "MIRROR"}, errors.Denied, "copies others"),
            ({"stream": "MIXTURE"}, errors.Denied, "copies others"),
            ({"consumer": "pushes"}, errors.InvalidRequest, "pull"),
            ({"consumer": "narrow"}, errors.InvalidRequest, "orders.a"),
            ({"dead_letter": "orders.dead"}, errors.InvalidRequest, "circles"),
            ({"dead_letter": "nowhere.dead"}, errors.NotFound, "no stream keeps"),
            ({"dead_letter": "wasmbus.dead"}, errors.Denied, "own use"),
        ],
    )
    async def test_a_link_that_can_not_work_is_refused(
        self, scene: Scene, config: dict[str, str], error: type[Exception], text: str
    ) -> None:
        client = await nats.connect(scene.server.url)
        jetstream = client.jetstream()
        await jetstream.create_key_value(bucket="STATE")
        mirror = nats.js.api.StreamConfig(
            name="MIRROR", mirror=nats.js.api.StreamSource(name="KV_STATE")
        )
        await jetstream.add_stream(mirror)
        mixture = nats.js.api.StreamConfig(
            name="MIXTURE",
            subjects=["mixture"],
            sources=[nats.js.api.StreamSource(name="KV_STATE")],
        )
        await jetstream.add_stream(mixture)
        pushes = ConsumerConfig(durable_name="pushes", deliver_subject="somewhere")
        await jetstream.add_consumer("ORDERS", pushes)
        narrow = ConsumerConfig(durable_name="narrow", filter_subject="orders.a")
        await jetstream.add_consumer("ORDERS", narrow)
        await client.close()

        filters = {} if "stream" in config else {"subscriptions": "orders.>"}
        with pytest.raises(error, match=text):
            await scene.provider.put_link(scene.stream_link(**filters | config))
        await scene.provider.drain()
        assert scene.actor.calls == []

    async def test_nothing_is_lost_when_the_server_is_killed(self, tmp_path: Path) -> None:
        bodies = [str(number).encode() for number in range(60)]
        actor = Actor()
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(nats_server(store_dir=tmp_path))
            await messaging.make_stream(server.url, "ORDERS", "orders.>")
            bus = await stack.enter_async_context(connected(server))
            own = await stack.enter_async_context(connected(server))
            provider = await stack.enter_async_context(messaging.provider(own, actor))
            scene = Scene(server, bus, actor, provider)
            killed = asyncio.Event()

            async def wait(_received: Received) -> bytes:
                if len(actor.calls) > 20:
                    await killed.wait()
                return HANDLED

            actor.answer = wait
            await provider.put_link(scene.stream_link(in_flight_max="5", ack_wait_ms="500"))
            await scene.store(*bodies)
            await eventually(lambda: actor.running == 5)

            os.kill(server.pid, signal.SIGKILL)
            await server.wait_stopped()
            await eventually(lambda: not own.is_connected)
            killed.set()
            await eventually(lambda: actor.running == 0)
            port = urlsplit(server.url).port
            assert port is not None
            scene.server = await stack.enter_async_context(
                nats_server(store_dir=tmp_path, port=port)
            )
            await eventually(lambda: bus.is_connected and own.is_connected)
            await settled(scene.server.url)

        assert set(actor.bodies) == set(bodies)

    async def test_what_was_handled_while_nats_was_away_is_settled_once_it_is_back(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        acknowledge = StoredMessage.acknowledge
        attempts = 0

        async def fail_at_first(message: StoredMessage) -> None:
            nonlocal attempts
            attempts += 1
            if attempts <= 2:
                raise errors.Unavailable("not connected to NATS")
            await acknowledge(message)

        monkeypatch.setattr(StoredMessage, "acknowledge", fail_at_first)
        await scene.provider.put_link(scene.stream_link())

        await scene.store(b"one")
        await settled(scene.server.url)

        assert scene.actor.bodies == [b"one"]
        assert attempts == 3

    async def test_a_message_that_comes_again_while_it_is_worked_on_is_handled_once(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def unheard(_message: StoredMessage) -> None:
            return

        monkeypatch.setattr(StoredMessage, "extend", unheard)
        gate = asyncio.Event()

        async def wait(_received: Received) -> bytes:
            await gate.wait()
            return HANDLED

        scene.actor.answer = wait
        await scene.provider.put_link(scene.stream_link(ack_wait_ms="100"))
        await scene.store(b"one")
        (source,) = scene.provider._sources
        assert isinstance(source, StreamSource)
        await eventually(lambda: any(each.deliveries > 1 for each in source._in_flight.values()))

        gate.set()
        await settled(scene.server.url)

        assert scene.actor.bodies == [b"one"]


class TestCoreSubjects:
    async def test_the_subject_of_a_question_reaches_the_actor_and_its_answer_the_asker(
        self, scene: Scene
    ) -> None:
        await scene.provider.put_link(messaging.handler_link(subscriptions="questions"))
        sending = messaging.consumer_link(publish="")
        await scene.provider.put_link(sending)

        async def answer(received: Received) -> bytes:
            await publish(scene.provider, sending, received.message["reply-to"], b"42")
            return HANDLED

        scene.actor.answer = answer
        deadline = asyncio.get_running_loop().time() + 10
        found = await scene.bus.request("questions", b"?", deadline=deadline)

        assert found.data == b"42"

    async def test_a_queue_group_is_shared_with_whoever_is_in_it(self, scene: Scene) -> None:
        await scene.provider.put_link(messaging.handler_link(subscriptions="work|crew"))
        others: list[bytes] = []

        async def note(message: Message) -> None:
            others.append(message.data)

        await scene.bus.subscribe("work", note, queue="crew")
        await scene.bus.flush()
        bodies = [str(number).encode() for number in range(100)]
        for body in bodies:
            await scene.bus.publish("work", body)

        await eventually(lambda: len(others) + len(scene.actor.ended) == len(bodies))
        assert sorted(others + scene.actor.bodies) == sorted(bodies)
        assert others
        assert scene.actor.bodies

    async def test_what_has_no_room_to_wait_is_lost_and_the_rest_is_not(self, scene: Scene) -> None:
        gate = asyncio.Event()

        async def wait(_received: Received) -> bytes:
            await gate.wait()
            return HANDLED

        scene.actor.answer = wait
        link = messaging.handler_link(subscriptions="work", in_flight_max="2", waiting_max="3")
        await scene.provider.put_link(link)
        for number in range(10):
            await scene.bus.publish("work", str(number).encode())
        await scene.bus.publish("work", b"last")
        await eventually(lambda: scene.actor.running == 2)
        (source,) = scene.provider._sources
        assert isinstance(source, CoreSource)
        # The first was told at once, the others are in the next report.
        await eventually(lambda: source._lost == 5)

        gate.set()
        await scene.provider.drain()

        assert scene.actor.bodies == [str(number).encode() for number in range(5)]

    async def test_a_message_that_fails_is_not_brought_again(self, scene: Scene) -> None:
        scene.actor.answer = failing(1, errors.NotRunning("away"))
        await scene.provider.put_link(
            messaging.handler_link(subscriptions="work", in_flight_max="1")
        )

        await scene.bus.publish("work", b"one")
        await scene.bus.publish("work", b"two")
        await eventually(lambda: scene.actor.ended)

        assert scene.actor.bodies == [b"one", b"two"]


@asynccontextmanager
async def listener(bus: Bus, subject: str) -> AsyncIterator[list[Message]]:
    heard: list[Message] = []

    async def note(message: Message) -> None:
        heard.append(message)

    subscription = await bus.subscribe(subject, note)
    await bus.flush()
    yield heard
    await subscription.unsubscribe()


class TestSending:
    @pytest.mark.parametrize(
        ("operation", "payload"),
        [
            ("consumer.publish", [{"subject": "a.b", "body": b"\xff", "reply-to": "a.c"}]),
            ("Messaging.Publish", {"subject": "a.b", "body": b"\xff", "replyTo": "a.c"}),
        ],
    )
    async def test_a_message_goes_out_as_the_actor_said(
        self, scene: Scene, operation: str, payload: Any
    ) -> None:
        link = messaging.consumer_link()
        await scene.provider.put_link(link)
        async with listener(scene.bus, "a.*") as heard:
            await send(scene.provider, link, operation, payload)
            await eventually(lambda: heard)

        (message,) = heard
        assert (message.subject, message.data, message.reply) == ("a.b", b"\xff", "a.c")
        assert not message.headers

    @pytest.mark.parametrize(
        ("operation", "payload"),
        [
            ("consumer.request", ["ask", b"x", 5000]),
            ("Messaging.Request", {"subject": "ask", "body": b"x", "timeoutMs": 5000}),
        ],
    )
    async def test_a_request_brings_the_answer(
        self, scene: Scene, operation: str, payload: Any
    ) -> None:
        async def answer(message: Message) -> None:
            await scene.bus.publish(message.reply, message.data + b"!", reply="more")

        await scene.bus.subscribe("ask", answer)
        await scene.bus.flush()
        link = messaging.consumer_link()
        await scene.provider.put_link(link)

        found = await send(scene.provider, link, operation, payload)

        if operation.startswith("consumer"):
            assert found == {"ok": {"subject": "ask", "body": b"x!", "reply-to": "more"}}
        else:
            assert found == {"subject": "ask", "body": b"x!", "replyTo": "more"}

    @pytest.mark.parametrize(("timeout_ms", "call_s"), [(50, 10.0), (60_000, 0.2)])
    async def test_a_request_without_answer_ends_by_its_time_or_by_its_calls(
        self, scene: Scene, timeout_ms: int, call_s: float
    ) -> None:
        link = messaging.consumer_link()
        await scene.provider.put_link(link)
        async with listener(scene.bus, "ask"):
            with pytest.raises(errors.DeadlineExceeded):
                await send(
                    scene.provider,
                    link,
                    "consumer.request",
                    ["ask", b"", timeout_ms],
                    timeout_s=call_s,
                )

    async def test_a_request_that_nobody_listens_to_fails_at_once(self, scene: Scene) -> None:
        link = messaging.consumer_link()
        await scene.provider.put_link(link)

        with pytest.raises(errors.NotRunning, match="ask"):
            await send(scene.provider, link, "consumer.request", ["ask", b"", 60_000])

    @pytest.mark.parametrize("operation", ["consumer.publish", "consumer.request"])
    async def test_more_than_nats_takes_is_refused_with_both_numbers(
        self, scene: Scene, operation: str
    ) -> None:
        link = messaging.consumer_link()
        await scene.provider.put_link(link)
        body = b"x" * (scene.bus.max_payload + 1)
        payload = {
            "consumer.publish": [{"subject": "a", "body": body, "reply-to": None}],
            "consumer.request": ["a", body, 1000],
        }[operation]

        with pytest.raises(errors.PayloadTooLarge) as refusal:
            await send(scene.provider, link, operation, payload)
        assert refusal.value.detail == {"size": len(body), "limit": scene.bus.max_payload}

    @pytest.mark.parametrize(
        "subject",
        [
            *("", "a b", "a..b", "a.*", ">", "a\r\nPUB wasmbus.ctl.x 1\r\nx", "a\0", "x" * 2000),
            *("wasmbus.rpc.default.kv.call.worker", "lattice.x", "wadm.api.default.x"),
            *("$JS.API.STREAM.DELETE.ORDERS", "$SYS.x", "$KV.x", "not.granted"),
        ],
    )
    async def test_what_the_link_does_not_grant_is_not_sent_nor_named_as_a_place_for_answers(
        self, scene: Scene, subject: str
    ) -> None:
        link = messaging.consumer_link(publish="granted.>")
        await scene.provider.put_link(link)
        async with listener(scene.bus, ">") as heard:
            with pytest.raises((errors.Denied, errors.InvalidRequest)):
                await publish(scene.provider, link, subject)
            with pytest.raises((errors.Denied, errors.InvalidRequest)):
                await send(scene.provider, link, "consumer.request", [subject, b"", 1000])
            if subject:
                with pytest.raises((errors.Denied, errors.InvalidRequest)):
                    await publish(scene.provider, link, "granted.x", reply_to=subject)
            await publish(scene.provider, link, "granted.last")
            await eventually(lambda: any(each.subject == "granted.last" for each in heard))

        sent = {each.subject for each in heard if not each.subject.startswith("_INBOX.")}
        assert sent == {"granted.last"}

    async def test_an_inbox_is_closed_where_the_link_lets_nobody_answer(self, scene: Scene) -> None:
        link = messaging.consumer_link(replies="false")
        await scene.provider.put_link(link)

        with pytest.raises(errors.Denied):
            await publish(scene.provider, link, "_INBOX.x.1")

    async def test_a_stream_keeps_what_is_published_where_the_link_wants_it(
        self, scene: Scene
    ) -> None:
        link = messaging.consumer_link(delivery="jetstream")
        await scene.provider.put_link(link)

        await publish(scene.provider, link, "orders.new", b"one")

        assert [each.data for each in await messaging.stored(scene.server.url, "ORDERS")] == [
            b"one"
        ]
        with pytest.raises(errors.NotFound, match="nats stream add"):
            await publish(scene.provider, link, "nowhere", b"two")

    async def test_a_message_that_may_be_stored_already_is_stored_once(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        link = messaging.consumer_link(delivery="jetstream")
        await scene.provider.put_link(link)
        bus = scene.provider.context.bus
        attempts = []

        async def lose_the_first_answer(*arguments: Any, **options: Any) -> Any:
            stored = await Bus.publish_stored(bus, *arguments, **options)
            attempts.append(stored)
            if len(attempts) == 1:
                raise errors.Unavailable("the connection to NATS was lost")
            return stored

        monkeypatch.setattr(bus, "publish_stored", lose_the_first_answer)
        monkeypatch.setattr(messaging_provider, "STORE_AGAIN_S", 0.001)
        await publish(scene.provider, link, "orders.new", b"one")

        assert [each.is_duplicate for each in attempts] == [False, True]
        assert len(await messaging.stored(scene.server.url, "ORDERS")) == 1

    async def test_a_callers_key_is_the_messages_id(self, scene: Scene) -> None:
        link = messaging.consumer_link(delivery="jetstream")
        await scene.provider.put_link(link)
        for _ in range(2):
            await scene.provider.handle(
                Call(
                    source=messaging.ACTOR,
                    link=link,
                    interface="wasmcloud:messaging",
                    operation="Messaging.Publish",
                    payload=codec.pack({"subject": "orders.new", "body": b"x"}),
                    deadline=asyncio.get_running_loop().time() + 10,
                    key="order-7",
                )
            )

        (stored,) = await messaging.stored(scene.server.url, "ORDERS")
        assert stored.headers == {"Nats-Msg-Id": "order-7"}

    async def test_what_a_stream_refuses_is_an_error(self, scene: Scene) -> None:
        await messaging.make_stream(scene.server.url, "SMALL", "small.>", max_msgs=1, discard="new")
        link = messaging.consumer_link(delivery="jetstream")
        await scene.provider.put_link(link)
        await publish(scene.provider, link, "small.x", b"one")

        with pytest.raises(errors.ProviderError, match="maximum messages"):
            await publish(scene.provider, link, "small.x", b"two")

    async def test_a_stranger_that_answers_in_a_streams_place_is_found_out(
        self, scene: Scene
    ) -> None:
        async def answer(message: Message) -> None:
            await scene.bus.publish(message.reply, b"[1]")

        await scene.bus.subscribe("strange", answer)
        await scene.bus.flush()
        link = messaging.consumer_link(delivery="jetstream")
        await scene.provider.put_link(link)

        with pytest.raises(errors.ProviderError, match="not a stream"):
            await publish(scene.provider, link, "strange")


PAGE = Path(__file__).parents[2] / "docs" / "providers" / "messaging.md"


def documented_permissions(use: str) -> list[str]:
    """What the page says that a NATS user must be able to publish."""
    row = re.search(rf"^\| {re.escape(use)} \|([^|]*)\|", PAGE.read_text(), re.MULTILINE)
    assert row
    return re.findall(r"`((?:\$JS|_INBOX)[^`]+)`", row[1])


class TestLinks:
    async def test_a_nats_user_needs_no_more_than_the_page_says(
        self, scene: Scene, tmp_path: Path
    ) -> None:
        allowed = ["dead.x"]
        for use in ("answers, and to notice a dead connection", "streams", "dead letters"):
            allowed += documented_permissions(use)
        configuration = f"""
            jetstream {{ store_dir: "{tmp_path}" }}
            authorization {{ users: [
                {{ user: "all", password: "x" }}
                {{ user: "some", password: "x", permissions: {{
                    publish: {json.dumps(allowed)}, subscribe: ["_INBOX.>"] }} }}
            ] }}"""
        async with configured_nats(tmp_path, configuration) as url:
            everything = url.replace("//", "//all:x@")
            await messaging.make_stream(everything, "ORDERS", "orders.>")
            await messaging.make_stream(everything, "DEAD", "dead.>")
            scene.actor.answer = failing(2, errors.ActorError("no"))
            link = scene.stream_link(
                uri=url.replace("//", "//some:x@"), max_deliveries="2", dead_letter="dead.x"
            )
            await scene.provider.put_link(link)
            client = await nats.connect(everything)
            await client.jetstream().publish("orders.new", b"poison")
            await eventually(lambda: len(scene.actor.calls) == 2)
            await client.jetstream().publish("orders.new", b"good")
            await eventually(lambda: scene.actor.ended)
            await client.close()
            await scene.provider.delete_link(link)
            await eventually(lambda: not scene.provider._ending)

            assert scene.actor.bodies == [b"poison", b"poison", b"good"]
            (dead,) = await messaging.stored(everything, "DEAD")
            assert dead.data == b"poison"
            await settled(everything)

    async def test_a_link_may_use_another_nats(self, scene: Scene) -> None:
        async with nats_server() as elsewhere, connected(elsewhere) as there:
            sending = messaging.consumer_link(uri=elsewhere.url)
            handling = messaging.handler_link(cluster_uris=elsewhere.url, subscriptions="in")
            await scene.provider.put_link(sending)
            await scene.provider.put_link(handling)
            async with listener(there, "out") as heard, listener(scene.bus, "out") as here:
                await publish(scene.provider, sending, "out", b"x")
                await eventually(lambda: heard)
                assert here == []
            await there.publish("in", b"y")
            await eventually(lambda: scene.actor.bodies == [b"y"])

            (share,) = scene.provider._connections.shares
            bus = share.thing
            await scene.provider.delete_link(sending)
            assert bus.is_connected
            await scene.provider.delete_link(handling)
            await eventually(lambda: not bus.is_connected)

    async def test_a_request_that_runs_outlives_its_link_and_then_the_connection_goes(
        self, scene: Scene
    ) -> None:
        async with nats_server() as elsewhere, connected(elsewhere) as there:
            link = messaging.consumer_link(uri=elsewhere.url)
            await scene.provider.put_link(link)
            (share,) = scene.provider._connections.shares
            asked: list[Message] = []

            async def ask(message: Message) -> None:
                asked.append(message)

            await there.subscribe("questions", ask)
            await there.flush()
            running = asyncio.ensure_future(
                messaging.send(scene.provider, link, "consumer.request", ["questions", b"", 10_000])
            )
            await eventually(lambda: asked)
            await scene.provider.delete_link(link)
            await there.publish(asked[0].reply, b"answer")
            assert (await running)["ok"]["body"] == b"answer"
            assert not share.thing.is_connected

    async def test_a_link_shows_its_own_credentials(self, scene: Scene, tmp_path: Path) -> None:
        login = 'authorization { user: "worker", password: "hunter2" }'
        async with configured_nats(tmp_path, login) as url:
            for wrong in (url, url.replace("//", "//worker:wrong@")):
                with pytest.raises(errors.Denied) as refusal:
                    await scene.provider.put_link(messaging.consumer_link(uri=wrong))
                assert "wrong" not in refusal.value.text

            link = messaging.consumer_link(uri=url.replace("//", "//worker:hunter2@"))
            await scene.provider.put_link(link)
            await publish(scene.provider, link, "out")
            await scene.provider.delete_link(link)

    async def test_a_nats_that_is_away_refuses_the_link_until_it_is_there(
        self, scene: Scene
    ) -> None:
        link = messaging.consumer_link(uri="nats://user:hunter2@127.0.0.1:1")

        with pytest.raises(errors.Unavailable) as refusal:
            await scene.provider.put_link(link)

        assert "hunter2" not in refusal.value.text

    @pytest.mark.parametrize(
        ("link", "text"),
        [
            (messaging.handler_link(), "subscriptions"),
            (
                messaging.handler_link(subscriptions="a").model_copy(
                    update={"interfaces": ["consumer"]}
                ),
                "link put worker messages",
            ),
            (
                messaging.consumer_link().model_copy(update={"interfaces": ["handler"]}),
                "link put messages worker",
            ),
            (
                messaging.consumer_link().model_copy(update={"wit_package": "keyvalue"}),
                "wasmcloud:messaging",
            ),
        ],
    )
    async def test_a_link_that_makes_no_sense_is_refused_with_what_would(
        self, scene: Scene, link: Link, text: str
    ) -> None:
        with pytest.raises(errors.InvalidRequest, match=text):
            await scene.provider.put_link(link)

    async def test_a_link_that_is_refused_sends_nothing_any_more(self, scene: Scene) -> None:
        link = messaging.consumer_link()
        await scene.provider.put_link(link)
        wrong = messaging.consumer_link(delivery="maybe")
        with pytest.raises(errors.InvalidRequest):
            await scene.provider.put_link(wrong)
        with pytest.raises(errors.NoLink):
            await publish(scene.provider, wrong, "a")

    async def test_a_changed_configuration_of_the_provider_changes_its_links(
        self, scene: Scene
    ) -> None:
        sending = messaging.consumer_link()
        handling = messaging.handler_link(subscriptions="work.a")
        for link in (sending, handling):
            await scene.provider.put_link(link)
        await publish(scene.provider, sending, "work.a", b"before")
        await eventually(lambda: scene.actor.ended)

        await scene.provider.update_config({"reserved": "work.>"})
        await scene.provider.put_link(sending)
        with pytest.raises(errors.Denied):
            await scene.provider.put_link(handling)

        with pytest.raises(errors.Denied):
            await publish(scene.provider, sending, "work.a")
        await eventually(lambda: not scene.provider._ending)
        await scene.bus.publish("work.a", b"after")
        await scene.bus.flush()
        await scene.provider.drain()
        assert scene.actor.bodies == [b"before"]

    async def test_a_wrong_configuration_of_the_provider_changes_nothing(
        self, scene: Scene
    ) -> None:
        sending = messaging.consumer_link()
        await scene.provider.put_link(sending)

        with pytest.raises(errors.InvalidRequest):
            await scene.provider.update_config({"reserved": "a b"})

        await publish(scene.provider, sending, "work.a")
