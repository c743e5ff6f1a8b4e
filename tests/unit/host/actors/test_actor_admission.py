"""Which calls to an actor run, which wait, and what the others hear."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest

from host.actors.actor import Actor
from host.actors.slots import Slots
from host.actors.throttle import ThrottlePolicy
from host.engine import CallLimits, Engine, EngineSettings
from lattice import errors, limits
from lattice.wire.invocation import Invocation, Reply
from tests.support.eventually import eventually
from tests.support.host_calls import Host, Request, now_s
from tests.support.wat import actor as assembled

LONG_S = 30.0
SOON_S = 1_000.0
NEVER_S = 1_000_000.0
"""For a clock that the test turns."""


class Scene:
    """An actor whose guests are suspended in a host call until the test answers it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.slots = Slots(engine.instances_max)
        self.running: dict[bytes, asyncio.Future[bytes]] = {}
        """Open host calls by payload."""
        self.order: list[bytes] = []
        """Payloads in the order in which their guests ran."""
        self.tasks: list[asyncio.Task[Reply]] = []
        self.host = Host(self._suspend)
        self.actor: Actor
        """The one that was started last."""
        self.actors: list[Actor] = []
        self.notices: list[bool] = []
        """What was told of throttling: begun or over."""

    async def start(
        self, *, count: int = 1, mailbox_calls: int = 10, throttle: ThrottlePolicy | None = None
    ) -> Actor:
        self.actor = Actor(
            "relay",
            await self.engine.load(assembled("relay")),
            count=count,
            slots=self.slots,
            surroundings=lambda _invocation: self.host,
            call_limits=CallLimits(),
            mailbox_calls=mailbox_calls,
            throttle=throttle,
            throttle_notice=lambda _, throttle: self.notices.append(throttle.is_on),
            uniform=lambda _, most: most,
        )
        self.actors.append(self.actor)
        return self.actor

    def send(
        self, payload: bytes, *, timeout_s: float = LONG_S, to: Actor | None = None
    ) -> asyncio.Task[Reply]:
        """Send a call: it is accepted or refused now, and awaited in a task of its own."""
        outcome = (to or self.actor).accept(invocation(payload, timeout_s=timeout_s))

        async def wait() -> Reply:
            return outcome if isinstance(outcome, Reply) else await outcome

        task = asyncio.create_task(wait(), name=payload.decode())
        self.tasks.append(task)
        return task

    async def begun(self) -> None:
        """Let every task take its first step: whoever accepts a call awaits it at once."""
        await asyncio.sleep(0)

    async def answer(self, payload: bytes) -> None:
        """Answer the host call of a guest, which ends its call; wait until it runs if need be."""
        await eventually(lambda: payload in self.running)
        self.running.pop(payload).set_result(payload)

    async def _suspended(self, payload: bytes) -> bytes:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.running[payload] = future
        try:
            return await future
        finally:
            self.running.pop(payload, None)

    async def _suspend(self, request: Request) -> bytes:
        self.order.append(request[3])
        return await self._suspended(request[3])

    @property
    def figures(self) -> tuple[int, int]:
        now = self.actor.statistics()
        return now.running, now.waiting


def invocation(payload: bytes = b"", *, timeout_s: float = LONG_S) -> Invocation:
    return Invocation(
        source="tester",
        target="relay",
        interface="test:target",
        operation="Test.Run",
        payload=payload,
        deadline=now_s() + timeout_s,
    )


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine(EngineSettings(instances_max=64))
    yield engine
    engine.close()


@pytest.fixture
async def scene(engine: Engine) -> AsyncIterator[Scene]:
    scene = Scene(engine)
    yield scene
    for task in scene.tasks:
        task.cancel()
    await asyncio.gather(*scene.tasks, return_exceptions=True)
    assert (scene.slots.taken, scene.slots.waiting) == (0, 0)
    assert (scene.slots.waiting_bytes, scene.slots.held_bytes) == (0, 0)
    for actor in scene.actors:
        now = actor.statistics()
        assert (now.running, now.waiting) == (0, 0)
        assert not actor._executions
        assert actor._probe is None
        await actor.stop(drain_s=0)
        assert actor.is_idle
    left = engine.statistics()
    assert (left.instances, left.workers_busy) == (0, 0), "a call kept its instance"


