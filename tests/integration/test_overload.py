"""More calls than a host can serve, and actors that always trap: what others notice of it."""

import asyncio
from collections import Counter

import pytest

from lattice import errors, limits, subjects
from lattice.bus import Message
from lattice.control.figures import FiguresClient
from lattice.wire import invocation
from lattice.wire.invocation import Invocation, Reply
from tests.support.cluster import TESTER, Cluster, Gate, HostProcess
from tests.support.eventually import eventually

FLOOD = 2_000
"""Calls that keep a host busy for some seconds."""

PATIENCE_S = 60.0


class Replies:
    """Answers in the order in which they came, by the name of what was asked."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.order: list[str] = []
        """Without refusals, which wait for nothing."""
        self.codes: Counter[str] = Counter()

    async def open(self) -> None:
        await self.cluster.bus.subscribe("answers.*", self._note)

    async def ask(self, target: str, payload: bytes, *, timeout_s: float = PATIENCE_S) -> None:
        """Send a call whose answer will be noted under the target's name."""
        call = Invocation(
            source=TESTER,
            target=target,
            interface="test:target",
            operation="Test.Run",
            payload=payload,
            deadline=timeout_s,
        )
        await self.cluster.bus.publish(
            subjects.call(self.cluster.lattice, target, TESTER),
            invocation.encode_request(call, now=0),
            reply=f"answers.{target}",
        )

    async def _note(self, message: Message) -> None:
        target = message.subject.rpartition(".")[2]
        code = "ok"
        try:
            invocation.decode_reply(message.data)
        except errors.LatticeError as error:
            code = error.code
        self.codes[f"{target} {code}"] += 1
        if code != errors.Overloaded.code:
            self.order.append(target)


async def busy_host(cluster: Cluster, *actors: str) -> tuple[HostProcess, Replies]:
    """A host in a process of its own, so that its flood is not the test's."""
    host = await cluster.start_process("--log-level", "info")
    for actor in actors:
        await cluster.start_actor(actor, on=host, count=10**6)
    replies = Replies(cluster)
    await replies.open()
    return host, replies


async def test_a_flood_on_one_actor_holds_up_neither_another_nor_the_beat(
    cluster: Cluster,
) -> None:
    host, replies = await busy_host(cluster, "work", "echo")
    beats = 0

    async def note_beat(_: Message) -> None:
        nonlocal beats
        beats += "work" in replies.order

    await cluster.bus.subscribe(subjects.beat(cluster.lattice, host.id), note_beat)
    for _ in range(FLOOD):
        await replies.ask("work", b"xx")
    await eventually(lambda: "work" in replies.order)
    await replies.ask("echo", b"hi")
    await eventually(lambda: "echo" in replies.order, timeout_s=PATIENCE_S)
    answered_before = replies.order.index("echo")
    await eventually(lambda: replies.codes.total() == FLOOD + 1, timeout_s=PATIENCE_S)
    assert answered_before < len(replies.order) / 2, "it waited for the flood"
    assert beats, "no beat from the beginning of the flood to its end"
    assert replies.codes == {"work ok": FLOOD, "echo ok": 1}


async def test_what_expires_before_it_is_looked_at_is_not_executed(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1)
    await cluster.start_actor("work", on=host)
    replies = Replies(cluster)
    await replies.open()
    await replies.ask("work", b"xx")
    await eventually(lambda: replies.codes["work ok"] == 1)
    # From now on a second passes between the arrival of a call and the first look at it.
    rpc, now = host.host._rpc, asyncio.get_running_loop().time
    rpc.now = lambda: now() + 1.0
    for _ in range(500):
        await replies.ask("work", b"xx", timeout_s=0.1)
    await eventually(lambda: replies.codes.total() == 501, timeout_s=PATIENCE_S)
    rpc.now = now
    # A machine that takes long for those that have expired refuses some without a look.
    assert replies.codes.keys() <= {"work ok", "work deadline_exceeded", "work overloaded"}
    assert replies.codes["work deadline_exceeded"]
    assert replies.codes["work ok"] == 1
    figures = await FiguresClient(cluster.bus, cluster.lattice).host(host.id)
    (work,) = figures.actors
    assert work.completed == work.durations.total == 1, "what expired did not run"


