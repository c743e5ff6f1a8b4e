"""Providers, inside a host and as processes of their own, through everything that befalls them."""

import asyncio
import json
import os
import signal
import stat
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from host.runtime import Host
from host.supervise import supervisor
from host.supervise.restarts import RestartPolicy
from lattice import errors, limits, subjects
from lattice.wire import control
from providers.sdk import runtime
from tests.support import command_line
from tests.support.children import arguments
from tests.support.cluster import Cluster, LocalHost
from tests.support.eventually import eventually
from tests.support.sources import Fed

KINDS = ["lattice+builtin://parrot", "lattice+process://parrot"]
WAYS = ["inside the host", "as a process"]

Script = Callable[[str], str]

both_kinds = pytest.mark.parametrize("reference", KINDS, ids=WAYS)


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds in earnest takes a fraction here."""
    monkeypatch.setattr(supervisor, "FIRST_HEALTH_S", 0.05)
    monkeypatch.setattr(limits, "HEALTH_INTERVAL_S", 0.05)
    monkeypatch.setattr(limits, "LINK_GRACE_S", 0.3)


@pytest.fixture(autouse=True)
def brisk_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``brisk``; a policy takes its values when it is made."""
    policy = partial(RestartPolicy, pause_s=0.02)
    monkeypatch.setattr("host.runtime.RestartPolicy", policy)


@pytest.fixture
async def alpha(cluster: Cluster) -> LocalHost:
    (host,) = await cluster.start_hosts(1, allow_file_load=True)
    return host


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Makes an executable of a shell script, and gives its reference."""

    def make(text: str) -> str:
        path = tmp_path / "provider.sh"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return f"file://{path}"

    return make


@pytest.fixture
async def healthy(cluster: Cluster) -> AsyncIterator[None]:
    """Has somebody answer health checks on the shared subject, for scripts that can't."""

    async def answer(message: Any) -> None:
        await cluster.bus.publish(message.reply, b'{"healthy":true}')

    subject = subjects.provider_health(cluster.lattice, "bird")
    subscription = await cluster.bus.subscribe(subject, answer)
    await cluster.bus.flush()
    yield
    await subscription.unsubscribe()


def provider_processes() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "providers.sdk" in arguments(child)
    ]


async def tell(cluster: Cluster, source: str = "tester", target: str = "bird") -> dict[str, Any]:
    told: dict[str, Any] = json.loads(await cluster.call(target, "Parrot.Tell", source=source))
    return told


async def works_again(cluster: Cluster) -> None:
    """Call until a call gets through."""
    deadline = asyncio.get_running_loop().time() + 10
    while asyncio.get_running_loop().time() < deadline:
        with suppress(errors.LatticeError):
            assert await cluster.call("bird", "Parrot.Repeat", b"hi", timeout_s=1) == b"hi"
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not work again in time")


def config_of(host: LocalHost, name: str) -> dict[str, str] | None:
    return host.host._actors._state.config(name)


async def refused(cluster: Cluster, kind: type[errors.LatticeError]) -> errors.LatticeError:
    """Call until a call is refused: it may be quicker than the news that it should be."""
    deadline = asyncio.get_running_loop().time() + 10
    while asyncio.get_running_loop().time() < deadline:
        try:
            await cluster.call("bird", "Parrot.Repeat")
        except kind as error:
            return error
    raise AssertionError("it was not refused in time")


async def told(cluster: Cluster, **expected: object) -> None:
    """Wait until the provider has been told something."""
    deadline = asyncio.get_running_loop().time() + 10
    while not expected.items() <= (now := await tell(cluster)).items():
        assert asyncio.get_running_loop().time() < deadline, now
        await asyncio.sleep(0.01)


@both_kinds
async def test_a_provider_starts_serves_and_stops(
    cluster: Cluster, alpha: LocalHost, reference: str
) -> None:
    await cluster.start_provider("bird", reference, on=alpha)
    await cluster.link("tester", "bird")
    assert await cluster.call("bird", "Parrot.Repeat", b"hello") == b"hello"
    inside = (await tell(cluster))["pid"] == os.getpid()
    assert inside == ("builtin" in reference)
    await cluster.control.stop_provider("bird", alpha.id)
    with pytest.raises(errors.NotRunning):
        await cluster.call("bird", "Parrot.Repeat")
    assert provider_processes() == []
    assert (await cluster.control.inventory(alpha.id)).providers == []


