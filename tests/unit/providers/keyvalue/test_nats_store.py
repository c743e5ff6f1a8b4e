"""What only the NATS store can get wrong: its keys, its entries, and losing a compare-and-set."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lattice import errors, limits
from lattice.bus import Bus
from providers.keyvalue.bounds import KEY_BYTES_CEILING, Bounds
from providers.keyvalue.settings import NatsSettings
from providers.keyvalue.stores import nats
from providers.keyvalue.stores.nats import Held, NatsStore
from providers.keyvalue.stores.values import Value
from tests.support.nats_server import connected, nats_server

SETTINGS = NatsSettings(bucket="LATTICEKV_default", replicas=1)

SUBJECT_BYTES_MAX = 4_000
"""A subject shares a control line of 4 KiB with a reply subject and some numbers."""


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    async with nats_server() as server, connected(server) as bus:
        yield bus


@pytest.mark.parametrize(
    ("key", "encoded"),
    [
        ("cart:7", "cart=3A7"),
        ("a.b-c_d/e", "a.b-c_d/e"),
        ("a=b", "a=3Db"),
        (".a..b.", "=2Ea.=2Eb=2E"),
        ("_kv", "=5Fkv"),
        ("ż", "=C5=BC"),
        ("a b*>", "a=20b=2A=3E"),
    ],
)
def test_keys_stay_readable(key: str, encoded: str) -> None:
    assert nats.encode_key(key) == encoded


@given(st.text(min_size=1, max_size=60))
@example("...")
@example("=")
@example("=2E")
def test_every_key_is_a_buckets_key_and_comes_back(key: str) -> None:
    encoded = nats.encode_key(key)
    assert set(encoded.encode()) <= nats.PLAIN_KEY_CHARS | {ord("=")}
    assert all(encoded.split("."))
    assert nats._page([encoded], None, Bounds()).keys == [key]


def test_the_longest_key_is_a_subject_the_server_takes() -> None:
    longest = nats.encode_key(" " * KEY_BYTES_CEILING)
    assert len(f"$KV.{'b' * 128}.{longest}") < SUBJECT_BYTES_MAX


@given(
    st.binary()
    | st.text().map(str.encode)
    | st.binary().map(nats.MARKER.__add__)
    | st.lists(st.text(), min_size=1).map(tuple)
    | st.frozensets(st.text(), min_size=1),
    st.none() | st.floats(0, 1e11),
)
def test_every_entry_comes_back(value: Value, expires_at_s: float | None) -> None:
    held = Held(value, expires_at_s)
    assert nats.decode("k", nats.encode(held)) == held


@pytest.mark.parametrize(
    ("held", "data"),
    [
        (Held(b"text"), b"text"),
        (Held(b""), b""),
        (Held(b"\xff"), b"\xff"),
        (Held(b"a", 2.5), b"\xc1\x82\xa4text\xa1a\xacexpires_at_s\xcb\x40\x04" + bytes(6)),
        (Held(b"\xff", 0), b"\xc1\x82\xa5bytes\xc4\x01\xff\xacexpires_at_s\x00"),
        (Held(b"\xc1a"), b"\xc1\x81\xa5bytes\xc4\x02\xc1a"),
        (Held(("b", "a")), b"\xc1\x81\xa4list\x92\xa1b\xa1a"),
        (Held(frozenset("ba")), b"\xc1\x81\xa3set\x92\xa1a\xa1b"),
    ],
)
def test_entries_keep_their_form(held: Held, data: bytes) -> None:
    assert nats.encode(held) == data


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",
        b"\xc1\xc1",
        b"\xc1\x90",
        b"\xc1\x80",
        b"\xc1\x81\xa4text\x01",
        b"\xc1\x81\xa5bytes\xa1a",
        b"\xc1\x81\xa4list\x90",
        b"\xc1\x81\xa4list\x91\x01",
        b"\xc1\x81\xa3set\xa1a",
        b"\xc1\x82\xa4text\xa1a\xacexpires_at_s\xa1x",
    ],
)
def test_an_entry_that_looks_like_ours_and_is_not_is_an_error_of_the_provider(data: bytes) -> None:
    with pytest.raises(errors.ProviderError, match="'k' holds an entry that starts with byte 0xC1"):
        nats.decode("k", data)


async def test_what_others_put_under_names_that_no_key_has_is_not_listed(bus: Bus) -> None:
    store = NatsStore(bus, SETTINGS, Bounds())
    await store.set("a b", b"", expires_s=0)
    bucket = await bus.bucket(SETTINGS.bucket)
    # Each is another spelling of a key, or none of any.
    for name in ("a=20b=", "=61=20b", "a=2", "a=ZZ", "a=2e", "=61", "a=FF", "a=C3=28", "plain"):
        await bucket.put(name, b"\xc1")
    assert (await store.list_keys(None)).keys == ["a b", "plain"]
    small = NatsStore(bus, SETTINGS, Bounds(page_keys_max=1))
    pages = [await small.list_keys(None)]
    while (cursor := pages[-1].cursor) is not None:
        pages.append(await small.list_keys(cursor))
    assert [key for page in pages for key in page.keys] == ["a b", "plain"]


async def test_keys_deleted_since_the_bucket_began_make_pages_shorter_and_not_longer(
    bus: Bus,
) -> None:
    store = NatsStore(bus, SETTINGS, Bounds(page_keys_max=2))
    await store.set_many([(key, b"") for key in "abcde"])
    await store.delete_many(["a", "b", "c"])
    pages = [await store.list_keys(None)]
    while (cursor := pages[-1].cursor) is not None:
        pages.append(await store.list_keys(cursor))
    assert [page.keys for page in pages] == [[], ["d"], ["e"]]


async def test_a_batch_with_one_value_too_large_sets_none(bus: Bus) -> None:
    store = NatsStore(bus, SETTINGS, Bounds())
    with pytest.raises(errors.PayloadTooLarge, match="all of key 'b'"):
        await store.set_many([("a", b""), ("b", bytes(limits.INLINE_PAYLOAD_BYTES + 1))])
    assert not await store.contains("a")


async def test_text_is_what_other_programs_read_and_write(bus: Bus) -> None:
    store = NatsStore(bus, SETTINGS, Bounds())
    await store.set("greeting", b"hello", expires_s=0)
    bucket = await bus.bucket(SETTINGS.bucket)
    entry = await bucket.get("greeting")
    assert entry is not None
    assert entry.value == b"hello"
    await bucket.put("visits", b"41")
    assert await store.increment("visits", 1) == 42


async def test_a_collection_that_outgrows_a_message_is_refused_and_kept(bus: Bus) -> None:
    store = NatsStore(bus, SETTINGS, Bounds())
    item = "x" * 60_000
    for _ in range(16):
        await store.list_add("l", item)
    with pytest.raises(errors.PayloadTooLarge, match="all of key 'l' is"):
        await store.list_add("l", item)
    assert await store.list_range("l", 0, -1) == [item] * 16


async def test_every_writer_is_served_though_all_collide(bus: Bus) -> None:
    # A store each, so that none of them knows of the others' turns.
    stores = [NatsStore(bus, SETTINGS, Bounds()) for _ in range(100)]
    sums = await asyncio.gather(*(store.increment("n", 1) for store in stores))
    assert sorted(sums) == list(range(1, 101))


async def test_turns_are_forgotten_when_nobody_waits(bus: Bus) -> None:
    store = NatsStore(bus, SETTINGS, Bounds())
    await asyncio.gather(*(store.increment(f"n{n % 7}", 1) for n in range(50)))
    assert len(store._turns) == 0


async def test_a_bucket_that_was_deleted_is_made_anew(bus: Bus) -> None:
    store = NatsStore(bus, SETTINGS, Bounds())
    await store.increment("n", 1)
    deadline = asyncio.get_running_loop().time() + 10
    await bus.request(f"$JS.API.STREAM.DELETE.KV_{SETTINGS.bucket}", deadline=deadline)
    with pytest.raises(errors.Unavailable):
        await store.increment("n", 1)
    assert await store.increment("n", 1) == 1