async def test_a_load_that_can_not_be_carried_is_refused_at_once(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1)
    await cluster.start_actor("work", on=host)
    replies = Replies(cluster)
    await replies.open()
    service = host.host._actors._running["work"].service
    service._line = host.host._rpc.line(service._serve_call)
    service._line._items_max = 3
    for _ in range(200):
        await replies.ask("work", b"xxxxx")
    await eventually(lambda: replies.codes.total() == 200, timeout_s=PATIENCE_S)
    assert replies.codes["work ok"]
    assert replies.codes["work overloaded"]
    assert replies.codes.total() == 200


async def test_an_actor_that_keeps_trapping_is_seen_to_be_throttled_and_to_recover(
    cluster: Cluster,
) -> None:
    (host,) = await cluster.start_hosts(1, throttle_traps=3, throttle_s_max=0.05)
    await cluster.start_actor("bad", module="traps", on=host)
    for _ in range(3):
        with pytest.raises(errors.ActorTrapped):
            await cluster.call("bad")
    begun = await cluster.event("component_throttled", component_id="bad")
    assert begun.source == host.id
    assert begun.data["traps"] == 3
    assert "unreachable" in str(begun.data["reason"])
    assert 0 <= int(begun.data["backoff_ms"]) <= 50

    inventory = await cluster.control.inventory(host.id)
    (component,) = inventory.components
    assert component.throttled is not None
    assert component.throttled.traps == 3
    (figures,) = await FiguresClient(cluster.bus, cluster.lattice).hosts()
    assert figures.actors[0].throttled_ms > 0

    reference = await cluster.upload("echo")
    await cluster.scale("bad", on=host, component_ref=reference, count=10, allow_update=True)
    assert await cluster.call("bad", payload=b"well") == b"well"
    over = await cluster.event("component_recovered", component_id="bad")
    assert over.source == host.id
    inventory = await cluster.control.inventory(host.id)
    assert inventory.components[0].throttled is None


async def test_a_throttled_actor_is_called_on_another_host_instead(cluster: Cluster) -> None:
    bad, good = await cluster.start_hosts(2, throttle_traps=1, throttle_s_max=600.0)
    await cluster.start_actor("shared", module="traps", on=bad)
    with pytest.raises(errors.ActorTrapped):
        await cluster.call("shared")
    # The pause may be drawn short: what matters is that it is refused here for long.
    bad.host._actors._running["shared"].actor.throttle._until = (
        asyncio.get_running_loop().time() + 600
    )
    await cluster.start_actor("shared", module="echo", on=good)
    calls = 40
    answers = await asyncio.gather(
        *(cluster.call("shared", payload=b"well") for _ in range(calls)), return_exceptions=True
    )
    # NATS picks a host at random, three times at the most: seven of eight calls find the other.
    assert answers.count(b"well") > calls / 2
    assert all(isinstance(answer, errors.Overloaded) for answer in answers if answer != b"well")


async def test_a_full_host_gives_every_actor_its_turn(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1, instances_max=8, mailbox_calls=100)
    gate = Gate()
    await cluster.serve("gate", gate)
    for actor in ("flooded", "quiet"):
        await cluster.start_actor(actor, module="relay", on=host, count=10**6)
        await cluster.link(actor, "gate")
    flood = [asyncio.create_task(cluster.call("flooded")) for _ in range(50)]
    await eventually(lambda: gate.waiting == 7)
    quiet = [asyncio.create_task(cluster.call("quiet")) for _ in range(5)]
    await eventually(lambda: gate.calls["quiet"] == 1)
    assert host.engine.instances == 8
    assert gate.calls["flooded"] == 7
    gate.open()
    await asyncio.gather(*quiet, *flood)
    order = [call.source for call in gate.invocations]
    assert order.index("quiet") == 7
    assert max(place for place, source in enumerate(order) if source == "quiet") < 25


async def test_repetitions_stop_when_their_budget_is_spent(cluster: Cluster) -> None:
    class Full:
        calls = 0

        def accept(self, _: Invocation) -> Reply:
            self.calls += 1
            raise errors.Overloaded("full")

    full = Full()
    await cluster.serve("full", full)
    calls = 400
    outcomes = await asyncio.gather(
        *(cluster.call("full") for _ in range(calls)), return_exceptions=True
    )
    assert {type(outcome) for outcome in outcomes} == {errors.Overloaded}
    retries = cluster.rpc.retries
    assert full.calls == calls + retries.spent
    assert retries.refused
    assert retries.spent < calls * limits.RETRY_SHARE + limits.RETRIES_SAVED_MAX
