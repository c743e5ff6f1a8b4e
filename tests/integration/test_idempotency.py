"""With an idempotency key the effect happens once while the key is remembered."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgpack
import pytest

from lattice import errors, limits, subjects
from lattice.bus import Bus, NatsSettings
from lattice.bus.server import NatsServer
from lattice.idempotency import once, rules
from lattice.rpc import KEY_HEADER, Rpc, Target
from lattice.wire.invocation import Invocation, Reply, Usage
from tests.support import command_line
from tests.support.cluster import ROOT, Cluster, Gate
from tests.support.configured_nats import configured_nats
from tests.support.eventually import eventually
from tests.support.nats_server import connected
from tests.support.targets import Answering, Echo, Held, Refusing

PATIENT_S = limits.CALL_TIMEOUT_S_MAX
CALLEE = "NCALLEE"
LARGE = limits.INLINE_PAYLOAD_BYTES + 1

HTTP = "wasmcloud:httpserver"
REQUEST = msgpack.packb(
    {"method": "GET", "path": "/visits", "queryString": "", "header": {}, "body": b""}
)
"""What the counter actor counts."""


@dataclass
class Ends:
    """A process that calls, and two that may execute its calls."""

    caller: Rpc
    callee: Rpc
    other: Rpc

    async def serve(self, target: Target) -> None:
        await self.callee.serve("callee", target, door=True)


@pytest.fixture
async def ends(bus: Bus, nats: NatsServer, lattice_name: str) -> AsyncIterator[Ends]:
    async with connected(nats) as one, connected(nats) as two:
        ends = Ends(
            Rpc(bus, lattice_name, at="NCALLER"),
            Rpc(one, lattice_name, at=CALLEE),
            Rpc(two, lattice_name, at="NOTHER"),
        )
        await ends.callee.hear_cancellations()
        await one.flush()
        yield ends
        for rpc in (ends.caller, ends.callee, ends.other):
            await rpc.aclose()


@pytest.fixture(params=["local", "remote"])
async def either(request: pytest.FixtureRequest, ends: Ends) -> Ends:
    return ends if request.param == "remote" else Ends(ends.callee, ends.callee, ends.other)


class Counting:
    """Answers with how often it was called, after a wait."""

    def __init__(self) -> None:
        self.count = 0

    async def accept(self, invocation: Invocation) -> Reply:
        self.count += 1
        count = self.count
        await asyncio.sleep(0)
        return Reply(b"%d" % count, Usage(cpu_us=count))


def invocation(
    payload: bytes = b"hi", *, key: str | None = "once", timeout_s: float = 20, source: str = "a"
) -> Invocation:
    return Invocation(
        source=source,
        target="callee",
        interface="test:echo",
        operation="Echo.Say",
        payload=payload,
        deadline=asyncio.get_running_loop().time() + timeout_s,
        key=key,
    )


class TestEitherWay:
    """What holds whether the target is in this process or in another."""

    async def test_a_repetition_is_answered_as_before_and_not_executed(self, either: Ends) -> None:
        counting = Counting()
        await either.serve(counting)

        answers = [await either.caller.call(invocation()) for _ in range(3)]

        assert [answer.payload for answer in answers] == [b"1"] * 3
        assert [answer.usage for answer in answers] == [Usage(cpu_us=1)] * 3
        assert counting.count == 1

    async def test_without_a_key_every_call_is_executed(self, either: Ends) -> None:
        counting = Counting()
        await either.serve(counting)

        for number in range(1, 4):
            assert (await either.caller.call(invocation(key=None))).payload == b"%d" % number

    async def test_another_key_or_another_caller_is_another_call(self, either: Ends) -> None:
        counting = Counting()
        await either.serve(counting)

        await either.caller.call(invocation())
        await either.caller.call(invocation(key="another"))
        await either.caller.call(invocation(source="another"))

        assert counting.count == 3

    async def test_a_key_of_another_payload_is_a_conflict_while_its_call_runs_and_after(
        self, either: Ends
    ) -> None:
        held = Held()
        await either.serve(held)
        first = asyncio.create_task(either.caller.call(invocation()))
        await held.started.wait()

        with pytest.raises(errors.Conflict, match="another payload"):
            await either.caller.call(invocation(b"other"))
        held.release.set()
        await first
        with pytest.raises(errors.Conflict, match="another payload"):
            await either.caller.call(invocation(b"other"))

        assert held.answered == 1

    async def test_a_second_call_waits_for_the_first_ones_answer(self, either: Ends) -> None:
        held = Held()
        await either.serve(held)
        calls = [asyncio.create_task(either.caller.call(invocation())) for _ in range(20)]
        await eventually(lambda: either.callee._once._waiting == 20)

        held.release.set()

        assert [(await call).payload for call in calls] == [b"hi"] * 20
        assert held.answered == 1

    async def test_a_second_call_waits_no_longer_than_its_own_deadline(self, either: Ends) -> None:
        held = Held()
        await either.serve(held)
        first = asyncio.create_task(either.caller.call(invocation()))
        await held.started.wait()

        with pytest.raises(errors.DeadlineExceeded):
            await either.caller.call(invocation(timeout_s=0.1))

        held.release.set()
        assert (await first).payload == b"hi"

    @pytest.mark.parametrize("code", sorted(errors.BY_CODE))
    async def test_a_failure_is_remembered_unless_it_says_that_nothing_was_executed(
        self, either: Ends, code: str
    ) -> None:
        async def fail(call: Invocation) -> Reply:
            raise errors.BY_CODE[code].from_parts("what happened", detail={"limit": 5})

        failing = Answering(fail)
        await either.serve(failing)
        raised = []
        for _ in range(2):
            with pytest.raises(errors.BY_CODE[code]) as caught:
                await either.caller.call(invocation())
            error = caught.value
            raised.append((error.text, error.at, error.detail))

        assert raised == [("what happened", CALLEE, {"limit": 5})] * 2
        ids = [call.id for call in failing.calls]
        assert len(set(ids)) == (2 if issubclass(errors.BY_CODE[code], errors.NotExecuted) else 1)

    async def test_a_bug_is_remembered_as_one(self, either: Ends) -> None:
        refusing = Refusing(ZeroDivisionError())
        await either.serve(refusing)

        texts = []
        for _ in range(2):
            with pytest.raises(errors.InternalError, match="a bug, logged on") as caught:
                await either.caller.call(invocation())
            texts.append(caught.value.text)

        assert texts[0] == texts[1]
        assert len(refusing.calls) == 1

    async def test_a_retry_after_overloaded_is_executed(self, either: Ends) -> None:
        class FullAtFirst(Echo):
            def accept(self, invocation: Invocation) -> Reply:
                reply = super().accept(invocation)
                if len(self.calls) <= 1 + limits.RETRIES_MAX:
                    raise errors.Overloaded("full")
                return reply

        full = FullAtFirst()
        await either.serve(full)
        with pytest.raises(errors.Overloaded):
            await either.caller.call(invocation())

        assert (await either.caller.call(invocation())).payload == b"hi"
        assert (await either.caller.call(invocation())).payload == b"hi"
        assert len(full.calls) == 2 + limits.RETRIES_MAX

    async def test_a_call_that_expired_before_it_was_executed_frees_its_key(
        self, either: Ends
    ) -> None:
        class TooLateAtFirst(Echo):
            def accept(self, invocation: Invocation) -> Reply:
                reply = super().accept(invocation)
                if len(self.calls) == 1:
                    raise errors.Expired("it waited too long; not executed")
                return reply

        await either.serve(TooLateAtFirst())
        with pytest.raises(errors.DeadlineExceeded, match="not executed"):
            await either.caller.call(invocation())

        assert (await either.caller.call(invocation())).payload == b"hi"

    async def test_a_caller_that_goes_away_finds_the_answer_when_it_comes_back(
        self, either: Ends
    ) -> None:
        held = Held()
        await either.serve(held)
        first = asyncio.create_task(either.caller.call(invocation()))
        await held.started.wait()
        first.cancel()
        await asyncio.wait([first])
        await eventually(lambda: either.callee._once._waiting == 0)

        again = asyncio.create_task(either.caller.call(invocation()))
        await eventually(lambda: either.callee._once._waiting == 1)
        held.release.set()

        assert (await again).payload == b"hi"
        assert (held.answered, held.abandoned.is_set()) == (1, False)

    @pytest.mark.parametrize("size", [limits.IDEMPOTENT_ANSWER_BYTES + 1, 2 * LARGE])
    async def test_answers_of_every_size_are_remembered(self, either: Ends, size: int) -> None:
        echo = Echo()
        await either.serve(echo)
        payload = bytes(size - 1) + b"x"

        for _ in range(3):
            assert (await either.caller.call(invocation(payload))).payload == payload

        assert len(echo.calls) == 1

    async def test_an_error_too_large_to_remember_is_remembered_without_its_detail(
        self, either: Ends
    ) -> None:
        error = errors.ActorTrapped("unreachable", backtrace="frame " * 20_000)
        refusing = Refusing(error)
        await either.serve(refusing)

        for detail in (error.detail, {}):
            with pytest.raises(errors.ActorTrapped) as caught:
                await either.caller.call(invocation())
            assert caught.value.detail == detail

        assert len(refusing.calls) == 1

    async def test_an_answer_that_could_not_be_stored_leaves_the_outcome_unknown(
        self, either: Ends, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def no_room(name: str, payload: bytes) -> None:
            raise errors.Unavailable("the store is full")

        monkeypatch.setattr(limits, "IDEMPOTENCY_GRACE_S", -18)
        monkeypatch.setattr(either.callee._payloads, "put", no_room)
        echo = Echo()
        await either.serve(echo)
        payload = bytes(limits.IDEMPOTENT_ANSWER_BYTES + 1)

        assert (await either.caller.call(invocation(payload))).payload == payload
        with pytest.raises(errors.Unavailable, match="its outcome is unknown") as caught:
            await either.caller.call(invocation(payload))

        assert caught.value.at == CALLEE
        assert len(echo.calls) == 1

    async def test_when_the_bucket_is_full_nothing_is_executed(
        self, either: Ends, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "IDEMPOTENCY_STORE_BYTES_MAX", 1_000)
        counting = Counting()
        await either.serve(counting)

        with suppress(errors.Unavailable):
            for number in range(10):
                await either.caller.call(invocation(key=f"{number}"))

        executed = counting.count
        with pytest.raises(errors.Unavailable, match="nothing was executed"):
            await either.caller.call(invocation())
        assert (await either.caller.call(invocation(key=None))).payload == b"%d" % (executed + 1)

    async def test_a_key_is_forgotten_in_time(
        self, either: Ends, lattice_name: str, bus: Bus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "IDEMPOTENCY_TTL_S", 1.0)
        counting = Counting()
        await either.serve(counting)
        assert (await either.caller.call(invocation())).payload == b"1"

        bucket = await bus.bucket(subjects.outcome_bucket(lattice_name))
        async with asyncio.timeout(20):
            while (await bucket.extent()).messages:
                pass

        assert (await either.caller.call(invocation())).payload == b"2"

    async def test_as_many_calls_with_keys_as_allowed_run_or_wait(
        self, either: Ends, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "IDEMPOTENT_CALLS_MAX", 2)
        held = Held()
        await either.serve(held)
        calls = [asyncio.create_task(either.caller.call(invocation(key=key))) for key in ("1", "2")]
        await eventually(lambda: either.callee._once._waiting == 2)

        with pytest.raises(errors.Overloaded, match="idempotency"):
            await either.caller.call(invocation(key="3"))

        held.release.set()
        await asyncio.gather(*calls)

    @pytest.mark.parametrize("key", ["", "x" * 256, "two\nlines"], ids=["empty", "long", "lines"])
    async def test_what_can_be_no_key_is_refused(self, either: Ends, key: str) -> None:
        echo = Echo()
        await either.serve(echo)

        with pytest.raises(errors.InvalidRequest, match="idempotency key"):
            await either.caller.call(invocation(key=key))

        assert not echo.calls

    async def test_a_record_that_cannot_be_read_is_not_executed_over(
        self, either: Ends, bus: Bus, lattice_name: str
    ) -> None:
        echo = Echo()
        await either.serve(echo)
        bucket = await bus.bucket(subjects.outcome_bucket(lattice_name))
        await bucket.put(rules.record_name(invocation()), b"junk")

        with pytest.raises(errors.InternalError, match="can't be read"):
            await either.caller.call(invocation())

        assert not echo.calls

    async def test_nothing_is_left_of_calls_that_have_ended(self, either: Ends) -> None:
        await either.serve(Counting())

        for number in range(10):
            await either.caller.call(invocation(key=f"{number}"))

        tracked = either.callee._once
        await eventually(lambda: (len(tracked._flights), len(tracked._tasks)) == (0, 0))
        assert tracked._waiting == 0


class TestTwoProcesses:
    async def test_whoever_gets_the_repetition_knows_the_answer(self, ends: Ends) -> None:
        one, two = Counting(), Counting()
        await ends.callee.serve("callee", one)
        await ends.other.serve("callee", two)

        answers = await asyncio.gather(*(ends.caller.call(invocation()) for _ in range(50)))

        assert {answer.payload for answer in answers} == {b"1"}
        assert one.count + two.count == 1

    async def test_a_process_that_waits_gets_the_answer_when_the_other_has_it(
        self, ends: Ends, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(once, "POLL_MAX_S", once.POLL_S)
        held, echo = Held(), Echo()
        await ends.callee.serve("callee", held)
        await ends.other.serve("callee", echo)
        first = asyncio.create_task(ends.callee.call(invocation()))
        await held.started.wait()
        second = asyncio.create_task(ends.other.call(invocation()))
        await eventually(lambda: ends.other._once._waiting == 1)

        held.release.set()

        assert (await first).payload == (await second).payload == b"hi"
        assert not echo.calls

    async def test_a_process_that_waits_executes_when_the_key_is_given_back(
        self, ends: Ends
    ) -> None:
        refuse = asyncio.Event()

        async def refuse_later(call: Invocation) -> Reply:
            await refuse.wait()
            raise errors.Denied("not here")

        first_target, echo = Answering(refuse_later), Echo()
        await ends.callee.serve("callee", first_target)
        await ends.other.serve("callee", echo)
        first = asyncio.create_task(ends.callee.call(invocation()))
        await eventually(lambda: first_target.calls)
        second = asyncio.create_task(ends.other.call(invocation()))
        await eventually(lambda: ends.other._once._waiting == 1)

        refuse.set()

        with pytest.raises(errors.Denied):
            await first
        assert (await second).payload == b"hi"
        assert len(echo.calls) == 1

    async def test_a_process_that_ends_hands_over_those_who_wait(self, ends: Ends) -> None:
        held = Held()
        await ends.callee.serve("callee", held)
        first = asyncio.create_task(ends.callee.call(invocation()))
        await held.started.wait()

        async def executed() -> Reply:
            return Reply(b"twice")

        waiting = asyncio.create_task(ends.other._once.run(invocation(), executed))
        await eventually(lambda: ends.other._once._waiting == 1)

        await ends.other.aclose()

        with pytest.raises(errors.Draining):
            await waiting
        held.release.set()
        await first

    async def test_a_process_that_ends_has_its_last_answers_remembered(self, ends: Ends) -> None:
        held = Held()
        await ends.callee.serve("callee", held)
        first = asyncio.create_task(ends.caller.call(invocation()))
        await held.started.wait()

        held.release.set()
        await ends.callee.aclose()

        assert (await first).payload == b"hi"
        counting = Counting()
        await ends.other.serve("callee", counting)
        assert (await ends.other.call(invocation())).payload == b"hi"
        assert counting.count == 0

    async def test_an_answer_that_comes_after_its_lease_is_given_all_the_same(
        self, ends: Ends, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As of a host that was frozen: what is known in the end is told."""
        monkeypatch.setattr(limits, "IDEMPOTENCY_GRACE_S", -20)
        held, echo = Held(), Echo()
        await ends.callee.serve("callee", held)
        await ends.other.serve("callee", echo)
        first = asyncio.create_task(ends.callee.call(invocation()))
        await held.started.wait()
        with pytest.raises(errors.Unavailable, match="outcome is unknown"):
            await ends.other.call(invocation())

        held.release.set()
        await first

        assert (await ends.other.call(invocation())).payload == b"hi"
        assert not echo.calls

    @pytest.mark.parametrize("seed", range(5))
    async def test_however_calls_come_fail_and_go_away_none_has_its_effect_twice(
        self, ends: Ends, seed: int
    ) -> None:
        rng = random.Random(seed)
        effects: Counter[str] = Counter()

        async def act(call: Invocation) -> Reply:
            await asyncio.sleep(rng.choice([0, 0.001, 0.02]))
            if rng.random() < 0.4:
                raise rng.choice([errors.Denied, errors.Overloaded, errors.NotFound])("not now")
            assert call.key is not None
            effects[call.key] += 1
            if rng.random() < 0.3:
                raise errors.ActorError(f"failed after {effects[call.key]}")
            return Reply(b"%d" % effects[call.key])

        await ends.callee.serve("callee", Answering(act))
        await ends.other.serve("callee", Answering(act))
        outcomes: dict[str, set[str]] = defaultdict(set)

        async def call(key: str) -> None:
            caller = rng.choice([ends.caller, ends.callee, ends.other])
            try:
                reply = await caller.call(invocation(key=key, timeout_s=rng.choice([20, 20, 0.01])))
                outcomes[key].add(reply.payload.decode())
            except errors.ActorError as error:
                outcomes[key].add(error.text)
            except (errors.NotExecuted, errors.DeadlineExceeded):
                pass

        tasks = []
        for _ in range(200):
            tasks.append(asyncio.create_task(call(f"{rng.randrange(20)}")))
            if rng.random() < 0.2:
                rng.choice(tasks).cancel()
            await asyncio.sleep(rng.choice([0, 0, 0.002]))
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert ended is None or isinstance(ended, asyncio.CancelledError), ended

        assert max(effects.values()) == 1
        assert all(len(told) == 1 for told in outcomes.values())


