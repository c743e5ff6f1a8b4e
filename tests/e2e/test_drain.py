"""Hosts that go away under load: every call that was accepted is answered, and nobody notices."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from lattice import errors, limits
from lattice.identity import keys
from lattice.wire import control
from tests.support.children import has_ended
from tests.support.cluster import Cluster, Gate, HostProcess, lattice_cluster
from tests.support.command_line import free_port, is_free
from tests.support.eventually import eventually

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"

LARGE_BYTES = limits.INLINE_PAYLOAD_BYTES + limits.MIB


@pytest.fixture
async def cluster(compiled: Path) -> AsyncIterator[Cluster]:
    async with lattice_cluster(compiled) as cluster:
        yield cluster


class Tally:
    """How the calls of one kind ended."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()

    async def goes_on(self, times: int) -> None:
        """Wait until so many more calls have succeeded."""
        wanted = self.outcomes["ok"] + times
        await eventually(lambda: self.outcomes["ok"] >= wanted, timeout_s=25)

    @property
    def failures(self) -> dict[str, int]:
        return {outcome: count for outcome, count in self.outcomes.items() if outcome != "ok"}


@asynccontextmanager
async def load(call: Callable[[], Awaitable[None]], *, callers: int) -> AsyncIterator[Tally]:
    """Make calls all the time, from several callers, and note every failure."""
    tally = Tally()
    stopped = False

    async def run() -> None:
        while not stopped:
            try:
                await call()
            except errors.LatticeError as error:
                tally.outcomes[f"{error.code}: {error.text}"] += 1
                await asyncio.sleep(0.01)
            else:
                tally.outcomes["ok"] += 1

    tasks = [asyncio.create_task(run()) for _ in range(callers)]
    try:
        yield tally
    finally:
        stopped = True
        await asyncio.gather(*tasks)


def calls(cluster: Cluster, target: str, payload: bytes = b"hi") -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        assert await cluster.call(target, payload=payload) == payload

    return call


def plain_calls(cluster: Cluster, target: str) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        message = await cluster.ask(target, payload=b"hi")
        if message.headers:
            code = message.headers["Nats-Service-Error-Code"]
            raise errors.BY_CODE[code].from_parts(message.headers["Nats-Service-Error"])
        assert message.data == b"hi"

    return call


def requests(client: httpx.AsyncClient, url: str) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        response = await client.post(url, content=b"hi")
        if response.status_code != 200:
            problem = response.json()
            raise errors.BY_CODE[problem["code"]].from_parts(problem["detail"])
        assert response.content == b"hi"

    return call


async def start_chain(cluster: Cluster, host: HostProcess) -> None:
    """Start what ``relay`` needs, and wait until calls through this very host work."""
    echo = (EXAMPLES / "echo" / "echo.wasm").read_bytes()
    await cluster.start_actor("echo", on=host, wasm=echo, count=100)
    await cluster.start_actor("relay", on=host, count=100)


async def link_known(call: Callable[[], Awaitable[None]]) -> None:
    """Call until it works: hosts learn of a link a moment after it was put."""
    deadline = asyncio.get_running_loop().time() + 10
    while True:
        try:
            return await call()
        except errors.ActorError:
            assert asyncio.get_running_loop().time() < deadline


