"""The payloads of ``wasi:keyvalue``: what is taken, what is refused, what goes back."""

from typing import Any

import msgpack
import pytest

from lattice import errors
from providers.keyvalue import contract, wasi
from providers.keyvalue.bounds import Bounds
from providers.keyvalue.stores.memory import MemoryStore

BOUNDS = Bounds(key_bytes_max=8, value_bytes_max=10, batch_keys_max=3, page_keys_max=2)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(BOUNDS)


async def answer(store: MemoryStore, operation: str, *arguments: Any) -> Any:
    reply = await wasi.execute(store, BOUNDS, operation, msgpack.packb(arguments))
    return msgpack.unpackb(reply)


async def ask(store: MemoryStore, operation: str, payload: Any) -> Any:
    """The same over the other face."""
    packed = msgpack.packb(payload)
    reply = await contract.execute(store, BOUNDS, f"KeyValue.{operation}", packed)
    return msgpack.unpackb(reply) if reply else None


async def test_the_operations_are_those_of_the_interfaces_and_answer_as_results(
    store: MemoryStore,
) -> None:
    script: list[tuple[str, list[Any], Any]] = [
        ("store.get", ["k"], None),
        ("store.set", ["k", b"\xff"], None),
        ("store.get", ["k"], b"\xff"),
        ("store.exists", ["k"], True),
        ("store.delete", ["k"], None),
        ("store.delete", ["k"], None),
        ("store.exists", ["k"], False),
        ("atomics.increment", ["n", 2**40], 2**40),
        ("atomics.increment", ["n", -1, False], 2**40 - 1),
        ("atomics.increment", ["n", 1, True], 2**40),
        ("atomics.current", ["k"], {"value": None, "version": None}),
        ("atomics.swap", ["k", None, b"a"], None),
        ("batch.set-many", [[["a", b"1"], ["b", b""]]], None),
        ("batch.get-many", [["b", "x", "a"]], [b"", None, b"1"]),
        ("store.list-keys", [None], {"keys": ["a", "b"], "cursor": "b"}),
        ("store.list-keys", ["b"], {"keys": ["k", "n"], "cursor": None}),
        ("store.list-keys", [], {"keys": ["a", "b"], "cursor": "b"}),
        ("batch.delete-many", [["a", "b", "x"]], None),
    ]
    for operation, arguments, expected in script:
        assert await answer(store, operation, *arguments) == {"ok": expected}, operation
    assert {operation for operation, _, _ in script} == set(wasi.OPERATIONS)


async def test_a_swap_that_fails_says_what_is_there_instead(store: MemoryStore) -> None:
    await answer(store, "store.set", "k", b"a")
    before = (await answer(store, "atomics.current", "k"))["ok"]
    assert before["value"] == b"a"
    await answer(store, "store.set", "k", b"b")

    lost = await answer(store, "atomics.swap", "k", before["version"], b"c")

    now = (await answer(store, "atomics.current", "k"))["ok"]
    assert lost == {"err": {"cas-failed": now}}
    assert now["value"] == b"b"
    assert await answer(store, "atomics.swap", "k", now["version"], b"c") == {"ok": None}


async def test_both_faces_read_what_the_other_wrote(store: MemoryStore) -> None:
    await ask(store, "Set", {"key": "text", "value": "żółć"})
    await ask(store, "Increment", {"key": "n", "value": 41})
    assert await answer(store, "store.get", "text") == {"ok": "żółć".encode()}
    assert await answer(store, "atomics.increment", "n", 1) == {"ok": 42}
    assert await ask(store, "Get", "n") == {"value": "42", "exists": True}

    await answer(store, "store.set", "text", b"ascii")
    assert await ask(store, "Get", "text") == {"value": "ascii", "exists": True}
    await answer(store, "store.set", "text", b"\xff")
    with pytest.raises(errors.ProviderError, match="'text' holds bytes that are not UTF-8 text"):
        await ask(store, "Get", "text")
    assert await ask(store, "Contains", "text") is True
    assert await ask(store, "Del", "text") is True