@both_kinds
async def test_a_call_to_a_provider_ends_when_its_caller_goes_away(
    cluster: Cluster, alpha: LocalHost, reference: str
) -> None:
    await cluster.start_provider("bird", reference, on=alpha)
    await cluster.link("tester", "bird")
    call = asyncio.create_task(cluster.call("bird", "Parrot.Hold", timeout_s=60))
    # The questions are calls as well.
    asked = 1
    while (await tell(cluster))["calls"] == asked:
        asked += 1

    call.cancel()
    await asyncio.wait([call])

    await told(cluster, cancelled=1)


@both_kinds
async def test_a_provider_that_was_stopped_starts_again(
    cluster: Cluster, alpha: LocalHost, reference: str
) -> None:
    await cluster.link("tester", "bird")
    for _ in range(2):
        await cluster.start_provider("bird", reference, on=alpha)
        assert await cluster.call("bird", "Parrot.Repeat", b"hello") == b"hello"
        await cluster.control.stop_provider("bird", alpha.id)


@both_kinds
async def test_links_reach_a_running_provider_as_they_change(
    cluster: Cluster, alpha: LocalHost, reference: str
) -> None:
    await cluster.control.put_config("cage", {"size": "1"})
    await cluster.start_provider("bird", reference, on=alpha)
    await cluster.link("tester", "bird", target_config=["cage"])
    await told(cluster, source="tester", link_name="default", link_config={"size": "1"})

    await cluster.control.put_config("cage", {"size": "2"})
    await told(cluster, link_config={"size": "2"})
    await cluster.link("second", "bird")
    await told(cluster, links=["second", "tester"])
    await cluster.unlink("second")
    await told(cluster, links=["tester"])

    await cluster.unlink("tester")
    refusal = await refused(cluster, errors.NoLink)
    assert "lattice link put tester bird test target" in refusal.text