class TestWithoutJetStream:
    async def test_a_call_with_a_key_is_unavailable_and_not_executed(self, tmp_path: Path) -> None:
        async with configured_nats(tmp_path) as url:
            bus = await Bus.connect(NatsSettings(servers=(url,)), name="test")
            rpc = Rpc(bus, "default", at=CALLEE)
            echo = Echo()
            await rpc.serve("callee", echo)

            with pytest.raises(errors.Unavailable, match="nothing was executed"):
                await rpc.call(invocation())
            assert not echo.calls
            assert (await rpc.call(invocation(key=None))).payload == b"hi"

            await rpc.aclose()
            await bus.aclose()


class TestPlainDoor:
    async def test_the_header_has_a_call_executed_once(
        self, ends: Ends, bus: Bus, lattice_name: str
    ) -> None:
        counting = Counting()
        await ends.serve(counting)
        door = subjects.door(lattice_name, "callee", "Echo.Say")

        answers = [
            await bus.request(
                door,
                b"hi",
                headers={KEY_HEADER: key},
                deadline=asyncio.get_running_loop().time() + 10,
            )
            for key in ("k", "k", "l", "x" * 256)
        ]

        assert [answer.data for answer in answers] == [b"1", b"1", b"2", b""]
        assert (answers[3].headers or {})["Nats-Service-Error-Code"] == "invalid_request"


