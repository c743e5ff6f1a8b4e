"""A component that handles messages and sends its own, through the messaging provider."""

import asyncio

import pytest

from lattice import errors
from lattice.bus import Message
from lattice.wire import codec
from tests.support.cluster import Cluster
from tests.support.components import ALLOCATOR, guest
from tests.support.wat import assemble

ANNOUNCER = assemble(f"""
  (component
    (import "wasmcloud:messaging/types@0.2.0" (instance $types
      (type $m (record
        (field "subject" string) (field "body" (list u8)) (field "reply-to" (option string))))
      (export "broker-message" (type (eq $m)))))
    (alias export $types "broker-message" (type $message))
    (import "wasmcloud:messaging/consumer@0.2.0" (instance $consumer
      (alias outer 1 $message (type $m))
      (export "broker-message" (type $b (eq $m)))
      (export "publish" (func (param "msg" $b) (result (result (error string)))))))
    (core module $memory {ALLOCATOR})
    (core instance $memory (instantiate $memory))
    (core func $publish (canon lower (func $consumer "publish")
      (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
    (core module $main
      (import "host" "memory" (memory 1))
      (import "host" "publish"
        (func $publish (param i32 i32 i32 i32 i32 i32 i32 i32)))
      (data (i32.const 512) "orders.seen")
      ;; Subject, body and reply-to of a message; sends the body on, with the subject for answers.
      (func (export "handle") (param i32 i32 i32 i32 i32 i32 i32) (result i32)
        (call $publish (i32.const 512) (i32.const 11) (local.get 2) (local.get 3)
          (i32.const 1) (local.get 0) (local.get 1) (i32.const 64))
        (i32.const 64)))
    (core instance $main (instantiate $main (with "host" (instance
      (export "memory" (memory $memory "memory")) (export "publish" (func $publish))))))
    (func $handle (param "msg" $message) (result (result (error string)))
      (canon lift (core func $main "handle") (memory (core memory $memory "memory"))
        (realloc (core func $memory "realloc"))))
    (instance $handler (export "handle-message" (func $handle)))
    (export "wasmcloud:messaging/handler@0.2.0" (instance $handler)))
""")

CONTRACT = "wasmcloud:messaging"


@pytest.mark.parametrize("place", ["lattice+builtin://messaging", "lattice+process://messaging"])
async def test_a_component_gets_messages_and_sends_its_own(cluster: Cluster, place: str) -> None:
    alpha, beta = await cluster.start_hosts(2)
    await cluster.start_actor("announcer", wasm=ANNOUNCER, on=beta)
    await cluster.start_provider("messages", place, on=alpha)
    await cluster.control.put_config("orders", {"subscriptions": "orders.new"})
    seen: list[Message] = []

    async def note(message: Message) -> None:
        seen.append(message)

    await cluster.bus.subscribe("orders.seen", note)
    await cluster.bus.flush()
    await cluster.link("announcer", "messages", CONTRACT, interfaces=["consumer"])
    await cluster.link(
        "messages", "announcer", CONTRACT, interfaces=["handler"], source_config=["orders"]
    )

    # A link is known to its provider a little later than to the hosts.
    async with asyncio.timeout(20):
        while not seen:
            await cluster.bus.publish("orders.new", b"\x00seven")
            await asyncio.sleep(0.05)

    assert (seen[0].data, seen[0].reply) == (b"\x00seven", "orders.new")


async def test_a_component_whose_messages_are_resources_answers_requests(
    cluster: Cluster,
) -> None:
    (alpha,) = await cluster.start_hosts(1)
    await cluster.start_actor("user", wasm=guest("capabilities"), on=alpha)
    await cluster.start_provider("messages", "lattice+builtin://messaging", on=alpha)
    await cluster.control.put_config("asked", {"subscriptions": "questions"})
    await cluster.link("user", "messages", CONTRACT, interfaces=["request-reply", "producer"])
    await cluster.link(
        "messages", "user", CONTRACT, interfaces=["incoming-handler"], source_config=["asked"]
    )

    # A link is known to its provider a little later than to the hosts.
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20):
        while True:
            try:
                answer = await cluster.bus.request("questions", b"echo", deadline=loop.time() + 5)
            except errors.NotRunning:
                await asyncio.sleep(0.05)
            else:
                break

    assert answer.data == b"echo"


async def test_a_component_hears_what_it_may_not_send(cluster: Cluster) -> None:
    (alpha,) = await cluster.start_hosts(1)
    await cluster.start_actor("announcer", wasm=ANNOUNCER, on=alpha)
    await cluster.start_provider("messages", "lattice+builtin://messaging", on=alpha)
    await cluster.control.put_config("nothing", {"publish": ""})
    await cluster.link(
        "announcer", "messages", CONTRACT, interfaces=["consumer"], target_config=["nothing"]
    )
    answer = await cluster.call(
        "announcer",
        "handler.handle-message",
        codec.pack([{"subject": "a", "body": b"", "reply-to": None}]),
        interface="wasmcloud:messaging/handler",
    )
    assert codec.unpack(answer)["err"].startswith("denied: the link does not allow orders.seen")