async def test_lists_and_sets_of_the_other_face_are_seen_and_not_read(store: MemoryStore) -> None:
    await ask(store, "ListAdd", {"listName": "l", "value": "a"})
    assert await answer(store, "store.exists", "l") == {"ok": True}
    assert (await answer(store, "store.list-keys"))["ok"]["keys"] == ["l"]
    for operation, arguments in (
        ("store.get", ["l"]),
        ("atomics.increment", ["l", 1]),
        ("atomics.current", ["l"]),
        ("atomics.swap", ["l", None, b""]),
        ("batch.get-many", [["l"]]),
    ):
        with pytest.raises(errors.InvalidRequest, match="'l' holds another type"):
            await answer(store, operation, *arguments)
    await answer(store, "store.delete", "l")
    assert await answer(store, "store.exists", "l") == {"ok": False}


@pytest.mark.parametrize(
    ("operation", "arguments", "name"),
    [
        ("store.get", [], "key"),
        ("store.get", [1], "key"),
        ("store.get", [b"k"], "key"),
        ("store.get", [""], "key"),
        ("store.set", ["k"], "value"),
        ("store.set", ["k", "text"], "value"),
        ("store.list-keys", [1], "cursor"),
        ("store.list-keys", [""], "cursor"),
        ("atomics.increment", ["k"], "delta"),
        ("atomics.increment", ["k", 1.0], "delta"),
        ("atomics.increment", ["k", True], "delta"),
        ("atomics.increment", ["k", 2**63], "delta"),
        ("atomics.increment", ["k", 1, 1], "unsigned"),
        ("atomics.swap", ["k", "text", b""], "version"),
        ("atomics.swap", ["k", bytes(101), b""], "version"),
        ("atomics.swap", ["k", None], "value"),
        ("batch.get-many", ["k"], "keys"),
        ("batch.get-many", [[1]], "keys"),
        ("batch.get-many", [["a", "b", "c", "d"]], "keys"),
        ("batch.set-many", [{}], "pairs"),
        ("batch.set-many", [["k"]], "pairs"),
        ("batch.set-many", [[["k", b"", b""]]], "pairs"),
        ("batch.set-many", [[["k", "text"]]], "pairs"),
        ("batch.delete-many", [None], "keys"),
    ],
)
async def test_a_wrong_argument_is_refused_and_named(
    store: MemoryStore, operation: str, arguments: list[Any], name: str
) -> None:
    with pytest.raises(errors.InvalidRequest, match=f"^{operation}: {name} must be "):
        await answer(store, operation, *arguments)


@pytest.mark.parametrize(
    ("operation", "arguments", "what"),
    [
        ("store.get", ["ż" * 5], "key is 10 bytes, over the limit of 8"),
        ("store.list-keys", ["x" * 9], "cursor is 9 bytes, over the limit of 8"),
        ("store.set", ["k", b"x" * 11], "value is 11 bytes, over the limit of 10"),
        ("atomics.swap", ["k", None, b"x" * 11], "value is 11 bytes, over the limit of 10"),
        ("batch.set-many", [[["k", b"x" * 11]]], "pairs is 11 bytes, over the limit of 10"),
    ],
)
async def test_what_is_too_long_is_refused_with_both_numbers(
    store: MemoryStore, operation: str, arguments: list[Any], what: str
) -> None:
    with pytest.raises(errors.PayloadTooLarge, match=what):
        await answer(store, operation, *arguments)


async def test_a_batch_with_something_wrong_sets_nothing(store: MemoryStore) -> None:
    with pytest.raises(errors.PayloadTooLarge):
        await answer(store, "batch.set-many", [["a", b"1"], ["b", b"x" * 11]])
    assert await answer(store, "store.exists", "a") == {"ok": False}


@pytest.mark.parametrize("payload", [b"", b"\x80", b"\xa1k", b"\x91", b"\xc1\x91\xa1k"])
async def test_a_payload_that_is_not_one_array_is_refused(
    store: MemoryStore, payload: bytes
) -> None:
    with pytest.raises(errors.InvalidRequest):
        await wasi.execute(store, BOUNDS, "store.get", payload)


@pytest.mark.parametrize(
    "operation", ["KeyValue.Get", "get", "store.open", "store.Get", "", "x" * 1_000]
)
async def test_an_unknown_operation_is_refused(store: MemoryStore, operation: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="has no operation") as caught:
        await answer(store, operation, "k")
    assert len(caught.value.text) < 200
