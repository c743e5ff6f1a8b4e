"""Several actors on one small host: calls, ends, cancellations and resizes in any order."""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import ClassVar, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from host.actors.actor import Actor
from host.actors.slots import Slots
from host.engine import CallLimits, Code, Engine, EngineSettings
from lattice import errors
from lattice.wire.invocation import Invocation, Reply
from tests.support.host_calls import Host, Request
from tests.support.wat import actor as assembled

PLACES = 9
ACTORS = 3
MAILBOX_CALLS = 6
T = TypeVar("T")


class AdmissionMachine(RuleBasedStateMachine):
    """Real guests, suspended in a host call until the machine ends them."""

    engine: ClassVar[Engine]
    module: ClassVar[Code]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.slots = Slots(PLACES, memory=self.engine, bytes_max=2**30)
        self.suspended: dict[bytes, asyncio.Future[bytes]] = {}
        self.calls: dict[bytes, asyncio.Task[Reply]] = {}
        self.begun: list[list[int]] = [[] for _ in range(ACTORS)]
        """Numbers of each actor's calls in the order in which their guests ran."""
        self.sent = 0
        self.refused = 0

    def run(self, coroutine: Coroutine[None, None, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    @initialize(counts=st.lists(st.integers(1, 20), min_size=ACTORS, max_size=ACTORS))
    def start(self, counts: list[int]) -> None:
        async def make(index: int, count: int) -> Actor:
            return Actor(
                f"{index}",
                self.module,
                count=count,
                slots=self.slots,
                surroundings=lambda _: Host(lambda request: self._suspend(index, request)),
                call_limits=CallLimits(),
                mailbox_calls=MAILBOX_CALLS,
            )

        self.actors = [self.run(make(index, count)) for index, count in enumerate(counts)]

    async def _suspend(self, index: int, request: Request) -> bytes:
        payload = request[3]
        self.begun[index].append(int(payload))
        future: asyncio.Future[bytes] = self.loop.create_future()
        self.suspended[payload] = future
        try:
            return await future
        finally:
            self.suspended.pop(payload, None)

    def turn(self) -> None:
        """Let everything happen that can."""

        async def passes() -> None:
            for _ in range(20):
                await asyncio.sleep(0)

        self.run(passes())

    @rule(index=st.integers(0, ACTORS - 1), times=st.integers(1, 12))
    def call(self, index: int, times: int) -> None:
        async def send(payload: bytes) -> asyncio.Task[Reply]:
            outcome = self.actors[index].accept(
                Invocation(
                    source="model",
                    target=f"{index}",
                    interface="test:target",
                    operation="Test.Run",
                    payload=payload,
                    deadline=self.loop.time() + 1_000,
                )
            )

            async def wait() -> Reply:
                return outcome if isinstance(outcome, Reply) else await outcome

            return asyncio.create_task(wait())

        for _ in range(times):
            payload = b"%d" % self.sent
            self.sent += 1
            waiting = self.actors[index].statistics().waiting
            try:
                self.calls[payload] = self.run(send(payload))
            except errors.Overloaded:
                self.refused += 1
                assert waiting == MAILBOX_CALLS, "refused although there was room to wait"
        self.turn()

    @precondition(lambda self: self.suspended)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        payload = data.draw(st.sampled_from(sorted(self.suspended)))
        self.suspended[payload].set_result(payload)
        self.turn()
        assert self.calls.pop(payload).result().payload == payload

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), turn=st.booleans())
    def cancel(self, data: st.DataObject, *, turn: bool) -> None:
        payload = data.draw(st.sampled_from(sorted(self.calls)))
        self.calls.pop(payload).cancel()
        if turn:
            self.turn()

    @rule(index=st.integers(0, ACTORS - 1), count=st.integers(1, 20))
    def resize(self, index: int, count: int) -> None:
        self.actors[index].resize(count)
        self.turn()

    @invariant()
    def no_more_run_than_may(self) -> None:
        assert self.engine.statistics().instances <= PLACES
        assert self.slots.taken <= PLACES

    @invariant()
    def calls_of_one_actor_begin_in_their_order(self) -> None:
        assert all(begun == sorted(begun) for begun in self.begun)

    @invariant()
    def no_place_is_empty_while_a_call_waits_for_it(self) -> None:
        self.turn()
        for actor in getattr(self, "actors", ()):
            now = actor.statistics()
            if now.waiting and now.running < actor.count:
                kept = self.slots.kept if now.running else 0
                assert self.slots.taken >= PLACES - kept

    @invariant()
    def figures_agree(self) -> None:
        self.turn()
        running = [actor.statistics().running for actor in getattr(self, "actors", ())]
        assert self.slots.taken == sum(running) == len(self.suspended)

    def teardown(self) -> None:
        for _ in range(10 * self.sent + 1):
            for future in list(self.suspended.values()):
                if not future.done():
                    future.set_result(b"")
            self.turn()
            if not self.suspended:
                break
        assert all(call.done() for call in self.calls.values()), "an accepted call has no end"
        assert (self.slots.taken, self.slots.waiting_bytes, self.slots.held_bytes) == (0, 0, 0)
        self.loop.close()


@pytest.fixture(scope="module", autouse=True)
def _engine() -> Iterator[None]:
    # With so long a tick no guest is moved to a thread, however busy the machine is.
    engine = Engine(EngineSettings(instances_max=PLACES, epoch_tick_s=1.0))
    AdmissionMachine.engine = engine
    AdmissionMachine.module = asyncio.run(engine.load(assembled("relay")))
    yield
    engine.close()


AdmissionMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, derandomize=True
)
TestAdmissionAgainstAModel = AdmissionMachine.TestCase