async def counter_on_two_hosts(cluster: Cluster) -> None:
    alpha, beta = await cluster.start_hosts(2)
    counter = (ROOT / "deploy/examples/counter/counter.wasm").read_bytes()
    await cluster.start_provider("kv", "lattice+builtin://keyvalue", on=alpha)
    await cluster.link("counter", "kv", "wasmcloud:keyvalue")
    for host in (alpha, beta):
        await cluster.start_actor("counter", on=host, wasm=counter, count=100)


async def count(cluster: Cluster, *, key: str | None = None) -> bytes:
    return await cluster.call(
        "counter", "HttpServer.HandleRequest", REQUEST, interface=HTTP, key=key
    )


async def test_fifty_concurrent_calls_with_one_key_count_once_on_two_hosts(
    cluster: Cluster,
) -> None:
    await counter_on_two_hosts(cluster)

    answers = await asyncio.gather(*(count(cluster, key="order-66") for _ in range(50)))

    assert len(set(answers)) == 1
    assert msgpack.unpackb(answers[0])["body"] == b'{"counter": 1}\n'
    # The store's own count: one without a key is the second.
    assert msgpack.unpackb(await count(cluster))["body"] == b'{"counter": 2}\n'


async def test_a_retry_after_overloaded_is_executed_on_a_real_host(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1, mailbox_calls=1)
    gate = Gate()
    await cluster.serve("gate", gate)
    await cluster.start_actor("relay", on=host, count=1)
    await cluster.link("relay", "gate")
    accepted = [asyncio.create_task(cluster.call("relay", payload=b"%d" % n)) for n in range(2)]
    await eventually(lambda: host.host._actors.waiting == 1)
    with pytest.raises(errors.Overloaded):
        await cluster.call("relay", payload=b"once", key="k")
    gate.open()
    await asyncio.gather(*accepted)

    for _ in range(2):
        assert await cluster.call("relay", payload=b"once", key="k") == b"once"

    assert [call.payload for call in gate.invocations].count(b"once") == 1


