"""Namespaces that the host answers by itself; payloads as wasmCloud 0.x's SDKs write them."""

import uuid
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from host.hostcalls.builtin import Builtins
from lattice import errors

LOGGING = "wasmcloud:builtin:logging"
NUMBERS = "wasmcloud:builtin:numbergen"
CONFIG = "wasmcloud:builtin:config"

pack: Callable[[Any], bytes] = msgpack.packb


class Scene:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.config = {"colour": "red"}
        self.builtins = Builtins(
            log=lambda level, text: self.lines.append((level, text)), config=lambda: self.config
        )

    def call(self, namespace: str, operation: str, payload: bytes = b"") -> bytes:
        return self.builtins.call(namespace, operation, payload)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize("namespace", [LOGGING, NUMBERS, CONFIG])
def test_builtin_namespaces_are_served_here(scene: Scene, namespace: str) -> None:
    assert scene.builtins.serves(namespace)


@pytest.mark.parametrize("namespace", ["wasmcloud:keyvalue", "", "wasmcloud:builtin", "echo"])
def test_other_namespaces_are_not(scene: Scene, namespace: str) -> None:
    assert not scene.builtins.serves(namespace)


@pytest.mark.parametrize("prefix", [b"", b"\xc1"], ids=["older SDKs", "newer SDKs"])
@pytest.mark.parametrize(
    ("said", "logged"),
    [
        ("trace", "debug"),
        ("debug", "debug"),
        ("info", "info"),
        ("warn", "warning"),
        ("error", "error"),
        ("Error", "error"),
        ("shrill", "info"),
    ],
)
def test_a_log_line_keeps_its_level(scene: Scene, prefix: bytes, said: str, logged: str) -> None:
    payload = prefix + pack({"level": said, "text": "hello"})
    assert scene.call(LOGGING, "Logging.WriteLog", payload) == b""
    assert scene.lines == [(logged, "hello")]


def test_structures_may_be_lists_of_their_fields(scene: Scene) -> None:
    # So they come from the Rust SDK of 0.78 to 0.82.
    assert scene.call(LOGGING, "Logging.WriteLog", pack(["warn", "hello"])) == b""
    assert scene.lines == [("warning", "hello")]
    assert scene.call(NUMBERS, "NumberGen.RandomInRange", pack([5, 5])) == b"\x05"


def test_a_guid_is_one(scene: Scene) -> None:
    first, second = (
        msgpack.unpackb(scene.call(NUMBERS, "NumberGen.GenerateGuid")) for _ in range(2)
    )
    assert uuid.UUID(first) != uuid.UUID(second)


def test_random_numbers_have_32_bits(scene: Scene) -> None:
    numbers = {msgpack.unpackb(scene.call(NUMBERS, "NumberGen.Random32")) for _ in range(100)}
    assert len(numbers) > 90
    assert all(0 <= number < 2**32 for number in numbers)


@pytest.mark.parametrize("prefix", [b"", b"\xc1"], ids=["older SDKs", "newer SDKs"])
def test_a_number_in_a_range_may_be_either_end(scene: Scene, prefix: bytes) -> None:
    payload = prefix + pack({"min": 4, "max": 6})
    numbers = {
        msgpack.unpackb(scene.call(NUMBERS, "NumberGen.RandomInRange", payload)) for _ in range(200)
    }
    assert numbers == {4, 5, 6}


@pytest.mark.parametrize(
    "bounds",
    [
        {"min": 2, "max": 1},
        {"min": -1, "max": 1},
        {"min": 0, "max": 2**32},
        {"min": 0.5, "max": 1},
        {"min": True, "max": True},
        {"min": 0},
        {},
        [0],
        [1, 0],
        None,
        "0",
    ],
    ids=str,
)
def test_a_range_that_is_none_is_refused(scene: Scene, bounds: object) -> None:
    with pytest.raises(errors.InvalidRequest):
        scene.call(NUMBERS, "NumberGen.RandomInRange", pack(bounds))


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("colour", {"value": "red", "exists": True}),
        ("size", {"value": "", "exists": False}),
    ],
)
def test_a_configuration_value_is_read(scene: Scene, key: str, answer: dict[str, Any]) -> None:
    assert msgpack.unpackb(scene.call(CONFIG, "Config.Get", pack(key))) == answer


def test_the_configuration_is_that_of_now(scene: Scene) -> None:
    scene.config = {"colour": "blue", "size": "1"}
    assert msgpack.unpackb(scene.call(CONFIG, "Config.GetAll")) == scene.config


@pytest.mark.parametrize(
    ("namespace", "operation", "payload"),
    [
        (LOGGING, "Logging.WriteLog", b""),
        (LOGGING, "Logging.WriteLog", b"\xc1"),
        (LOGGING, "Logging.WriteLog", b"\xc1\xc1\x80"),
        (LOGGING, "Logging.WriteLog", b"\x91" * 5_000),
        (LOGGING, "Logging.WriteLog", b"\xdf\xff\xff\xff\xff"),
        (LOGGING, "Logging.WriteLog", pack({"level": 1, "text": "x"})),
        (LOGGING, "Logging.WriteLog", pack({"level": "info"})),
        (LOGGING, "Logging.Shout", b""),
        (NUMBERS, "", b""),
        (NUMBERS, "Logging.WriteLog", pack({"level": "info", "text": "x"})),
        (CONFIG, "Config.Get", pack(7)),
        (CONFIG, "Config.Get", b""),
    ],
)
def test_what_a_builtin_cannot_read_is_refused(
    scene: Scene, namespace: str, operation: str, payload: bytes
) -> None:
    with pytest.raises(errors.InvalidRequest):
        scene.call(namespace, operation, payload)
    assert scene.lines == []
