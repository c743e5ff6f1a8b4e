"""More calls than a host can serve: what it still serves, as a share of what it can at its best."""

import asyncio
import time
from dataclasses import dataclass

import psutil

from lattice import artefacts, errors, subjects
from lattice.bus import Message
from lattice.bus.server import NatsServer
from lattice.control.client import ControlClient
from lattice.wire import control, invocation
from lattice.wire.invocation import Invocation
from tests.bench.processes import BenchHost, host
from tests.bench.report import Row, median_row
from tests.support.wat import actor

ROUNDS = 3
SECONDS = 4.0
WORK = b"xx"
"""Two million steps of a loop: about a millisecond of CPU for each call."""

DEADLINE_S = 2.0
CLOSED_CALLERS = 64
"""Callers that each wait for their answer: enough to keep the host busy all the time."""

SETTLE_S_MAX = 20.0

BURST_S = 0.005
"""Between two bursts of an open load."""


@dataclass
class Outcome:
    """What came of one load."""

    good: int = 0
    """Answers within the deadline."""
    seconds: float = 0.0
    host_cpu_s: float = 0.0
    """CPU time that the host's process used meanwhile."""

    @property
    def rate(self) -> float:
        return self.good / self.seconds

    @property
    def per_cpu_s(self) -> float:
        """What the host makes of its CPU: the load generator beside it takes nothing of that."""
        return self.good / self.host_cpu_s


async def measure() -> list[Row]:
    server = await NatsServer.start()
    try:
        async with host(server.url, "bench") as runner:
            await _start_actor(runner)
            load = _Load(runner)
            await load.open()
            peaks: list[float] = []
            shares: dict[int, list[float]] = {2: [], 10: []}
            rates: dict[int, list[float]] = {2: [], 10: []}
            for _ in range(ROUNDS):
                peak = await load.closed()
                peaks.append(peak.rate)
                for factor, ratios in shares.items():
                    outcome = await load.open_at(peak.rate * factor)
                    ratios.append(outcome.per_cpu_s / peak.per_cpu_s)
                    rates[factor].append(outcome.rate / peak.rate)
    finally:
        await server.aclose()
    return [
        median_row(
            peaks,
            id="overload_peak",
            unit="calls/s",
            better="higher",
            against=f"{CLOSED_CALLERS} callers, a guest that computes for about a millisecond",
        ),
        *(
            median_row(
                shares[factor],
                id=f"overload_goodput_{factor}x",
                unit="x",
                goal=0.8,
                better="higher",
                against=f"answers in time at {factor} times the peak, for each second of the host's"
                " CPU, as a share of what that is at the peak",
            )
            for factor in shares
        ),
        *(
            median_row(
                rates[factor],
                id=f"overload_rate_{factor}x",
                unit="x",
                better="higher",
                against=f"answers in time at {factor} times the peak, for each second of the clock:"
                " the load and nats-server take their part of the same machine",
            )
            for factor in rates
        ),
    ]


class _Load:
    """Sends calls and counts what comes back in time."""

    def __init__(self, runner: BenchHost) -> None:
        self._bus = runner.bus
        self._subject = subjects.call("default", "work", "bench")
        self._envelope = invocation.encode_request(
            Invocation(
                source="bench",
                target="work",
                interface="bench:work",
                operation="Work.Do",
                payload=WORK,
                deadline=DEADLINE_S,
            ),
            now=0,
        )
        self._process = psutil.Process(runner.process.pid)
        self._sent = 0
        self._sent_at: dict[str, float] = {}
        self._outcome = Outcome()

    async def open(self) -> None:
        await self._bus.subscribe("overload.*", self._note)

    async def closed(self) -> Outcome:
        """As many calls as are answered."""
        await self._settle()
        outcome = Outcome()
        began, cpu_s = time.perf_counter(), self._cpu_s()

        async def caller() -> None:
            while time.perf_counter() - began < SECONDS:
                await self._call()
                outcome.good += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(CLOSED_CALLERS):
                group.create_task(caller())
        outcome.seconds = time.perf_counter() - began
        outcome.host_cpu_s = self._cpu_s() - cpu_s
        return outcome

    async def _settle(self) -> None:
        """Wait until the host has got over the flood before."""
        async with asyncio.timeout(SETTLE_S_MAX):
            while True:
                try:
                    return await self._call()
                except (errors.NotExecuted, errors.DeadlineExceeded):
                    await asyncio.sleep(BURST_S)

    async def _call(self) -> None:
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        answer = await self._bus.request(self._subject, self._envelope, deadline=deadline)
        invocation.decode_reply(answer.data)

    async def open_at(self, rate: float) -> Outcome:
        """Calls at a rate, whatever is answered."""
        self._sent_at.clear()
        self._outcome = outcome = Outcome()
        began, cpu_s = time.perf_counter(), self._cpu_s()
        sent = 0
        while (elapsed := time.perf_counter() - began) < SECONDS:
            while sent < elapsed * rate:
                sent += 1
                await self._send()
            await asyncio.sleep(BURST_S)
        outcome.seconds = time.perf_counter() - began
        outcome.host_cpu_s = self._cpu_s() - cpu_s
        good = outcome.good
        # What is still on its way belongs to nobody's second.
        await asyncio.sleep(DEADLINE_S)
        outcome.good = good
        return outcome

    def _cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    async def _send(self) -> None:
        self._sent += 1
        token = f"{self._sent:x}"
        self._sent_at[token] = time.perf_counter()
        await self._bus.publish(self._subject, self._envelope, reply=f"overload.{token}")

    async def _note(self, message: Message) -> None:
        sent_at = self._sent_at.pop(message.subject.rpartition(".")[2], None)
        if sent_at is None or time.perf_counter() - sent_at > DEADLINE_S:
            return
        try:
            invocation.decode_reply(message.data)
        except errors.LatticeError:
            return
        self._outcome.good += 1


async def _start_actor(runner: BenchHost) -> None:
    reference = await artefacts.upload(runner.bus, "default", "work", actor("work"))
    client = ControlClient(runner.bus, "default")
    command = control.ScaleComponent(
        component_id="work", component_ref=str(reference), count=100, host_id=runner.id
    )
    async with client.events("component_scaled", "component_scale_failed") as events:
        await client.scale_component(command)
        event = await events.wait_for(lambda _: True, timeout_s=20)
    assert event is not None
    assert event.name == "component_scaled", event.data
