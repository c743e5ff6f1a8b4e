"""What calls cost is told per call, per actor and per link, wherever they ran."""

import asyncio

import pytest

from lattice.control.figures import FiguresClient
from lattice.wire.invocation import Invocation
from tests.support.cluster import Cluster


@pytest.fixture
async def chain(cluster: Cluster) -> Cluster:
    """An actor that calls another one over a link, on another host."""
    alpha, beta = await cluster.start_hosts(2)
    await cluster.start_actor("first", module="relay", on=alpha)
    await cluster.start_actor("second", module="echo", on=beta)
    await cluster.link("first", "second")
    return cluster


async def test_a_call_tells_its_caller_on_another_host_what_it_cost(chain: Cluster) -> None:
    reply = await chain.rpc.call(
        Invocation(
            source="tester",
            target="first",
            interface="test:target",
            operation="Test.Run",
            payload=b"hello",
            deadline=asyncio.get_running_loop().time() + 30,
        )
    )

    assert reply.payload == b"hello"
    assert reply.usage is not None
    assert reply.usage.host_calls == 1
    assert reply.usage.queue_us == 0
    assert reply.usage.memory_bytes > 0


async def test_a_link_counts_bytes_both_ways_and_the_cpu_of_its_target(chain: Cluster) -> None:
    for _ in range(3):
        assert await chain.call("first", payload=b"hello") == b"hello"

    hosts = await FiguresClient(chain.bus, chain.lattice).hosts("first", "second")
    actors = {actor.id: actor for host in hosts for actor in host.actors}
    (link,) = actors["first"].links
    assert (link.target, link.calls, link.failures) == ("second", 3, 0)
    assert (link.bytes_out, link.bytes_in) == (15, 15)
    assert link.cpu_us == actors["second"].cpu_us
    assert (actors["first"].host_calls, actors["second"].host_calls) == (3, 0)
