"""Of several copies of a provider one does what only one may do, on a real nats-server."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from lattice import subjects
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus
from lattice.bus.server import NatsServer
from providers.sdk import duty
from providers.sdk.duty import Duty, Turn
from tests.support.eventually import eventually
from tests.support.nats_server import connected, nats_server

KEY = "watch.kv.one"
LATTICE = "default"


@dataclass
class Copy:
    """A copy of a provider, and its turns."""

    bus: Bus
    host: str
    turns: list[Turn] = field(default_factory=list)
    running: int = 0
    waited: int = 0
    group: TaskGroup = field(default_factory=lambda: TaskGroup("copies"))

    def start(self) -> None:
        self.group.spawn(self._follow(), name=self.host)

    async def _follow(self) -> None:
        while True:
            await Duty(self.bus, LATTICE, holder=self.host).run(
                KEY, self._work, waiting=self._note_wait
            )

    def _note_wait(self) -> None:
        self.waited += 1

    async def _work(self, turn: Turn) -> None:
        self.turns.append(turn)
        self.running += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.running -= 1


@pytest.fixture
async def server() -> AsyncIterator[NatsServer]:
    async with nats_server() as server:
        yield server


@pytest.fixture
async def copies(server: NatsServer) -> AsyncIterator[list[Copy]]:
    async with connected(server) as first, connected(server) as second:
        copies = [Copy(first, "NA"), Copy(second, "NB")]
        yield copies
        for copy in copies:
            await copy.group.aclose()


async def test_one_copy_works_and_the_other_waits_until_it_ends(copies: list[Copy]) -> None:
    first, second = copies
    first.start()
    await eventually(lambda: first.running)
    second.start()
    await eventually(lambda: second.waited)
    assert (first.running, second.running) == (1, 0)
    first.turns[0].progress = lambda: 42

    await first.group.aclose()

    await eventually(lambda: second.running)
    assert second.turns[0].place == 42


async def test_what_is_forgotten_is_begun_from_the_start(copies: list[Copy]) -> None:
    first, second = copies
    first.start()
    await eventually(lambda: first.running)
    first.turns[0].progress = lambda: 42
    first.turns[0].is_forgotten = True

    await first.group.aclose()
    second.start()

    await eventually(lambda: second.running)
    assert second.turns[0].place is None


async def test_who_has_lost_the_lease_works_no_more(copies: list[Copy]) -> None:
    first, _ = copies
    first.start()
    await eventually(lambda: first.running)
    bucket = await first.bus.bucket(subjects.duty_bucket(LATTICE))

    await bucket.put(KEY, b'{"holder": "NB", "place": null}')

    await eventually(lambda: first.running == 0)
    await eventually(lambda: first.waited)


async def test_who_can_not_renew_its_lease_stops_before_another_may_begin(
    copies: list[Copy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duty, "LEASE_S", 2.5)
    monkeypatch.setattr(duty, "RENEW_S", 0.2)
    first, second = copies
    first.start()
    await eventually(lambda: first.running)
    second.start()
    await eventually(lambda: second.waited)

    await first.bus.aclose()

    await eventually(lambda: second.running)
    assert first.running == 0


async def test_a_copy_that_follows_another_on_its_host_need_not_wait(
    server: NatsServer, copies: list[Copy]
) -> None:
    first, _ = copies
    bucket = await first.bus.bucket(subjects.duty_bucket(LATTICE), ttl_s=duty.LEASE_S)
    # Left behind by one that was killed.
    await bucket.put(KEY, b'{"holder": "NA", "place": 7}')

    first.start()

    await eventually(lambda: first.running)
    assert (first.waited, first.turns[0].place) == (0, 7)


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"{}", b'{"holder": "NB", "place": "x"}'])
async def test_a_lease_that_can_not_be_read_is_somebodys(copies: list[Copy], value: bytes) -> None:
    first, _ = copies
    bucket = await first.bus.bucket(subjects.duty_bucket(LATTICE), ttl_s=duty.LEASE_S)
    await bucket.put(KEY, value)

    first.start()

    await eventually(lambda: first.waited)
    assert not first.running
