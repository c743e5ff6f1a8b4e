"""Who leads, and what keeps one who led from acting."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from lattice import errors, subjects
from lattice.bus import Bus
from lattice.bus.server import NatsServer
from lattice.reconcile.leader import LEASE_KEY, LEASE_S, Leader, Term
from lattice.reconcile.model import AppMemory, Memory
from lattice.reconcile.store import MEMORY_KEY, MemoryStore
from lattice.wire.reconciler import Leading
from tests.support.eventually import eventually
from tests.support.nats_server import connected


class Candidate:
    """A leader-to-be, and what it heard."""

    def __init__(self, bus: Bus, lattice: str, name: str) -> None:
        self.bus = bus
        self.terms: list[Term] = []
        self.lost = 0
        self.words: list[Leading] = []
        self.leader = Leader(
            bus,
            lattice,
            name=name,
            won=self.terms.append,
            lost=self._note_loss,
            heard=self.words.append,
        )

    def _note_loss(self) -> None:
        self.lost += 1

    @property
    def leads(self) -> bool:
        return self.leader.term is not None


Join = Callable[[str], Awaitable[Candidate]]


@pytest.fixture
async def join(nats: NatsServer, lattice_name: str) -> AsyncIterator[Join]:
    """Has another candidate, on a connection of its own, take part."""
    async with AsyncExitStack() as stack:

        async def joined(name: str) -> Candidate:
            bus = await stack.enter_async_context(connected(nats))
            candidate = Candidate(bus, lattice_name, name)
            stack.push_async_callback(candidate.leader.aclose)
            await candidate.leader.open()
            return candidate

        yield joined


async def test_the_first_leads_and_the_others_hear_of_it(join: Join) -> None:
    first, second = await join("first"), await join("second")

    assert first.leads
    assert not second.leads
    await eventually(lambda: second.words and second.words[-1].name == "first")


async def test_when_the_leader_resigns_another_follows_with_a_later_epoch(join: Join) -> None:
    first, second = await join("first"), await join("second")

    await first.leader.aclose()

    await eventually(lambda: second.leads)
    assert first.lost == 1
    assert second.terms[0].epoch > first.terms[0].epoch
    assert not first.terms[0].is_valid


async def test_a_leader_whose_process_is_gone_is_replaced_before_its_lease_ends(
    join: Join,
) -> None:
    first, second = await join("first"), await join("second")

    # As of a killed process: its connection ends without a word.
    await first.bus._client.close()

    await eventually(lambda: second.leads, timeout_s=LEASE_S - 1)


async def test_whoever_follows_knows_whether_to_stand_back(join: Join) -> None:
    first, second = await join("first"), await join("second")
    assert first.leader.stepped_back
    await first.leader.step_back(False)
    await eventually(lambda: second.words and not second.words[-1].stepped_back)

    await first.bus._client.close()

    await eventually(lambda: second.leads)
    assert not second.leader.stepped_back


async def test_a_leader_that_finds_the_lease_taken_leads_no_more(
    join: Join, lattice_name: str
) -> None:
    first = await join("first")
    bucket = await first.bus.bucket(subjects.lease_bucket(lattice_name))

    await bucket.put(LEASE_KEY, Leading(holder="somebody", name="else").model_dump_json().encode())

    await eventually(lambda: first.lost == 1)
    assert not first.terms[0].is_valid


async def test_a_lease_that_cannot_be_read_dies_of_age(join: Join, lattice_name: str) -> None:
    first = await join("first")
    bucket = await first.bus.bucket(subjects.lease_bucket(lattice_name))

    await bucket.put(LEASE_KEY, b"nonsense")

    await eventually(lambda: first.lost == 1)
    await eventually(lambda: first.leads, timeout_s=20)


async def test_the_leader_answers_who_it_is(join: Join, lattice_name: str) -> None:
    first, second = await join("first"), await join("second")

    answer = await second.bus.request(
        subjects.reconciler_state(lattice_name),
        deadline=asyncio.get_running_loop().time() + 5,
    )

    word = Leading.model_validate_json(answer.data)
    assert (word.name, word.epoch) == ("first", first.terms[0].epoch)


async def test_a_leader_that_was_replaced_cannot_write_its_memory(
    bus: Bus, lattice_name: str
) -> None:
    old = await MemoryStore.claim(bus, lattice_name, epoch=5)
    await old.save(Memory(apps={"hello": AppMemory(stable="v1")}), ["host"])

    new = await MemoryStore.claim(bus, lattice_name, epoch=9)

    assert new.memory.apps["hello"].stable == "v1"
    assert new.hosts == ["host"]
    with pytest.raises(errors.Conflict):
        await old.save(Memory(), [])
    await new.save(Memory(), ["another"])


async def test_a_memory_that_is_unchanged_is_not_written(bus: Bus, lattice_name: str) -> None:
    store = await MemoryStore.claim(bus, lattice_name, epoch=1)
    bucket = await bus.bucket(subjects.reconciler_bucket(lattice_name))
    await store.save(Memory(apps={"a": AppMemory()}), [])
    before = await bucket.last_sequence()

    await store.save(Memory(apps={"a": AppMemory()}), [])

    assert await bucket.last_sequence() == before


@pytest.mark.parametrize("value", [b"", b"nonsense", b"\x78\x9c\x03\x00\x00\x00\x00\x01"], ids=repr)
async def test_a_memory_that_cannot_be_read_counts_as_empty(
    bus: Bus, lattice_name: str, value: bytes
) -> None:
    bucket = await bus.bucket(subjects.reconciler_bucket(lattice_name))
    await bucket.put(MEMORY_KEY, value)

    store = await MemoryStore.claim(bus, lattice_name, epoch=1)

    assert store.memory == Memory()