async def test_a_guests_own_calls_do_not_inherit_the_key(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1)
    gate = Gate()
    gate.open()
    await cluster.serve("gate", gate)
    await cluster.start_actor("relay", on=host)
    await cluster.link("relay", "gate")

    await cluster.call("relay", key="k")

    assert [call.key for call in gate.invocations] == [None]


async def test_a_host_that_drains_answers_its_last_calls_and_leaves_their_answers(
    cluster: Cluster,
) -> None:
    alpha, beta = await cluster.start_hosts(2)
    gate = Gate()
    await cluster.serve("gate", gate)
    await cluster.start_actor("relay", on=alpha)
    await cluster.link("relay", "gate")
    first = asyncio.create_task(cluster.call("relay", payload=b"x", key="k"))
    await eventually(lambda: gate.waiting == 1)
    stopping = asyncio.create_task(alpha.stop(drain_s=20))
    await eventually(lambda: alpha.host.draining)

    gate.open()

    assert await first == b"x"
    await stopping
    await cluster.start_actor("relay", on=beta)
    assert await cluster.call("relay", payload=b"x", key="k") == b"x"
    assert gate.calls.total() == 1


async def test_when_the_executing_host_is_killed_nothing_is_executed_twice(
    cluster: Cluster,
) -> None:
    doomed = await cluster.start_process()
    gate = Gate()
    await cluster.serve("gate", gate)
    await cluster.start_actor("relay", on=doomed)
    (survivor,) = await cluster.start_hosts(1)
    await cluster.link("relay", "gate")
    await doomed_knows_the_link(cluster, gate)
    first = asyncio.create_task(cluster.call("relay", payload=b"x", key="k", timeout_s=4))
    await eventually(lambda: gate.waiting == 1)
    await doomed.kill()
    await cluster.start_actor("relay", on=survivor)
    gate.open()

    with pytest.raises(errors.Unavailable, match="its outcome is unknown") as caught:
        await cluster.call("relay", payload=b"x", key="k")

    assert caught.value.at == doomed.id
    assert [call.payload for call in gate.invocations].count(b"x") == 1
    with pytest.raises(errors.OutcomeUnknown):
        await first