async def test_as_many_calls_run_as_the_count_says_and_the_rest_wait(scene: Scene) -> None:
    await scene.start(count=3)
    for number in range(5):
        scene.send(b"%d" % number)
    await eventually(lambda: len(scene.running) == 3)
    assert scene.figures == (3, 2)
    assert scene.engine.statistics().instances == 3


async def test_waiting_calls_run_in_the_order_of_their_arrival(scene: Scene) -> None:
    await scene.start(count=1)
    payloads = [b"%d" % number for number in range(8)]
    for payload in payloads:
        scene.send(payload)
    for payload in payloads:
        await scene.answer(payload)
    replies = await asyncio.gather(*scene.tasks)
    assert [reply.payload for reply in replies] == payloads
    assert scene.order == payloads


async def test_a_call_says_how_long_it_waited_and_how_often_it_called_out(scene: Scene) -> None:
    actor = await scene.start(count=1)
    scene.send(b"first")
    scene.send(b"second")
    await scene.answer(b"first")
    await scene.answer(b"second")

    first, second = [reply.usage for reply in await asyncio.gather(*scene.tasks)]

    assert first is not None
    assert second is not None
    assert first.queue_us == 0
    assert second.queue_us > 0
    assert (first.host_calls, second.host_calls, actor.tally.host_calls) == (1, 1, 2)
    assert actor.tally.queued.total == 1


async def test_a_newcomer_does_not_overtake_a_call_that_waits(scene: Scene) -> None:
    actor = await scene.start(count=1)
    scene.send(b"first")
    scene.send(b"second")
    await scene.begun()
    scene.running[b"first"].set_result(b"")
    await scene.tasks[0]
    # The slot is handed over, but the second call has not run yet.
    scene.send(b"newcomer")
    assert actor.statistics().waiting == 1
    await scene.answer(b"second")
    await scene.answer(b"newcomer")
    assert scene.order == [b"first", b"second", b"newcomer"]


async def test_a_call_beyond_a_full_mailbox_is_overloaded_at_once(scene: Scene) -> None:
    actor = await scene.start(count=1, mailbox_calls=2)
    for number in range(3):
        scene.send(b"%d" % number)
    with pytest.raises(errors.Overloaded) as refusal:
        scene.send(b"one too many")
    assert refusal.value.detail == {
        "running": 1,
        "waiting": 2,
        "count": 1,
        "host_running": 1,
        "host_places": 64,
        "measured": 2,
        "limit": 2,
    }
    assert actor.statistics().refused == 1
    assert scene.figures == (1, 2)


async def test_without_a_mailbox_a_second_call_is_overloaded(scene: Scene) -> None:
    await scene.start(count=1, mailbox_calls=0)
    scene.send(b"first")
    with pytest.raises(errors.Overloaded):
        scene.send(b"second")


