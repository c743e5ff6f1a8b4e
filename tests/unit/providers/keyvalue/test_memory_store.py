"""What only the memory store promises: to stay within its memory."""

import pytest

from lattice import errors
from providers.keyvalue.bounds import Bounds
from providers.keyvalue.stores.memory import MemoryStore


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def small_store(clock: Clock) -> MemoryStore:
    return MemoryStore(Bounds(memory_bytes_max=2_000), now_s=clock)


async def fill(store: MemoryStore, *, expires_s: int = 0) -> int:
    """Set keys until the store refuses one; how many it took."""
    for taken in range(1_000):
        try:
            await store.set(f"k{taken:03}", b"x" * 96, expires_s=expires_s)
        except errors.ProviderError:
            return taken
    raise AssertionError("the store is bottomless")


async def test_a_full_store_refuses_more_and_keeps_what_it_has(clock: Clock) -> None:
    store = small_store(clock)
    taken = await fill(store)
    assert 0 < taken <= 2_000 / 100
    with pytest.raises(errors.ProviderError, match="over memory_bytes_max"):
        await store.list_add("l", "")
    with pytest.raises(errors.ProviderError, match="over memory_bytes_max"):
        await store.set("k000", b"x" * 500, expires_s=0)
    assert await store.get("k000") == b"x" * 96


async def test_a_full_store_takes_what_makes_it_no_larger(clock: Clock) -> None:
    store = small_store(clock)
    await fill(store)
    await store.set("k000", b"1", expires_s=0)
    assert await store.increment("k000", 1) == 2


async def test_deleting_makes_room_again(clock: Clock) -> None:
    store = small_store(clock)
    taken = await fill(store)
    for number in range(taken):
        await store.delete(f"k{number:03}")
    assert await fill(store) == taken


async def test_collections_give_back_what_they_took(clock: Clock) -> None:
    store = small_store(clock)
    taken = await fill(store)
    for number in range(taken):
        await store.delete(f"k{number:03}")
    for _ in range(100):
        await store.list_add("l", "żółć")
        await store.set_add("s", "żółć")
        await store.list_del("l", "żółć")
        await store.set_del("s", "żółć")
    assert await fill(store) == taken


async def test_what_expired_makes_room_though_nobody_reads_it(clock: Clock) -> None:
    store = small_store(clock)
    taken = await fill(store, expires_s=10)
    clock.now_s = 10.0
    assert await fill(store) == taken


async def test_a_key_rewritten_for_ever_takes_no_more_memory(clock: Clock) -> None:
    store = small_store(clock)
    for number in range(5_000):
        clock.now_s = number / 1_000
        await store.set("session", b"x", expires_s=1_000)
    assert len(store._expiries) < 2_000
    clock.now_s = 2_000.0
    assert await store.get("session") is None