async def test_a_rolling_restart_under_load_loses_no_call(cluster: Cluster) -> None:
    seeds = [keys.new_host_seed() for _ in range(3)]
    hosts = [await cluster.start_process(seed=seed) for seed in seeds]
    edge = await cluster.start_process()
    port = free_port()
    await cluster.control.put_config("edge", {"address": f"127.0.0.1:{port}"})
    for host in hosts:
        await start_chain(cluster, host)
    await cluster.start_provider("http", "lattice+builtin://http-server", on=edge)
    await cluster.link("relay", "echo")
    await cluster.link("http", "relay", "wasmcloud:httpserver", source_config=["edge"])
    large = os.urandom(LARGE_BYTES)

    async with httpx.AsyncClient(trust_env=False) as client:
        web = requests(client, f"http://127.0.0.1:{port}/")
        for _ in range(20):
            await link_known(calls(cluster, "relay"))
        await answers(client, f"http://127.0.0.1:{port}/")
        async with (
            load(calls(cluster, "echo"), callers=8) as direct,
            load(calls(cluster, "relay"), callers=4) as chained,
            load(plain_calls(cluster, "echo"), callers=2) as plain,
            load(calls(cluster, "echo", large), callers=2) as big,
            load(web, callers=2) as asked,
        ):
            kinds = (direct, chained, plain, big, asked)
            for number, host in enumerate(hosts):
                await asyncio.gather(*(kind.goes_on(2) for kind in kinds))
                if number % 2:
                    await cluster.control.stop_host(host.id)
                else:
                    host.signal(signal.SIGTERM)
                assert await asyncio.wait_for(host.process.wait(), 25) == 0, host.log
                await start_chain(cluster, await cluster.start_process(seed=seeds[number]))
            await asyncio.gather(*(kind.goes_on(2) for kind in kinds))
        assert [kind.failures for kind in kinds] == [{}] * 5


async def test_actors_come_go_and_change_under_load_without_a_lost_call(cluster: Cluster) -> None:
    alpha, beta = await cluster.start_hosts(2)
    new = await cluster.upload("echo2", (EXAMPLES / "echo" / "echo.wasm").read_bytes())
    await cluster.start_actor("echo", on=beta, count=50)
    async with (
        load(calls(cluster, "echo"), callers=8) as direct,
        load(plain_calls(cluster, "echo"), callers=4) as plain,
    ):
        for _ in range(5):
            await cluster.start_actor("echo", on=alpha, count=50)
            await direct.goes_on(50)
            await cluster.control.update_component(
                control.UpdateComponent(
                    component_id="echo", new_component_ref=new, host_id=alpha.id
                )
            )
            await cluster.event("component_scaled", image_ref=new, host_id=alpha.id)
            await direct.goes_on(50)
            await cluster.scale("echo", on=alpha, count=0)
            await plain.goes_on(10)
    assert (direct.failures, plain.failures) == ({}, {})


async def test_a_chain_that_was_accepted_finishes_on_a_host_that_drains(cluster: Cluster) -> None:
    (alpha,) = await cluster.start_hosts(1)
    gate = Gate()
    await cluster.serve("gate", gate)
    await cluster.start_actor("front", on=alpha, module="relay", count=1)
    await cluster.start_actor("middle", on=alpha, module="relay")
    await cluster.link("front", "middle")
    await cluster.link("middle", "gate")
    first = asyncio.create_task(cluster.call("front", payload=b"first"))
    await eventually(lambda: gate.waiting == 1)
    second = asyncio.create_task(cluster.call("front", payload=b"second"))
    await eventually(lambda: alpha.host._actors.waiting == 1)

    stopping = asyncio.create_task(alpha.stop(drain_s=20))
    await cluster.event("host_draining")
    with pytest.raises(errors.NotExecuted):
        await cluster.call("middle", payload=b"new")
    gate.open()
    # Only now does it call ``middle``, which has left the lattice, but not its host.
    assert (await first, await second) == (b"first", b"second")
    await stopping


async def test_a_large_answer_is_on_its_way_before_the_host_goes(cluster: Cluster) -> None:
    (alpha,) = await cluster.start_hosts(1)
    echo = (EXAMPLES / "echo" / "echo.wasm").read_bytes()
    await cluster.start_actor("echo", on=alpha, wasm=echo, count=10)
    large = os.urandom(LARGE_BYTES)
    running = [asyncio.create_task(cluster.call("echo", payload=large)) for _ in range(5)]
    actor = alpha.host._actors.get("echo")
    assert actor is not None
    await eventually(lambda: actor.tally.completed > 0)
    await alpha.stop(drain_s=20)
    outcomes = await asyncio.gather(*running, return_exceptions=True)
    answered = [outcome for outcome in outcomes if outcome == large]
    refused = [outcome for outcome in outcomes if isinstance(outcome, errors.NotExecuted)]
    assert len(answered) + len(refused) == 5
    assert len(answered) == actor.tally.completed


