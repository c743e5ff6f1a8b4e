"""The payloads of ``wasmcloud:keyvalue``: what is taken, what is refused, what goes back."""

from typing import Any

import msgpack
import pytest

from lattice import errors
from providers.keyvalue import contract
from providers.keyvalue.bounds import Bounds
from providers.keyvalue.stores.memory import MemoryStore

BOUNDS = Bounds(key_bytes_max=8, value_bytes_max=10, item_bytes_max=5, sets_max=2)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(BOUNDS)


async def answer(store: MemoryStore, operation: str, payload: Any) -> Any:
    packed = msgpack.packb(payload)
    reply = await contract.execute(store, BOUNDS, f"KeyValue.{operation}", packed)
    return msgpack.unpackb(reply) if reply else None


async def test_the_operations_are_those_of_the_contract_and_answer_in_its_types(
    store: MemoryStore,
) -> None:
    script: list[tuple[str, Any, Any]] = [
        ("Increment", {"key": "n", "value": 2}, 2),
        ("Contains", "n", True),
        ("Get", "n", {"value": "2", "exists": True}),
        ("Get", "m", {"value": "", "exists": False}),
        ("Set", {"key": "k", "value": "v", "expires": 0}, None),
        ("Set", {"key": "k", "value": "w"}, None),
        ("Get", "k", {"value": "w", "exists": True}),
        ("Del", "k", True),
        ("Del", "k", False),
        ("ListAdd", {"listName": "l", "value": "a"}, 1),
        ("ListAdd", {"listName": "l", "value": "b"}, 2),
        ("ListRange", {"listName": "l", "start": 0, "stop": -1}, ["a", "b"]),
        ("ListDel", {"listName": "l", "value": "a"}, True),
        ("ListClear", "l", True),
        ("SetAdd", {"setName": "s", "value": "b"}, 1),
        ("SetAdd", {"setName": "s", "value": "a"}, 1),
        ("SetAdd", {"setName": "t", "value": "a"}, 1),
        ("SetQuery", "s", ["a", "b"]),
        ("SetUnion", ["s", "t"], ["a", "b"]),
        ("SetIntersection", ["s", "t"], ["a"]),
        ("SetDel", {"setName": "s", "value": "a"}, 1),
        ("SetClear", "s", True),
    ]
    for operation, payload, expected in script:
        assert await answer(store, operation, payload) == expected, operation
    assert {f"KeyValue.{operation}" for operation, _, _ in script} == set(contract.OPERATIONS)


async def test_bytes_on_the_wire_are_those_of_wasmcloud(store: MemoryStore) -> None:
    increment = bytes.fromhex("82 a36b6579 a16e a576616c7565 2a")
    assert await contract.execute(store, BOUNDS, "KeyValue.Increment", increment) == b"\x2a"
    reply = await contract.execute(store, BOUNDS, "KeyValue.Get", b"\xa1n")
    assert reply == bytes.fromhex("82 a576616c7565 a23432 a6657869737473 c3")


async def test_the_prefix_of_newer_sdks_is_understood(store: MemoryStore) -> None:
    assert await contract.execute(store, BOUNDS, "KeyValue.Contains", b"\xc1\xa1n") == b"\xc2"


async def test_a_structure_may_be_a_list_of_its_fields(store: MemoryStore) -> None:
    script: list[tuple[str, Any, Any]] = [
        ("Increment", ["n", 7], 7),
        ("Set", ["k", "v", 0], None),
        ("ListAdd", ["l", "a"], 1),
        ("ListAdd", ["l", "b"], 2),
        ("ListRange", ["l", 0, -1], ["a", "b"]),
        ("ListDel", ["l", "a"], True),
        ("SetAdd", ["s", "a"], 1),
        ("SetDel", ["s", "a"], 1),
    ]
    for operation, payload, expected in script:
        assert await answer(store, operation, payload) == expected
    assert {f"KeyValue.{operation}" for operation, _, _ in script} == contract.STRUCTURES.keys()


async def test_unknown_fields_are_ignored(store: MemoryStore) -> None:
    assert await answer(store, "Increment", {"key": "n", "value": 1, "new": True}) == 1


