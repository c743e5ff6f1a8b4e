"""An actor's echo over NATS against a bare nats-py responder: same server, client and layout."""

import asyncio
import sys
import time

import nats
from nats.aio.client import Client

from lattice import subjects
from lattice.bus.server import NatsServer
from lattice.wire import invocation
from lattice.wire.invocation import Invocation
from tests.bench.processes import child, host
from tests.bench.report import Row, median_row, percentile

ROUNDS = 5
REQUESTS = 10_000
CONCURRENCY = 64
REQUESTS_IN_TURN = 1_000
"""One after the other, for the time of a call that waits for no other. With many callers that each
wait for their answer, the median time says nothing of its own: it is their number by the
throughput."""

PAYLOAD = b"x" * 100
BARE_SUBJECT = "bench.echo"

RESPONDER = f"""
import asyncio, nats, sys, uvloop
async def main():
    connection = await nats.connect(sys.argv[1])
    async def echo(message):
        await message.respond(message.data)
    await connection.subscribe({BARE_SUBJECT!r}, queue="bench", cb=echo)
    await asyncio.Event().wait()
uvloop.run(main())
"""


async def measure() -> list[Row]:
    """Interleaved rounds, so that a slow moment of the machine hits both."""
    server = await NatsServer.start()
    try:
        async with (
            child(sys.executable, "-c", RESPONDER, server.url),
            host(server.url, "bench") as runner,
        ):
            await runner.start_actor("echo", count=CONCURRENCY * 4)
            client = await nats.connect(server.url)
            envelope = invocation.encode_request(
                Invocation(
                    source="bench",
                    target="echo",
                    interface="bench:echo",
                    operation="Echo.Say",
                    payload=PAYLOAD,
                    deadline=60,
                ),
                now=0,
            )
            call_subject = subjects.call("default", "echo", "bench")
            reply, _ = invocation.decode_reply(
                (await client.request(call_subject, envelope, timeout=5)).data
            )
            assert reply.payload == PAYLOAD
            ratios, latency_ratios, saturated_ratios, rates = [], [], [], []
            for _ in range(ROUNDS):
                bare_rate, bare_p50 = await _load(client, BARE_SUBJECT, PAYLOAD)
                actor_rate, actor_p50 = await _load(client, call_subject, envelope)
                ratios.append(actor_rate / bare_rate)
                saturated_ratios.append(actor_p50 / bare_p50)
                rates.append(actor_rate)
                _, bare_p50 = await _load(client, BARE_SUBJECT, PAYLOAD, in_turn=True)
                _, actor_p50 = await _load(client, call_subject, envelope, in_turn=True)
                latency_ratios.append(actor_p50 / bare_p50)
            await client.close()
    finally:
        await server.aclose()
    peer = "a bare nats-py echo responder on uvloop, same server, client and layout"
    return [
        median_row(
            ratios, id="nats_echo_throughput", unit="x", goal=0.6, better="higher", against=peer
        ),
        median_row(
            latency_ratios,
            id="nats_echo_p50",
            unit="x",
            goal=1.25,
            better="lower",
            against=f"{peer}; one call at a time",
        ),
        median_row(
            saturated_ratios,
            id="nats_echo_saturated_p50",
            unit="x",
            better="lower",
            against=f"{peer}; {CONCURRENCY} callers that each wait for their answer",
        ),
        median_row(
            rates,
            id="nats_echo_rate",
            unit="calls/s",
            better="higher",
            against=f"{CONCURRENCY} concurrent callers in one client process",
        ),
    ]


async def _load(
    client: Client, subject: str, payload: bytes, *, in_turn: bool = False
) -> tuple[float, float]:
    """Calls per second, and the median time of one in seconds."""
    times: list[float] = []
    callers, left = (1, REQUESTS_IN_TURN) if in_turn else (CONCURRENCY, REQUESTS)

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            began = time.perf_counter()
            await client.request(subject, payload, timeout=10)
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return len(times) / (time.perf_counter() - began), percentile(times, 0.5)
