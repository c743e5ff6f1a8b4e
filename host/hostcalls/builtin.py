"""Namespaces that the host answers by itself, without a link: wasmCloud 0.x's builtin contracts.

Payload shapes are those of ``wasmCloud/interfaces``: ``logging.smithy`` and ``numbergen.smithy``.
``wasmcloud:builtin:config`` is ours.
"""

import secrets
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lattice import errors
from lattice.wire import codec

LEVELS = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "warn": "warning",
    "error": "error",
    "critical": "critical",
}
"""wasmCloud's log levels and ours."""

_U32 = 2**32


class Builtins:
    """What one actor's guests find behind the builtin namespaces."""

    __slots__ = ("_config", "_log")

    def __init__(
        self, *, log: Callable[[str, str], None], config: Callable[[], Mapping[str, str]]
    ) -> None:
        """``log`` takes a level of ours and a text; ``config`` gives the configuration of now."""
        self._log = log
        self._config = config

    def serves(self, namespace: str) -> bool:
        return namespace in _NAMESPACES

    def call(self, namespace: str, operation: str, payload: bytes) -> bytes:
        """Execute a builtin operation.

        Raises:
            InvalidRequest: no such operation, or not its payload.
        """
        execute = _OPERATIONS.get((namespace, operation))
        if execute is None:
            raise errors.InvalidRequest(f"{namespace} has no operation {operation[:100]!r}")
        return execute(self, payload)

    def write_log(self, payload: bytes) -> bytes:
        entry = _structure(payload, ("level", "text"))
        level, text = entry.get("level"), entry.get("text")
        if not isinstance(level, str) or not isinstance(text, str):
            raise errors.InvalidRequest("Logging.WriteLog wants {level: str, text: str}")
        self._log(LEVELS.get(level.lower(), "info"), text)
        return b""

    def get_config(self, payload: bytes) -> bytes:
        key = codec.unpack_payload(payload)
        if not isinstance(key, str):
            raise errors.InvalidRequest("Config.Get wants a string")
        value = self._config().get(key)
        return codec.pack({"value": value or "", "exists": value is not None})

    def get_all_config(self, _payload: bytes) -> bytes:
        return codec.pack(dict(self._config()))


def _generate_guid(_builtins: Builtins, _payload: bytes) -> bytes:
    return codec.pack(str(uuid.uuid4()))


def _random_32(_builtins: Builtins, _payload: bytes) -> bytes:
    return codec.pack(secrets.randbelow(_U32))


def _random_in_range(_builtins: Builtins, payload: bytes) -> bytes:
    bounds = _structure(payload, ("min", "max"))
    low, high = bounds.get("min"), bounds.get("max")
    if type(low) is not int or type(high) is not int or not 0 <= low <= high < _U32:
        raise errors.InvalidRequest(
            "NumberGen.RandomInRange wants {min: u32, max: u32}, min <= max"
        )
    return codec.pack(low + secrets.randbelow(high - low + 1))


_OPERATIONS: dict[tuple[str, str], Callable[[Builtins, bytes], bytes]] = {
    ("wasmcloud:builtin:logging", "Logging.WriteLog"): Builtins.write_log,
    ("wasmcloud:builtin:numbergen", "NumberGen.GenerateGuid"): _generate_guid,
    ("wasmcloud:builtin:numbergen", "NumberGen.Random32"): _random_32,
    ("wasmcloud:builtin:numbergen", "NumberGen.RandomInRange"): _random_in_range,
    ("wasmcloud:builtin:config", "Config.Get"): Builtins.get_config,
    ("wasmcloud:builtin:config", "Config.GetAll"): Builtins.get_all_config,
}
_NAMESPACES = frozenset(namespace for namespace, _ in _OPERATIONS)


def _structure(payload: bytes, fields: Iterable[str]) -> dict[Any, Any]:
    value = codec.named(codec.unpack_payload(payload), fields)
    if not isinstance(value, dict):
        raise errors.InvalidRequest("the payload is not a map")
    return value
