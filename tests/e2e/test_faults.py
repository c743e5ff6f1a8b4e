"""Faults: processes killed and frozen, NATS taken away under load, and what callers hear of it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from lattice import errors, subjects
from lattice.bus import Message
from lattice.identity import keys
from lattice.wire.invocation import Invocation
from tests.support.children import has_ended
from tests.support.cluster import Cluster, Gate, lattice_cluster
from tests.support.eventually import eventually

WITHOUT_UVLOOP = (
    "-c",
    "import sys; sys.modules['uvloop'] = None; from host.__main__ import main; main()",
)


NOTICED_S = 10.0
"""By then NATS has noticed that a host is frozen, and gives it no more calls."""


@pytest.fixture
async def cluster(compiled: Path) -> AsyncIterator[Cluster]:
    async with lattice_cluster(compiled) as cluster:
        yield cluster


class Load:
    """Calls that are made all the time, and how they end."""

    def __init__(self, call: Callable[[], Awaitable[bytes]]) -> None:
        self._call = call
        self.outcomes: Counter[str] = Counter()
        self.stopped = False

    async def run(self) -> None:
        while not self.stopped:
            try:
                assert await self._call() == b"hi"
            except errors.LatticeError as error:
                self.outcomes[error.code] += 1
                # A refusal is immediate; do not spin on it.
                await asyncio.sleep(0.01)
            else:
                self.outcomes["ok"] += 1

    async def goes_on(self, times: int = 20) -> None:
        """Wait until so many more calls have succeeded."""
        wanted = self.outcomes["ok"] + times
        await eventually(lambda: self.outcomes["ok"] >= wanted, timeout_s=25)

    @property
    def failed(self) -> int:
        return self.outcomes.total() - self.outcomes["ok"]

    async def recovers(self) -> None:
        """Wait until many calls in a row succeed."""
        deadline = asyncio.get_running_loop().time() + 25
        while True:
            failed = self.failed
            await self.goes_on(50)
            if self.failed == failed:
                return
            assert asyncio.get_running_loop().time() < deadline, self.outcomes


@asynccontextmanager
async def load(
    cluster: Cluster, target: str = "echo", *, timeout_s: float = 1.0, callers: int = 4
) -> AsyncIterator[Load]:
    load = Load(lambda: cluster.call(target, payload=b"hi", timeout_s=timeout_s))
    tasks = [asyncio.create_task(load.run()) for _ in range(callers)]
    try:
        yield load
    finally:
        load.stopped = True
        await asyncio.gather(*tasks)


async def test_a_killed_host_costs_only_the_calls_it_held_and_comes_back_as_itself(
    cluster: Cluster,
) -> None:
    seed = keys.new_host_seed()
    alpha = await cluster.start_process("--name", "alpha", seed=seed)
    beta = await cluster.start_process("--name", "beta")
    for host in (alpha, beta):
        await cluster.start_actor("echo", on=host)
    async with load(cluster) as calls:
        await calls.goes_on()
        await alpha.kill()
        await calls.recovers()
        assert set(calls.outcomes) <= {"ok", "deadline_exceeded"}

        again = await cluster.start_process("--name", "alpha", seed=seed)
        assert again.id == alpha.id
        await cluster.start_actor("echo", on=again)
        await beta.kill()
        await calls.recovers()
    assert set(calls.outcomes) <= {"ok", "deadline_exceeded"}


async def test_a_killed_host_leaves_no_provider_behind(cluster: Cluster) -> None:
    alpha = await cluster.start_process()
    await cluster.start_provider("kv", "lattice+process://keyvalue", on=alpha)
    (provider,) = alpha.children
    await alpha.kill()
    await eventually(lambda: has_ended(provider))


@pytest.mark.skipif(sys.platform != "linux", reason="it needs /proc")
@pytest.mark.parametrize(
    "script",
    [
        "trap '' TERM HUP; while :; do sleep 0.1; done",
        "sleep 3600 & setsid sleep 3600 & wait",
    ],
    ids=["that ignores signals", "that has children"],
)
async def test_a_killed_host_leaves_nothing_behind_of_a_provider(
    cluster: Cluster, tmp_path: Path, script: str
) -> None:
    program = tmp_path / "provider"
    program.write_text(f"#!/bin/sh\nread line\n{script}\n")
    program.chmod(0o700)

    async def answer(message: Message) -> None:
        await cluster.bus.publish(message.reply, b'{"healthy":true}')

    await cluster.bus.subscribe(subjects.provider_health(cluster.lattice, "bird"), answer)
    alpha = await cluster.start_process("--allow-file-load")
    await cluster.start_provider("bird", f"file://{program}", on=alpha)
    whole = psutil.Process(alpha.process.pid).children(recursive=True)
    assert len(whole) >= 2, "the provider, or more, and what ends it"
    await alpha.kill()
    await eventually(lambda: all(has_ended(process) for process in whole))


async def test_a_killed_hosts_callers_hear_that_nobody_runs_the_actor(cluster: Cluster) -> None:
    alpha = await cluster.start_process()
    await cluster.start_actor("echo", on=alpha)
    assert await cluster.call("echo", payload=b"hi") == b"hi"
    await alpha.kill()
    with pytest.raises(errors.NotRunning):
        await cluster.call("echo", payload=b"hi", timeout_s=5)


@pytest.mark.parametrize(
    "frozen_s", [4.0, 12.0], ids=["whose connection lasts", "whose connection NATS drops"]
)
async def test_calls_to_a_frozen_host_go_elsewhere_and_are_not_executed_when_it_wakes_up(
    cluster: Cluster, frozen_s: float
) -> None:
    gate = Gate()
    gate.open()
    await cluster.serve("gate", gate)
    alpha = await cluster.start_process()
    beta = await cluster.start_process()
    for host in (alpha, beta):
        await cluster.start_actor("relay", on=host)
    await cluster.link("relay", "gate")
    await linked_call(cluster)
    gate.calls.clear()
    callers = 4
    async with load(cluster, "relay", timeout_s=1.0, callers=callers) as calls:
        await calls.recovers()
        alpha.signal(signal.SIGSTOP)
        await asyncio.sleep(min(frozen_s, NOTICED_S))
        failed = calls.failed
        await asyncio.sleep(max(0.0, frozen_s - NOTICED_S))
        assert frozen_s < NOTICED_S or calls.failed == failed
        # When it wakes up it joins again by itself.
        alpha.signal(signal.SIGCONT)
        await calls.recovers()
    assert set(calls.outcomes) <= {"ok", "unavailable", "deadline_exceeded"}
    # Only what ran when it was frozen had its effect without an answer.
    assert gate.calls["relay"] <= calls.outcomes["ok"] + callers, (gate.calls, calls.outcomes)
    inventory = await cluster.control.inventory(alpha.id)
    assert [component.id for component in inventory.components] == ["relay"]


async def test_nats_restarted_under_load_is_survived(cluster: Cluster) -> None:
    alpha, beta = await cluster.start_hosts(2)
    gate = Gate()
    await cluster.serve("gate", gate)
    await cluster.start_actor("relay", on=alpha, count=10)
    await cluster.start_actor("echo", on=alpha, count=50)
    await cluster.start_actor("echo", on=beta, count=50)
    await cluster.link("relay", "echo")

    async with load(cluster) as calls, load(cluster, "relay") as chains:
        await calls.goes_on()
        await cluster.kill_nats()
        with pytest.raises(errors.Unavailable):
            await cluster.call("echo", timeout_s=5)
        # Within a host nothing needs NATS.
        local = alpha.host._actors._rpc
        reply = await local.call(invocation("relay"))
        assert reply.payload == b"hi"
        await cluster.revive_nats()
        await calls.recovers()
        await chains.recovers()
    assert set(calls.outcomes) <= {"ok", "unavailable", "not_running", "deadline_exceeded"}

    # Both hosts see what is put from now on.
    await cluster.link("relay", "gate", name="afterwards")
    assert [host.engine.instances for host in cluster.hosts] == [0, 0]


async def test_running_calls_go_on_while_nats_is_away(cluster: Cluster) -> None:
    (alpha,) = await cluster.start_hosts(1)
    await cluster.start_provider("bird", "lattice+builtin://parrot", on=alpha)
    await cluster.start_actor("relay", on=alpha)
    await cluster.link("relay", "bird")
    provider = alpha.host._providers._running["bird"].supervisor._copy._runtime._provider  # type: ignore[union-attr]
    local = alpha.host._actors._rpc
    running = asyncio.create_task(
        local.call(invocation("relay", operation="Parrot.Hold", timeout_s=20))
    )
    await eventually(lambda: provider.calls == 1)
    await cluster.kill_nats()
    await eventually(lambda: not cluster.bus.is_connected)
    provider.gate.set()
    assert (await running).payload == b"hi"
    await cluster.revive_nats()
    await eventually(lambda: local._bus.is_connected)


async def test_a_process_provider_survives_a_restart_of_nats(cluster: Cluster) -> None:
    (alpha,) = await cluster.start_hosts(1)
    await cluster.start_provider("bird", "lattice+process://parrot", on=alpha)
    await cluster.link("tester", "bird")
    assert await cluster.call("bird", "Parrot.Repeat", b"hi") == b"hi"
    await cluster.kill_nats()
    await cluster.revive_nats()
    calls = Load(lambda: cluster.call("bird", "Parrot.Repeat", b"hi", timeout_s=1))
    running = asyncio.create_task(calls.run())
    await calls.recovers()
    calls.stopped = True
    await running
    await cluster.link("other", "bird")
    reply = await cluster.call("bird", "Parrot.Tell", source="other")
    assert b'"other"' in reply


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "program", [("-m", "host"), WITHOUT_UVLOOP], ids=["uvloop", "asyncio's own loop"]
)
async def test_a_signal_drains_a_host_and_it_exits_with_0(
    cluster: Cluster, program: tuple[str, ...], signal_number: signal.Signals
) -> None:
    gate = Gate()
    await cluster.serve("gate", gate)
    alpha = await cluster.start_process(program=program)
    await cluster.start_actor("relay", on=alpha)
    await cluster.start_provider("kv", "lattice+process://keyvalue", on=alpha)
    await cluster.link("relay", "gate")
    await cluster.control.links()
    running = asyncio.create_task(linked_call(cluster))
    await eventually(lambda: gate.waiting == 1)
    (provider,) = alpha.children
    alpha.signal(signal_number)
    await cluster.event("host_draining")
    gate.open()
    assert await running == b"hi"
    assert await asyncio.wait_for(alpha.process.wait(), 20) == 0, alpha.log
    assert has_ended(provider)
    assert "Traceback" not in alpha.log
    assert cluster.seen("provider_stopped") == 1
    assert cluster.seen("host_stopped") == 1


async def test_a_host_can_be_stopped_while_nats_is_away(cluster: Cluster) -> None:
    alpha = await cluster.start_process()
    await cluster.start_actor("echo", on=alpha)
    await cluster.start_provider("kv", "lattice+process://keyvalue", on=alpha)
    (provider,) = alpha.children
    await cluster.kill_nats()
    await eventually(lambda: "nats connection lost" in alpha.log)
    alpha.signal(signal.SIGTERM)
    assert await asyncio.wait_for(alpha.process.wait(), 20) == 0, alpha.log
    assert has_ended(provider)
    assert "Traceback" not in alpha.log


@pytest.mark.parametrize(
    ("options", "environment", "words"),
    [
        (["--lattice", "a.b"], {}, "lattice"),
        (["--log-level", "loud"], {}, "log_level"),
        (["--log-format", "xml"], {}, "log_format"),
        (["--label", "zone"], {}, "KEY=VALUE"),
        (["--label", "hostcore.os=beos"], {}, "hostcore.os"),
        (["--host-seed", "SUAM"], {}, "host_seed"),
        (["--credentials", "/nowhere/creds"], {}, "nats_credentials"),
        (["--name", "a b"], {}, "name"),
        ([], {"LATTICE_LABELS": "zone=a"}, "labels"),
        ([], {"LATTICE_MEMORY_BYTES": "-1"}, "memory_bytes"),
        ([], {"LATTICE_CPU_TIME_S": "0"}, "cpu_time_s"),
        ([], {"LATTICE_NATS_URL": ""}, "nats_url"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_setting_is_one_line_and_status_2(
    options: list[str], environment: Mapping[str, str], words: str
) -> None:
    outcome = run_host(options, environment)
    assert outcome.returncode == 2
    assert len(outcome.stderr.splitlines()) == 1, outcome.stderr
    assert outcome.stderr.startswith("error: setting ")
    assert words in outcome.stderr
    assert outcome.stdout == ""


def test_a_secret_seed_is_not_repeated_in_the_error() -> None:
    outcome = run_host(["--host-seed", "SNSECRETSECRET"], {})
    assert outcome.returncode == 2
    assert "SNSECRETSECRET" not in outcome.stderr


def test_without_nats_a_host_ends_with_status_1_and_the_remedy() -> None:
    outcome = run_host(["--nats", "nats://user:geheim@127.0.0.1:1"], {})
    assert outcome.returncode == 1
    last = outcome.stderr.splitlines()[-1]
    assert last.startswith("error: no NATS server answers at nats://127.0.0.1:1")
    assert "start one with: lattice up" in last
    assert last.endswith("[unavailable]")
    assert "Traceback" not in outcome.stderr
    assert "geheim" not in outcome.stderr


def run_host(
    options: list[str], environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "host", *options],
        env={"PATH": os.environ["PATH"], "LATTICE_DATA_DIR": "/nonexistent", **environment},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


async def linked_call(cluster: Cluster) -> bytes:
    """Call the relay; its host may learn of the link a moment later than we put it."""
    deadline = asyncio.get_running_loop().time() + 10
    while True:
        try:
            return await cluster.call("relay", payload=b"hi")
        except errors.ActorError:
            if asyncio.get_running_loop().time() > deadline:
                raise


def invocation(target: str, *, operation: str = "Test.Run", timeout_s: float = 5.0) -> Invocation:
    return Invocation(
        source="tester",
        target=target,
        interface="test:target",
        operation=operation,
        payload=b"hi",
        deadline=asyncio.get_running_loop().time() + timeout_s,
    )