async def test_links_reach_a_provider_of_a_host_whose_reconciler_is_slow_to_open(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host answers as soon as it can, and forgets nothing that happens until it is ready."""
    opened = asyncio.Event()

    async def open_slowly(_host: Host, *_arguments: object) -> None:
        await opened.wait()

    monkeypatch.setattr(Host, "_open_reconciler", open_slowly)
    starting = asyncio.ensure_future(cluster.start_hosts(1))
    await eventually(lambda: cluster.hosts)
    host = cluster.hosts[0]

    async def answers() -> None:
        while not await cluster.control.hosts(wait_s=0.1):
            pass

    async with asyncio.timeout(5):
        await answers()
    await cluster.start_provider("bird", KINDS[0], on=host)
    await cluster.link("tester", "bird")
    await told(cluster, links=["tester"])
    opened.set()
    await starting


@both_kinds
async def test_configuration_reaches_a_running_provider_as_it_changes(
    cluster: Cluster, alpha: LocalHost, reference: str
) -> None:
    await cluster.control.put_config("base", {"colour": "red", "size": "1"})
    await cluster.control.put_config("more", {"colour": "blue"})
    await cluster.link("tester", "bird")
    await cluster.start_provider("bird", reference, on=alpha, config=["base", "more"])
    await told(cluster, config={"colour": "blue", "size": "1"})
    await cluster.control.put_config("more", {"colour": "green"})
    await told(cluster, config={"colour": "green", "size": "1"})
    await cluster.control.delete_config("more")
    await told(cluster, config={"colour": "red", "size": "1"})


@both_kinds
async def test_errors_of_a_provider_reach_its_callers(
    cluster: Cluster, alpha: LocalHost, reference: str
) -> None:
    await cluster.start_provider("bird", reference, on=alpha)
    await cluster.link("tester", "bird")
    with pytest.raises(errors.ProviderError, match="it would not say") as failure:
        await cluster.call("bird", "Parrot.Refuse")
    assert failure.value.at == alpha.id
    with pytest.raises(errors.InvalidRequest, match="does not know"):
        await cluster.call("bird", "Parrot.Sing")
    with pytest.raises(errors.InternalError) as bug:
        await cluster.call("bird", "Parrot.Bug")
    assert "not for callers" not in bug.value.text
    assert await cluster.call("bird", "Parrot.Repeat", b"still here") == b"still here"


@both_kinds
async def test_a_provider_that_takes_no_streams_refuses_a_payload_in_pieces(
    cluster: Cluster, alpha: LocalHost, reference: str
) -> None:
    await cluster.start_provider("bird", reference, on=alpha)
    await cluster.link("tester", "bird")
    source = Fed(b"hello")
    with pytest.raises(errors.InvalidRequest, match="takes no payload in pieces"):
        await cluster.call("bird", "Parrot.Repeat", stream=source)
    assert source.reads == 0


@both_kinds
async def test_a_call_that_outlasts_its_deadline_is_told_so(
    cluster: Cluster, alpha: LocalHost, reference: str
) -> None:
    await cluster.start_provider("bird", reference, on=alpha)
    await cluster.link("tester", "bird")
    with pytest.raises(errors.DeadlineExceeded):
        await cluster.call("bird", "Parrot.Hold", timeout_s=0.1)
    assert await cluster.call("bird", "Parrot.Repeat", b"still here") == b"still here"


@both_kinds
async def test_a_call_that_arrives_before_its_link_waits_for_it(
    cluster: Cluster, alpha: LocalHost, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.start_provider("bird", reference, on=alpha)
    early = asyncio.create_task(cluster.call("bird", "Parrot.Repeat", b"early"))
    await asyncio.sleep(0)
    await cluster.link("tester", "bird")
    assert await early == b"early"


@both_kinds
async def test_callers_over_a_refused_link_hear_the_providers_reason(
    cluster: Cluster, alpha: LocalHost, reference: str
) -> None:
    await cluster.control.put_config("bad", {"refuse": "no such cage"})
    await cluster.start_provider("bird", reference, on=alpha)
    await cluster.link("tester", "bird", target_config=["bad"])
    for _ in range(3):
        with pytest.raises(errors.InvalidRequest, match="no such cage"):
            await cluster.call("bird", "Parrot.Repeat")
    await cluster.control.put_config("bad", {"size": "1"})
    await eventually(lambda: config_of(alpha, "bad") == {"size": "1"})
    await works_again(cluster)


@both_kinds
@pytest.mark.parametrize(
    ("behaviour", "text"),
    [("refuse", "pining for the fjords"), ("fail", "no such bird"), ("hang", "did not start")],
)
async def test_a_provider_that_does_not_start_leaves_nothing(
    cluster: Cluster,
    alpha: LocalHost,
    reference: str,
    behaviour: str,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if behaviour == "hang":
        monkeypatch.setattr(limits, "PROVIDER_START_TIMEOUT_S", 0.3)
    await cluster.control.put_config("how", {"start": behaviour})
    event = await cluster.start_provider(
        "bird", reference, on=alpha, config=["how"], expected="provider_start_failed"
    )
    assert event.data == {
        "provider_ref": reference,
        "provider_id": "bird",
        "host_id": alpha.id,
        "error": event.data["error"],
        "code": event.data["code"],
        "link_name": "default",
    }
    if "builtin" in reference or behaviour == "hang":
        assert text in event.data["error"]
    assert provider_processes() == []
    assert (await cluster.control.inventory(alpha.id)).providers == []
    # Its id is free again.
    await cluster.control.put_config("how", {})
    await eventually(lambda: config_of(alpha, "how") == {})
    if behaviour != "hang":
        await cluster.start_provider("bird", reference, on=alpha, config=["how"])


@pytest.mark.parametrize(
    ("reference", "code", "text"),
    [
        (
            "lattice+builtin://dodo",
            "not_found",
            "blobstore, http-client, http-server, keyvalue, messaging",
        ),
        ("lattice+process://dodo", "not_found", "no provider named 'dodo'"),
        ("ghcr.io/wasmcloud/kv:latest", "denied", "--allow-latest"),
        ("file://relative", "invalid_request", "file:///PATH"),
    ],
)
async def test_a_provider_that_is_not_there_is_refused_at_once(
    cluster: Cluster, alpha: LocalHost, reference: str, code: str, text: str
) -> None:
    body = {"provider_id": "bird", "provider_ref": reference}
    reply = await cluster.request("provider", "start", alpha.id, body=body)
    assert (reply["success"], reply["code"]) == (False, code)
    assert text in reply["message"]


async def test_files_are_not_run_where_that_is_not_allowed(
    cluster: Cluster, script: Script
) -> None:
    (host,) = await cluster.start_hosts(1)
    body = {"provider_id": "bird", "provider_ref": script("exit 0")}
    reply = await cluster.request("provider", "start", host.id, body=body)
    assert reply["code"] == "denied"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("exit 3", "ended with status 3"),
        ("read line; exit 5", "ended with status 5"),
        ("kill -9 $$", "was killed (SIGKILL)"),
        ("cat >/dev/null; sleep 60", "did not start within"),
        ("trap '' TERM; while :; do sleep 0.1; done", "did not start within"),
    ],
    ids=["exits at once", "exits later", "is killed", "never answers", "ignores signals too"],
)
async def test_a_process_fails_to_start_that(
    cluster: Cluster,
    alpha: LocalHost,
    script: Script,
    text: str,
    error: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "PROVIDER_START_TIMEOUT_S", 0.5)
    event = await cluster.start_provider(
        "bird", script(text), on=alpha, expected="provider_start_failed"
    )
    assert error in event.data["error"]


async def test_a_file_that_is_no_program_is_told_apart(
    cluster: Cluster, alpha: LocalHost, tmp_path: Path
) -> None:
    for name, words in (("missing", "no file"), ("data", "Permission denied")):
        if name == "data":
            (tmp_path / name).write_text("data")
        event = await cluster.start_provider(
            "bird", f"file://{tmp_path / name}", on=alpha, expected="provider_start_failed"
        )
        assert words in event.data["error"]


async def test_a_process_that_answers_nonsense_does_not_count_as_started(
    cluster: Cluster, alpha: LocalHost, script: Script
) -> None:
    subject = subjects.provider_health(cluster.lattice, "bird")

    async def nonsense(message: Any) -> None:
        await cluster.bus.publish(message.reply, b"I am fine")

    subscription = await cluster.bus.subscribe(subject, nonsense)
    event = await cluster.start_provider(
        "bird", script("sleep 60"), on=alpha, expected="provider_start_failed"
    )
    await subscription.unsubscribe()
    assert "failed to deserialize health" in event.data["error"]


async def test_a_foreign_provider_is_known_by_the_shared_health_subject(
    cluster: Cluster, alpha: LocalHost, script: Script
) -> None:
    """As providers built for wasmCloud 1.x are, which answer on no other."""
    healths = [b'{"healthy":true}']

    async def answer(message: Any) -> None:
        await cluster.bus.publish(message.reply, healths[-1])

    subject = subjects.provider_health(cluster.lattice, "bird")
    subscription = await cluster.bus.subscribe(subject, answer)
    await cluster.start_provider("bird", script("sleep 60"), on=alpha)
    await cluster.event("health_check_passed", provider_id="bird")
    healths.append(b'{"healthy":false,"message":"moulting"}')
    await cluster.event("health_check_failed", provider_id="bird")
    await subscription.unsubscribe()
    await cluster.control.stop_provider("bird", alpha.id)


async def test_a_crash_is_told_and_repaired_and_links_are_known_again(
    cluster: Cluster, alpha: LocalHost
) -> None:
    await cluster.start_provider("bird", KINDS[1], on=alpha)
    await cluster.link("tester", "bird")
    before = (await tell(cluster))["pid"]
    os.kill(before, signal.SIGKILL)
    crash = await cluster.event("provider_crashed")
    assert crash.data == {
        "host_id": alpha.id,
        "provider_id": "bird",
        "reason": "its process was killed (SIGKILL)",
        "exit_status": -9,
        "stderr": crash.data["stderr"],
    }
    await cluster.event("provider_restarted", provider_id="bird", host_id=alpha.id)
    after = await tell(cluster)
    assert after["pid"] != before
    assert after["links"] == ["tester"]


async def test_links_put_while_a_provider_is_down_are_known_when_it_is_back(
    cluster: Cluster, alpha: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.start_provider("bird", KINDS[1], on=alpha)
    await cluster.link("tester", "bird")
    os.kill((await tell(cluster))["pid"], signal.SIGKILL)
    await cluster.event("provider_crashed")
    await cluster.link("other", "bird")
    await cluster.unlink("other")
    await cluster.link("third", "bird")
    await cluster.event("provider_restarted")
    await told(cluster, links=["tester", "third"])


@asynccontextmanager
async def load(cluster: Cluster, *, timeout_s: float) -> AsyncIterator[Counter[str]]:
    """Twenty callers all the time, and how their calls end."""
    outcomes: Counter[str] = Counter()
    stopped = False

    async def caller() -> None:
        while not stopped:
            try:
                await cluster.call("bird", "Parrot.Repeat", b"hi", timeout_s=timeout_s)
            except errors.LatticeError as error:
                outcomes[error.code] += 1
                # A refusal is immediate; do not spin on it.
                await asyncio.sleep(0.01)
            else:
                outcomes["ok"] += 1

    callers = [asyncio.create_task(caller()) for _ in range(20)]
    try:
        yield outcomes
    finally:
        stopped = True
        await asyncio.gather(*callers)


async def goes_on(outcomes: Counter[str]) -> None:
    wanted = outcomes["ok"] + 200
    await eventually(lambda: outcomes["ok"] >= wanted)


async def outcome_of(call: asyncio.Task[bytes]) -> bytes | errors.LatticeError:
    try:
        return await call
    except errors.LatticeError as error:
        return error


async def test_calls_to_a_provider_that_dies_are_unavailable_at_once(
    cluster: Cluster, alpha: LocalHost
) -> None:
    """Each waited for its deadline, which may be minutes away."""
    await cluster.start_provider("bird", KINDS[1], on=alpha)
    await cluster.link("tester", "bird")
    held = [
        asyncio.create_task(cluster.call("bird", "Parrot.Hold", timeout_s=60)) for _ in range(100)
    ]
    with pytest.raises(errors.Unavailable, match="no copy of it is left"):
        await cluster.call("bird", "Parrot.Die", timeout_s=60)
    async with asyncio.timeout(10):
        outcomes = [await outcome_of(call) for call in held]
    assert all(isinstance(outcome, errors.Unavailable) for outcome in outcomes)
    await cluster.event("provider_restarted")
    assert await cluster.call("bird", "Parrot.Repeat", b"back") == b"back"


async def test_an_actor_hears_at_once_that_the_provider_it_called_is_gone(
    cluster: Cluster, alpha: LocalHost
) -> None:
    await cluster.start_provider("bird", KINDS[1], on=alpha)
    await cluster.start_actor("relay", on=alpha)
    await cluster.link("relay", "bird")
    async with asyncio.timeout(20):
        with pytest.raises(errors.ActorError, match="no copy of it is left"):
            await cluster.call("relay", "Parrot.Die", timeout_s=60)


async def test_a_provider_hears_at_once_that_the_one_it_called_is_gone(
    cluster: Cluster, alpha: LocalHost
) -> None:
    for provider in ("asks", "dies"):
        await cluster.start_provider(provider, KINDS[1], on=alpha)
    await cluster.link("tester", "asks")
    await cluster.link("asks", "dies")
    async with asyncio.timeout(20):
        with pytest.raises(errors.Unavailable, match="no copy of it is left"):
            await cluster.call("asks", "Parrot.Send", b"dies Parrot.Die", timeout_s=60)


async def test_the_command_line_hears_at_once_that_the_provider_it_called_is_gone(
    cluster: Cluster, alpha: LocalHost
) -> None:
    await cluster.start_provider("bird", KINDS[1], on=alpha)
    await cluster.link("cli", "bird")
    outcome = await command_line.run(
        *("call", "bird", "Parrot.Die", "--interface", "test:target", "--output", "json"),
        environment={"LATTICE_NATS_URL": cluster.nats.url},
    )
    assert outcome.json["code"] == "unavailable", outcome
    assert "no copy of it is left" in outcome.json["error"]
    assert "lattice logs" in outcome.json["remedy"], "NATS is not what is wrong"


async def test_callers_of_a_provider_hear_that_its_host_was_killed(
    cluster: Cluster, alpha: LocalHost
) -> None:
    beta = await cluster.start_process(
        "--no-reconcile", program=("-m", "tests.faults.host_program")
    )
    await cluster.start_provider("bird", KINDS[1], on=beta)
    await cluster.link("tester", "bird")
    call = asyncio.create_task(cluster.call("bird", "Parrot.Hold", timeout_s=60))
    await eventually(lambda: cluster.bus.statistics().pending)
    # Sent after it, so that the one before is there as well.
    await cluster.call("bird", "Parrot.Tell")
    await beta.kill()
    async with asyncio.timeout(30):
        assert isinstance(await outcome_of(call), errors.Unavailable)


async def test_calls_to_a_provider_that_is_stopped_by_force_are_unavailable_at_once(
    cluster: Cluster, alpha: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PROVIDER_STOP_TIMEOUT_S", 0.3)
    await cluster.start_provider("bird", KINDS[1], on=alpha)
    await cluster.link("tester", "bird")
    (process,) = provider_processes()
    process.suspend()
    call = asyncio.create_task(cluster.call("bird", "Parrot.Repeat", timeout_s=60))
    await asyncio.sleep(0)
    await cluster.control.stop_provider("bird", alpha.id)
    async with asyncio.timeout(10):
        assert isinstance(await outcome_of(call), errors.Unavailable)


async def test_while_another_copy_lives_no_call_is_failed_that_it_may_answer(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha, beta = await cluster.start_hosts(2)
    for host in (alpha, beta):
        await cluster.start_provider("bird", KINDS[1], on=host)
    await cluster.link("tester", "bird")
    async with load(cluster, timeout_s=2) as outcomes:
        for crash in (1, 2):
            await goes_on(outcomes)
            provider_processes()[0].kill()
            await cluster.event("provider_restarted", count=crash)
    # What the copy had that died: its callers can't know, and wait.
    assert set(outcomes) <= {"ok", "deadline_exceeded"}, outcomes
    await told(cluster, links=["tester"])


async def test_a_copy_that_ends_its_last_calls_still_counts_when_another_one_dies(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PROVIDER_STOP_TIMEOUT_S", 30.0)
    alpha, beta = await cluster.start_hosts(2)
    await cluster.start_provider("bird", KINDS[0], on=alpha)
    await cluster.link("tester", "bird")
    copy = alpha.host._providers._running["bird"].supervisor._copy
    provider = copy._runtime._provider  # type: ignore[union-attr]
    call = asyncio.create_task(cluster.call("bird", "Parrot.Hold", b"hi", timeout_s=60))
    await eventually(lambda: provider.calls == 1)
    await cluster.start_provider("bird", KINDS[1], on=beta)
    stopping = asyncio.create_task(cluster.control.stop_provider("bird", alpha.id))
    await eventually(lambda: copy._runtime is None)  # type: ignore[union-attr]
    (process,) = provider_processes()
    process.kill()
    await cluster.event("provider_restarted", host_id=beta.id)
    provider.gate.set()
    assert await outcome_of(call) == b"hi"
    await stopping


async def test_whoever_tells_of_a_departure_that_was_none_ends_no_call(
    cluster: Cluster, alpha: LocalHost
) -> None:
    await cluster.start_provider("bird", KINDS[1], on=alpha)
    await cluster.link("tester", "bird")
    call = asyncio.create_task(cluster.call("bird", "Parrot.Hold", timeout_s=1))
    while not call.done():
        await cluster.bus.publish(subjects.departure(cluster.lattice, "bird"), b"\xff")
        await asyncio.sleep(0.01)
    assert isinstance(await outcome_of(call), errors.DeadlineExceeded)


async def test_load_on_a_provider_that_crashes_again_and_again_waits_for_no_deadline(
    cluster: Cluster, alpha: LocalHost
) -> None:
    await cluster.start_provider("bird", KINDS[1], on=alpha)
    await cluster.link("tester", "bird")
    async with asyncio.timeout(50), load(cluster, timeout_s=60) as outcomes:
        for crash in (1, 2, 3):
            await goes_on(outcomes)
            (process,) = provider_processes()
            process.kill()
            await cluster.event("provider_restarted", count=crash)
    assert set(outcomes) <= {"ok", "unavailable", "not_running"}, outcomes
    assert (await tell(cluster))["links"] == ["tester"]


async def test_a_hung_provider_is_found_told_and_replaced(
    cluster: Cluster, alpha: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEALTH_TIMEOUT_S", 0.1)
    monkeypatch.setattr(limits, "PROVIDER_STOP_TIMEOUT_S", 0.3)
    await cluster.start_provider("bird", KINDS[1], on=alpha)
    await cluster.link("tester", "bird")
    before = (await tell(cluster))["pid"]
    with pytest.raises(errors.OutcomeUnknown):
        await cluster.call("bird", "Parrot.Freeze", timeout_s=0.2)
    await cluster.event("health_check_failed", provider_id="bird", host_id=alpha.id)
    crash = await cluster.event("provider_crashed")
    assert crash.data["reason"] == "3 health checks in a row were not answered"
    await cluster.event("provider_restarted")
    assert (await tell(cluster))["pid"] != before
    assert not psutil.pid_exists(before)


async def test_a_hung_provider_can_be_stopped(
    cluster: Cluster, alpha: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PROVIDER_STOP_TIMEOUT_S", 0.3)
    await cluster.start_provider("bird", KINDS[1], on=alpha)
    await cluster.link("tester", "bird")
    with pytest.raises(errors.OutcomeUnknown):
        await cluster.call("bird", "Parrot.Freeze", timeout_s=0.2)
    await cluster.control.stop_provider("bird", alpha.id)
    assert provider_processes() == []


async def test_a_provider_stopped_while_a_hung_copy_is_being_replaced_is_gone(
    cluster: Cluster, alpha: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy on its way out belonged to nobody, and outlived the provider."""
    monkeypatch.setattr(limits, "HEALTH_TIMEOUT_S", 0.1)
    monkeypatch.setattr(limits, "PROVIDER_STOP_TIMEOUT_S", 0.5)
    await cluster.start_provider("bird", KINDS[1], on=alpha)
    await cluster.link("tester", "bird")
    with pytest.raises(errors.OutcomeUnknown):
        await cluster.call("bird", "Parrot.Freeze", timeout_s=0.2)
    await cluster.event("provider_crashed")
    assert provider_processes() != []
    await cluster.control.stop_provider("bird", alpha.id)
    assert provider_processes() == []


@both_kinds
async def test_health_is_told_by_events_as_it_changes(
    cluster: Cluster, alpha: LocalHost, reference: str
) -> None:
    await cluster.start_provider("bird", reference, on=alpha)
    await cluster.link("tester", "bird")
    passed = await cluster.event("health_check_passed")
    assert passed.data == {"host_id": alpha.id, "provider_id": "bird"}
    await cluster.event("health_check_status", count=2)
    await cluster.call("bird", "Parrot.Sicken", b"a cold")
    await cluster.event("health_check_failed")
    await cluster.call("bird", "Parrot.Recover")
    await cluster.event("health_check_passed", count=2)
    assert cluster.seen("health_check_failed") == 1
    # It said itself that it is ill: that is no reason to kill it.
    assert cluster.seen("provider_crashed") == 0


@both_kinds
async def test_a_provider_whose_health_check_hangs_is_replaced(
    cluster: Cluster, alpha: LocalHost, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a host that counted as an answer: that it is ill, which is no reason to replace it."""
    monkeypatch.setattr(limits, "HEALTH_TIMEOUT_S", 0.1)
    monkeypatch.setattr(limits, "PROVIDER_STOP_TIMEOUT_S", 0.5)
    await cluster.control.put_config("how", {})
    await cluster.start_provider("bird", reference, on=alpha, config=["how"])
    await cluster.link("tester", "bird")
    await cluster.event("health_check_passed", provider_id="bird")
    await cluster.control.put_config("how", {"health": "hang"})
    crash = await cluster.event("provider_crashed")
    assert crash.data["reason"] == "3 health checks in a row were not answered"
    await cluster.control.put_config("how", {})
    await cluster.event("provider_restarted")
    await works_again(cluster)


async def test_a_stopped_process_is_found_hung_and_replaced(
    cluster: Cluster, alpha: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEALTH_TIMEOUT_S", 0.1)
    monkeypatch.setattr(limits, "PROVIDER_STOP_TIMEOUT_S", 0.3)
    await cluster.start_provider("bird", KINDS[1], on=alpha)
    await cluster.link("tester", "bird")
    (before,) = provider_processes()
    before.suspend()
    crash = await cluster.event("provider_crashed")
    assert crash.data["reason"] == "3 health checks in a row were not answered"
    await cluster.event("provider_restarted")
    assert (await tell(cluster))["pid"] != before.pid
    assert not psutil.pid_exists(before.pid)


async def test_a_provider_that_keeps_crashing_is_given_up_and_can_be_started_again(
    cluster: Cluster, script: Script, tmp_path: Path, healthy: None
) -> None:
    (host,) = await cluster.start_hosts(1, allow_file_load=True, provider_restarts_max=2)
    lives = tmp_path / "lives"
    reference = script(
        f"""read line
        [ -e {lives} ] && exec sleep 60
        sleep 0.2; echo 'no seed left' >&2; exit 3"""
    )
    await cluster.start_provider("bird", reference, on=host)
    gave_up = await cluster.event("provider_gave_up", provider_id="bird", host_id=host.id)
    assert gave_up.data["crashes"] == 3
    crash = await cluster.event("provider_crashed")
    assert crash.data["exit_status"] == 3
    assert crash.data["stderr"] == "no seed left"
    (described,) = (await cluster.control.inventory(host.id)).providers
    assert described.is_given_up
    assert described.crashes is not None
    assert described.crashes.count == 3

    lives.touch()
    await cluster.start_provider("bird", reference, on=host)
    (described,) = (await cluster.control.inventory(host.id)).providers
    assert described.crashes is None
    await cluster.control.stop_provider("bird", host.id)
    assert (await cluster.control.inventory(host.id)).providers == []


async def test_a_provider_that_was_given_up_can_be_stopped(
    cluster: Cluster, script: Script, healthy: None
) -> None:
    (host,) = await cluster.start_hosts(1, allow_file_load=True, provider_restarts_max=0)
    await cluster.start_provider("bird", script("read line; sleep 0.2; exit 3"), on=host)
    await cluster.event("provider_gave_up")
    await cluster.control.stop_provider("bird", host.id)
    assert (await cluster.control.inventory(host.id)).providers == []
    assert cluster.seen("provider_restarted") == 0


async def test_the_last_words_of_a_provider_that_does_not_start_are_told(
    cluster: Cluster, alpha: LocalHost, script: Script
) -> None:
    event = await cluster.start_provider(
        "bird",
        script("echo 'no seed' >&2; exit 3"),
        on=alpha,
        expected="provider_start_failed",
    )
    assert "status 3" in event.data["error"]
    assert event.data["error"].endswith(": no seed")


@pytest.mark.parametrize("behaviour", ["hang", "fail"])
async def test_a_health_check_that_gives_no_answer_counts_as_failed(
    cluster: Cluster, alpha: LocalHost, behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEALTH_TIMEOUT_S", 0.1)
    await cluster.control.put_config("how", {"health": behaviour})
    await cluster.start_provider("bird", KINDS[0], on=alpha, config=["how"])
    await cluster.event("health_check_failed", provider_id="bird")


@both_kinds
async def test_stopping_lets_running_calls_end(
    cluster: Cluster, alpha: LocalHost, reference: str
) -> None:
    await cluster.start_provider("bird", reference, on=alpha)
    await cluster.link("tester", "bird")
    calls = [
        asyncio.create_task(cluster.call("bird", "Parrot.Repeat", b"%d" % number))
        for number in range(200)
    ]
    await asyncio.sleep(0)
    await cluster.control.stop_provider("bird", alpha.id)
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(outcome, (bytes, errors.NotRunning)), outcome


@both_kinds
async def test_a_provider_that_will_not_stop_is_left_behind(
    cluster: Cluster, alpha: LocalHost, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PROVIDER_STOP_TIMEOUT_S", 0.2)
    await cluster.control.put_config("how", {"stop": "hang"})
    await cluster.start_provider("bird", reference, on=alpha, config=["how"])
    await cluster.control.stop_provider("bird", alpha.id)
    assert provider_processes() == []


async def test_two_hosts_each_run_a_copy_that_is_told_apart(cluster: Cluster) -> None:
    alpha, beta = await cluster.start_hosts(2)
    for host in (alpha, beta):
        await cluster.start_provider("bird", KINDS[1], on=host)
    await cluster.link("tester", "bird")
    pids = {process.pid for process in provider_processes()}
    assert len(pids) == 2
    await cluster.control.stop_provider("bird", alpha.id)
    (left,) = {process.pid for process in provider_processes()}
    assert (await tell(cluster))["pid"] == left


async def test_a_copy_does_not_count_as_started_because_another_host_has_one(
    cluster: Cluster,
) -> None:
    alpha, beta = await cluster.start_hosts(2)
    await cluster.start_provider("bird", KINDS[1], on=alpha)
    await cluster.control.put_config("how", {"start": "exit"})
    event = await cluster.start_provider(
        "bird", KINDS[1], on=beta, config=["how"], expected="provider_start_failed"
    )
    assert "ended with status 3" in event.data["error"]


async def test_a_provider_that_starts_while_its_host_stops_is_not_left_running(
    cluster: Cluster, alpha: LocalHost
) -> None:
    body = {"provider_id": "bird", "provider_ref": KINDS[1]}
    await cluster.request("provider", "start", alpha.id, body=body)
    await alpha.stop()
    assert provider_processes() == []


async def test_a_host_that_stops_stops_its_providers(cluster: Cluster, alpha: LocalHost) -> None:
    await cluster.start_provider("bird", KINDS[0], on=alpha)
    await cluster.start_provider("other", KINDS[1], on=alpha)
    await alpha.stop()
    assert cluster.seen("provider_stopped") == 2
    assert provider_processes() == []


async def test_more_calls_than_allowed_are_overloaded(
    cluster: Cluster, alpha: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "CALLS_MAX", 3)
    await cluster.start_provider("bird", KINDS[0], on=alpha)
    await cluster.link("tester", "bird")
    calls = [
        asyncio.create_task(cluster.call("bird", "Parrot.Hold", timeout_s=0.5)) for _ in range(10)
    ]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds.count(errors.DeadlineExceeded) == 3
    assert kinds.count(errors.Overloaded) == 7


async def test_what_is_no_management_message_changes_nothing(
    cluster: Cluster, alpha: LocalHost
) -> None:
    await cluster.start_provider("bird", KINDS[1], on=alpha)
    await cluster.link("tester", "bird")
    before = await tell(cluster)
    for subject in (
        subjects.link_put(cluster.lattice, "bird"),
        subjects.link_delete(cluster.lattice, "bird"),
        subjects.config_update(cluster.lattice, "bird"),
        subjects.provider_shutdown(cluster.lattice, "bird"),
    ):
        for payload in (b"", b"{", b"[]", b'{"host_id":1}', b"\xff" * 100):
            await cluster.bus.publish(subject, payload)
    elsewhere = json.dumps({"host_id": "elsewhere"}).encode()
    await cluster.bus.publish(subjects.provider_shutdown(cluster.lattice, "bird"), elsewhere)
    assert await tell(cluster) == before | {"calls": before["calls"] + 1}


async def test_a_link_that_names_another_provider_is_not_taken(
    cluster: Cluster, alpha: LocalHost
) -> None:
    await cluster.start_provider("bird", KINDS[0], on=alpha)
    await cluster.link("tester", "bird")
    stranger = control.Link(source_id="a", target="b", wit_namespace="x", wit_package="y")
    body = stranger.to_json() | {"source_config": {}, "target_config": {}}
    await cluster.bus.publish(subjects.link_put(cluster.lattice, "bird"), json.dumps(body).encode())
    assert (await tell(cluster))["links"] == ["tester"]