async def doomed_knows_the_link(cluster: Cluster, gate: Gate) -> None:
    """Wait until the host in a process of its own has the link, which only a call can tell."""
    async with asyncio.timeout(20):
        while not gate.calls:
            with suppress(errors.LatticeError):
                await cluster.call("relay", payload=b"probe", timeout_s=0.5)
    await eventually(lambda: gate.waiting == 0)


async def test_http_clients_and_the_command_line_have_calls_executed_once(
    cluster: Cluster,
) -> None:
    await counter_on_two_hosts(cluster)
    port = command_line.free_port()
    await cluster.start_provider("http", "lattice+builtin://http-server", on=cluster.hosts[0])
    await cluster.control.put_config("site", {"address": f"127.0.0.1:{port}"})
    await cluster.link("http", "counter", HTTP, source_config=["site"])
    url = f"http://127.0.0.1:{port}/orders"
    once_only = {"Idempotency-Key": "order-1"}

    async with httpx.AsyncClient(trust_env=False) as client:
        answers = [await client.post(url, headers=once_only, content=b"x") for _ in range(3)]
        other = await client.post(url, headers=once_only, content=b"y")
        wrong = await client.post(url, headers={"Idempotency-Key": "x" * 256}, content=b"x")

    assert [answer.json() for answer in answers] == [{"counter": 1}] * 3
    assert (other.status_code, other.headers["lattice-error"]) == (422, "conflict")
    assert (wrong.status_code, wrong.headers["lattice-error"]) == (400, "invalid_request")

    for _ in range(2):
        outcome = await command_line.run(
            *("call", "counter", "HttpServer.HandleRequest", "--interface", HTTP),
            *("--json", '{"method":"GET","path":"/cli","queryString":"","header":{},"body":""}'),
            *("--idempotency-key", "cli-1", "--decode", "msgpack", "--output", "json"),
            environment={"LATTICE_NATS_URL": cluster.nats.url},
        )
        assert outcome.status == 0, outcome.errors
        assert outcome.json["payload"]["statusCode"] == 200
    wrong_key = await command_line.run(
        *("call", "counter", "X.Y", "--idempotency-key", ""),
        environment={"LATTICE_NATS_URL": cluster.nats.url},
    )
    assert wrong_key.status == 2
