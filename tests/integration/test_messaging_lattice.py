"""Messages through a lattice: real hosts, the provider in them and beside them, real actors."""

import asyncio
import signal

import pytest

from lattice import errors
from lattice.bus import Message
from lattice.wire import codec
from tests.support import messaging
from tests.support.cluster import TESTER, Cluster, Gate
from tests.support.eventually import eventually

CONTRACT = "wasmcloud:messaging"


async def heard_on(cluster: Cluster, subject: str) -> list[Message]:
    heard: list[Message] = []

    async def note(message: Message) -> None:
        heard.append(message)

    await cluster.bus.subscribe(subject, note)
    await cluster.bus.flush()
    return heard


async def store(cluster: Cluster, *bodies: bytes) -> None:
    for body in bodies:
        await cluster.bus.publish_stored(
            "orders.new",
            body,
            message_id=body.decode(),
            deadline=asyncio.get_running_loop().time() + 10,
        )


@pytest.mark.parametrize("place", ["lattice+builtin://messaging", "lattice+process://messaging"])
async def test_an_actor_gets_messages_and_sends_its_own(cluster: Cluster, place: str) -> None:
    alpha, beta = await cluster.start_hosts(2)
    await cluster.start_actor("announces", on=beta)
    await cluster.start_provider("messages", place, on=alpha)
    await cluster.control.put_config("orders", {"subscriptions": "orders.new"})
    await cluster.control.put_config("seen", {"publish": "orders.seen"})
    seen = await heard_on(cluster, "orders.seen")
    await cluster.link("announces", "messages", CONTRACT, target_config=["seen"])
    await cluster.link("messages", "announces", CONTRACT, source_config=["orders"])

    # A link is known to its provider a little later than to the hosts.
    async with asyncio.timeout(20):
        while not seen:
            await cluster.bus.publish("orders.new", b"seven", reply="orders.answers")
            await asyncio.sleep(0.05)

    assert codec.unpack(seen[0].data) == {
        "subject": "orders.new",
        "replyTo": "orders.answers",
        "body": b"seven",
    }


async def test_an_actor_may_send_only_where_its_link_says(cluster: Cluster) -> None:
    (alpha,) = await cluster.start_hosts(1)
    await cluster.start_actor("announces", on=alpha)
    await cluster.start_provider("messages", "lattice+builtin://messaging", on=alpha)
    await cluster.control.put_config("nothing", {"publish": "orders.other"})

    with pytest.raises(errors.ActorError, match="has no link"):
        await cluster.call("announces")
    await cluster.link("announces", "messages", CONTRACT, target_config=["nothing"])
    with pytest.raises(errors.ActorError, match=r"orders\.seen"):
        await cluster.call("announces")


async def test_messages_for_an_actor_that_does_not_run_come_when_it_does(cluster: Cluster) -> None:
    (alpha,) = await cluster.start_hosts(1)
    await messaging.make_stream(cluster.nats.url, "ORDERS", "orders.new")
    await cluster.start_provider("messages", "lattice+builtin://messaging", on=alpha)
    config = {"stream": "ORDERS", "consumer": "workers", "max_deliveries": "1"}
    await cluster.control.put_config("orders", config)
    await cluster.link("messages", "announces", CONTRACT, source_config=["orders"])
    await cluster.link("announces", "messages", CONTRACT)
    seen = await heard_on(cluster, "orders.seen")
    await store(cluster, b"1", b"2", b"3")

    await cluster.start_actor("announces", on=alpha)

    await eventually(lambda: len(seen) == 3, timeout_s=20)
    bodies = sorted(codec.unpack(message.data)["body"] for message in seen)
    assert bodies == [b"1", b"2", b"3"]


async def test_a_host_that_is_killed_loses_no_message_of_a_stream(cluster: Cluster) -> None:
    gate = Gate()
    await cluster.serve("worker", gate)
    await messaging.make_stream(cluster.nats.url, "ORDERS", "orders.new")
    first, second = [await cluster.start_process() for _ in range(2)]
    config = {"stream": "ORDERS", "consumer": "workers", "ack_wait_ms": "500"}
    await cluster.control.put_config("orders", config)
    await cluster.start_provider("messages", "lattice+builtin://messaging", on=first)
    await cluster.link("messages", "worker", CONTRACT, source_config=["orders"])
    bodies = [str(number).encode() for number in range(20)]
    await store(cluster, *bodies)
    await eventually(lambda: gate.waiting == len(bodies), timeout_s=20)

    await first.kill()
    await cluster.start_provider("messages", "lattice+builtin://messaging", on=second)
    await eventually(lambda: len(gate.invocations) == 2 * len(bodies), timeout_s=20)
    gate.open()

    await messaging.settled(cluster.nats.url)
    again = [codec.unpack(each.payload)["body"] for each in gate.invocations[len(bodies) :]]
    assert sorted(again) == sorted(bodies)


async def test_a_host_that_stops_hands_its_messages_to_the_next(cluster: Cluster) -> None:
    gate = Gate()
    await cluster.serve("worker", gate)
    await messaging.make_stream(cluster.nats.url, "ORDERS", "orders.new")
    first, second = [await cluster.start_process() for _ in range(2)]
    config = {"stream": "ORDERS", "consumer": "workers", "in_flight_max": "2"}
    await cluster.control.put_config("orders", config)
    for host in (first, second):
        await cluster.start_provider("messages", "lattice+builtin://messaging", on=host)
    await cluster.link("messages", "worker", CONTRACT, source_config=["orders"])
    bodies = [str(number).encode() for number in range(30)]
    await store(cluster, *bodies)
    await eventually(lambda: gate.waiting == 4, timeout_s=20)

    first.signal(signal.SIGTERM)
    await cluster.event("host_draining")
    gate.open()
    assert await asyncio.wait_for(first.process.wait(), 25) == 0, first.log

    await messaging.settled(cluster.nats.url)
    handled = [codec.unpack(each.payload)["body"] for each in gate.invocations]
    assert sorted(handled) == sorted(bodies)


async def test_a_caller_of_the_command_line_sends_and_asks(cluster: Cluster) -> None:
    (alpha,) = await cluster.start_hosts(1)
    await cluster.start_provider("messages", "lattice+builtin://messaging", on=alpha)
    await cluster.link(TESTER, "messages", CONTRACT)

    async def answer(message: Message) -> None:
        await cluster.bus.publish(message.reply, b"42")

    await cluster.bus.subscribe("questions", answer)
    await cluster.bus.flush()
    found = await cluster.call(
        "messages",
        "consumer.request",
        codec.pack(["questions", b"?", 5000]),
        interface="wasmcloud:messaging/consumer",
    )

    assert codec.unpack(found)["ok"]["body"] == b"42"