@pytest.mark.parametrize(
    ("operation", "payload", "field"),
    [
        ("Get", None, "payload"),
        ("Get", 5, "payload"),
        ("Get", b"k", "payload"),
        ("Get", {"key": "k"}, "payload"),
        ("Get", "", "payload"),
        ("Increment", "k", "payload"),
        ("Increment", ["k", "1"], "value"),
        ("Increment", ["k"], "value"),
        ("Increment", {"value": 1}, "key"),
        ("Increment", {"key": "", "value": 1}, "key"),
        ("Increment", {"key": 1, "value": 1}, "key"),
        ("Increment", {"key": "k"}, "value"),
        ("Increment", {"key": "k", "value": "1"}, "value"),
        ("Increment", {"key": "k", "value": 1.0}, "value"),
        ("Increment", {"key": "k", "value": True}, "value"),
        ("Increment", {"key": "k", "value": 2**31}, "value"),
        ("Increment", {"key": "k", "value": -(2**31) - 1}, "value"),
        ("Set", {"key": "k", "value": None, "expires": 0}, "value"),
        ("Set", {"key": "k", "value": "v", "expires": -1}, "expires"),
        ("Set", {"key": "k", "value": "v", "expires": 2**32}, "expires"),
        ("Set", {"key": "k", "value": "v", "expires": None}, "expires"),
        ("ListAdd", {"listName": "l"}, "value"),
        ("ListAdd", {"setName": "l", "value": "v"}, "listName"),
        ("ListRange", {"listName": "l", "start": 0}, "stop"),
        ("SetAdd", {"listName": "l", "value": "v"}, "setName"),
        ("SetUnion", [], "payload"),
        ("SetUnion", "s", "payload"),
        ("SetUnion", ["s", 1], "payload"),
        ("SetUnion", ["s", ""], "payload"),
        ("SetIntersection", ["a", "b", "c"], "payload"),
    ],
)
async def test_a_wrong_payload_is_refused_and_the_field_named(
    store: MemoryStore, operation: str, payload: Any, field: str
) -> None:
    with pytest.raises(errors.InvalidRequest, match=f"^KeyValue.{operation}: {field} must be "):
        await answer(store, operation, payload)


@pytest.mark.parametrize("payload", [b"", b"\xa5ab", b"\xa1n\x00", b"\xa1\xff", b"\xc1"])
async def test_a_payload_that_is_not_one_msgpack_value_is_refused(
    store: MemoryStore, payload: bytes
) -> None:
    with pytest.raises(errors.InvalidRequest, match="not a msgpack message"):
        await contract.execute(store, BOUNDS, "KeyValue.Get", payload)


@pytest.mark.parametrize(
    ("operation", "payload", "what"),
    [
        ("Get", "x" * 9, "payload is 9 bytes, over the limit of 8"),
        ("Get", "ż" * 5, "payload is 10 bytes, over the limit of 8"),
        ("SetUnion", ["x" * 9], "payload is 9 bytes, over the limit of 8"),
        ("Increment", {"key": "x" * 9, "value": 1}, "key is 9 bytes"),
        ("Set", {"key": "k", "value": "x" * 11}, "value is 11 bytes, over the limit of 10"),
        ("ListAdd", {"listName": "l", "value": "x" * 6}, "value is 6 bytes, over the limit of 5"),
        ("SetAdd", {"setName": "s", "value": "x" * 6}, "value is 6 bytes, over the limit of 5"),
    ],
)
async def test_what_is_too_long_is_refused_with_both_numbers(
    store: MemoryStore, operation: str, payload: Any, what: str
) -> None:
    with pytest.raises(errors.PayloadTooLarge, match=what):
        await answer(store, operation, payload)


@pytest.mark.parametrize("operation", ["KeyValue.Keys", "get", "__class__", "", "x" * 1_000])
async def test_an_unknown_operation_is_refused(store: MemoryStore, operation: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="has no operation") as caught:
        await contract.execute(store, BOUNDS, operation, b"\xa1n")
    assert len(caught.value.text) < 200