async def test_a_mailbox_is_full_by_bytes_as_well(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAILBOX_BYTES", 100)
    await scene.start(count=1)
    scene.send(b"r" * 200)
    scene.send(b"w" * 60)
    with pytest.raises(errors.Overloaded):
        scene.send(b"x" * 41)
    scene.send(b"y" * 40)
    assert scene.figures == (1, 2)


async def test_bytes_of_calls_that_left_the_mailbox_make_room(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAILBOX_BYTES", 100)
    await scene.start(count=1)
    scene.send(b"r")
    scene.send(b"w" * 100)
    cancelled = scene.tasks[1]
    await scene.begun()
    cancelled.cancel()
    await asyncio.wait([cancelled])
    scene.send(b"x" * 100)
    assert scene.figures == (1, 1)


async def test_a_call_that_arrives_too_late_is_not_executed(scene: Scene) -> None:
    await scene.start()
    with pytest.raises(errors.DeadlineExceeded, match="not executed"):
        scene.send(b"late", timeout_s=-0.001)
    assert scene.order == []


async def test_a_call_whose_time_is_up_while_it_waits_is_not_executed(scene: Scene) -> None:
    actor = await scene.start(count=1)
    scene.send(b"first")
    waiting = scene.send(b"second", timeout_s=0.03)
    with pytest.raises(errors.DeadlineExceeded, match="not executed"):
        await waiting
    assert scene.figures == (1, 0)
    await scene.answer(b"first")
    await scene.tasks[0]
    assert scene.order == [b"first"]
    assert (actor.statistics().completed, actor.statistics().failed) == (1, 1)


async def test_a_caller_that_goes_away_while_waiting_frees_its_place(scene: Scene) -> None:
    await scene.start(count=1, mailbox_calls=1)
    scene.send(b"first")
    waiting = scene.send(b"second")
    await scene.begun()
    assert scene.figures == (1, 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert scene.figures == (1, 0)
    scene.send(b"third")
    await scene.answer(b"first")
    await scene.answer(b"third")
    assert scene.order == [b"first", b"third"]


async def test_a_caller_that_goes_away_while_its_call_runs_frees_the_slot(scene: Scene) -> None:
    await scene.start(count=1)
    running = scene.send(b"first")
    scene.send(b"second")
    await scene.begun()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await scene.answer(b"second")
    assert (await scene.tasks[1]).payload == b"second"


async def test_a_slot_handed_to_a_call_cancelled_in_the_same_tick_goes_to_the_next(
    scene: Scene,
) -> None:
    await scene.start(count=1)
    for payload in (b"first", b"second", b"third"):
        scene.send(payload)
    await scene.begun()

    def cancel_second() -> None:
        # The slot is the second's already, and its task has not run since.
        assert scene.figures == (1, 1)
        scene.tasks[1].cancel()

    scene.running[b"first"].set_result(b"")
    asyncio.get_running_loop().call_soon(cancel_second)
    await scene.answer(b"third")
    assert (await scene.tasks[2]).payload == b"third"
    assert scene.tasks[1].cancelled()
    assert scene.order == [b"first", b"third"]


@pytest.mark.parametrize("ticks", range(12))
async def test_a_cancellation_at_any_tick_loses_no_slot(scene: Scene, ticks: int) -> None:
    await scene.start(count=1)
    for payload in (b"first", b"second", b"third"):
        scene.send(payload)
    await scene.begun()
    scene.running[b"first"].set_result(b"")
    for _ in range(ticks):
        await asyncio.sleep(0)
    scene.tasks[1].cancel()
    await scene.answer(b"third")
    assert (await scene.tasks[2]).payload == b"third"


async def test_a_larger_count_lets_waiting_calls_run(scene: Scene) -> None:
    actor = await scene.start(count=1)
    for number in range(5):
        scene.send(b"%d" % number)
    await eventually(lambda: len(scene.running) == 1)
    actor.resize(3)
    await eventually(lambda: len(scene.running) == 3)
    assert scene.figures == (3, 2)
    actor.resize(100)
    await eventually(lambda: len(scene.running) == 5)
    assert scene.figures == (5, 0)


async def test_a_smaller_count_lets_running_calls_end_before_others_begin(scene: Scene) -> None:
    actor = await scene.start(count=3)
    for number in range(6):
        scene.send(b"%d" % number)
    await eventually(lambda: len(scene.running) == 3)
    actor.resize(1)
    assert scene.figures == (3, 3)
    await scene.answer(b"0")
    await scene.answer(b"1")
    await asyncio.gather(*scene.tasks[:2])
    assert scene.figures == (1, 3), "one runs, as many as may now"
    for number in range(2, 6):
        await scene.answer(b"%d" % number)
        assert actor.statistics().running <= 1
    await asyncio.gather(*scene.tasks)
    # The first three ran side by side, where a busy machine may let any of them be the first.
    assert [*sorted(scene.order[:3]), *scene.order[3:]] == [b"%d" % number for number in range(6)]


async def test_another_module_serves_only_calls_that_begin_later(scene: Scene) -> None:
    actor = await scene.start(count=2)
    old = scene.send(b"old")
    await eventually(lambda: b"old" in scene.running)
    actor.replace(await scene.engine.load(assembled("fails")))
    with pytest.raises(errors.ActorError, match="no such account"):
        scene.send(b"new")
    await scene.answer(b"old")
    assert (await old).payload == b"old"


async def test_other_limits_hold_for_calls_that_begin_later(scene: Scene) -> None:
    actor = await scene.start(count=2)
    old = scene.send(b"old")
    actor.restrict(CallLimits(memory_bytes=limits.KIB * 64))
    with pytest.raises(errors.MemoryExceeded):
        scene.send(b"new")
    await scene.answer(b"old")
    assert (await old).payload == b"old"


async def test_stopping_refuses_new_calls_and_finishes_accepted_ones(scene: Scene) -> None:
    actor = await scene.start(count=1)
    scene.send(b"running")
    scene.send(b"waiting")
    await scene.begun()
    stopping = asyncio.create_task(actor.stop(drain_s=LONG_S))
    await asyncio.sleep(0)
    with pytest.raises(errors.Draining):
        scene.send(b"new")
    await scene.answer(b"running")
    await scene.answer(b"waiting")
    await stopping
    assert [task.result().payload for task in scene.tasks] == [b"running", b"waiting"]


async def test_stopping_an_idle_actor_ends_at_once(scene: Scene) -> None:
    actor = await scene.start()
    await actor.stop(drain_s=LONG_S)
    await actor.stop(drain_s=0)


async def test_calls_that_outlast_the_drain_are_answered_when_it_ends(scene: Scene) -> None:
    actor = await scene.start(count=1)
    running = scene.send(b"running")
    waiting = scene.send(b"waiting")
    await scene.begun()
    await actor.stop(drain_s=0.01)
    with pytest.raises(errors.Cancelled):
        await running
    with pytest.raises(errors.Draining):
        await waiting
    assert scene.order == [b"running"]


async def test_a_cancelled_caller_does_not_hold_up_the_end_of_a_drain(scene: Scene) -> None:
    actor = await scene.start(count=1)
    running = scene.send(b"running")
    waiting = scene.send(b"waiting")
    await scene.begun()
    stopping = asyncio.create_task(actor.stop(drain_s=LONG_S))
    running.cancel()
    waiting.cancel()
    await stopping
    await asyncio.wait(scene.tasks)


@pytest.mark.parametrize(
    ("module", "payload", "error"),
    [
        ("fails", b"", errors.ActorError),
        ("traps", b"", errors.ActorTrapped),
        ("huge", b"", errors.MemoryExceeded),
    ],
    ids=["fails", "traps", "asks for too much"],
)
async def test_a_call_that_fails_at_once_gives_its_slot_back(
    scene: Scene, module: str, payload: bytes, error: type[errors.LatticeError]
) -> None:
    actor = await scene.start(count=1)
    if module == "huge":
        actor.restrict(CallLimits(memory_bytes=limits.KIB * 64))
        module = "echo"
    actor.replace(await scene.engine.load(assembled(module)))
    for _ in range(3):
        with pytest.raises(error):
            scene.send(payload)
    assert actor.statistics().failed == 3


async def test_a_bug_in_what_surrounds_a_guest_gives_the_slot_back(scene: Scene) -> None:
    actor = await scene.start(count=1)

    def broken(_: Invocation) -> Host:
        raise RuntimeError("a bug")

    actor._surroundings = broken
    for _ in range(2):
        with pytest.raises(RuntimeError):
            scene.send(b"")


@pytest.mark.parametrize("seed", range(5))
async def test_calls_cancelled_and_answered_at_random_lose_no_slot(
    scene: Scene, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    actor = await scene.start(count=5, mailbox_calls=1_000)
    # Time stands still but where the test moves it, by more than the real one can ever make up.
    now = now_s()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    for number in range(300):
        with suppress(errors.Overloaded):
            # By the pace of late its turn would come too late.
            scene.send(b"%d" % number, timeout_s=rng.choice([NEVER_S, SOON_S]))
        await scene.begun()
        if rng.random() < 0.3:
            now += SOON_S / 5
        if rng.random() < 0.3:
            rng.choice(scene.tasks).cancel()
        if rng.random() < 0.5 and scene.running:
            future = rng.choice(list(scene.running.values()))
            if not future.done():
                future.set_result(b"")
        if rng.random() < 0.1:
            actor.resize(rng.randrange(1, 9))
    actor.resize(50)
    while not all(task.done() for task in scene.tasks):
        for future in list(scene.running.values()):
            if not future.done():
                future.set_result(b"")
        await asyncio.sleep(0)
    figures = actor.statistics()
    assert figures.completed + figures.failed == len(scene.tasks)
    ends = [None if task.cancelled() else type(task.exception()) for task in scene.tasks]
    assert {None, type(None), errors.Expired, errors.DeadlineExceeded} == set(ends)


async def test_in_a_flood_those_that_are_served_are_served_in_time(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = await scene.start(count=1, mailbox_calls=1_000)
    now = now_s()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    refused = 0
    # Each takes a second, and ten come in one; they have a minute, and a thousand have room.
    for number in range(4_000):
        try:
            scene.send(b"%d" % number, timeout_s=60)
        except errors.Overloaded:
            refused += 1
        await scene.begun()
        now += 0.1
        if number % 10 == 0:
            for future in list(scene.running.values()):
                if not future.done():
                    future.set_result(b"")
            await scene.begun()
    # Without it the mailbox would be full of calls that are at their end when their turn comes.
    assert actor.statistics().completed > 0.8 * 400
    assert refused > 0.8 * (4_000 - 400)


async def test_the_next_call_is_never_too_late_and_a_new_count_starts_over(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = await scene.start(count=1, mailbox_calls=1_000)
    now = now_s()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    for number in range(100):
        scene.send(b"%d" % number, timeout_s=NEVER_S)
    await scene.begun()
    for number in range(99):
        now += 10.0
        scene.running[b"%d" % number].set_result(b"")
        while b"%d" % (number + 1) not in scene.running:  # noqa: ASYNC110
            # No timer would ever be due.
            await asyncio.sleep(0)

    scene.send(b"the next", timeout_s=5)
    with pytest.raises(errors.Overloaded, match="ms that it may wait would pass"):
        scene.send(b"the one after it", timeout_s=5)
    scene.send(b"a patient one", timeout_s=60)
    actor.resize(2)
    scene.send(b"with a new count", timeout_s=5)


async def test_a_call_waits_in_the_mailbox_when_the_host_is_full(scene: Scene) -> None:
    scene.slots = Slots(2)
    await scene.start(count=1_000)
    for number in range(4):
        scene.send(b"%d" % number)
    await eventually(lambda: len(scene.running) == 2)
    assert scene.figures == (2, 2)
    for number in range(4):
        await scene.answer(b"%d" % number)
    assert [(await task).payload for task in scene.tasks] == [b"0", b"1", b"2", b"3"]
    assert scene.order == [b"0", b"1", b"2", b"3"]


async def test_a_full_mailbox_on_a_full_host_says_how_full(scene: Scene) -> None:
    scene.slots = Slots(1)
    await scene.start(count=1_000, mailbox_calls=1)
    scene.send(b"runs")
    scene.send(b"waits")
    with pytest.raises(errors.Overloaded, match=r"1 of 1 run on its host.* 1 of 1 calls") as full:
        scene.send(b"too many")
    assert (full.value.detail["host_running"], full.value.detail["host_places"]) == (1, 1)


async def test_a_flooded_actor_lets_another_have_every_other_place(scene: Scene) -> None:
    scene.slots = Slots(1)
    flooded = await scene.start(count=10**6)
    quiet = await scene.start(count=1)
    for number in range(6):
        scene.send(b"f%d" % number, to=flooded)
    for number in range(2):
        scene.send(b"q%d" % number, to=quiet)
    turns = [b"f0", b"q0", b"f1", b"q1", b"f2", b"f3", b"f4", b"f5"]
    for payload in turns:
        await scene.answer(payload)
    await asyncio.gather(*scene.tasks)
    assert scene.order == turns


async def test_an_actor_that_others_wait_for_runs_on_a_full_host(scene: Scene) -> None:
    scene.slots = Slots(16)
    waiting = await scene.start(count=10**6, mailbox_calls=100)
    awaited = await scene.start(count=1)
    for number in range(40):
        scene.send(b"%d" % number, to=waiting)
    await eventually(lambda: len(scene.running) == 16 - scene.slots.kept)
    scene.send(b"answer", to=awaited)
    await scene.answer(b"answer")
    assert (await scene.tasks[-1]).payload == b"answer"


async def test_the_memory_of_suspended_guests_is_what_the_host_counts(scene: Scene) -> None:
    scene.slots = Slots(64, memory=scene.engine, bytes_max=limits.MIB)
    await scene.start(count=10**6, mailbox_calls=100)
    for number in range(60):
        scene.send(b"%d" % number)
    each = scene.engine.held_bytes // scene.figures[0]
    assert each >= 64 * limits.KIB
    assert 0.8 * limits.MIB <= scene.engine.held_bytes <= limits.MIB
    for number in range(60):
        await scene.answer(b"%d" % number)
        assert scene.engine.held_bytes <= limits.MIB
    await asyncio.gather(*scene.tasks)
    assert scene.engine.held_bytes == 0


async def test_mailboxes_of_all_actors_together_are_bounded(scene: Scene) -> None:
    scene.slots = Slots(1, waiting_bytes_max=100)
    first = await scene.start()
    second = await scene.start()
    scene.send(b"runs", to=first)
    scene.send(b"w" * 60, to=first)
    with pytest.raises(errors.Overloaded, match="60 of 100 bytes wait on this host"):
        scene.send(b"x" * 41, to=second)
    scene.send(b"y" * 40, to=second)


async def test_a_call_that_expired_in_the_mailbox_takes_no_place(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = await scene.start(count=1)
    scene.send(b"first")
    late = scene.send(b"late", timeout_s=5)
    scene.send(b"in time", timeout_s=LONG_S)
    await eventually(lambda: b"first" in scene.running)
    # Its timer has not fired yet when the place becomes free.
    now = now_s() + 6
    monkeypatch.setattr(actor, "_loop", FixedClock(now))
    scene.running[b"first"].set_result(b"")
    await scene.answer(b"in time")
    with pytest.raises(errors.DeadlineExceeded, match="not executed"):
        await late
    assert scene.order == [b"first", b"in time"]


class FixedClock:
    def __init__(self, now: float) -> None:
        self._now = now

    def time(self) -> float:
        return self._now


TWO_TRAPS = ThrottlePolicy(traps=2, pause_s=4.0, pause_s_max=60.0)


async def trapped(scene: Scene, *, times: int) -> None:
    for _ in range(times):
        with pytest.raises(errors.ActorTrapped):
            scene.send(b"")


async def test_an_actor_that_keeps_trapping_is_refused_for_a_while(scene: Scene) -> None:
    actor = await scene.start(count=5, throttle=TWO_TRAPS)
    actor.replace(await scene.engine.load(assembled("traps")))
    await trapped(scene, times=2)
    with pytest.raises(errors.Overloaded, match=r"throttled for \d+ ms") as refusal:
        scene.send(b"")
    detail = refusal.value.detail
    assert detail["traps"] == 2
    assert 0 < detail["left_ms"] <= 4_000
    assert "unreachable" in detail["last_trap"]
    assert (actor.statistics().failed, actor.statistics().refused) == (2, 1)
    assert scene.notices == [True]


async def test_a_probe_that_traps_leaves_it_throttled_and_one_that_does_not_ends_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = await scene.start(count=5, throttle=TWO_TRAPS)
    actor.replace(await scene.engine.load(assembled("traps")))
    await trapped(scene, times=2)
    monkeypatch.setattr(actor, "_loop", FixedClock(now_s() + 4))
    await trapped(scene, times=1)
    with pytest.raises(errors.Overloaded, match="throttled for 8000 ms"):
        scene.send(b"")
    monkeypatch.setattr(actor, "_loop", FixedClock(now_s() + 13))
    monkeypatch.setattr(actor, "_module", await scene.engine.load(assembled("fails")))
    with pytest.raises(errors.ActorError):
        scene.send(b"")
    assert scene.notices == [True, False]
    with pytest.raises(errors.ActorError):
        scene.send(b"")


async def test_calls_that_waited_are_refused_when_their_actor_is_throttled(scene: Scene) -> None:
    actor = await scene.start(count=2, throttle=TWO_TRAPS)
    scene.send(b"one")
    scene.send(b"two")
    waiting = scene.send(b"waits")
    await scene.begun()
    for _ in range(2):
        actor._note_force(invocation(), errors.ActorTrapped("unreachable"))
    with pytest.raises(errors.Overloaded, match="throttled"):
        await waiting
    assert scene.figures == (2, 0)
    assert actor.statistics().refused == 1
    await scene.answer(b"one")
    assert (await scene.tasks[0]).payload == b"one"
    assert scene.notices == [True, False], "a call that ended well says that it is over"


async def test_only_one_probe_runs_at_a_time_and_its_end_without_a_word_allows_another(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = await scene.start(count=5, throttle=TWO_TRAPS)
    for _ in range(2):
        actor._note_force(invocation(), errors.ActorTrapped("unreachable"))
    monkeypatch.setattr(actor, "_loop", FixedClock(now_s() + 4))
    probe = scene.send(b"probe")
    with pytest.raises(errors.Overloaded, match="throttled for 0 ms"):
        scene.send(b"too early")
    await scene.begun()
    probe.cancel()
    await asyncio.wait([probe])
    scene.send(b"another")
    await scene.answer(b"another")
    await scene.tasks[-1]
    assert scene.notices == [True, False]


async def test_another_module_is_not_throttled_for_what_the_old_one_did(scene: Scene) -> None:
    actor = await scene.start(throttle=TWO_TRAPS)
    traps, relay = [await scene.engine.load(assembled(name)) for name in ("traps", "relay")]
    actor.replace(traps)
    await trapped(scene, times=2)
    actor.replace(relay)
    scene.send(b"well")
    await scene.answer(b"well")
    assert scene.notices == [True, False]