async def test_what_does_not_end_in_time_is_answered_at_once(cluster: Cluster) -> None:
    (alpha,) = await cluster.start_hosts(1)
    gate = Gate()
    await cluster.serve("gate", gate)
    await cluster.start_actor("relay", on=alpha, count=1)
    await cluster.link("relay", "gate")
    running = asyncio.create_task(cluster.call("relay", payload=b"hi", timeout_s=300))
    await eventually(lambda: gate.waiting == 1)
    waiting = asyncio.create_task(cluster.ask("relay", payload=b"hi"))
    await eventually(lambda: alpha.host._actors.waiting == 1)
    await cluster.control.stop_host(alpha.id, timeout_ms=100)
    with pytest.raises(errors.Cancelled):
        await running
    assert ((await waiting).headers or {})["Nats-Service-Error-Code"] == "draining"
    await alpha.task


async def test_a_second_signal_ends_a_host_at_once(cluster: Cluster) -> None:
    gate = Gate()
    await cluster.serve("gate", gate)
    alpha = await cluster.start_process()
    await cluster.start_actor("relay", on=alpha)
    await cluster.start_provider("kv", "lattice+process://keyvalue", on=alpha)
    await cluster.link("relay", "gate")
    await cluster.control.links()
    running = asyncio.create_task(link_known(calls(cluster, "relay")))
    await eventually(lambda: gate.waiting == 1)
    (provider,) = alpha.children
    alpha.signal(signal.SIGTERM)
    await cluster.event("host_draining")
    alpha.signal(signal.SIGTERM)
    assert await asyncio.wait_for(alpha.process.wait(), 5) == -signal.SIGTERM
    await eventually(lambda: has_ended(provider))
    running.cancel()


@pytest.mark.parametrize(
    "reference", ["lattice+builtin://http-server", "lattice+process://http-server"]
)
async def test_a_stopping_http_server_finishes_the_requests_that_it_took(
    cluster: Cluster, reference: str
) -> None:
    alpha, beta = await cluster.start_hosts(2)
    gate = Gate()
    port = free_port()
    await cluster.control.put_config("edge", {"address": f"127.0.0.1:{port}"})
    await cluster.serve("gate", gate)
    echo = (EXAMPLES / "echo" / "echo.wasm").read_bytes()
    await cluster.start_actor("echo", on=beta, wasm=echo)
    await cluster.start_actor("relay", on=beta)
    await cluster.link("relay", "gate")
    await cluster.start_provider("http", reference, on=alpha)
    await cluster.link("http", "relay", "wasmcloud:httpserver", source_config=["edge"])
    url = f"http://127.0.0.1:{port}/"
    async with httpx.AsyncClient(trust_env=False) as client:
        held = asyncio.create_task(answers(client, url))
        await eventually(lambda: gate.waiting == 1)
        stopping = asyncio.create_task(alpha.stop(drain_s=30))
        await eventually(lambda: is_free(port))
        # Longer than any grace of its own: the drain has the time, and the request takes it.
        with pytest.raises(httpx.ConnectError):
            await client.get(url)
        (invocation,) = gate.invocations
        reply = await cluster.call("echo", "HttpServer.HandleRequest", invocation.payload)
        gate.answer = reply
        gate.open()
        response = await held
        assert response.content == b"hi"
        assert response.headers["connection"] == "close"
    await stopping


async def answers(client: httpx.AsyncClient, url: str) -> httpx.Response:
    """Ask until somebody listens and the whole way to the answer is linked."""
    deadline = asyncio.get_running_loop().time() + 10
    while True:
        try:
            response = await client.post(url, content=b"hi")
        except httpx.ConnectError:
            await asyncio.sleep(0.02)
        else:
            if response.status_code == 200:
                return response
        assert asyncio.get_running_loop().time() < deadline
