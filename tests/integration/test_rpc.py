"""Calls over a real nats-server, and calls within a process, held to the same promises."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lattice import cancellation, errors, limits, subjects
from lattice.bus import Bus, Message, NatsSettings
from lattice.bus.server import NatsServer
from lattice.rpc import Rpc
from lattice.wire import codec
from lattice.wire import invocation as wire
from lattice.wire.invocation import Invocation, Reply, Usage
from tests.support.configured_nats import configured_nats
from tests.support.eventually import eventually
from tests.support.nats_server import connected
from tests.support.targets import Answering, Echo, Held, Refusing

LARGE = limits.INLINE_PAYLOAD_BYTES + 1
CALLEE = "NCALLEE"


@dataclass
class Ends:
    """A process that calls and one that is called; they are the same when the call is local."""

    caller: Rpc
    callee: Rpc


@pytest.fixture
async def ends(
    request: pytest.FixtureRequest, bus: Bus, nats: NatsServer, lattice_name: str
) -> AsyncIterator[Ends]:
    """The two ends of a remote call."""
    async with connected(nats) as other:
        ends = Ends(Rpc(bus, lattice_name, at="NCALLER"), Rpc(other, lattice_name, at=CALLEE))
        await ends.callee.hear_cancellations()
        await other.flush()
        yield ends
        await ends.caller.aclose()
        await ends.callee.aclose()


@pytest.fixture(params=["local", "remote"])
async def either(request: pytest.FixtureRequest, ends: Ends) -> Ends:
    return ends if request.param == "remote" else Ends(ends.callee, ends.callee)


def invocation(
    payload: bytes = b"hi",
    *,
    timeout_s: float = 10,
    target: str = "callee",
    hops: int = 0,
    key: str | None = None,
    trace: str | None = None,
) -> Invocation:
    return Invocation(
        source="caller",
        target=target,
        interface="test:echo",
        operation="Echo.Say",
        payload=payload,
        deadline=asyncio.get_running_loop().time() + timeout_s,
        link_name="named",
        hops=hops,
        key=key,
        trace=trace,
    )


class TestEitherWay:
    """What holds whether the target is in this process or in another."""

    async def test_a_call_is_answered(self, either: Ends) -> None:
        await either.callee.serve("callee", Echo())

        assert (await either.caller.call(invocation(b"hello"))).payload == b"hello"

    async def test_a_call_that_waits_is_answered(self, either: Ends) -> None:
        async def later(call: Invocation) -> Reply:
            await asyncio.sleep(0)
            return Reply(call.payload * 2)

        await either.callee.serve("callee", Answering(later))

        assert (await either.caller.call(invocation())).payload == b"hihi"

    async def test_the_target_sees_who_calls_and_how(self, either: Ends) -> None:
        echo = Echo()
        await either.callee.serve("callee", echo)
        sent = invocation(hops=3, key="once", trace="00-aa-bb-01")

        await either.caller.call(sent)

        (seen,) = echo.calls
        assert seen.deadline == pytest.approx(sent.deadline, abs=0.5)
        seen.deadline = sent.deadline
        assert seen == sent

    async def test_what_the_call_cost_is_told(self, either: Ends) -> None:
        usage = Usage(cpu_us=5, fuel=7, memory_bytes=9)

        async def cost(call: Invocation) -> Reply:
            return Reply(b"", usage)

        await either.callee.serve("callee", Answering(cost))

        assert (await either.caller.call(invocation())).usage == usage

    @pytest.mark.parametrize("size", [0, 1, limits.INLINE_PAYLOAD_BYTES, LARGE, 5 * LARGE])
    async def test_payloads_of_every_size_go_there_and_back(self, either: Ends, size: int) -> None:
        await either.callee.serve("callee", Echo())
        payload = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

        assert (await either.caller.call(invocation(payload))).payload == payload

    async def test_a_payload_over_the_limit_is_refused_naming_both_numbers(
        self, either: Ends, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "PAYLOAD_BYTES_MAX", 2 * LARGE)
        echo = Echo()
        await either.callee.serve("callee", echo)

        with pytest.raises(errors.PayloadTooLarge) as caught:
            await either.caller.call(invocation(bytes(2 * LARGE + 1)))

        assert caught.value.detail == {"size": 2 * LARGE + 1, "limit": 2 * LARGE}
        assert not echo.calls

    async def test_an_answer_over_the_limit_is_refused(
        self, either: Ends, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "PAYLOAD_BYTES_MAX", 2 * LARGE)

        async def too_much(call: Invocation) -> Reply:
            return Reply(bytes(2 * LARGE + 1))

        await either.callee.serve("callee", Answering(too_much))

        with pytest.raises(errors.ProviderError, match="over the limit") as caught:
            await either.caller.call(invocation())

        assert caught.value.at == CALLEE

    @pytest.mark.parametrize("code", sorted(errors.BY_CODE))
    @pytest.mark.parametrize("when", ["at once", "later"])
    async def test_errors_arrive_as_they_were_raised_with_where(
        self, either: Ends, code: str, when: str
    ) -> None:
        def error() -> errors.LatticeError:
            return errors.BY_CODE[code].from_parts("what happened", detail={"limit": 5})

        async def fail(call: Invocation) -> Reply:
            raise error()

        target = Refusing(error()) if when == "at once" else Answering(fail)
        await either.callee.serve("callee", target)

        with pytest.raises(errors.BY_CODE[code]) as caught:
            await either.caller.call(invocation(timeout_s=0.5))

        raised = caught.value
        assert (raised.text, raised.at, raised.detail) == ("what happened", CALLEE, {"limit": 5})

    @pytest.mark.parametrize("code", sorted(errors.BY_CODE))
    async def test_only_what_was_not_executed_is_repeated_twice_at_most(
        self, either: Ends, code: str
    ) -> None:
        refusing = Refusing(errors.BY_CODE[code].from_parts("no"))
        await either.callee.serve("callee", refusing)

        with pytest.raises(errors.BY_CODE[code]):
            await either.caller.call(invocation())

        repeated = code in {"overloaded", "draining", "not_running"}
        assert len(refusing.calls) == (1 + limits.RETRIES_MAX if repeated else 1)
        assert len({call.id for call in refusing.calls}) == 1

    async def test_a_repetition_that_succeeds_is_the_answer(self, either: Ends) -> None:
        class FullAtFirst(Echo):
            def accept(self, invocation: Invocation) -> Reply:
                reply = super().accept(invocation)
                if len(self.calls) < 3:
                    raise errors.Overloaded("full")
                return reply

        await either.callee.serve("callee", FullAtFirst())

        assert (await either.caller.call(invocation())).payload == b"hi"

    async def test_no_repetition_starts_after_the_deadline(
        self, either: Ends, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lattice.rpc.retry.full_jitter", lambda *_: 5.0)
        refusing = Refusing(errors.Overloaded("full"))
        await either.callee.serve("callee", refusing)

        with pytest.raises(errors.Overloaded):
            await either.caller.call(invocation(timeout_s=4))

        assert len(refusing.calls) == 1

    async def test_a_target_that_is_not_running_is_told_at_once(self, either: Ends) -> None:
        with pytest.raises(errors.NotRunning):
            await either.caller.call(invocation(timeout_s=3600))

    @pytest.mark.parametrize("size", [2, LARGE], ids=["small", "large"])
    async def test_a_call_past_its_deadline_is_not_executed(self, either: Ends, size: int) -> None:
        echo = Echo()
        await either.callee.serve("callee", echo)

        with pytest.raises(errors.DeadlineExceeded):
            await either.caller.call(invocation(bytes(size), timeout_s=-1))

        assert not echo.calls

    async def test_a_chain_that_is_too_long_is_cut(self, either: Ends) -> None:
        echo = Echo()
        await either.callee.serve("callee", echo)

        await either.caller.call(invocation(hops=limits.HOPS_MAX))
        with pytest.raises(errors.HopLimit):
            await either.caller.call(invocation(hops=limits.HOPS_MAX + 1))

        assert len(echo.calls) == 1

    @pytest.mark.parametrize("when", ["at once", "later"])
    async def test_a_bug_in_a_target_is_internal_with_a_reference(
        self, either: Ends, when: str
    ) -> None:
        async def stumble(call: Invocation) -> Reply:
            raise ZeroDivisionError("secret inner workings")

        target = Refusing(ZeroDivisionError("secret")) if when == "at once" else Answering(stumble)
        await either.callee.serve("callee", target)

        with pytest.raises(errors.InternalError, match=f"logged on {CALLEE} as") as caught:
            await either.caller.call(invocation())

        assert "secret" not in caught.value.text
        assert caught.value.at == CALLEE

    async def test_a_wait_that_was_cancelled_inside_the_target_is_answered(
        self, either: Ends
    ) -> None:
        async def lose_instance(call: Invocation) -> Reply:
            future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            future.cancel()
            return await future

        await either.callee.serve("callee", Answering(lose_instance))

        with pytest.raises(errors.Cancelled):
            await either.caller.call(invocation(timeout_s=3600))

    async def test_thousands_of_calls_at_once_are_all_answered(self, either: Ends) -> None:
        await either.callee.serve("callee", Echo())

        async def call(number: int) -> int:
            # On a slow machine a line refuses what has less patience than all of them take.
            asked = invocation(b"%d" % number, timeout_s=120)
            return int((await either.caller.call(asked)).payload)

        answers = await asyncio.gather(*(call(number) for number in range(10_000)))

        assert answers == list(range(10_000))

    async def test_a_target_that_is_served_no_more_is_not_running(self, either: Ends) -> None:
        service = await either.callee.serve("callee", Echo())
        await service.aclose()
        await service.aclose()

        with pytest.raises(errors.NotRunning):
            await either.caller.call(invocation())


class TestLocal:
    async def test_cancelling_the_caller_cancels_the_callee(self, ends: Ends) -> None:
        held = Held()
        await ends.callee.serve("callee", held)

        async with asyncio.TaskGroup() as group:
            call = group.create_task(ends.callee.call(invocation(timeout_s=3600)))
            await held.started.wait()
            call.cancel()

        assert held.abandoned.is_set()

    async def test_a_busy_local_target_leaves_the_repetition_to_others(self, ends: Ends) -> None:
        refusing, echo = Refusing(errors.Overloaded("full")), Echo()
        service = await ends.callee.serve("callee", refusing)
        await ends.caller.serve("callee", echo)
        for subscription in service._subscriptions:
            await subscription.unsubscribe()

        assert (await ends.callee.call(invocation())).payload == b"hi"
        assert (len(refusing.calls), len(echo.calls)) == (1, 1)

    async def test_closing_an_old_service_leaves_its_successor(self, ends: Ends) -> None:
        old = await ends.callee.serve("callee", Refusing(errors.Draining("old")))
        fresh = Echo()
        await ends.callee.serve("callee", fresh)

        await old.aclose()

        assert ends.callee._targets["callee"] is fresh
        assert (await ends.callee.call(invocation())).payload == b"hi"


class TestRemote:
    async def test_a_service_takes_calls_as_soon_as_it_is_served(self, ends: Ends) -> None:
        for number in range(20):
            await ends.callee.serve(f"callee-{number}", Echo())

            call = invocation(target=f"callee-{number}")
            await ends.caller._call_remote(call)

    @pytest.mark.parametrize(
        "envelope",
        [
            b"",
            b"\xc1",
            b"\xc0",
            b"not msgpack",
            codec.pack([1, 2]),
            codec.pack({"v": 2}),
            codec.pack({"v": 1, "id": "x"}),
            b"\x91" * 3000,
            b"\xdd\xff\xff\xff\xff",
        ],
        ids=["empty", "unused byte", "nil", "text", "list", "version", "missing", "deep", "huge"],
    )
    async def test_a_malformed_envelope_is_answered_and_the_service_goes_on(
        self, ends: Ends, bus: Bus, lattice_name: str, envelope: bytes
    ) -> None:
        await ends.callee.serve("callee", Echo())
        subject = subjects.call(lattice_name, "callee", "stranger")

        message = await bus.request(
            subject, envelope, deadline=asyncio.get_running_loop().time() + 5
        )

        with pytest.raises(errors.InvalidRequest):
            wire.decode_reply(message.data)
        assert (await ends.caller.call(invocation())).payload == b"hi"

    async def test_the_hop_limit_holds_against_a_peer_that_ignores_it(self, ends: Ends) -> None:
        echo = Echo()
        await ends.callee.serve("callee", echo)

        with pytest.raises(errors.HopLimit) as caught:
            await ends.caller._call_remote(invocation(hops=limits.HOPS_MAX + 1))

        assert caught.value.at == CALLEE
        assert not echo.calls

    async def test_a_reference_to_a_payload_that_is_gone_is_answered(
        self, ends: Ends, bus: Bus, lattice_name: str
    ) -> None:
        await ends.callee.serve("callee", Echo())
        loop = asyncio.get_running_loop()
        ref = wire.PayloadRef(name="gone", size=5, digest="00")

        message = await bus.request(
            subjects.call(lattice_name, "callee", "caller"),
            wire.encode_request(invocation(), now=loop.time(), ref=ref),
            deadline=loop.time() + 5,
        )

        with pytest.raises(errors.Unavailable, match="gone"):
            wire.decode_reply(message.data)

    async def test_a_payload_that_is_not_what_its_reference_names_is_refused(
        self, ends: Ends, bus: Bus, lattice_name: str
    ) -> None:
        await ends.callee.serve("callee", Echo())
        loop = asyncio.get_running_loop()
        store = await bus.objects(subjects.payload_bucket(lattice_name))
        await store.put("forged", b"other")
        ref = wire.PayloadRef(name="forged", size=5, digest="00")

        message = await bus.request(
            subjects.call(lattice_name, "callee", "caller"),
            wire.encode_request(invocation(), now=loop.time(), ref=ref),
            deadline=loop.time() + 5,
        )

        with pytest.raises(errors.InvalidRequest):
            wire.decode_reply(message.data)

    async def test_large_payloads_leave_nothing_in_the_store(
        self, ends: Ends, bus: Bus, lattice_name: str
    ) -> None:
        await ends.callee.serve("callee", Echo())
        await ends.caller.call(invocation(bytes(LARGE)))
        with pytest.raises(errors.NotRunning):
            await ends.caller.call(invocation(bytes(LARGE), target="nobody"))

        stream = f"OBJ_{subjects.payload_bucket(lattice_name)}"
        info = await bus._jetstream.stream_info(stream)
        # What is left are the marks that objects were deleted.
        assert info.state.bytes < LARGE

    async def test_an_error_too_large_to_send_arrives_without_its_detail(self, ends: Ends) -> None:
        error = errors.ActorTrapped("unreachable", backtrace="frame " * LARGE)
        error.text = "trapped " * LARGE
        await ends.callee.serve("callee", Refusing(error))

        with pytest.raises(errors.ActorTrapped) as caught:
            await ends.caller.call(invocation())

        assert len(caught.value.text) == limits.ERROR_TEXT_CHARS
        assert caught.value.detail == {}

    async def test_a_large_answer_does_not_hold_up_the_calls_behind_it(
        self, ends: Ends, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        released = asyncio.Event()
        put = ends.callee._payloads.put

        async def put_when_released(name: str, payload: bytes) -> wire.PayloadRef:
            await released.wait()
            return await put(name, payload)

        class LargeWhenAsked(Echo):
            def accept(self, invocation: Invocation) -> Reply:
                return Reply(bytes(LARGE) if invocation.payload == b"large" else b"small")

        monkeypatch.setattr(ends.callee._payloads, "put", put_when_released)
        await ends.callee.serve("callee", LargeWhenAsked())
        async with asyncio.TaskGroup() as group:
            large = group.create_task(ends.caller.call(invocation(b"large")))
            await asyncio.sleep(0)

            assert (await ends.caller.call(invocation())).payload == b"small"
            released.set()

        assert len(large.result().payload) == LARGE

    @pytest.mark.parametrize(
        "answer",
        [b"", b"junk", codec.pack({"v": 1, "id": "x", "err": 5}), codec.pack({"v": 9})],
        ids=["empty", "junk", "error that is none", "version"],
    )
    async def test_a_malformed_answer_leaves_the_outcome_unknown(
        self, ends: Ends, bus: Bus, lattice_name: str, answer: bytes
    ) -> None:
        async def respond(message: Message) -> None:
            await bus.publish(message.reply, answer)

        await bus.subscribe(subjects.calls(lattice_name, "callee"), respond)

        with pytest.raises(errors.InternalError) as caught:
            await ends.caller.call(invocation())

        assert caught.value.executed == "unknown"

    async def test_an_answer_that_comes_too_late_leaves_nothing_behind(
        self, ends: Ends, bus: Bus
    ) -> None:
        class Late(Held):
            async def accept(self, invocation: Invocation) -> Reply:
                self.started.set()
                await self.release.wait()
                return Reply(b"late")

        late = Late()
        await ends.callee.serve("callee", late)

        with pytest.raises(errors.DeadlineExceeded):
            await ends.caller.call(invocation(timeout_s=0.1))
        late.release.set()
        await eventually(lambda: ends.callee.calls_in_hand == 0)
        await ends.callee.serve("behind", Echo())
        await ends.caller.call(invocation(target="behind"))

        assert len(bus._pending) == 0
        assert len(ends.callee._cancellable) == 0

    async def test_two_processes_share_the_calls_of_a_target(self, ends: Ends) -> None:
        one, other = Echo(), Echo()
        await ends.callee.serve("callee", one)
        await ends.caller.serve("callee", other)

        for _ in range(100):
            await ends.caller._call_remote(invocation())

        assert len(one.calls) + len(other.calls) == 100
        assert one.calls
        assert other.calls

    async def test_closing_a_service_loses_nothing_that_had_arrived(self, ends: Ends) -> None:
        held = Held()
        service = await ends.callee.serve("callee", held)
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(ends.caller.call(invocation())) for _ in range(500)]
            await held.started.wait()

            await service.aclose()
            held.release.set()

            outcomes = await asyncio.gather(*calls, return_exceptions=True)
        answered = [outcome for outcome in outcomes if isinstance(outcome, Reply)]
        # By nobody who is there any more, or, on a slow machine, by a line that moves too slowly.
        refused = [outcome for outcome in outcomes if isinstance(outcome, errors.NotExecuted)]
        # Each was answered, or told that it was not executed; none was left to its deadline.
        assert len(answered) + len(refused) == 500
        assert len(answered) == held.answered > 0

    async def test_closing_abandons_what_still_runs(self, ends: Ends) -> None:
        held = Held()
        await ends.callee.serve("callee", held)
        call = asyncio.create_task(ends.caller.call(invocation(timeout_s=3600)))
        await held.started.wait()

        await ends.callee.aclose()
        await ends.callee.aclose()

        with pytest.raises(errors.Cancelled, match="abandoned"):
            await call
        assert held.abandoned.is_set()


class TestCancellation:
    """Of a call that another process executes."""

    async def test_cancelling_the_caller_cancels_the_callee(self, ends: Ends) -> None:
        held = Held()
        await ends.callee.serve("callee", held)

        async with asyncio.TaskGroup() as group:
            call = group.create_task(ends.caller.call(invocation(timeout_s=3600)))
            await held.started.wait()
            call.cancel()

        await eventually(held.abandoned.is_set)
        await eventually(lambda: len(ends.callee._cancellable) == ends.callee.calls_in_hand == 0)

    async def test_a_process_that_serves_one_target_listens_for_that_one(
        self, ends: Ends, nats: NatsServer, lattice_name: str
    ) -> None:
        async with connected(nats) as bus:
            provider = Rpc(bus, lattice_name, at="NPROVIDER")
            held = Held()
            await provider.hear_cancellations("alone")
            await provider.serve("alone", held)
            call = asyncio.create_task(ends.caller.call(invocation(target="alone", timeout_s=3600)))
            await held.started.wait()

            call.cancel()

            await eventually(held.abandoned.is_set)
            await asyncio.wait([call])
            await provider.aclose()

    async def test_a_large_call_is_cancelled_as_well(self, ends: Ends) -> None:
        held = Held()
        await ends.callee.serve("callee", held)

        async with asyncio.TaskGroup() as group:
            call = group.create_task(ends.caller.call(invocation(bytes(LARGE), timeout_s=3600)))
            await held.started.wait()
            call.cancel()

        await eventually(held.abandoned.is_set)

    async def test_only_the_cancelled_call_ends(self, ends: Ends) -> None:
        held = Held()
        await ends.callee.serve("callee", held)
        async with asyncio.TaskGroup() as group:
            stays = group.create_task(ends.caller.call(invocation(b"stays")))
            goes = group.create_task(ends.caller.call(invocation(b"goes")))
            await eventually(lambda: len(ends.callee._cancellable) == 2)

            goes.cancel()
            await eventually(held.abandoned.is_set)
            held.release.set()

            assert (await stays).payload == b"stays"
        assert held.answered == 1

    @pytest.mark.parametrize(
        "forged",
        [
            ("callee", "stranger", None),
            ("other", "caller", None),
            ("callee", "caller", codec.pack({"v": 1, "id": "x.1"})),
            ("callee", "caller", codec.pack({"v": 2, "id": "x.1"})),
            ("callee", "caller", codec.pack({"v": 1, "id": 1})),
            ("callee", "caller", codec.pack([1])),
            ("callee", "caller", b""),
            ("callee", "caller", b"\xc1"),
        ],
        ids=[
            "another source",
            "another target",
            "another call",
            "another version",
            "a wrong type",
            "a list",
            "empty",
            "not msgpack",
        ],
    )
    async def test_a_forged_or_malformed_cancellation_does_nothing(
        self, ends: Ends, bus: Bus, lattice_name: str, forged: tuple[str, str, bytes | None]
    ) -> None:
        held = Held()
        await ends.callee.serve("callee", held)
        await ends.callee.serve("other", Held())
        sent = invocation()
        async with asyncio.TaskGroup() as group:
            call = group.create_task(ends.caller.call(sent))
            await held.started.wait()

            target, source, envelope = forged
            subject = subjects.cancel(lattice_name, target, source)
            envelope = wire.encode_cancel(sent.id) if envelope is None else envelope
            await bus.publish(subject, envelope)
            # What comes behind it on the same connection has been seen when this is answered.
            await ends.callee.serve("behind", Echo())
            await ends.caller.call(invocation(target="behind"))
            held.release.set()

            assert (await call).payload == b"hi"

    async def test_a_cancellation_that_overtook_its_call_ends_it_as_it_comes(
        self, ends: Ends, bus: Bus, lattice_name: str
    ) -> None:
        held = Held()
        await ends.callee.serve("callee", held)
        sent = invocation(timeout_s=3600)
        subject = subjects.cancel(lattice_name, "callee", "caller")
        await bus.publish(subject, wire.encode_cancel(sent.id))
        await eventually(lambda: len(ends.callee._cancellable._early) == 1)

        call = asyncio.create_task(ends.caller.call(sent))

        await eventually(held.abandoned.is_set)
        call.cancel()
        await asyncio.wait([call])

    async def test_a_flood_of_cancellations_is_not_kept(
        self, ends: Ends, bus: Bus, lattice_name: str
    ) -> None:
        subject = subjects.cancel(lattice_name, "callee", "caller")

        for number in range(cancellation.EARLY_MAX + 10):
            await bus.publish(subject, wire.encode_cancel(f"x.{number}"))
        await ends.callee.serve("behind", Echo())
        await ends.caller.call(invocation(target="behind"))

        await eventually(lambda: len(ends.callee._cancellable._early) == cancellation.EARLY_MAX)

    async def test_a_cancellation_changes_nothing_for_a_call_that_is_answered_at_once(
        self, ends: Ends, bus: Bus, lattice_name: str
    ) -> None:
        await ends.callee.serve("callee", Echo())
        sent = invocation()

        await bus.publish(
            subjects.cancel(lattice_name, "callee", "caller"), wire.encode_cancel(sent.id)
        )

        assert (await ends.caller.call(sent)).payload == b"hi"

    async def test_a_call_that_is_cancelled_as_it_arrives_still_reaches_its_end(
        self, ends: Ends
    ) -> None:
        """Or what its target set aside for it would never be given back."""
        held = Held()
        await ends.callee.serve("callee", held)

        for _ in range(20):
            held.started.clear()
            call = asyncio.create_task(ends.caller.call(invocation(timeout_s=3600)))
            # Sent and called off in one write, so that the callee reads both at once.
            await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

        await ends.callee.serve("behind", Echo())
        await ends.caller.call(invocation(target="behind"))
        await eventually(lambda: ends.callee.calls_in_hand == 0)

    async def test_the_table_is_bounded(self, ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "CANCELLABLE_CALLS_MAX", 2)
        held = Held()
        await ends.callee.serve("callee", held)
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(ends.caller.call(invocation())) for _ in range(5)]
            await eventually(lambda: ends.callee.calls_in_hand == 5)

            assert len(ends.callee._cancellable) == 2
            held.release.set()

            assert [(await call).payload for call in calls] == [b"hi"] * 5
        await eventually(lambda: len(ends.callee._cancellable) == 0)

    async def test_cancelling_while_nats_is_away_ends_at_once(self, nats: NatsServer) -> None:
        async with connected(nats) as bus:
            rpc = Rpc(bus, "away", at="NCALLER")
            await bus.aclose()

            await rpc._call_off(invocation())


class TestPlainDoor:
    @pytest.fixture
    async def door(self, bus: Bus, lattice_name: str) -> str:
        return subjects.door(lattice_name, "callee", "Echo.Say")

    async def ask(
        self, bus: Bus, door: str, payload: bytes = b"hi", headers: dict[str, str] | None = None
    ) -> Message:
        deadline = asyncio.get_running_loop().time() + 5
        return await bus.request(door, payload, deadline=deadline, headers=headers)

    async def test_a_payload_goes_in_and_a_payload_comes_out(
        self, ends: Ends, bus: Bus, door: str
    ) -> None:
        echo = Echo()
        await ends.callee.serve("callee", echo, door=True)

        message = await self.ask(bus, door, headers={"traceparent": "00-aa-bb-01"})

        (seen,) = echo.calls
        assert (message.data, message.headers) == (b"hi", None)
        assert (seen.source, seen.operation, seen.trace) == ("nats", "Echo.Say", "00-aa-bb-01")

    async def test_the_door_is_shut_unless_it_is_opened(
        self, ends: Ends, bus: Bus, door: str
    ) -> None:
        await ends.callee.serve("callee", Echo())

        with pytest.raises(errors.NotRunning):
            await self.ask(bus, door)

    async def test_errors_come_in_headers_with_an_empty_body(
        self, ends: Ends, bus: Bus, door: str
    ) -> None:
        error = errors.ActorError("two\r\nlines: \udc80 ü")
        await ends.callee.serve("callee", Refusing(error), door=True)

        message = await self.ask(bus, door)

        assert message.data == b""
        assert message.headers == {
            "Nats-Service-Error": "two lines: ? ü",
            "Nats-Service-Error-Code": "actor_error",
        }

    async def test_bugs_are_told_as_internal(self, ends: Ends, bus: Bus, door: str) -> None:
        await ends.callee.serve("callee", Refusing(ZeroDivisionError()), door=True)

        message = await self.ask(bus, door)

        assert message.headers is not None
        assert message.headers["Nats-Service-Error-Code"] == "internal"

    async def test_the_timeout_header_sets_the_deadline(
        self, ends: Ends, bus: Bus, door: str
    ) -> None:
        echo = Echo()
        await ends.callee.serve("callee", echo, door=True)

        for header in ("1", "60000", "999999999"):
            await self.ask(bus, door, headers={"Lattice-Timeout-Ms": header})

        now = asyncio.get_running_loop().time()
        left = [call.deadline - now for call in echo.calls]
        assert left == [
            pytest.approx(0, abs=5),
            pytest.approx(60, abs=5),
            pytest.approx(limits.CALL_TIMEOUT_S_MAX, abs=5),
        ]

    @pytest.mark.parametrize(
        "header", ["0", "-1", "soon", "", "1.5", "٣", "9" * 5000], ids=lambda text: text[:9] or "''"
    )
    async def test_a_timeout_that_is_none_is_invalid(
        self, ends: Ends, bus: Bus, door: str, header: str
    ) -> None:
        await ends.callee.serve("callee", Echo(), door=True)

        message = await self.ask(bus, door, headers={"Lattice-Timeout-Ms": header})

        assert message.headers is not None
        assert message.headers["Nats-Service-Error-Code"] == "invalid_request"

    async def test_an_answer_too_large_for_the_door_is_told(
        self, ends: Ends, bus: Bus, door: str
    ) -> None:
        async def large(call: Invocation) -> Reply:
            return Reply(bytes(2 * LARGE))

        await ends.callee.serve("callee", Answering(large), door=True)

        message = await self.ask(bus, door)

        assert message.headers is not None
        assert message.headers["Nats-Service-Error-Code"] == "payload_too_large"

    async def test_a_message_that_wants_no_answer_is_executed(
        self, ends: Ends, bus: Bus, door: str
    ) -> None:
        echo = Echo()
        await ends.callee.serve("callee", echo, door=True)

        await bus.publish(door, b"fire and forget")

        await eventually(lambda: [call.payload for call in echo.calls] == [b"fire and forget"])

    async def test_stock_json_goes_through_untouched(self, ends: Ends, bus: Bus, door: str) -> None:
        await ends.callee.serve("callee", Echo(), door=True)
        body = json.dumps({"any": ["bytes", 1]}).encode()

        assert (await self.ask(bus, door, body)).data == body


async def test_serving_without_a_connection_is_unavailable_and_leaves_nothing(
    nats: NatsServer, lattice_name: str
) -> None:
    async with connected(nats) as bus:
        rpc = Rpc(bus, lattice_name, at=CALLEE)
        await bus.aclose()

        with pytest.raises(errors.Unavailable):
            await rpc.serve("callee", Echo())

        assert not rpc._targets


@pytest.mark.parametrize("name", ["", "a.b", "*", ">", "x" * 129, "ü", "a b"])
async def test_a_target_needs_an_id(bus: Bus, lattice_name: str, name: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        await Rpc(bus, lattice_name, at=CALLEE).serve(name, Echo())


async def test_after_a_reconnection_payloads_are_cut_as_the_new_server_takes_them(
    tmp_path: Path,
) -> None:
    """What went inside a message goes through the object store, in smaller pieces."""
    payload = bytes(300_000)
    jetstream = f'jetstream {{ store_dir: "{tmp_path}/store" }}\n'
    async with configured_nats(tmp_path, jetstream + "max_payload: 1MB") as url:
        buses = [await Bus.connect(NatsSettings(servers=(url,)), name="test") for _ in range(2)]
        caller, callee = (Rpc(bus, "default", at="test") for bus in buses)
        await callee.serve("callee", Echo())
        await buses[1].flush()
        assert (await caller.call(invocation(payload))).payload == payload
    await eventually(lambda: not any(bus.is_connected for bus in buses))

    port = int(url.rpartition(":")[2])
    async with configured_nats(tmp_path, jetstream + "max_payload: 40KB", port=port):
        await eventually(lambda: all(bus.is_connected for bus in buses))
        await buses[1].flush()

        assert (await caller.call(invocation(payload))).payload == payload

        for rpc in (caller, callee):
            await rpc.aclose()
        for bus in buses:
            await bus.aclose()
